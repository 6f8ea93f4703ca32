"""A strategy that cannot be served is not registered."""

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, create_model

from secondpass.strategies import STRATEGIES
from secondpass.strategies.api.registry import Params, Variants, strategy
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate


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


def variants(*tags: Any) -> type[Variants]:
    """Create a union whose variants all require their discriminator."""
    made: type[Variants] = type(
        "Made", (Variants,), {"discriminator": "how", "__module__": __name__}
    )
    kept.extend(create_model("Variant", __base__=made, how=(tag, ...)) for tag in tags)
    return made


kept: list[type[Variants]] = []
"""References to the variants: a class holds its subclasses weakly."""

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
        ({"signal": "bogus"}, "signal: 'bogus' is not one of none, agreement"),
        ({"update": "bogus"}, "update: 'bogus' is not one of none, select"),
        ({"needs": {"actor": {"nonsense"}}}, "needs: 'nonsense' is not one of prefix, labels"),
        ({"needs": {"boss": {"labels"}}}, "needs: a role: 'boss' is not one of actor, critic"),
        ({"params": dict}, "params must be a subclass of Params"),
        ({"params": BaseModel}, "params must be a subclass of Params"),
        ({"params": params(depth=(int, ...))}, "params: depth must have a default"),
        ({"params": params(n=(str, "3"))}, "params: n must have an integer or None as its default"),
        (
            {"params": variants(str, str)},
            "params: how must be a Literal of strings in each variant",
        ),
        (
            {"params": variants(Literal["a"], Literal["a"])},
            "params: how must be a Literal of strings",
        ),
        (
            {"params": variants(Literal["a"], Literal["b"])},
            "params: how must have a default in exactly one",
        ),
        ({"params": variants()}, "params: how must have a default in exactly one variant"),
        ({"params": params(f=(Callable[[], int], int))}, "params have no JSON schema"),
    ],
)
def test_a_strategy_that_cannot_be_served_is_not_registered(
    bad: dict[str, Any], problem: str
) -> None:
    given = GOOD | bad
    decorated = given.pop("body")
    before = list(STRATEGIES)
    with pytest.raises(ValueError, match=re.escape(problem)):
        strategy(**given)(decorated)
    assert list(STRATEGIES) == before
