"""A pool of samples in memory, and the file it is appended to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from pydantic import ValidationError

from secondpass.service.common import validation
from secondpass.service.lab.pools.format import LINES, Header, PoolQuestion, RecordingPass, Sample
from secondpass.service.lab.pools.jsonl import BadLine, parse_row

SYNC_SECONDS = 5.0
"""Maximum seconds between two syncs to disk: the most that a power failure can lose."""

_HEAD = b'{"kind":"pool"'


class Pool:
    """Content of a pool: `samples` by (key, index), `questions` by id, and the `lines` of the questions.

    A sample may be drawn again if a call needs more than it contains. `samples` has the last version; `find` considers
    all of them.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.passes: list[RecordingPass] = []
        self.questions: dict[str, PoolQuestion] = {}
        self.samples: dict[tuple[str, int], Sample] = {}
        self.lines: dict[str, int] = {}
        self._earlier: dict[tuple[str, int], list[Sample]] = {}
        self._indices: dict[str, list[int]] = {}
        self._drawn: dict[str, list[int]] = {}

    def find(
        self, key: str, index: int, cap: int | None, *, with_confidences: bool = False
    ) -> Sample | None:
        """Return the oldest sufficient version of a sample, else the last one, else None.

        Taking the oldest keeps replays stable: later draws do not change what a call receives. `cap` is the limit of
        tokens (None: no limit).
        """
        last = self.samples.get((key, index))
        found = [*self._earlier.get((key, index), ()), *([last] if last else [])]
        return next(
            (s for s in found if is_enough(s, cap, with_confidences=with_confidences)), last
        )

    def recorder_indices(self, key: str) -> list[int]:
        """Return the sorted indices of a key's samples drawn by the recorder, without those of strategies."""
        return sorted(self._drawn.get(key, ()))

    def indices(self, key: str) -> list[int]:
        """Return the sorted indices of all samples of a key."""
        return sorted(self._indices.get(key, ()))

    def add(self, line: RecordingPass | PoolQuestion | Sample, number: int) -> None:
        """Add the content of line `number`. Raises BadLine for a duplicate."""
        match line:
            case RecordingPass():
                self.passes.append(line)
            case PoolQuestion():
                if line.id in self.questions:
                    raise BadLine(self.path, number, f"duplicate question {line.id!r}")
                self.questions[line.id], self.lines[line.id] = line, number
            case Sample():
                place = (line.key, line.index)
                if (existing := self.samples.get(place)) is not None:
                    if not is_more_complete(line, existing):
                        raise BadLine(self.path, number, f"duplicate sample {line.index}")
                    self._earlier.setdefault(place, []).append(existing)
                else:
                    self._indices.setdefault(line.key, []).append(line.index)
                    if line.question is not None:
                        self._drawn.setdefault(line.key, []).append(line.index)
                self.samples[place] = line


def is_more_complete(new: Sample, old: Sample) -> bool:
    """Return whether `new` adds to `old`: confidences, or a higher limit where `old` was truncated."""
    if has_confidences(new) and not has_confidences(old):
        return True
    if not is_capped(old) or old.max_tokens is None:
        return False
    return new.max_tokens is None or new.max_tokens > old.max_tokens


def is_capped(sample: Sample) -> bool:
    """Return whether `max_tokens` truncated the sample, and not the context window.

    Without a token count this is assumed.
    """
    cap = sample.max_tokens
    if cap is None or sample.finish_reason != "length" or _is_read(sample):
        return False
    return not sample.tokens or sample.tokens >= cap


def has_confidences(sample: Sample) -> bool:
    """Return whether the sample has a confidence per token; true for reads and empty completions."""
    return bool(sample.confidences) or _is_read(sample) or not (sample.text or sample.reasoning)


def is_enough(sample: Sample, cap: int | None, *, with_confidences: bool = False) -> bool:
    """Return whether the sample determines the completion under a limit of `cap` tokens (None: no limit).

    A truncated sample does not determine a longer completion. A sample without per-token counts does not determine a
    shorter one. `with_confidences` also requires confidences.
    """
    if with_confidences and not has_confidences(sample):
        return False
    if is_capped(sample) and (cap is None or cap > (sample.max_tokens or 0)):
        return False
    if cap is None or _is_read(sample) or cap >= (sample.tokens or sample.max_tokens or 0):
        return True
    is_by_token = bool(sample.chars or sample.reasoning_chars)
    return is_by_token or not (sample.text or sample.reasoning)


def _is_read(sample: Sample) -> bool:
    return sample.labels is not None or sample.reward is not None


def read_pool(path: Path | str) -> Pool:
    """Read the pool of a file, without a partial last line. Raises BadLine."""
    pool, _, _ = _read(Path(path))
    return pool


def _read(path: Path) -> tuple[Pool, int, int]:
    """Return the pool, its number of complete lines, and their size in bytes. Raises BadLine."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    *whole, partial = content.split(b"\n")
    pool: Pool | None = None
    for number, raw in enumerate(whole, 1):
        line = _line(path, number, raw)
        if pool is None:
            if not isinstance(line, Header):
                raise BadLine(path, number, "the first line of a pool must be its header")
            pool = Pool(path, line)
        elif isinstance(line, Header):
            raise BadLine(path, number, "second header")
        else:
            pool.add(line, number)
    if pool is None:
        raise BadLine(path, 1, "not a pool: the header is incomplete")
    return pool, len(whole), len(content) - len(partial)


def _line(path: Path, number: int, raw: bytes) -> Header | RecordingPass | PoolQuestion | Sample:
    row = parse_row(path, number, raw)
    try:
        return LINES.validate_python(row)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if problem["type"].startswith("union_tag"):
            kinds = "pool, pass, question, sample"
            raise BadLine(
                path, number, f"kind: must be one of {kinds}, not {row.get('kind')!r}"
            ) from error
        where = ".".join(str(part) for part in problem["loc"][1:]) or "kind"
        raise BadLine(path, number, f"{where}: {validation.message_with_value(problem)}") from error


class PoolFile:
    """A pool open for appending; every added line is written to the file at once.

    `dropped_bytes` is the size of a partial last line that was removed when the file was opened.
    """

    def __init__(self, pool: Pool, file: BinaryIO, lines: int, dropped_bytes: int) -> None:
        self.pool, self.dropped_bytes = pool, dropped_bytes
        self._file, self._lines = file, lines
        self._synced = monotonic()

    def add(self, line: RecordingPass | PoolQuestion | Sample) -> None:
        """Append a line; sync to disk every SYNC_SECONDS."""
        self.pool.add(line, self._lines + 1)
        self._write(line)

    def _write(self, line: Header | RecordingPass | PoolQuestion | Sample) -> None:
        text = line.model_dump_json(exclude_none=True)
        self._file.write(text.encode() + b"\n")
        self._file.flush()
        self._lines += 1
        if monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = monotonic()


@contextmanager
def open_pool(path: Path, header: Header) -> Iterator[PoolFile]:
    """Open the pool in `path` for appending, or create it with `header`.

    Raises BadLine if the pool has another header, or while another process has it open.
    """
    try:
        file = path.open("a+b")
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadLine(path, None, "another process is recording into it") from error
        yield _opened(path, header, file)
        os.fsync(file.fileno())


def _opened(path: Path, header: Header, file: BinaryIO) -> PoolFile:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    content = file.read()
    if b"\n" not in content:
        if not _HEAD.startswith(content[: len(_HEAD)]):
            raise BadLine(path, 1, "not a pool; the file is not overwritten")
        # The header is incomplete, so no sample can be lost.
        file.truncate(0)
        pool_file = PoolFile(Pool(path, header), file, 0, size)
        pool_file._write(header)  # noqa: SLF001 - same module
        return pool_file
    pool, lines, whole = _read(path)
    check_same_header(path, pool.header, header)
    file.truncate(whole)
    return PoolFile(pool, file, lines, size - whole)


def check_same_header(path: Path, recorded: Header, given: Header) -> None:
    """Raise BadLine for the first field that differs between the headers."""
    for name, value in recorded:
        if value != (other := getattr(given, name)):
            raise BadLine(
                path, 1, f"{name}: the pool was recorded with {_short(value)}, not {_short(other)}"
            )


def _short(value: object) -> str:
    return str(value) if not isinstance(value, str) else repr(value)
