"""The questions of an evaluation on their way to the service: each once, and remembered."""

from __future__ import annotations

import sys
import time
from typing import Any

import anyio
import httpx

from secondpass.service.cli.common.client import explained, post
from secondpass.service.cli.common.failure import NOTHING, REFUSED, Failure, Json
from secondpass.service.cli.evaluate.plan import sampling_of
from secondpass.service.lab.evaluation.answer_log import AnswerLog, LoggedAnswer, Setting
from secondpass.service.lab.pools.questions import Question

LINE_SECONDS = 30.0
"""Between two lines of progress where nobody watches a terminal."""

PATIENCE = 1200.0


class Asker:
    """Asks what is not in the book yet, and says how far it is: of `total` answers `done` were there before.

    A request that the server refuses is the last: the next would be refused as well. `failures` are those of the server
    or its engine, none of which is in the book.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str, book: AnswerLog, *, total: int, done: int
    ) -> None:
        self._client, self._url, self._book = client, url, book
        self._total, self._done, self._said = total, done, time.monotonic()
        self._lane = anyio.Lock()
        self.refusal: Failure | None = None
        self.failures: list[Failure] = []
        if 0 < done < total:
            self._say()

    async def ask(self, setting: Setting, question: Question, epoch: int) -> LoggedAnswer:
        """What the question is answered, now or earlier. Raises Failure."""
        known = self._book.find(setting, question, epoch)
        if known is not None:
            return known
        if self.refusal is not None:
            raise self.refusal
        began = time.monotonic()
        try:
            with explained(self._url):
                asked = await self._asked(setting, question, epoch, began)
        except Failure as failure:
            self._count(failure, question)
            raise
        self._book.add(setting, question, epoch, asked)
        self._done += 1
        self._tell()
        return asked

    async def _asked(
        self, setting: Setting, question: Question, epoch: int, began: float
    ) -> LoggedAnswer:
        send = _solve if setting.route == "solve" else _chat
        try:
            document = await send(self._client, setting, question, epoch)
        except Failure as failure:
            if failure.code != NOTHING:
                raise
            usage = failure.problem.get("usage", {})
            return LoggedAnswer(None, time.monotonic() - began, str(failure), usage)
        return LoggedAnswer(document, time.monotonic() - began)

    def _count(self, failure: Failure, question: Question) -> None:
        if failure.code == REFUSED and self.refusal is None:
            self.refusal = Failure(f"{question.location}: {failure}", REFUSED)
        self.failures.append(failure)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS:
            self._said = now
            self._say()

    def _say(self) -> None:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        line = f"{self._done} of {self._total} answered{failed}"
        print(f"secondpass eval: {line}", file=sys.stderr, flush=True)  # noqa: T201


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
    return await post(client, "/solve", body, _patience(setting))


async def _chat(
    client: httpx.AsyncClient, setting: Setting, question: Question, epoch: int
) -> Json:
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
    reply = await post(client, "/v1/chat/completions", body, _patience(setting))
    text: str = reply["choices"][0]["message"]["content"]
    return {"id": reply["id"], "created": reply["created"], "text": text, **reply["secondpass"]}


def _patience(setting: Setting) -> float:
    """Seconds after which a server that says nothing is gone: well over any deadline of its own."""
    deadline: float = setting.budget.get("deadline_ms", 0) / 1000
    return max(PATIENCE, 2 * deadline)


def _strategy(setting: Setting) -> Json:
    return {"name": setting.strategy, "params": dict(setting.params)}


def _task(question: Question) -> dict[str, Any]:
    """The task without its tests: whoever answers must not see by what it is scored."""
    return question.task.model_dump(exclude_defaults=True, exclude={"tests"})
