"""Answers of an evaluation: from the answer log, or requested from the server and logged."""

from __future__ import annotations

import time
from typing import Any

import httpx

from secondpass.service.cli.common.client import connection_errors_as_failure, post
from secondpass.service.cli.common.failure import NO_ANSWER, REFUSED, Failure, Json
from secondpass.service.cli.common.output import print_text
from secondpass.service.cli.evaluate.plan import sampling_of
from secondpass.service.lab.evaluation.answer_log import AnswerLog, LoggedAnswer, Setting
from secondpass.service.lab.pools.questions import Question

PROGRESS_SECONDS = 30.0
"""Interval between progress lines."""

MIN_TIMEOUT_SECONDS = 1200.0


class AnswerSource:
    """Requests every answer that the log lacks, and reports progress on stderr.

    After the server has rejected a request, no further request is sent, because it would be rejected too.

    Args:
        client: Client of the server.
        url: Address of the server, for error messages.
        log: The answers so far. New answers are added.
        total: Answers of all evaluations.
        done: How many of them the log contains at the start.

    Attributes:
        rejection: The first rejected request.
        failures: Failures of the server or its engine. They are not logged, so the next evaluation retries them.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str, log: AnswerLog, *, total: int, done: int
    ) -> None:
        self._client, self._url, self._log = client, url, log
        self._total, self._done, self._reported_at = total, done, time.monotonic()
        self.rejection: Failure | None = None
        self.failures: list[Failure] = []
        if 0 < done < total:
            self._print_progress()

    async def answer(self, setting: Setting, question: Question, epoch: int) -> LoggedAnswer:
        """Return the answer from the log, or request and log it. Raises Failure."""
        known = self._log.find(setting, question, epoch)
        if known is not None:
            return known
        if self.rejection is not None:
            raise self.rejection
        began = time.monotonic()
        try:
            with connection_errors_as_failure(self._url):
                answer = await self._request(setting, question, epoch, began)
        except Failure as failure:
            self._add_failure(failure, question)
            raise
        self._log.add(setting, question, epoch, answer)
        self._done += 1
        self._report_progress()
        return answer

    async def _request(
        self, setting: Setting, question: Question, epoch: int, began: float
    ) -> LoggedAnswer:
        send = _solve if setting.route == "solve" else _chat
        try:
            document = await send(self._client, setting, question, epoch)
        except Failure as failure:
            if failure.code != NO_ANSWER:
                raise
            usage = failure.problem.get("usage", {})
            return LoggedAnswer(None, time.monotonic() - began, str(failure), usage)
        return LoggedAnswer(document, time.monotonic() - began)

    def _add_failure(self, failure: Failure, question: Question) -> None:
        if failure.code == REFUSED and self.rejection is None:
            self.rejection = Failure(f"{question.location}: {failure}", REFUSED)
        self.failures.append(failure)

    def _report_progress(self) -> None:
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = now
            self._print_progress()

    def _print_progress(self) -> None:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        line = f"{self._done} of {self._total} answered{failed}"
        print_text(f"secondpass eval: {line}", to_stderr=True)


async def _solve(
    client: httpx.AsyncClient, setting: Setting, question: Question, epoch: int
) -> Json:
    body = {
        "question": question.question,
        "strategy": _strategy(setting),
        "task": _task(question),
        "sampling": sampling_of(setting, epoch),
        "budget": dict(setting.budget),
        "trace": "summary",
    }
    return await post(client, "/solve", body, _timeout_seconds(setting))


async def _chat(
    client: httpx.AsyncClient, setting: Setting, question: Question, epoch: int
) -> Json:
    """Request a chat completion and return it in the shape of an answer object."""
    extension = {
        "strategy": _strategy(setting),
        "task": _task(question),
        "budget": dict(setting.budget),
        "trace": "summary",
    }
    body = {
        "model": setting.model,
        "messages": [{"role": "user", "content": question.question}],
        **sampling_of(setting, epoch),
        "secondpass": extension,
    }
    reply = await post(client, "/v1/chat/completions", body, _timeout_seconds(setting))
    text: str = reply["choices"][0]["message"]["content"]
    return {"id": reply["id"], "created": reply["created"], "text": text, **reply["secondpass"]}


def _timeout_seconds(setting: Setting) -> float:
    """Return the client's timeout in seconds, well above the deadline of the run."""
    deadline: float = setting.budget.get("deadline_ms", 0) / 1000
    return max(MIN_TIMEOUT_SECONDS, 2 * deadline)


def _strategy(setting: Setting) -> Json:
    return {"name": setting.strategy, "params": dict(setting.params)}


def _task(question: Question) -> dict[str, Any]:
    """Return the task without its tests, which the model must not see because they score its answer."""
    return question.task.model_dump(exclude_defaults=True, exclude={"tests"})
