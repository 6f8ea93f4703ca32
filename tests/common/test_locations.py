"""Paths of validation errors: names of union branches are not part of them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from secondpass.service.common.locations import locate


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Size(Strict):
    image: int


class Text(Strict):
    type: Literal["text"]
    text: str


class Image(Strict):
    type: Literal["image"]
    image: Size


def tag_of(value: Any) -> str:
    return "name" if isinstance(value, str) else "object"


Named = Annotated[
    Annotated[str, Tag("name")] | Annotated[Size, Tag("object")], Discriminator(tag_of)
]


class Body(Strict):
    parts: str | tuple[Annotated[Text | Image, Field(discriminator="type")], ...] | None = None
    size: Size | int | None = None
    named: Named | None = None
    table: dict[Literal["a"], tuple[Size, ...]] = {}


def located(body: Any) -> list[tuple[str, tuple[str, ...]]]:
    with pytest.raises(ValidationError) as raised:
        Body.model_validate(body)
    places = [locate(Body, details["loc"]) for details in raised.value.errors()]
    return [(".".join(place.path), place.siblings) for place in places]


TEXT, IMAGE, SIZE = ("type", "text"), ("type", "image"), ("image",)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"parts": [{"type": "text", "text": "a", "b": 1}]}, ("parts.0.b", TEXT)),
        ({"parts": [{"type": "text", "text": 5}]}, ("parts.0.text", TEXT)),
        ({"parts": [{"type": "text"}]}, ("parts.0.text", TEXT)),
        ({"parts": [{"type": "image", "image": {"image": 1}, "b": 1}]}, ("parts.0.b", IMAGE)),
        ({"parts": [{"type": "image", "image": {"b": 1, "image": 1}}]}, ("parts.0.image.b", SIZE)),
        ({"parts": [{"type": "image", "image": {}}]}, ("parts.0.image.image", SIZE)),
        ({"parts": [{"type": "sound"}]}, ("parts.0", ())),
        ({"size": {"image": "a"}}, ("size.image", SIZE)),
        ({"size": {"image": 1, "int": 1}}, ("size.int", SIZE)),
        ({"named": {"image": 1, "object": 1}}, ("named.object", SIZE)),
        ({"table": {"a": [{"image": 1}, {"b": 1, "image": 1}]}}, ("table.a.1.b", SIZE)),
        ({"table": {"b": []}}, ("table.b", ())),
    ],
)
def test_a_path_contains_the_names_of_the_request_only(body: Any, place: tuple[str, Any]) -> None:
    assert place in located(body)
