"""An engine that writes down what it is asked, and never asks the same thing twice.

Strategies ask for more than drafts: verdicts, label reads, continuations. Run once over this, a strategy leaves all
of it in the pool, and can be replayed from then on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from secondpass.service.lab.pools.drawing import CallRecorder
from secondpass.service.lab.pools.format import Sample
from secondpass.service.lab.pools.jsonl import BadLine
from secondpass.service.lab.pools.pool import PoolFile, is_more_complete
from secondpass.service.lab.pools.replay_engine import ReplayEngine
from secondpass.service.lab.pools.wrapper import EngineWrapper
from secondpass.strategies.api.engine import Call, Delta, Engine
from secondpass.strategies.api.errors import CallRejected


class RecordingEngine(EngineWrapper):
    """`engine`, less the calls that the pool has; what the engine finishes goes into the pool.

    A call of several completions of which only some are in the pool is asked anew; those that were there stay. What
    was cut by a smaller `max_tokens` than the call's, or has not the confidences that it wants, is asked anew too, and stands beside what
    there was. Raises BadLine
    where the engine serves another model than the pool has.
    """

    def __init__(self, engine: Engine, book: PoolFile) -> None:
        super().__init__(engine)
        self._book = book
        self._replay = ReplayEngine(book.pool, name=engine.name)
        self._check_model()

    async def start(self) -> None:
        """Start the engine. Raises BadLine when it turns out to serve another model than the pool has."""
        await super().start()
        self._check_model()

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """The pool's deltas if it has them all, else the engine's."""
        source: Engine = self._replay
        try:
            self._replay.find(call)
        except CallRejected:
            source = self.engine
        drawing = CallRecorder(call)
        async with aclosing(source.stream(call)) as deltas:
            async for delta in deltas:
                drawing.add(delta)
                yield delta
        if source is self.engine:
            self._keep(drawing.samples)

    def _keep(self, samples: Sequence[Sample]) -> None:
        pool = self._book.pool
        for sample in samples:
            there = pool.samples.get((sample.key, sample.index))
            if there is None or is_more_complete(sample, there):
                self._book.add(sample)

    def _check_model(self) -> None:
        recorded = self._book.pool.header.model
        if self.engine.model and self.engine.model != recorded:
            raise BadLine(
                self._book.pool.path,
                1,
                f"model: the pool was recorded with {recorded!r}, not {self.engine.model!r}",
            )
