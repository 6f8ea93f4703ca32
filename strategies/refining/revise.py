"""Calls of a refinement: the tests and the review of a version, its revision, and the gate."""

from __future__ import annotations

from dataclasses import replace

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, Draw
from secondpass.strategies.judging.reply_schemas import Feedback
from secondpass.strategies.refining.critics import shown_issues, with_test_verdict
from secondpass.strategies.refining.revision_chain import (
    Gate,
    RevisionChain,
    revision_prompt,
    split_review,
)
from secondpass.strategies.refining.versions import Version

GATE_TEMPERATURE = 0.7
"""Temperature of the gate's independent draft if that of drafts is 0, which would repeat the draft."""


async def make_version(
    run: Run, completion: Completion, chain: int, round_number: int, *, has_tests: bool
) -> Version:
    """Return the version in a completion.

    With `has_tests` the task's own tests are run. Their verdict is the version's, and its
    candidate's score (0 or 1).
    """
    candidate = run.candidate(completion)
    ballot = await run.class_of(candidate)
    version = Version(
        chain=chain,
        round=round_number,
        completion=completion,
        candidate=candidate,
        ballot=ballot,
    )
    if not has_tests or (version := await with_test_verdict(run, version)).verdict is None:
        return version
    why = "its tests accept it" if version.is_accepted else "its tests reject it"
    score = float(version.is_accepted)
    return replace(
        version, candidate=run.candidate(completion, score=score, score_kind="tests", why=why)
    )


async def review(run: Run, newest: Version, index: int) -> Feedback:
    """Return the critic's review of a version. Raises VerdictUnreadable."""
    text = run.model().profile.conclusion(newest.candidate.text)
    _, found = await run.critique(
        "feedback", Feedback, index=index, question=run.question, candidate=text
    )
    return found


def format_issues(run: Run, found: Feedback, newest: Version) -> str:
    """Return the issues of a review for the revision prompt."""
    if found.verdict == "ok" and not found.issues:
        return "Nothing was found to be wrong."
    return shown_issues(found.issues, run.model().profile.conclusion(newest.candidate.text))


async def draw_revision(
    run: Run, chain: RevisionChain, index: int, temperature: float, *, has_tests: bool
) -> Version | None:
    """Draw a revision of the newest version; None if a merged reply contains no revision.

    The review in a merged reply is appended to the chain's findings.
    """
    prompt = revision_prompt(chain, _answers_tried(run, chain), run.model().profile.conclusion)
    completion = await run.ask(
        prompt.name,
        after=prompt.after,
        index=index,
        draw=Draw(temperature=temperature),
        **prompt.values,
    )
    if chain.plan.feedback == "merged":
        text = run.model().profile.conclusion(completion.text)
        parts = split_review(text, is_open=run.task.kind == "open")
        if parts is None:
            return None
        chain.findings.append(parts[0])
        completion = completion.with_text(parts[1])
    draft, round_number = chain.versions[0], len(chain.versions)
    return await make_version(run, completion, draft.chain, round_number, has_tests=has_tests)


async def passes_gate(
    run: Run, gate: Gate, best: Version, revised: Version, index: int, temperature: float
) -> bool:
    """Return whether the gate accepts a revision in place of the best version.

    `prefer` compares both in both orders. `draw` samples an independent draft with the index
    `index`, which must have the revision's answer. `tests` and `vote` are decided elsewhere and
    never accept here.
    """
    if gate in ("tests", "vote") or revised.candidate.answer is None:
        return False
    if gate == "prefer":
        found = await run.compare(revised.candidate, best.candidate)
        return found.winner == "a" and found.is_in_both_orders
    drawn = await run.ask(
        SOLVE, index=index, draw=Draw(temperature=temperature or GATE_TEMPERATURE)
    )
    return revised.ballot == await run.class_of(run.candidate(drawn))


def _answers_tried(run: Run, chain: RevisionChain) -> list[str]:
    """Return the distinct answers so far; none if an answer is a whole text, which must not be shown."""
    if run.task.kind not in ("math", "choice"):
        return []
    answers = {
        each.ballot: each.candidate.answer for each in chain.versions if each.ballot is not None
    }
    return [answer for answer in answers.values() if answer is not None]
