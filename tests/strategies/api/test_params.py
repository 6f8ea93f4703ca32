"""Validation of parameters without effect, and unions of variants, in pydantic and in JSON Schema."""

import importlib
import json
from typing import Any, Literal, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError, model_validator

from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.registry import Variants

jsonschema: Any = importlib.import_module("jsonschema")  # without stubs for mypy

WITHOUT_EFFECT: list[tuple[str, dict[str, Any], str]] = [
    (
        "self_consistency",
        {"window": 3},
        "window: has no effect with stop 'adaptive'; omit it, or set stop = 'esc'",
    ),
    ("self_consistency", {"stop": "none", "window": 3}, "window: has no effect with stop 'none'"),
    ("self_consistency", {"stop": "lead", "confidence": 0.9}, "confidence: has no effect"),
    (
        "self_consistency",
        {"keep": 0.5},
        "keep: has no effect with abort False; omit it, or set abort = True",
    ),
    ("self_consistency", {"warm_up": 3}, "set abort = True or stop = 'share'"),
    ("self_consistency", {"group": 8}, "set abort = True or weight = 'confidence'"),
    ("self_consistency", {"always_weigh": True}, "always_weigh: .* set weight = 'p_true'"),
    ("self_prm", {"grade": "steps", "decided": 0.5}, "decided: .* grade 'steps'"),
    ("self_prm", {"grade": "steps", "samples": 2}, "set grade = 'first_error' or 'verdict'"),
    ("self_refine", {"n": 2, "gate": "vote", "max_rounds": 2, "rejected": "go_on"}, "rejected: "),
    ("iterative_deepening", {"max_triggers": 0, "gamma": 3}, "set max_triggers = 1 to 8"),
    ("critic_retry", {"n": 1, "temperature": 0, "decided": 0.5}, "decided: .* set n = 2 to 64"),
]


@pytest.mark.parametrize(("name", "params", "says"), WITHOUT_EFFECT)
def test_a_param_without_effect_is_an_error_at_its_field(
    name: str, params: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        STRATEGIES[name].params.model_validate(params)
    (problem,) = caught.value.errors()
    assert str(problem["msg"].removeprefix("Value error, ")).startswith(f"{problem['loc'][-1]}: ")


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_uses_names_existing_fields(name: str) -> None:
    fields = STRATEGIES[name].params.all_fields()
    for param, others in STRATEGIES[name].params.uses:
        assert {param, *others} <= fields.keys()


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_explicit_defaults_are_valid(name: str) -> None:
    spec = STRATEGIES[name]
    assert spec.params.model_validate(spec.defaults.model_dump()) == spec.defaults
    known = {name: field.default for name, field in spec.params.all_fields().items()}
    assert spec.params.model_validate(known | spec.defaults.model_dump()) == spec.defaults


class Search(Variants):
    """Parameters of a search."""

    discriminator = "how"
    width: int = 4
    sizes: tuple[int, ...] = ()


class Wide(Search):
    how: Literal["beam", "sample"] = "beam"
    beams: int = 2
    decided: bool = True


class Deep(Search):
    how: Literal["tree"]
    depth: float = 1.0
    decided: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.depth > self.width:
            raise ValueError("depth: {at} is more than width")
        return self


def test_a_variant_has_the_fields_with_an_effect_and_no_others() -> None:
    read = Search.model_validate
    assert read({}) == read({"how": "beam"}) == Wide()
    assert read({"how": "sample", "width": 2}) == Wide(how="sample", width=2)
    assert read({"how": "tree", "beams": 2, "depth": 3}) == Deep(how="tree", depth=3)
    assert read({"depth": 1}).model_dump() == Wide().model_dump()
    assert read(Deep(how="tree")) == Deep(how="tree")
    assert list(Search.all_fields()) == ["width", "sizes", "how", "beams", "decided", "depth"]


@pytest.mark.parametrize(
    ("values", "at", "says"),
    [
        ({"how": "tree", "beams": 3}, "beams", "omit it, or set how = 'beam' or 'sample'"),
        ({"how": "tree", "beams": "many"}, "beams", "has no effect with how 'tree'"),
        ({"depth": True}, "depth", "has no effect with how 'beam'; omit it"),
        ({"how": "depth"}, "how", "'beam' or 'sample' or 'tree'"),
        ({"how": None}, "how", "'beam'"),
        ({"how": ["tree"]}, "how", "'beam'"),
        ({"how": "tree", "depht": 1}, "depht", "not permitted"),
        ({"how": "tree", "width": "4"}, "width", "integer"),
    ],
)
def test_a_value_without_a_variant_is_an_error_at_its_field(
    values: dict[str, Any], at: str, says: str
) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        Search.model_validate_json(json.dumps(values), strict=True)
    assert [problem["loc"] for problem in caught.value.errors()] == [(at,)]
    with pytest.raises(ValidationError, match=says):
        Search.model_validate(values, strict=True)


def test_a_problem_of_several_fields_is_located_at_none_of_them() -> None:
    with pytest.raises(ValidationError, match=r"Value error, depth: \{at\} is more") as caught:
        Search.model_validate({"how": "tree", "depth": 9})
    assert [problem["loc"] for problem in caught.value.errors()] == [()]


def test_strict_json_is_read_as_json_whatever_was_dropped() -> None:
    read = Search.model_validate_json('{"how": "tree", "beams": 2, "sizes": [1, 2]}', strict=True)
    assert read == Deep(how="tree", sizes=(1, 2))
    for text in ("[]", "1", '"tree"', "null"):
        with pytest.raises(ValidationError):
            Search.model_validate_json(text)


def test_a_union_of_variants_has_no_instances() -> None:
    with pytest.raises(TypeError, match="Search is a union of variants: use model_validate"):
        Search()


UNIONS = [name for name, spec in STRATEGIES.items() if issubclass(spec.params, Variants)]


def is_valid(name: str, values: dict[str, Any]) -> bool:
    schema = STRATEGIES[name].params.model_json_schema()
    return bool(jsonschema.Draft202012Validator(schema).is_valid(values))


def matching(name: str, values: dict[str, Any]) -> list[str]:
    """Return the variants whose schema accepts the values."""
    schema = STRATEGIES[name].params.model_json_schema()
    branches = [branch["$ref"].rpartition("/")[2] for branch in schema["oneOf"]]
    validators = {
        each: jsonschema.Draft202012Validator(schema["$defs"][each] | {"$defs": schema["$defs"]})
        for each in branches
    }
    return [each for each, validator in validators.items() if validator.is_valid(values)]


def test_both_votes_with_variants_are_unions() -> None:
    assert set(UNIONS) >= {"self_consistency", "self_prm"}


@pytest.mark.parametrize("name", UNIONS)
def test_the_schema_of_variants_is_a_union_with_a_discriminator(name: str) -> None:
    params = STRATEGIES[name].params
    assert issubclass(params, Variants)
    schema = params.model_json_schema()
    by, mapping = schema["discriminator"]["propertyName"], schema["discriminator"]["mapping"]
    assert by == params.discriminator
    assert set(mapping) == set(params.variants())
    assert {branch["$ref"] for branch in schema["oneOf"]} == set(mapping.values())
    default = type(STRATEGIES[name].defaults)
    for variant in params.variants().values():
        own = schema["$defs"][variant.__name__]
        assert own["additionalProperties"] is False
        assert own.get("required", []) == ([] if variant is default else [by])
        assert set(own["properties"]) == set(variant.model_fields)


@pytest.mark.parametrize("name", UNIONS)
def test_values_that_the_schema_accepts_are_valid_for_exactly_one_variant(name: str) -> None:
    params = STRATEGIES[name].params
    assert issubclass(params, Variants)
    assert matching(name, {}) == [type(STRATEGIES[name].defaults).__name__]
    for tag, variant in params.variants().items():
        values = params.model_validate({params.discriminator: tag}).model_dump()
        assert matching(name, values) == [variant.__name__]
        assert type(params.model_validate(values)) is variant
        assert is_valid(name, values)
        foreign = params.all_fields().keys() - variant.model_fields.keys()
        assert foreign
        for field in foreign:
            assert not is_valid(name, values | {field: params.all_fields()[field].default})


@given(st.data())
@pytest.mark.parametrize("name", UNIONS)
def test_the_schema_rejects_values_without_effect(name: str, data: st.DataObject) -> None:
    values = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "stop": st.sampled_from(["adaptive", "esc", "lead", "share", "none", "never"]),
                "grade": st.sampled_from(["solution", "steps", "first_error", "verdict"]),
                "window": st.integers(2, 6),
                "confidence": st.sampled_from([0.95, 0.6]),
                "samples": st.integers(1, 2),
                "abandon_below": st.sampled_from([0.0, 0.5]),
                "decided": st.sampled_from([0.75, 1]),
            },
        )
    )
    try:
        read = STRATEGIES[name].params.model_validate(values)
    except ValidationError:
        assert not is_valid(name, values)
    else:
        effective = {key: value for key, value in values.items() if key in type(read).model_fields}
        assert is_valid(name, effective)
        assert STRATEGIES[name].params.model_validate(effective) == read


DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("self_consistency", "adaptive"): {"confidence": 0.95},
    ("self_consistency", "esc"): {"window": 5},
    ("self_consistency", "lead"): {},
    ("self_consistency", "share"): {"confidence": 0.95},
    ("self_consistency", "none"): {},
    ("self_prm", "solution"): {"decided": 0.75, "without_labels": "error"},
    ("self_prm", "steps"): {"combine": "mean", "abandon_below": 0.0, "without_labels": "error"},
    ("self_prm", "first_error"): {"samples": 1, "reference": "auto", "decided": 0.75},
    ("self_prm", "verdict"): {"samples": 1, "reference": "auto", "decided": 0.75},
}
COMMON: dict[str, dict[str, Any]] = {
    "self_consistency": {
        "n": 8, "width": None, "temperature": 0.7, "weight": "none", "always_weigh": False, "abort": False,
        "warm_up": 4, "group": 64, "keep": 0.9, "first": None, "fields": "auto",
    },
    "self_prm": {"n": 4, "width": 4, "temperature": 0.7, "select": "vote", "always_weigh": False},
}  # fmt: skip


@pytest.mark.parametrize(("name", "tag"), DEFAULTS)
def test_the_defaults_of_each_variant(name: str, tag: str) -> None:
    by = {"self_consistency": "stop", "self_prm": "grade"}[name]
    read = STRATEGIES[name].params.model_validate({by: tag})
    assert read.model_dump() == COMMON[name] | {by: tag} | DEFAULTS[name, tag]


@pytest.mark.parametrize(
    ("params", "kind", "needs"),
    [
        ({}, "math", {"judge": {"labels"}}),
        ({"grade": "steps"}, "math", {"judge": {"labels"}}),
        ({"grade": "steps", "without_labels": "vote"}, "math", {}),
        ({"grade": "verdict"}, "math", {}),
        ({}, "open", {}),
        ({"grade": "steps"}, "open", {}),
        ({"grade": "steps", "abandon_below": 0.5}, "open", {"judge": {"labels"}}),
    ],
)
def test_what_self_prm_needs_depends_on_its_params_and_the_task(
    params: dict[str, Any], kind: Any, needs: dict[str, set[str]]
) -> None:
    spec = STRATEGIES["self_prm"]
    assert spec.needs_for(spec.params.model_validate(params), Task(kind=kind)) == needs


def test_only_a_vote_weighted_by_p_true_needs_label_probabilities() -> None:
    spec = STRATEGIES["self_consistency"]
    weighed = spec.params.model_validate({"weight": "p_true"})
    for params, kind, needed in (
        (weighed, "math", {"labels"}),
        (weighed, "open", set()),
        (spec.defaults, "math", set()),
    ):
        needs = spec.needs_for(params, Task(kind=kind))  # type: ignore[arg-type]
        assert set(needs.get("judge", ())) == needed
