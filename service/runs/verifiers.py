"""What a task's own tests say of a candidate: the one opinion in a run that is no model's.

Tests run in the sandbox only where the operator allows it; see `service.sandbox` for what code can do in there.
"""

from __future__ import annotations

import logging

import anyio

from secondpass.service.common.events import NoteMade, Trace, VerdictSeen
from secondpass.service.sandbox import runner
from secondpass.service.sandbox.runner import SandboxResult, SandboxUnavailable
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.values import Candidate, Verdict

logger = logging.getLogger(__name__)


class Sandboxes:
    """The sandboxes of a process: at most `most` run tests at once, and more wait in turn."""

    def __init__(self, most: int) -> None:
        self._places = anyio.Semaphore(most)

    async def run(self, code: str, tests: str) -> SandboxResult:
        """What came of the tests. Cancelling it kills what runs. Raises SandboxUnavailable."""
        async with self._places:
            return await runner.run_python(code, tests)


class Verifier:
    """The tests of one run's task; the same code is tested once, whoever asks."""

    def __init__(self, task: Task, sandboxes: Sandboxes | None, trace: Trace) -> None:
        self._tests = task.tests
        self._sandboxes = sandboxes
        self._trace = trace
        self._known: dict[str, Verdict | None] = {}
        self._testing: dict[str, anyio.Lock] = {}

    async def verify(self, candidate: Candidate) -> Verdict | None:
        """See `strategies.api.run.Run.verify`."""
        if self._tests is None or self._sandboxes is None:
            return None
        code = candidate.answer
        if code is None:
            return Verdict(accepted=False, score=0.0, reasons="there is no finished code in it")
        async with self._testing.setdefault(code, anyio.Lock()):
            if code not in self._known:
                self._known[code] = await self._test(self._sandboxes, code, self._tests)
            return self._known[code]

    async def _test(self, sandboxes: Sandboxes, code: str, tests: str) -> Verdict | None:
        began, found = self._trace.elapsed, None
        try:
            found = await sandboxes.run(code, tests)
        except SandboxUnavailable as error:
            logger.warning("a task's tests were not run: %s", error)
            self._note(f"not run: {error}")
            return None
        finally:
            self._tell(found, began)
        if found.status == "error":
            self._note(f"cannot run: {found.output}")
            return None
        passed = found.status == "passed"
        return Verdict(accepted=passed, score=float(passed), reasons=found.output)

    def _tell(self, found: SandboxResult | None, began: float) -> None:
        """What came of the tests, or that nothing came of them: they were cancelled, or nothing could run them."""
        at = self._trace.elapsed
        told = VerdictSeen(
            at=at,
            role="verifier",
            purpose="tests",
            verdict=found.status if found else None,
            reply={"output": found.output} if found else None,
            error=None if found else "the tests did not come to an end",
            seconds=at - began,
        )
        self._trace.emit(told)

    def _note(self, what: str) -> None:
        self._trace.emit(NoteMade(at=self._trace.elapsed, about="tests", what=what))
