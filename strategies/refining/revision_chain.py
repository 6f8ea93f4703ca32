"""A draft with its revisions, and the prompt for the next revision. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from secondpass.strategies.api.run import After
from secondpass.strategies.api.values import Completion
from secondpass.strategies.refining.versions import Version, is_same

FeedbackSource = Literal["tests", "review", "merged", "neutral", "none"]
History = Literal["last", "full", "feedback_only"]
Gate = Literal["tests", "vote", "prefer", "draw"]

_SEPARATOR = re.compile(r"[\s*_#>]*+revised solution[\s*_#:]*+", re.IGNORECASE)
_DECORATION = re.compile(r"[\s*_#>:]*+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPlan:
    """Resolved revision settings of one chain, without `auto`."""

    feedback: FeedbackSource
    history: History
    gate: Gate


@dataclass
class RevisionChain:
    """A draft and its revisions, oldest first, and the findings on each revised version.

    `best` is the draft until a revision passes the gate.
    """

    plan: RevisionPlan
    versions: list[Version]
    best: Version
    findings: list[str] = field(default_factory=list)

    @property
    def newest(self) -> Version:
        """The newest version, accepted by the gate or not."""
        return self.versions[-1]

    @property
    def is_changed(self) -> bool:
        """True if the newest answer differs from the draft's."""
        return not is_same(self.newest, self.versions[0])

    @property
    def votes(self) -> list[Version]:
        """The versions that vote: the first and the newest with the gate `vote`, else the best.

        Versions in between do not vote, so that a chain cannot outvote the others by repeating
        itself.
        """
        if self.plan.gate == "vote":
            return [self.versions[0], replace(self.newest, round=1)]
        return [replace(self.best, round=0)]


@dataclass(frozen=True, slots=True)
class RevisionPrompt:
    """Prompt of a revision: its name, placeholder values, and the conversation it is appended to."""

    name: str
    values: Mapping[str, Any]
    after: After = "question"


def revision_prompt(
    chain: RevisionChain, tried: Sequence[str], conclude: Callable[[str], str]
) -> RevisionPrompt:
    """Return the prompt that revises the chain's newest version.

    `tried` are the answers that a prompt without versions may contain. `conclude` removes the
    reasoning from a text.
    """
    if chain.plan.feedback == "neutral":
        return RevisionPrompt("second_turn", {}, _conversation(chain, conclude))
    if chain.plan.history == "feedback_only":
        return _without_versions(chain, tried)
    return _with_versions(chain, [conclude(each.candidate.text) for each in chain.versions])


def split_review(text: str, *, is_open: bool) -> tuple[str, str] | None:
    """Split a reply into (review, revision) at a line that consists of REVISED SOLUTION.

    Without such a line the whole text is the revision, from which an answer can still be extracted.
    In an open task (`is_open`) the result is None then, because the answer would include the
    review. It is also None if nothing follows the line. Lines with only Markdown syntax around it belong to neither.
    """
    lines = text.split("\n")
    at = next((i for i, line in enumerate(lines) if _SEPARATOR.fullmatch(line)), None)
    if at is None:
        return None if is_open else ("", text)
    end = at + 1
    while at and _DECORATION.fullmatch(lines[at - 1]):
        at -= 1
    while end < len(lines) and _DECORATION.fullmatch(lines[end]):
        end += 1
    review, revision = ("\n".join(part).strip() for part in (lines[:at], lines[end:]))
    return (review, revision) if revision else None


def _with_versions(chain: RevisionChain, texts: Sequence[str]) -> RevisionPrompt:
    """Return a prompt with the texts of the newest version or, with full history, of all versions."""
    is_full = chain.plan.history == "full"
    shown = slice(None) if is_full else slice(-1, None)
    if chain.plan.feedback == "merged":  # each revision follows the review in the same reply
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
    """Return the newest version as the last turn, after all turns so far or after the question alone.

    It is a turn of its own and therefore not quoted; the run breaks control tokens in it.
    """
    newest = chain.newest.completion
    newest = newest.with_text(conclude(newest.text))
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
