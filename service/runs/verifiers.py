"""Verdicts of a task's own tests on candidates.

Tests run only in the sandbox, and only if the operator allows it. `service.sandbox` documents the isolation.
"""

from __future__ import annotations

import logging

import anyio

from secondpass.service.common.events import Trace, VerdictRecorded
from secondpass.service.sandbox import runner
from secondpass.service.sandbox.runner import SandboxResult, SandboxUnavailable
from secondpass.strategies.answers.task import Task
from secondpass.strategies.api.values import Candidate, Verdict

logger = logging.getLogger(__name__)

UNRUNNABLE = "the tests could not be run: "
"""Prefix of the reason for which tests gave no verdict."""


class Sandboxes:
    """Sandboxes of a process: at most `max_concurrent` run at once, further ones wait in order of arrival."""

    def __init__(self, max_concurrent: int) -> None:
        self._slots = anyio.Semaphore(max_concurrent)

    async def run(self, code: str, tests: str) -> SandboxResult:
        """Run the tests in a sandbox; cancelling kills its processes. Raises SandboxUnavailable."""
        async with self._slots:
            return await runner.run_python(code, tests)


class Verifier:
    """The tests of one run's task. Each code is tested once.

    Attributes:
        problem: Why the tests could not be run, for the last code with which they could not; None if they always could.
    """

    def __init__(self, task: Task, sandboxes: Sandboxes | None, trace: Trace) -> None:
        self._tests = task.tests
        self._sandboxes = sandboxes
        self._trace = trace
        self._verdicts: dict[str, Verdict | None] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self.problem: str | None = None

    @property
    def has_tests(self) -> bool:
        """True if the task has tests and the operator allows them."""
        return self._tests is not None and self._sandboxes is not None

    def known(self, candidate: Candidate) -> Verdict | None:
        """Return the verdict on a candidate that was tested before, else None."""
        if not self.has_tests or candidate.answer is None:
            return None
        return self._verdicts.get(candidate.answer)

    async def verify(self, candidate: Candidate) -> Verdict | None:
        """See `strategies.api.run.Run.verify`."""
        if self._tests is None or self._sandboxes is None:
            return None
        code = candidate.answer
        if code is None:
            return Verdict(accepted=False, score=0.0, reasons="there is no finished code in it")
        async with self._locks.setdefault(code, anyio.Lock()):
            if code not in self._verdicts:
                self._verdicts[code] = await self._test(self._sandboxes, code, self._tests)
            return self._verdicts[code]

    async def _test(self, sandboxes: Sandboxes, code: str, tests: str) -> Verdict | None:
        started, result = self._trace.elapsed, None
        try:
            result = await sandboxes.run(code, tests)
        except SandboxUnavailable as error:
            logger.warning("the tests of a task were not run: %s", error)
            self.problem = str(error)
            return None
        finally:
            self._record_result(result, started)
        if result.status == "error":
            self.problem = result.output
            return None
        passed = result.status == "passed"
        return Verdict(accepted=passed, score=float(passed), reasons=result.output)

    def _record_result(self, result: SandboxResult | None, started: float) -> None:
        """Record the result of the tests; None if they were cancelled or could not be run."""
        at = self._trace.elapsed
        verdict = VerdictRecorded(
            at=at,
            role="verifier",
            purpose="tests",
            verdict=result.status if result else None,
            reply={"output": _reported(result)} if result else None,
            error=None if result else "the tests did not finish",
            seconds=at - started,
        )
        self._trace.emit(verdict)


def _reported(result: SandboxResult) -> str:
    return f"{UNRUNNABLE}{result.output}" if result.status == "error" else result.output
