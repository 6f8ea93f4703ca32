"""Verdicts on versions, from the task's own tests or from a critic."""

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

WRITTEN_PROBABILITY = 0.8
"""Probability that a version with the written verdict "correct" is correct; 0.2 for "wrong"."""


def resolve_format(run: Run, wanted: VerdictFormat | Literal["auto"]) -> VerdictFormat:
    """Resolve `auto`: `labels` if the critic's engine returns label probabilities, else `text`."""
    if wanted != "auto":
        return wanted
    return "labels" if run.model("critic").can("labels") else "text"


async def with_test_verdict(run: Run, version: Version) -> Version:
    """Run the task's own tests and return the version with their verdict, unchanged if there is none."""
    return _with_verdict(version, await run.verify(version.candidate))


async def with_test_verdicts(run: Run, versions: Sequence[Version]) -> list[Version]:
    """Run the task's own tests concurrently and return the versions, in order, with their verdicts."""
    verdicts = await run.map(lambda each: run.verify(each.candidate), versions, min_results=0)
    return [_with_verdict(each, found) for each, found in zip(versions, verdicts, strict=True)]


def _with_verdict(version: Version, found: Verdict | None) -> Version:
    if found is None:
        return version
    issues = (found.reasons,)
    verdict = VersionVerdict(p_right=float(found.accepted), issues=issues, is_external=True)
    return replace(version, verdict=verdict)


async def with_critic_verdicts(
    run: Run,
    versions: Sequence[Version],
    verdict_format: VerdictFormat,
    round_number: int,
    *,
    with_issues: bool,
) -> list[Version]:
    """Return the versions, those of round `round_number` with the critic's verdicts.

    A version whose verdict is unreadable is unchanged. One without an answer is incorrect without a
    call, except in open tasks.

    Label reads cost two tokens, return no issues, and show each version as a reply to the question
    of the first one. With `with_issues` a version that they reject also gets a written critique.
    """
    messages = versions[0].completion.messages

    async def judge(version: Version) -> VersionVerdict | None:
        if version.ballot is None and run.task.kind != "open":
            return VersionVerdict(p_right=0.0, issues=("It gives no final answer.",))
        if verdict_format == "text":
            return await _written_verdict(run, version)
        return await _label_verdict(run, version, messages, with_issues=with_issues)

    earlier = [each for each in versions if each.round < round_number]
    newest = [each for each in versions if each.round == round_number]
    found = await run.map(judge, newest, min_results=0)
    pairs = zip(newest, found, strict=True)
    return earlier + [each if new is None else replace(each, verdict=new) for each, new in pairs]


async def _written_verdict(run: Run, version: Version) -> VersionVerdict:
    critique = await _critique(run, version)
    is_right = critique.verdict == "correct"
    p_right = WRITTEN_PROBABILITY if is_right else 1 - WRITTEN_PROBABILITY
    return VersionVerdict(p_right=p_right, issues=tuple(critique.issues))


async def _label_verdict(
    run: Run, version: Version, messages: tuple[Message, ...], *, with_issues: bool
) -> VersionVerdict | None:
    draft = version.completion.in_reply_to(messages)
    probability = await calibrated_p_true(run, draft, role="critic")
    if probability is None:
        return None
    verdict = VersionVerdict(p_right=probability)
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
    """Return whether the critic rejects the last step of a partial solution. Raises VerdictUnreadable."""
    judgement = await run.classify(
        "step_check",
        ("right", "wrong"),
        role="critic",
        after=so_far.with_text(so_far.text.rstrip()),
        index=so_far.index,
    )
    return judgement.verdict == "wrong"


def shown_issues(issues: Sequence[str], text: str) -> str:
    """Return the issues for a retry or revision prompt, one per line.

    Issues that quote the whole version are dropped, because the prompt must not contain its `text`.
    """
    whole = " ".join(text.split())
    kept = [each.strip() for each in issues if each.strip() and whole not in " ".join(each.split())]
    return "\n".join(kept) or "Something in it is wrong."
