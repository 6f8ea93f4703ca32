"""One draft and its revisions, and the prompt by which the newest version is revised. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from secondpass.strategies.api import quoting
from secondpass.strategies.api.run import After
from secondpass.strategies.api.values import Completion
from secondpass.strategies.refining.versions import Version, is_same

FeedbackSource = Literal["tests", "review", "merged", "neutral", "none"]
History = Literal["last", "full", "feedback_only"]
Gate = Literal["tests", "vote", "prefer", "draw"]

_MARK = re.compile(r"^[\s*_#>]*revised solution[\s*_#:]*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPlan:
    """How one chain is revised, after everything that params leave to the task and the models is decided."""

    feedback: FeedbackSource
    history: History
    gate: Gate


@dataclass
class RevisionChain:
    """The versions of one draft, oldest first, and the findings on each version that was revised.

    `best` is the draft until a revision passes the gate.
    """

    plan: RevisionPlan
    versions: list[Version]
    best: Version
    findings: list[str] = field(default_factory=list)

    @property
    def head(self) -> Version:
        """The newest version, confirmed or not."""
        return self.versions[-1]

    @property
    def is_changed(self) -> bool:
        """True where the newest answer differs from the draft's."""
        return not is_same(self.head, self.versions[0])

    @property
    def votes(self) -> list[Version]:
        """The chain's votes: its first and its last version where the vote is the gate, else its best.

        Versions between these have no vote, so that no chain outvotes the others by repeating itself.
        """
        if self.plan.gate == "vote":
            return [self.versions[0], replace(self.head, round=1)]
        return [replace(self.best, round=0)]


@dataclass(frozen=True, slots=True)
class RevisionPrompt:
    """The prompt of a revision, where it is placed, and the values of its placeholders."""

    name: str
    values: Mapping[str, Any]
    after: After = "question"


def prompt_of(
    chain: RevisionChain, tried: Sequence[str], conclude: Callable[[str], str]
) -> RevisionPrompt:
    """The prompt by which the chain's newest version is revised.

    `tried` are the answers that may be shown where no version is; `conclude` removes the reasoning from a text.
    """
    if chain.plan.feedback == "neutral":
        return RevisionPrompt("second_turn", {}, _conversation(chain, conclude))
    if chain.plan.history == "feedback_only":
        return _without_versions(chain, tried)
    return _with_versions(chain, [conclude(each.candidate.text) for each in chain.versions])


def divided(text: str, *, is_open: bool) -> tuple[str, str] | None:
    """A review and the revision after it, separated by a line that reads REVISED SOLUTION.

    Without such a line the whole text is the revision, from which an answer can be read all the same; None in an open task,
    where the review would be a part of the answer, and where nothing follows the line.
    """
    review, *rest = _MARK.split(text, maxsplit=1)
    if not rest:
        return None if is_open else ("", text)
    return (review.strip(), rest[0].strip()) if rest[0].strip() else None


def _with_versions(chain: RevisionChain, texts: Sequence[str]) -> RevisionPrompt:
    """A prompt that shows the newest version, or all of them; `texts` are the versions' texts."""
    is_full = chain.plan.history == "full"
    shown = slice(None) if is_full else slice(-1, None)
    if chain.plan.feedback == "merged":  # with the review that each was written after
        pairs = zip(chain.findings, texts[1:], strict=True)
        reviewed = [texts[0], *("\n\n".join(pair).strip() for pair in pairs)]
        return RevisionPrompt("review_and_refine", {"attempts": reviewed[shown]})
    attempts, critiques = texts[shown], chain.findings[shown]
    if chain.plan.feedback == "none":
        return RevisionPrompt("improve", {"attempts": attempts})
    if chain.plan.feedback == "tests":
        return RevisionPrompt("refine_tests", {"attempts": attempts, "critiques": critiques})
    if is_full:
        return RevisionPrompt("refine_full", {"attempts": attempts, "critiques": critiques})
    return RevisionPrompt("refine", {"attempt": attempts[0], "critique": critiques[0]})


def _conversation(chain: RevisionChain, conclude: Callable[[str], str]) -> Completion:
    """The newest version as the last turn: of all turns so far, or in reply to the question alone.

    It is not quoted, being a turn of its own, but nothing in it can end that turn.
    """
    newest = chain.head.completion
    newest = newest.with_text(quoting.disarm(conclude(newest.text)))
    if chain.plan.history == "full":
        return newest
    return newest.in_reply_to(chain.versions[0].completion.messages)


def _without_versions(chain: RevisionChain, tried: Sequence[str]) -> RevisionPrompt:
    critique = chain.findings[-1]
    if chain.plan.feedback == "tests":
        return RevisionPrompt("refine_tests_unseen", {"critique": critique})
    if not tried:
        return RevisionPrompt("retry_unseen", {"critique": critique})
    return RevisionPrompt("retry", {"tried": tried, "critique": critique})
