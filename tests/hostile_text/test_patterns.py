"""Every regular expression takes at most linear time on hostile text, and at most 50 ms for 100 kB.

A pattern is applied with the methods by which its module applies it, or with all if that is not clear.
"""

from functools import partial

import pytest

from secondpass.strategies.answers import statements, task_guess
from secondpass.strategies.answers.forms import normal_form
from tests.hostile_text.patterns import FoundPattern, inline_patterns, patterns
from tests.hostile_text.shapes import SEEDS, shaped
from tests.hostile_text.timing import SIZES, problem

_FOUND = patterns()
_LITERAL, _BUILT = inline_patterns()
_GROUPS = 16

_ANSWERS = "secondpass.strategies.answers."
INPUT_LIMITS = {
    f"{_ANSWERS}forms.": normal_form.MAX_LENGTH,  # longer answers are not parsed
    f"{_ANSWERS}task_guess.": task_guess.MAX_CHARACTERS,
    f"{_ANSWERS}items.": 4_000,  # a sentence of the last 4,000 characters
    f"{_ANSWERS}quantities.": 4_000,
    f"{_ANSWERS}letters._WORDS": statements.WINDOW,
    f"{_ANSWERS}letters.": statements.MAX_SEARCHED,
    f"{_ANSWERS}numeric.": statements.MAX_SEARCHED,
    f"{_ANSWERS}statements.": statements.MAX_SEARCHED,
    f"{_ANSWERS}choice.": statements.MAX_SEARCHED,
    "secondpass.service.lab.": 10_000,  # not on the event loop of a server
    "secondpass.service.cli.": 10_000,
    "secondpass.service.sandbox.inside.": 10_000,  # runs in the sandbox, which has time limits
}
"""Most characters that modules apply their patterns to. The tests of parsers include the limits."""

BUILT_IN_FUNCTIONS = {
    "secondpass.service.cli.new_strategy.skeletons": 1,
    "secondpass.service.engines.common.redaction": 2,
    "secondpass.service.lab.evaluation.scorers": 1,  # the tested function
    "secondpass.service.sandbox.inside.unshared": 1,  # words, within the sandbox
    "secondpass.strategies.answers.forms.statements": 1,  # a mark or two letters
    "secondpass.strategies.answers.items": 1,  # spaces before three digits
    "secondpass.strategies.answers.letters": 9,  # kept by the module
    "secondpass.strategies.answers.markers": 1,  # delimiters of reasoning, which are literal
    "secondpass.strategies.answers.statements": 1,  # kept by the module
    "secondpass.strategies.api.control_tokens": 1,
    "secondpass.strategies.api.quoting": 1,
    "secondpass.strategies.api.model_profiles": 1,  # patterns of model names, from settings
}
"""Number of patterns that functions of a module build from other texts.

Those of redaction, control tokens and quoting are timed by the tests of parsers.
"""


def _sizes(found: FoundPattern) -> tuple[int, int, int]:
    limits = [
        next((size for prefix, size in INPUT_LIMITS.items() if name.startswith(prefix)), SIZES[-1])
        for name in found.names
    ]
    return max(limits) // 100, max(limits) // 10, max(limits)


def _problems(found: FoundPattern) -> list[str]:
    sizes = _sizes(found)
    return [
        f"{found.names[0]}: {method} on {seed!r} repeated, {why}"
        for method, use in found.uses()
        for seed in SEEDS
        if (why := problem(use, partial(shaped, seed), sizes))
    ]


@pytest.mark.no_cover  # coverage multiplies the time
@pytest.mark.serial
@pytest.mark.parametrize("group", range(_GROUPS))
def test_every_pattern_takes_linear_time_on_hostile_text(group: int) -> None:
    found = [*_FOUND, *_LITERAL][group::_GROUPS]
    assert not [each for pattern in found for each in _problems(pattern)]


def test_all_patterns_are_found() -> None:
    names = {name for each in _FOUND for name in each.names}
    assert len(_FOUND) > 300
    assert {
        "secondpass.service.engines.common.redaction._INNER_HOST",
        "secondpass.strategies.answers.letters._WORDS",
        "secondpass.service.common.forwarded_stream._END",
    } <= names


def test_patterns_within_functions_are_literal_or_listed() -> None:
    assert _BUILT == BUILT_IN_FUNCTIONS
