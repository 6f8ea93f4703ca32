"""A model reviews its own draft and writes it again; a revision counts only where something else speaks for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secondpass.strategies.core import SOLVE, Candidate, Completion, Run
from secondpass.strategies.registry import Params, strategy
from secondpass.strategies.verdicts import Feedback

Gate = Literal["prefer", "draw"]


class SelfRefine(Params):
    """How often a draft is revised, and what a revision must pass."""

    max_rounds: int = Field(default=1, ge=1, le=8, description="revisions at most")
    gate: Gate | Literal["auto"] = Field(
        default="auto",
        description="what accepts a changed answer; prefer: the judge, in both orders; draw: an independent draft with "
        "the same answer; auto: prefer where the judge is known to be any good or the task is open, else draw",
    )
    temperature: float = Field(default=0.7, ge=0, le=2, description="of every draft and revision")


@strategy("self_refine", SelfRefine, paper="2303.17651", signal="critique", update="refine")
async def self_refine(run: Run, params: SelfRefine) -> Candidate:
    """A draft is reviewed and revised; a revision replaces it only if it passes a gate.

    Paper: Self-Refine (arXiv 2303.17651). Ours: the gate, so that the best version is returned and never simply the
    last; a review that cannot be had or read ends the run with the best version.
    """
    draft = await run.ask(SOLVE, temperature=params.temperature)
    run.elect(best := run.candidate(draft))
    for number in range(1, params.max_rounds + 1):
        feedback = await _feedback(run, best)
        if feedback is None or feedback.verdict == "ok":
            run.note("stopped", "no readable review" if feedback is None else "the review says ok")
            break
        revised = await _revision(run, params, best, feedback, number)
        if revised is None or await _is_unchanged(run, best, revised):
            run.note("stopped", "the revision failed" if revised is None else "unchanged answer")
            break
        if not await _passes(run, params, best, revised, number):
            run.note("gate", f"revision {number} was rejected")
            break
        run.note("gate", f"revision {number} was accepted")
        run.elect(best := revised)
    return run.best


async def _feedback(run: Run, best: Candidate) -> Feedback | None:
    text = run.profile("actor").conclusion(best.text)

    async def review(_: int) -> Feedback:
        reply = await run.critique("feedback", Feedback, question=run.question, candidate=text)
        return reply[1]

    return next(iter(await run.map(review, [0])), None)


async def _revision(
    run: Run, params: SelfRefine, best: Candidate, feedback: Feedback, number: int
) -> Candidate | None:
    async def write(index: int) -> Completion:
        return await run.ask(
            "refine",
            index=index,
            temperature=params.temperature,
            after="question",
            attempt=run.profile("actor").conclusion(best.text),
            critique="\n".join(feedback.issues) or "Something is wrong.",
        )

    return next((run.candidate(each) for each in await run.map(write, [number])), None)


async def _is_unchanged(run: Run, best: Candidate, revised: Candidate) -> bool:
    if " ".join(best.text.split()) == " ".join(revised.text.split()):
        return True
    one = await run.class_of(best)
    return one is not None and one == await run.class_of(revised)


async def _passes(
    run: Run, params: SelfRefine, best: Candidate, revised: Candidate, number: int
) -> bool:
    """Does anything but the model that wrote the revision's review speak for it?"""
    if run.task.kind != "open" and await run.class_of(revised) is None:
        return False
    if _gate(run, params) == "prefer":

        async def compare(_: int) -> bool:
            return (await run.prefer(revised, best)).winner == "a"

        return any(await run.map(compare, [0]))

    async def draw(index: int) -> Completion:
        return await run.ask(SOLVE, index=index, temperature=params.temperature)

    drawn = [run.candidate(each) for each in await run.map(draw, [number])]
    return any([await run.class_of(each) == await run.class_of(revised) for each in drawn])


def _gate(run: Run, params: SelfRefine) -> Gate:
    if params.gate != "auto":
        return params.gate
    return "prefer" if run.task.kind == "open" or run.trust("judge") else "draw"
