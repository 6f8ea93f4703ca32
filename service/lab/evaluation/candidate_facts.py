"""What only a run's events tell of its candidates: which are revisions, and what a critic said of each.

Events do not name candidates. A candidate is found by its own text, in what a call wrote or in what a critic was shown;
where that finds none, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from secondpass.service.common.events import CallFinished, Event, VerdictSeen
from secondpass.strategies.api import quoting
from secondpass.strategies.api.ranking import log_odds
from secondpass.strategies.api.values import SOLVE, Candidate, LabelRead

ACCEPTS = frozenset(("ok", "correct", "right"))
REJECTS = frozenset(("revise", "wrong", "incorrect"))
"""The words of verdicts by which prompts have a critic say that nothing, or something, is wrong."""

_DRAFTS = (SOLVE, "extend")


@dataclass(frozen=True, slots=True)
class CandidateFacts:
    """Of one candidate: was it written as a revision, and the critic's last verdict on it (None: none)."""

    is_revision: bool = False
    accepted: bool | None = None


def candidate_facts(
    events: Iterable[Event], candidates: Sequence[Candidate]
) -> list[CandidateFacts]:
    """What the events tell of each candidate, in their order."""
    events = list(events)
    texts = [_plain(candidate.text) for candidate in candidates]
    wrote = _written(events)
    accepted: dict[str, bool] = {}
    for shown, verdict in _verdicts(events):
        accepted[max((t for t in texts if t in shown), key=len, default="")] = verdict
    return [
        CandidateFacts(
            is_revision=_is_revision(text, wrote), accepted=accepted.get(text) if text else None
        )
        for text in texts
    ]


def revision_chain(
    candidates: Sequence[Candidate], told: Sequence[CandidateFacts]
) -> list[int] | None:
    """The places of the draft and its revisions, in order; None where it does not show which draft was revised.

    It shows where there was one draft before the first revision; drafts that come later only confirm.
    """
    revisions = [at for at, each in enumerate(told) if each.is_revision]
    if not revisions:
        return None
    drafts = [at for at in range(revisions[0]) if not told[at].is_revision]
    return [*drafts, *revisions] if len(drafts) == 1 else None


def _written(events: Iterable[Event]) -> list[tuple[str, str]]:
    """(purpose, text) of all that the actor wrote."""
    calls = [e for e in events if isinstance(e, CallFinished) and e.role == "actor"]
    return [(call.purpose, _plain(text)) for call in calls for text in call.texts]


def _is_revision(text: str, wrote: Sequence[tuple[str, str]]) -> bool:
    """Was the text first written for something else than a draft? Of a review with a revision in it, it is the end."""
    first = next((purpose for purpose, whole in wrote if whole == text), None)
    if first is None and text:
        first = next((purpose for purpose, whole in wrote if whole.endswith(text)), None)
    return first is not None and first not in _DRAFTS


def _verdicts(events: Iterable[Event]) -> Iterator[tuple[str, bool]]:
    """(what the critic was shown, does it accept?): each verdict in words, then what P(True) came to over both orders."""
    shown: dict[str, str] = {}
    odds: dict[str, float] = {}
    for event in events:
        match event:
            case CallFinished(role="critic", labels=LabelRead(probabilities=read)) if (
                event.purpose == "p_true"
            ):
                draft = _plain(event.messages[-2].text)
                right = "A" if "A) right" in event.messages[-1].text else "B"
                odds[draft] = odds.get(draft, 0.0) + log_odds(min(1.0, read[right]))
            case CallFinished(role="critic"):
                shown[event.purpose] = _plain("\n".join(m.text for m in event.messages))
            case VerdictSeen(role="critic", purpose=purpose, verdict=word) if (
                purpose in shown and word in ACCEPTS | REJECTS
            ):
                yield shown[purpose], word in ACCEPTS
    yield from ((draft, total >= 0) for draft, total in odds.items())


def _plain(text: str) -> str:
    return " ".join(quoting.disarm(text).split())
