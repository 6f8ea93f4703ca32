"""Verdicts on versions: the task's own tests, else a critic, by the cheapest means that its engine has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Completion, Message, Verdict
from secondpass.strategies.judging.p_true import calibrated_p_true
from secondpass.strategies.judging.reply_schemas import Critique
from secondpass.strategies.refining.versions import Version, VersionVerdict

VerdictFormat = Literal["labels", "text"]

WRITTEN = 0.8
"""The probability that a version is right whose written verdict is "correct": odds of 4 to 1. "wrong": 0.2."""


def verdict_format(run: Run, wanted: VerdictFormat | Literal["auto"]) -> VerdictFormat:
    """The format of verdicts: as wanted, else labels where the critic's engine returns their probabilities."""
    if wanted != "auto":
        return wanted
    return "labels" if run.model("critic").can("labels") else "text"


async def tested(run: Run, version: Version) -> Version:
    """The version with the verdict of the task's own tests; unchanged where they return none."""
    return _with_verdict(version, await run.verify(version.candidate))


async def all_tested(run: Run, versions: Sequence[Version]) -> list[Version]:
    """The versions, in order, with the verdicts of the task's own tests, run at once."""
    verdicts = await run.map(lambda each: run.verify(each.candidate), versions, min_results=0)
    return [_with_verdict(each, found) for each, found in zip(versions, verdicts, strict=True)]


def _with_verdict(version: Version, found: Verdict | None) -> Version:
    if found is None:
        return version
    issues = (found.reasons,)
    verdict = VersionVerdict(right=float(found.accepted), issues=issues, is_external=True)
    return replace(version, verdict=verdict)


async def judged(
    run: Run,
    versions: Sequence[Version],
    verdicts: VerdictFormat,
    number: int,
    *,
    with_issues: bool,
) -> list[Version]:
    """The versions, those of round `number` with the critic's verdicts; unchanged where a verdict is unreadable.

    All are judged as replies to the question of the first. Label probabilities cost two tokens and return no issues:
    `with_issues`, a version that they reject is criticised in words as well.
    """
    messages = versions[0].completion.messages

    async def judge(version: Version) -> VersionVerdict | None:
        if version.ballot is None and run.task.kind != "open":
            return VersionVerdict(right=0.0, issues=("It gives no final answer.",))
        if verdicts == "text":
            return await _written(run, version)
        return await _read(run, version, messages, with_issues=with_issues)

    earlier = [each for each in versions if each.round < number]
    newest = [each for each in versions if each.round == number]
    found = await run.map(judge, newest, min_results=0)
    pairs = zip(newest, found, strict=True)
    return earlier + [each if new is None else replace(each, verdict=new) for each, new in pairs]


async def _written(run: Run, version: Version) -> VersionVerdict:
    critique = await _critique(run, version)
    right = WRITTEN if critique.verdict == "correct" else 1 - WRITTEN
    return VersionVerdict(right=right, issues=tuple(critique.issues))


async def _read(
    run: Run, version: Version, messages: tuple[Message, ...], *, with_issues: bool
) -> VersionVerdict | None:
    draft = version.completion.in_reply_to(messages)
    probability = await calibrated_p_true(run, draft, role="critic")
    if probability is None:
        return None
    verdict = VersionVerdict(right=probability)
    if with_issues and verdict.is_wrong:
        [critique] = await run.map(partial(_critique, run), [version], min_results=0)
        if critique is not None and critique.verdict == "wrong":
            return replace(verdict, issues=tuple(critique.issues))
    return verdict


async def _critique(run: Run, version: Version) -> Critique:
    _, critique = await run.critique(
        "critique",
        Critique,
        index=version.completion.index,
        question=run.question,
        candidate=run.model().profile.conclusion(version.completion.text),
    )
    return critique


async def is_step_wrong(run: Run, so_far: Completion) -> bool:
    """Ask the critic whether the last step of an unfinished solution is wrong. Raises VerdictUnreadable."""
    judgement = await run.classify(
        "step_check",
        ("right", "wrong"),
        role="critic",
        after=so_far.with_text(so_far.text.rstrip()),
        index=so_far.index,
    )
    return judgement.verdict == "wrong"


def shown_issues(issues: Sequence[str], text: str) -> str:
    """The issues in lines, without those that repeat the whole version, whose `text` a retry must not see."""
    whole = " ".join(text.split())
    kept = [each.strip() for each in issues if each.strip() and whole not in " ".join(each.split())]
    return "\n".join(kept) or "Something in it is wrong."
