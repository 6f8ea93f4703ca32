"""Candidate facts from the events of a run: revisions and critic verdicts.

Events do not identify candidates. A candidate is matched by its text, in the texts of calls and in the prompts of the
critic. Without a match nothing is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from secondpass.service.common.events import CallFinished, Event, VerdictRecorded
from secondpass.strategies.api import quoting
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.values import SOLVE, Candidate, LabelDistribution

ACCEPTS = frozenset(("ok", "correct", "right"))
REJECTS = frozenset(("revise", "wrong", "incorrect"))
"""Verdict words with which prompts let a critic accept or reject an answer."""

_DRAFTS = (SOLVE, "extend")


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """Revision flag of a candidate, and the critic's last verdict (None: none)."""

    is_revision: bool = False
    accepted: bool | None = None


def candidate_facts(
    events: Iterable[Event], candidates: Sequence[Candidate]
) -> list[CandidateFacts]:
    """Return the facts of each candidate, in the order of `candidates`."""
    events = list(events)
    texts = [_plain(candidate.text) for candidate in candidates]
    written = _written(events)
    accepted: dict[str, bool] = {}
    for prompt, verdict in _verdicts(events):
        accepted[max((t for t in texts if t in prompt), key=len, default="")] = verdict
    return [
        CandidateFacts(
            is_revision=_is_revision(text, written), accepted=accepted.get(text) if text else None
        )
        for text in texts
    ]


def revision_chain(
    candidates: Sequence[Candidate], facts: Sequence[CandidateFacts]
) -> list[int] | None:
    """Return the positions of the draft and its revisions; None if it is ambiguous.

    There is a chain if a revision exists and exactly one draft precedes the first one. Later drafts only confirm.
    """
    revisions = [at for at, each in enumerate(facts) if each.is_revision]
    if not revisions:
        return None
    drafts = [at for at in range(revisions[0]) if not facts[at].is_revision]
    return [*drafts, *revisions] if len(drafts) == 1 else None


def _written(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return (purpose, text) of all completions of the actor."""
    calls = [e for e in events if isinstance(e, CallFinished) and e.role == "actor"]
    return [(call.purpose, _plain(text)) for call in calls for text in call.texts]


def _is_revision(text: str, written: Sequence[tuple[str, str]]) -> bool:
    """Return whether the first completion with this text (or ending in it) was not a draft."""
    first = next((purpose for purpose, whole in written if whole == text), None)
    if first is None and text:
        first = next((purpose for purpose, whole in written if whole.endswith(text)), None)
    return first is not None and first not in _DRAFTS


def _verdicts(events: Iterable[Event]) -> Iterator[tuple[str, bool]]:
    """Yield (critic prompt, accepted): written verdicts, then P(True) over both label orders."""
    prompts: dict[str, str] = {}
    odds: dict[str, float] = {}
    for event in events:
        match event:
            case CallFinished(role="critic", labels=LabelDistribution(probabilities=read)) if (
                event.purpose == "p_true"
            ):
                draft = _plain(event.messages[-2].text)
                right = "A" if "A) right" in event.messages[-1].text else "B"
                odds[draft] = odds.get(draft, 0.0) + log_odds(min(1.0, read[right]))
            case CallFinished(role="critic"):
                prompts[event.purpose] = _plain("\n".join(m.text for m in event.messages))
            case VerdictRecorded(role="critic", purpose=purpose, verdict=word) if (
                purpose in prompts and word in ACCEPTS | REJECTS
            ):
                yield prompts[purpose], word in ACCEPTS
    yield from ((draft, total >= 0) for draft, total in odds.items())


def _plain(text: str) -> str:
    return " ".join(quoting.disarm(text).split())
