"""Asking what is wrong with an attempt: the task's own tests first, else a critic, by the cheapest means that it has."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from secondpass.strategies.api.errors import SURVIVABLE, CapabilityMissing
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Message
from secondpass.strategies.judging.p_true import calibrated_p_true
from secondpass.strategies.judging.reply_schemas import Critique
from secondpass.strategies.refining.versions import WRITTEN, Attempt, Ruling

Reading = Literal["labels", "text"]


def reading_of(run: Run, wanted: Reading | Literal["auto"]) -> Reading:
    """How verdicts are read. Raises RoleMissing, and CapabilityMissing for labels that the critic's engine lacks."""
    run.require("critic")
    if wanted == "text":
        return "text"
    try:
        run.require("critic", "labels")
    except CapabilityMissing:
        if wanted == "labels":
            raise
        return "text"
    return "labels"


async def tested(run: Run, attempt: Attempt) -> Attempt:
    """The attempt with what the task's own tests say of it; as it was where they say nothing."""
    verdict = await run.verify(attempt.candidate)
    if verdict is None:
        return attempt
    issues = (verdict.reasons,)
    ruling = Ruling(right=float(verdict.accepted), issues=issues, is_external=True)
    return replace(attempt, ruling=ruling)


async def criticised(
    run: Run, attempt: Attempt, messages: tuple[Message, ...], reading: Reading, *, told: bool
) -> Attempt:
    """The attempt, seen as a reply to `messages`, with what the critic says of it; as it was where that is unreadable.

    Label probabilities cost two tokens and say nothing of what is wrong: where that is to be `told`, what they reject is
    criticised in words as well.
    """
    if attempt.ballot is None and run.task.kind != "open":
        return replace(attempt, ruling=Ruling(right=0.0, issues=("It gives no final answer.",)))
    if reading == "text":
        critique = await _critique(run, attempt)
        if critique is None:
            return attempt
        right = WRITTEN if critique.verdict == "correct" else 1 - WRITTEN
        return replace(attempt, ruling=Ruling(right=right, issues=tuple(critique.issues)))
    draft = attempt.completion.in_reply_to(messages)
    probability = await calibrated_p_true(run, draft, role="critic")
    if probability is None:
        return attempt
    ruling = Ruling(right=probability)
    if told and ruling.is_wrong:
        critique = await _critique(run, attempt)
        if critique is not None and critique.verdict == "wrong":
            ruling = replace(ruling, issues=tuple(critique.issues))
    return replace(attempt, ruling=ruling)


async def _critique(run: Run, attempt: Attempt) -> Critique | None:
    try:
        _, critique = await run.critique(
            "critique",
            Critique,
            index=attempt.completion.index,
            question=run.question,
            candidate=run.profile("actor").conclusion(attempt.completion.text),
        )
    except SURVIVABLE:
        return None
    return critique


async def is_step_wrong(run: Run, so_far: Completion) -> bool | None:
    """Does the critic call the last step of an unfinished solution wrong? None where that is unreadable."""
    shown = replace(so_far, text=so_far.text.rstrip())
    try:
        judgement = await run.judge(
            "step_check", ("right", "wrong"), role="critic", after=shown, index=so_far.index
        )
    except SURVIVABLE:
        return None
    return judgement.verdict == "wrong"
