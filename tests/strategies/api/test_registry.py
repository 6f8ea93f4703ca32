"""A param that could have no effect beside the others is an error, and not left aside."""

from typing import Any

import pytest
from pydantic import ValidationError

from secondpass.strategies import STRATEGIES

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
