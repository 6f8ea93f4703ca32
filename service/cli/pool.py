"""`secondpass pool`: fill a pool of samples from an engine of its own, and say what is in one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import anyio

from secondpass.service.cli.failure import FAILED, REFUSED, Failure
from secondpass.service.cli.options import Options
from secondpass.service.cli.own_service import own_service
from secondpass.service.cli.pool_replay import replay_pool
from secondpass.service.pools.format import Header, Sample
from secondpass.service.pools.jsonl import BadLine
from secondpass.service.pools.pool import growing
from secondpass.service.pools.questions import Question, read_all
from secondpass.service.pools.record import NotDrawn, file_questions, missing, new_pass, record
from secondpass.strategies.core import Sampling

LINE_SECONDS = 30.0
"""Between two lines of progress where nobody watches a terminal."""


def pool(options: Options) -> None:
    """Run the action that was named."""
    if options.action == "replay":
        replay_pool(options)
        return
    try:
        questions = read_all(
            [Path(path) for path in options.data], options.task, limit=options.limit
        )
        anyio.run(_record, options, questions)
    except BadLine as error:
        raise Failure(str(error), REFUSED) from error
    except NotDrawn as error:
        raise Failure(f"{error}; the same command goes on from here", FAILED) from error


async def _record(options: Options, questions: tuple[Question, ...]) -> None:
    async with own_service(options.serve_flags, options.wait) as service:
        engine = service.roles["actor"].engine
        header = Header(
            model=engine.model,
            sampling=Sampling(temperature=options.temperature, max_tokens=options.max_tokens),
            seed=options.first_seed,
            formatted=options.prompt_format == "on",
            logprobs=options.logprobs if "logprobs" in engine.capabilities else None,
        )
        with growing(Path(options.out), header) as book:
            if book.torn:
                _say(f"{options.out}: the last line was cut ({book.torn} bytes); it is drawn again")
            data = [Path(path) for path in options.data]
            file_questions(book, questions)
            wanted = missing(book.pool, questions, options.samples)
            if not wanted:
                _say(f"{options.out} has {options.samples} samples of each question already")
                return
            book.add(new_pass(engine, data, questions, options.samples, dict(options.note)))
            _say(
                f"{len(wanted)} samples of {len(questions)} questions are to be drawn from "
                f"{engine.model}, {options.concurrency} at once"
            )
            with _progress(len(wanted)) as on_sample:
                await record(
                    engine, book, wanted, concurrency=options.concurrency, on_sample=on_sample
                )


class _Tally:
    """How far the recording has come, and when it will have ended."""

    def __init__(self, total: int) -> None:
        self._total, self._began = total, time.monotonic()
        self.done = self._tokens = 0

    def add(self, sample: Sample) -> None:
        self.done += 1
        self._tokens += sample.tokens

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        left = (self._total - self.done) * seconds / max(self.done, 1)
        return (
            f"{self.done} of {self._total} samples, {self._tokens} tokens, "
            f"{self._tokens / seconds:.0f} tokens/s, about {_clock(left)} left"
        )


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Sample], None]]:
    """A bar at a terminal, if rich is there; else a line every now and then."""
    tally = _Tally(total)
    if sys.stderr.isatty() and (bar := _bar(total)) is not None:
        with bar as advance:

            def seen(sample: Sample) -> None:
                tally.add(sample)
                advance(str(tally))

            yield seen
    else:
        due = time.monotonic() + LINE_SECONDS

        def noted(sample: Sample) -> None:
            nonlocal due
            tally.add(sample)
            if time.monotonic() >= due:
                due = time.monotonic() + LINE_SECONDS
                _say(str(tally))

        yield noted
    _say(f"done: {tally}")


def _bar(total: int) -> AbstractContextManager[Callable[[str], None]] | None:
    try:
        from secondpass.service.cli.screen import bar  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return bar(total)


def _say(line: str) -> None:
    print(f"secondpass pool: {line}", file=sys.stderr, flush=True)  # noqa: T201
