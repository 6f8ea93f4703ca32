"""Engine that serves calls from a pool and records missing calls from another engine.

Strategies make other calls than drafts: verdicts, label reads, continuations. One run over this engine records all of
them, so that the run can be replayed.
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
    """Wrapper of `engine` that serves calls from the pool and adds finished calls to it.

    If only some completions of a call are in the pool, the whole call is made and the existing samples are kept. A sample
    that a smaller `max_tokens` truncated, or that has no confidences, is drawn again if the call needs more. Both versions
    are kept. Raises BadLine if the engine serves another model than the pool's.
    """

    def __init__(self, engine: Engine, pool_file: PoolFile) -> None:
        super().__init__(engine)
        self._pool_file = pool_file
        self._replay = ReplayEngine(pool_file.pool, name=engine.name)
        self._check_model()

    async def start(self) -> None:
        """Start the engine. Raises BadLine if it serves another model than the pool's."""
        await super().start()
        self._check_model()

    async def stream(self, call: Call) -> AsyncGenerator[Delta]:
        """Stream from the pool if it contains the whole call, else from the engine."""
        source: Engine = self._replay
        try:
            self._replay.find(call)
        except CallRejected:
            source = self.engine
        recorder = CallRecorder(call)
        async with aclosing(source.stream(call)) as deltas:
            async for delta in deltas:
                recorder.add(delta)
                yield delta
        if source is self.engine:
            self._keep(recorder.samples)

    def _keep(self, samples: Sequence[Sample]) -> None:
        pool = self._pool_file.pool
        for sample in samples:
            existing = pool.samples.get((sample.key, sample.index))
            if existing is None or is_more_complete(sample, existing):
                self._pool_file.add(sample)

    def _check_model(self) -> None:
        recorded = self._pool_file.pool.header.model
        if self.engine.model and self.engine.model != recorded:
            raise BadLine(
                self._pool_file.pool.path,
                1,
                f"model: the pool was recorded with {recorded!r}, not {self.engine.model!r}",
            )
