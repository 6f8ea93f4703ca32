"""How a version of an answer is revised: what the reviser is told, and what becomes of a chain of versions. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from secondpass.strategies.api import quoting
from secondpass.strategies.api.run import After
from secondpass.strategies.api.values import Completion
from secondpass.strategies.attempts import Attempt

Feedback = Literal["tests", "review", "merged", "neutral", "none"]
History = Literal["last", "full", "feedback_only"]
Gate = Literal["tests", "vote", "prefer", "draw"]

_MARK = re.compile(r"^[\s*_#>]*revised solution[\s*_#:]*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one chain is revised, after everything that was left to the task and the models is decided."""

    feedback: Feedback
    history: History
    gate: Gate


@dataclass
class Chain:
    """The versions of one draft, oldest first, and what was found of each that was revised.

    `best` is the draft until a revision passes the gate.
    """

    plan: Plan
    versions: list[Attempt]
    best: Attempt
    findings: list[str] = field(default_factory=list)

    @property
    def head(self) -> Attempt:
        """The newest version, whether or not anything speaks for it."""
        return self.versions[-1]

    @property
    def is_changed(self) -> bool:
        """Is the newest answer another one than the draft's?"""
        return not is_same(self.head, self.versions[0])

    @property
    def votes(self) -> list[Attempt]:
        """What the chain says in a vote: its first and its last answer where the vote is the gate, else its best.

        What stands between has no vote, so that no chain outvotes the others by repeating itself.
        """
        if self.plan.gate == "vote":
            return [self.versions[0], replace(self.head, round=1)]
        return [replace(self.best, round=0)]


def is_same(one: Attempt, other: Attempt) -> bool:
    """Have two versions equal answers, or but for white space equal texts?"""
    if one.ballot is not None and one.ballot == other.ballot:
        return True
    return one.candidate.text.split() == other.candidate.text.split()


def divided(text: str, *, is_open: bool) -> tuple[str, str] | None:
    """A review and the revision after it; a line that says REVISED SOLUTION stands between them.

    Without such a line all is revision, from which an answer can be read all the same; None in an open task, where the
    review would be a part of the answer, and where nothing follows the line.
    """
    review, *rest = _MARK.split(text, maxsplit=1)
    if not rest:
        return None if is_open else ("", text)
    return (review.strip(), rest[0].strip()) if rest[0].strip() else None


@dataclass(frozen=True, slots=True)
class Wording:
    """What a reviser is asked: the prompt, in which conversation, and what fills it."""

    prompt: str
    values: Mapping[str, Any]
    after: After = "question"


def wording(chain: Chain, tried: Sequence[str], conclude: Callable[[str], str]) -> Wording:
    """How the newest version is to be revised.

    `tried` are the answers that may be told where no attempt is shown; `conclude` leaves the thoughts out of a text.
    """
    if chain.plan.feedback == "neutral":
        return Wording("second_turn", {}, _conversation(chain, conclude))
    if chain.plan.history == "feedback_only":
        return _unseen(chain, tried)
    return _seen(chain, [conclude(each.candidate.text) for each in chain.versions])


def _seen(chain: Chain, texts: Sequence[str]) -> Wording:
    """With the newest version in sight, or all of them; `texts` are theirs."""
    is_full = chain.plan.history == "full"
    shown = slice(None) if is_full else slice(-1, None)
    if chain.plan.feedback == "merged":  # with the review that each was written after
        pairs = zip(chain.findings, texts[1:], strict=True)
        reviewed = [texts[0], *("\n\n".join(pair).strip() for pair in pairs)]
        return Wording("review_and_refine", {"attempts": reviewed[shown]})
    attempts, critiques = texts[shown], chain.findings[shown]
    if chain.plan.feedback == "none":
        return Wording("improve", {"attempts": attempts})
    if chain.plan.feedback == "tests":
        return Wording("refine_tests", {"attempts": attempts, "critiques": critiques})
    if is_full:
        return Wording("refine_full", {"attempts": attempts, "critiques": critiques})
    return Wording("refine", {"attempt": attempts[0], "critique": critiques[0]})


def _conversation(chain: Chain, conclude: Callable[[str], str]) -> Completion:
    """The newest version as the last turn: of all turns so far, or in reply to the question alone.

    It is not quoted, being a turn of its own, but nothing in it can end that turn.
    """
    newest = chain.head.completion
    newest = replace(newest, text=quoting.disarm(conclude(newest.text)))
    if chain.plan.history == "full":
        return newest
    return newest.in_reply_to(chain.versions[0].completion.messages)


def _unseen(chain: Chain, tried: Sequence[str]) -> Wording:
    critique = chain.findings[-1]
    if chain.plan.feedback == "tests":
        return Wording("refine_tests_unseen", {"critique": critique})
    if not tried:
        return Wording("retry_unseen", {"critique": critique})
    return Wording("retry", {"tried": tried, "critique": critique})
