"""Messages for pydantic's validation errors."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from secondpass.service.common.errors import ECHO_LIMIT
from secondpass.service.common.validation import message_with_value


class Example(BaseModel):
    count: int = Field(default=1, ge=1, lt=10)
    share: float = Field(default=0.5, gt=0, le=2)
    mode: Literal["a", "b", "c"] = "a"
    fixed: Literal["only"] = "only"
    is_on: bool = False
    name: str = Field(default="x", min_length=2)
    items: tuple[int, ...] = Field(default=(), max_length=1)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("count", 0, "must be at least 1, not 0"),
        ("count", 10, "must be below 10, not 10"),
        ("count", "x", "must be an integer, not 'x'"),
        ("count", 1.5, "must be an integer, not 1.5"),
        ("count", None, "must be an integer, not null"),
        ("count", {"secret": 1}, "must be an integer"),
        ("share", 0, "must be above 0, not 0"),
        ("share", 2.5, "must be at most 2, not 2.5"),
        ("mode", "d", "must be one of 'a', 'b', 'c', not 'd'"),
        ("fixed", True, "must be 'only', not true"),
        ("is_on", "maybe", "must be a boolean, not 'maybe'"),
        ("name", 7, "must be a string, not 7"),
        ("name", "", "must be at least 2 characters long, not ''"),
        ("items", [1, 2], "takes at most 1 items, got 2"),
        ("items", 3, "must be a list, not 3"),
    ],
)
def test_message_has_the_rule_and_the_value(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Example.model_validate({field: value})
    assert message_with_value(raised.value.errors()[0]) == expected


def test_long_value_is_truncated() -> None:
    with pytest.raises(ValidationError) as raised:
        Example.model_validate({"mode": "d" * 10_000})
    assert len(message_with_value(raised.value.errors()[0])) < ECHO_LIMIT + 50
