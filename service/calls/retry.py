"""Another attempt where that may work: the one place that retries calls to engines.

A call whose text nobody has seen begins anew. Text that reached a client cannot be taken back, so a visible call goes
on from the tokens that were delivered, or fails.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import anyio
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from secondpass.service.calls.wrapper import EngineWrapper
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.errors import EngineUnavailable, StreamCut
from secondpass.strategies.api.values import Usage


@dataclass(slots=True)
class _Progress:
    """What the consumer of one call holds by now, over all attempts that it did not have to discard."""

    call: Call
    has_content: bool = False
    has_reasoning: bool = False
    tokens: int = 0
    ids: list[int] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    earlier: Usage | None = None  # of the attempts before, once one was resumed

    def note(self, delta: Delta) -> Delta:
        """Take in a delta of the running attempt; returns it as the consumer should see it."""
        self.has_content = self.has_content or bool(delta.text or delta.reasoning)
        self.has_reasoning = self.has_reasoning or bool(delta.reasoning)
        self.tokens += delta.tokens
        self.ids += delta.token_ids
        if delta.usage is None:
            return delta
        self.usage = delta.usage
        return replace(delta, usage=self.earlier + delta.usage) if self.earlier else delta

    def restart(self) -> Call:
        """The call from its start: all that was delivered is void."""
        self.has_content = self.has_reasoning = False
        self.tokens = 0
        self.ids.clear()
        self.usage, self.earlier = Usage(), None
        return self.call

    def can_resume(self, engine: Engine) -> bool:
        """Whether every delivered token is known and may simply be gone on from.

        Stop strings are looked for in text that engines hold back while the tokens already count, reasoning is
        cut out of the tokens by a parser that continuations do not have, and a grammar would begin anew.
        """
        call = self.call
        return (
            {"prefix", "tokenize"} <= engine.capabilities
            and call.n == 1
            and not isinstance(call.prefix, str)
            and call.schema is None
            and not call.sampling.stop
            and not self.has_reasoning
            and 0 < len(self.ids) == self.tokens
        )

    def resume(self) -> Call | None:
        """The rest of the call; None when only its end is missing, since all its tokens are there."""
        before = self.earlier or Usage()
        written = self.tokens - before.completion
        billed = replace(self.usage, completion=max(self.usage.completion, written))
        self.usage, self.earlier = Usage(), before + billed
        cap = self.call.sampling.max_tokens
        if cap is not None and cap <= self.tokens:
            return None
        sampling = self.call.sampling
        if cap is not None:
            sampling = sampling.model_copy(update={"max_tokens": cap - self.tokens})
        held = self.call.prefix if isinstance(self.call.prefix, tuple) else ()
        return replace(self.call, prefix=(*held, *self.ids), sampling=sampling)


class RetryingEngine(EngineWrapper):
    """At most `attempts` attempts of each call of `engine` where it is unavailable or its stream is cut.

    The pause between two is random, up to `first_pause` seconds and twice as much each time; an engine that says when
    to come back is believed, up to `longest_pause` seconds. A new attempt is announced by a delta with a notice:
    "retried" makes all earlier deltas of the call void, "resumed" goes on after them.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        attempts: int = 3,
        first_pause: float = 0.2,
        longest_pause: float = 30.0,
    ) -> None:
        if attempts < 1:
            raise ValueError("attempts must be at least 1")
        super().__init__(engine)
        self.attempts = attempts
        self.longest_pause = longest_pause
        self._backoff = wait_random_exponential(multiplier=first_pause, max=longest_pause)

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """The engine's deltas over all attempts. Raises what the last attempt raised."""
        progress = _Progress(call)
        async for attempt in self._attempts(progress):
            with attempt:
                current: Call | None = call
                if attempt.retry_state.attempt_number > 1:
                    is_resumed = call.visible and progress.has_content
                    current = progress.resume() if is_resumed else progress.restart()
                    yield Delta(notice="resumed" if is_resumed else "retried")
                if current is None:
                    yield Delta(finish_reason="length", usage=progress.earlier)
                    return
                async with aclosing(self.engine.stream(current)) as deltas:
                    async for delta in deltas:
                        yield progress.note(delta)
                return

    def _attempts(self, progress: _Progress) -> AsyncRetrying:
        def may_work(failure: BaseException) -> bool:
            if not isinstance(failure, EngineUnavailable | StreamCut):
                return False
            if isinstance(failure, EngineUnavailable) and not failure.may_retry:
                return False
            if (_asked_pause(failure) or 0.0) > self.longest_pause:
                return False
            is_free = not (progress.call.visible and progress.has_content)
            return is_free or progress.can_resume(self.engine)

        return AsyncRetrying(
            sleep=anyio.sleep,
            stop=stop_after_attempt(self.attempts),
            wait=self._pause,
            retry=retry_if_exception(may_work),
            reraise=True,
        )

    def _pause(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        return max(self._backoff(state), _asked_pause(failure) or 0.0)


def _asked_pause(failure: BaseException | None) -> float | None:
    return failure.retry_after if isinstance(failure, EngineUnavailable) else None
