"""The steps of a refinement as calls: a version and its tests, a review, a revision, the gate."""

from __future__ import annotations

from dataclasses import replace

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Completion, Draw
from secondpass.strategies.judging.reply_schemas import Feedback
from secondpass.strategies.refining.critics import shown_issues, tested
from secondpass.strategies.refining.revision_chain import Gate, RevisionChain, divided, prompt_of
from secondpass.strategies.refining.versions import Version

DRAWN = 0.7
"""The temperature of a gate's independent draft where that of the others is 0, at which it would be the draft again."""


async def version_of(
    run: Run, completion: Completion, chain: int, number: int, *, has_tests: bool
) -> Version:
    """The version in a completion; with `has_tests` the verdict of the task's own tests is its candidate's score."""
    candidate = run.candidate(completion)
    ballot = await run.class_of(candidate)
    version = Version(
        chain=chain, round=number, completion=completion, candidate=candidate, ballot=ballot
    )
    if not has_tests or (version := await tested(run, version)).verdict is None:
        return version
    why = "its tests accept it" if version.is_accepted else "its tests reject it"
    score = float(version.is_accepted)
    return replace(
        version, candidate=run.candidate(completion, score=score, score_kind="tests", why=why)
    )


async def review(run: Run, newest: Version, index: int) -> Feedback:
    """The critic's review of a version. Raises VerdictUnreadable."""
    text = run.model().profile.conclusion(newest.candidate.text)
    _, found = await run.critique(
        "feedback", Feedback, index=index, question=run.question, candidate=text
    )
    return found


def issues_of(run: Run, found: Feedback, newest: Version) -> str:
    """The issues of a review, as a reviser sees them."""
    if found.verdict == "ok" and not found.issues:
        return "Nothing was found to be wrong."
    return shown_issues(found.issues, run.model().profile.conclusion(newest.candidate.text))


async def revision(
    run: Run, chain: RevisionChain, index: int, temperature: float, *, has_tests: bool
) -> Version | None:
    """The newest version revised; None where a merged reply holds no revision.

    A merged review of the version before joins the chain's findings.
    """
    prompt = prompt_of(chain, _tried(run, chain), run.model().profile.conclusion)
    completion = await run.ask(
        prompt.name,
        after=prompt.after,
        index=index,
        draw=Draw(temperature=temperature),
        **prompt.values,
    )
    if chain.plan.feedback == "merged":
        text = run.model().profile.conclusion(completion.text)
        parts = divided(text, is_open=run.task.kind == "open")
        if parts is None:
            return None
        chain.findings.append(parts[0])
        completion = completion.with_text(parts[1])
    draft, number = chain.versions[0], len(chain.versions)
    return await version_of(run, completion, draft.chain, number, has_tests=has_tests)


async def passes(
    run: Run, gate: Gate, best: Version, revised: Version, index: int, temperature: float
) -> bool:
    """Ask the gate for confirmation by anything but the revision's own review; `index` is of an independent draft."""
    if gate in ("tests", "vote") or revised.candidate.answer is None:
        return False
    if gate == "prefer":
        found = await run.compare(revised.candidate, best.candidate)
        return found.winner == "a" and found.is_in_both_orders
    drawn = await run.ask(SOLVE, index=index, draw=Draw(temperature=temperature or DRAWN))
    return revised.ballot == await run.class_of(run.candidate(drawn))


def _tried(run: Run, chain: RevisionChain) -> list[str]:
    """The answers so far, each once; none where an answer is a whole text, which must not be shown."""
    if run.task.kind not in ("math", "choice"):
        return []
    answers = {
        each.ballot: each.candidate.answer for each in chain.versions if each.ballot is not None
    }
    return [answer for answer in answers.values() if answer is not None]
