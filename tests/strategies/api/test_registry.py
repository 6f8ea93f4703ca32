"""What could not be served is not registered, and a param without an effect is an error."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, create_model

from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import Params, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate

WITHOUT_EFFECT: list[tuple[str, dict[str, Any], str]] = [
    ("self_consistency", {"window": 3}, "window: has no effect with stop 'adaptive'"),
    ("self_consistency", {"stop": "lead", "confidence": 0.9}, "confidence: has no effect"),
    ("self_consistency", {"keep": 0.5}, "keep: has no effect with abort False; leave it 0.9"),
    ("self_consistency", {"warm_up": 3}, "choose abort True or stop 'share'"),
    ("self_consistency", {"group": 8}, "choose abort True or weight 'confidence'"),
    ("self_consistency", {"always_weigh": True}, "always_weigh: .* choose weight 'p_true'"),
    ("self_prm", {"grade": "steps", "decided": 0.5}, "decided: .* grade 'steps'"),
    ("self_prm", {"grade": "steps", "samples": 2}, "choose grade 'first_error' or 'verdict'"),
    ("self_refine", {"n": 2, "gate": "vote", "max_rounds": 2, "rejected": "go_on"}, "rejected: "),
    ("iterative_deepening", {"max_triggers": 0, "gamma": 3}, "choose max_triggers 1 to 8"),
    ("critic_retry", {"n": 1, "temperature": 0, "decided": 0.5}, "decided: .* choose n 2 to 64"),
]


@pytest.mark.parametrize(("name", "params", "says"), WITHOUT_EFFECT)
def test_a_param_without_effect_is_named(name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        STRATEGIES[name].params(**params)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_what_is_said_of_effects_is_said_of_params_that_there_are(name: str) -> None:
    fields = STRATEGIES[name].params.model_fields
    for param, others in STRATEGIES[name].params.uses:
        assert {param, *others} <= fields.keys()


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_defaults_that_are_spelt_out_are_no_error(name: str) -> None:
    params = STRATEGIES[name].params
    assert params(**params().model_dump()) == params()


async def body(run: Run, params: Params) -> Candidate:
    """The best candidate."""
    return run.best


async def undocumented(run: Run, params: Params) -> Candidate:
    """ """
    return run.best


def not_async(run: Run, params: Params) -> Candidate:
    """The best candidate."""
    return run.best


def params(**fields: Any) -> type[Params]:
    return create_model("Made", __base__=Params, **fields)


GOOD: dict[str, Any] = {
    "name": "good", "params": Params, "paper": None, "signal": "none", "update": "none", "body": body
}  # fmt: skip
NAMES = ["", "a@b", "with space", "new\nline", "Upper", "1st", "\u202e", "a" * 65, "single@x"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        *(({"name": name}, "a name must match") for name in NAMES),
        ({"name": "single"}, "already registered by secondpass.strategies.single"),
        ({"body": undocumented}, "must have a docstring"),
        ({"body": not_async}, "must be async"),
        ({"paper": "A paper"}, "paper must be an arXiv id or None, not 'A paper'"),
        ({"signal": "bogus"}, "signal: 'bogus' is not among none, agreement"),
        ({"update": "bogus"}, "update: 'bogus' is not among none, select"),
        ({"needs": {"nonsense"}}, "needs: 'nonsense' is not among prefix, labels"),
        ({"params": dict}, "params must be a subclass of Params"),
        ({"params": BaseModel}, "params must be a subclass of Params"),
        ({"params": params(depth=(int, ...))}, "params: depth must have a default"),
        ({"params": params(n=(str, "3"))}, "params: n must be a whole number or None"),
        ({"params": params(f=(Callable[[], int], int))}, "params have no JSON schema"),
    ],
)
def test_what_could_not_be_served_is_not_registered(bad: dict[str, Any], problem: str) -> None:
    given = GOOD | bad
    decorated = given.pop("body")
    before = list(STRATEGIES)
    with pytest.raises(ValueError, match=re.escape(problem)):
        strategy(**given)(decorated)
    assert list(STRATEGIES) == before
