"""The steps of a refinement as calls: a version and what its tests say, a review, a revision, the gate."""

from __future__ import annotations

from dataclasses import replace

from secondpass.strategies.api.errors import SURVIVABLE
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion
from secondpass.strategies.judging.reply_schemas import Feedback
from secondpass.strategies.refining.critics import tested
from secondpass.strategies.refining.versions import Attempt, Chain, Gate, divided, summary, wording

DRAWN = 0.7
"""The temperature of a gate's independent draft where that of the others is 0, at which it would be the draft again."""


async def version(
    run: Run, completion: Completion, chain: int, number: int, *, has_tests: bool
) -> Attempt:
    """What was written, classed; `has_tests` asks the task's own tests, and what they say is its candidate's score."""
    candidate = run.candidate(completion)
    ballot = await run.class_of(candidate)
    found = Attempt(
        chain=chain, round=number, completion=completion, candidate=candidate, ballot=ballot
    )
    if not has_tests or (found := await tested(run, found)).ruling is None:
        return found
    why = "its tests accept it" if found.is_accepted else "its tests reject it"
    score = float(found.is_accepted)
    return replace(
        found, candidate=run.candidate(completion, score=score, score_kind="tests", why=why)
    )


async def review(run: Run, newest: Attempt, index: int) -> Feedback | None:
    """What the critic says of a version; None where it says nothing that can be read."""
    text = run.profile("actor").conclusion(newest.candidate.text)
    try:
        _, found = await run.critique(
            "feedback", Feedback, index=index, question=run.question, candidate=text
        )
    except SURVIVABLE:
        return None
    return found


def issues_of(run: Run, found: Feedback, newest: Attempt) -> str:
    """What a review says is wrong, as a reviser is told it."""
    if found.verdict == "ok" and not found.issues:
        return "Nothing was found to be wrong."
    return summary(found.issues, run.profile("actor").conclusion(newest.candidate.text))


async def revision(
    run: Run, chain: Chain, index: int, temperature: float, *, has_tests: bool
) -> Attempt | None:
    """The newest version revised; None where that failed. A merged review of the version before joins the findings."""
    said = wording(chain, _tried(run, chain), run.profile("actor").conclusion)
    completion: Completion | None
    try:
        completion = await run.ask(
            said.prompt, after=said.after, index=index, temperature=temperature, **said.values
        )
    except SURVIVABLE:
        return None
    if chain.plan.feedback == "merged":
        completion = _without_review(run, chain, completion)
        if completion is None:
            return None
    first = chain.versions[0]
    return await version(run, completion, first.chain, len(chain.versions), has_tests=has_tests)


async def passes(
    run: Run, gate: Gate, best: Attempt, revised: Attempt, index: int, temperature: float
) -> bool:
    """Does anything but the model that wrote the revision's review speak for it? `index` is of an independent draft."""
    if gate in ("tests", "vote") or revised.candidate.answer is None:
        return False
    try:
        if gate == "prefer":
            found = await run.prefer(revised.candidate, best.candidate)
            return found.winner == "a" and found.is_in_both_orders
        drawn = await run.ask(SOLVE, index=index, temperature=temperature or DRAWN)
    except SURVIVABLE:
        return False
    return revised.ballot == await run.class_of(run.candidate(drawn))


def _tried(run: Run, chain: Chain) -> list[str]:
    """The answers so far, each once; none where an answer is a whole text, which is not to be shown."""
    if run.task.kind not in ("math", "choice"):
        return []
    answers = {
        each.ballot: each.candidate.answer for each in chain.versions if each.ballot is not None
    }
    return [answer for answer in answers.values() if answer is not None]


def _without_review(run: Run, chain: Chain, completion: Completion) -> Completion | None:
    conclusion = run.profile("actor").conclusion(completion.text)
    parts = divided(conclusion, is_open=run.task.kind == "open")
    if parts is None:
        return None
    chain.findings.append(parts[0])
    return replace(completion, text=parts[1])
