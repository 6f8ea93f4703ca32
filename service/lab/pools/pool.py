"""A pool in memory, and the file that it grows in."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from pydantic import ValidationError

from secondpass.service.lab.pools.format import LINES, Header, Pass, PoolQuestion, Sample
from secondpass.service.lab.pools.jsonl import BadLine, parse_row

SYNC_SECONDS = 5.0
"""What a machine that loses its power may cost, at most."""

_HEAD = b'{"kind":"pool"'


class Pool:
    """All that a pool holds: `samples` by key and index, `questions` by id; `lines` says where each question stands.

    Of a sample that was drawn again, for who wanted more of it, `samples` has the last one, and `find` all of them.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.passes: list[Pass] = []
        self.questions: dict[str, PoolQuestion] = {}
        self.samples: dict[tuple[str, int], Sample] = {}
        self.lines: dict[str, int] = {}
        self._earlier: dict[tuple[str, int], list[Sample]] = {}
        self._indices: dict[str, list[int]] = {}
        self._drawn: dict[str, list[int]] = {}

    def find(
        self, key: str, index: int, cap: int | None, *, with_confidences: bool = False
    ) -> Sample | None:
        """The oldest sample of a place that is enough, or where none is the last one.

        The oldest: what a call was given once it is given always, whatever was drawn after it.
        """
        last = self.samples.get((key, index))
        found = [*self._earlier.get((key, index), ()), *([last] if last else [])]
        return next(
            (s for s in found if is_enough(s, cap, with_confidences=with_confidences)), last
        )

    def drawn(self, key: str) -> list[int]:
        """Which samples of a key the recorder drew, in order; not those that a strategy asked for."""
        return sorted(self._drawn.get(key, ()))

    def indices(self, key: str) -> list[int]:
        """Which samples of a key there are, in order."""
        return sorted(self._indices.get(key, ()))

    def add(self, line: Pass | PoolQuestion | Sample, number: int) -> None:
        """Take in what stands in line `number`. Raises BadLine for what is there already."""
        match line:
            case Pass():
                self.passes.append(line)
            case PoolQuestion():
                if line.id in self.questions:
                    raise BadLine(self.path, number, f"question {line.id!r} stands there twice")
                self.questions[line.id], self.lines[line.id] = line, number
            case Sample():
                place = (line.key, line.index)
                if (there := self.samples.get(place)) is not None:
                    if not is_more_complete(line, there):
                        raise BadLine(self.path, number, f"sample {line.index} stands there twice")
                    self._earlier.setdefault(place, []).append(there)
                else:
                    self._indices.setdefault(line.key, []).append(line.index)
                    if line.question is not None:
                        self._drawn.setdefault(line.key, []).append(line.index)
                self.samples[place] = line


def is_more_complete(new: Sample, old: Sample) -> bool:
    """Was `old` cut by its cap, and `new` drawn under a higher one; or has only `new` confidences?"""
    if has_confidences(new) and not has_confidences(old):
        return True
    if not is_capped(old) or old.max_tokens is None:
        return False
    return new.max_tokens is None or new.max_tokens > old.max_tokens


def is_capped(sample: Sample) -> bool:
    """Did its own cap end the sample, and not the model or the end of its context? Without a count of tokens it may have."""
    cap = sample.max_tokens
    if cap is None or sample.finish_reason != "length" or _is_read(sample):
        return False
    return not sample.tokens or sample.tokens >= cap


def has_confidences(sample: Sample) -> bool:
    """Does the sample tell how sure the model was of each token? Of what has none there is nothing to tell."""
    return bool(sample.confidences) or _is_read(sample) or not (sample.text or sample.reasoning)


def is_enough(sample: Sample, cap: int | None, *, with_confidences: bool = False) -> bool:
    """Does the sample tell what would have been written under this cap, and how sure of it the model was?

    One that was cut tells nothing of a larger cap; one of which it is not known what came with each token, nothing of
    a cap that would have cut it.
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
    """The pool in a file; a last line that is still being written is left out. Raises BadLine."""
    pool, _, _ = _read(Path(path))
    return pool


def _read(path: Path) -> tuple[Pool, int, int]:
    """The pool, its whole lines, and their bytes: what follows was cut while it was written.

    Raises BadLine.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadLine(path, None, error.strerror or str(error)) from error
    *whole, dropped_bytes = content.split(b"\n")
    pool: Pool | None = None
    for number, raw in enumerate(whole, 1):
        line = _line(path, number, raw)
        if pool is None:
            if not isinstance(line, Header):
                raise BadLine(path, number, "a pool begins with its header")
            pool = Pool(path, line)
        elif isinstance(line, Header):
            raise BadLine(path, number, "a second header")
        else:
            pool.add(line, number)
    if pool is None:
        raise BadLine(path, 1, "no pool: not even its header is whole")
    return pool, len(whole), len(content) - len(dropped_bytes)


def _line(path: Path, number: int, raw: bytes) -> Header | Pass | PoolQuestion | Sample:
    row = parse_row(path, number, raw)
    try:
        return LINES.validate_python(row)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if problem["type"].startswith("union_tag"):
            kinds = "pool, pass, question, sample"
            raise BadLine(path, number, f"kind: one of {kinds}, not {row.get('kind')!r}") from error
        where = ".".join(str(part) for part in problem["loc"][1:]) or "kind"
        raise BadLine(path, number, f"{where}: {problem['msg']}") from error


class PoolFile:
    """A pool that grows: what is added is in the file at once, whatever happens to this process after.

    `dropped_bytes` is how many bytes of a cut last line were taken away when it was opened.
    """

    def __init__(self, pool: Pool, file: BinaryIO, lines: int, dropped_bytes: int) -> None:
        self.pool, self.dropped_bytes = pool, dropped_bytes
        self._file, self._lines = file, lines
        self._synced = monotonic()

    def add(self, line: Pass | PoolQuestion | Sample) -> None:
        """Append a line; every few seconds wait until the disk has it."""
        self.pool.add(line, self._lines + 1)
        self._write(line)

    def _write(self, line: Header | Pass | PoolQuestion | Sample) -> None:
        text = line.model_dump_json(exclude_none=True)
        self._file.write(text.encode() + b"\n")
        self._file.flush()
        self._lines += 1
        if monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = monotonic()


@contextmanager
def open_pool(path: Path, header: Header) -> Iterator[PoolFile]:
    """The pool in `path`, to be added to; a new one with `header` where there is none.

    Raises BadLine for a pool with another header, and while another process adds to it.
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
            raise BadLine(path, 1, "a file that is no pool is not written over")
        # Not even a whole header: nothing was drawn, so nothing is lost.
        file.truncate(0)
        book = PoolFile(Pool(path, header), file, 0, size)
        book._write(header)  # noqa: SLF001 - its maker
        return book
    pool, lines, whole = _read(path)
    check_same_header(path, pool.header, header)
    file.truncate(whole)
    return PoolFile(pool, file, lines, size - whole)


def check_same_header(path: Path, recorded: Header, wanted: Header) -> None:
    """Raise BadLine for the first field in which the pool's header is not the one that is wanted."""
    for name, value in recorded:
        if value != (other := getattr(wanted, name)):
            raise BadLine(
                path, 1, f"{name}: the pool was recorded with {_short(value)}, not {_short(other)}"
            )


def _short(value: object) -> str:
    return str(value) if not isinstance(value, str) else repr(value)
