"""Cost of the search for loops: partial completions that grow without and with it, alternately.

python -m benchmarks.repetition
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.pairs import Pairs, table
from secondpass.service.calls.partial_completion import PartialCompletion
from secondpass.service.calls.repetition import MAX_PATTERN
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.values import Message

HEADER = ("text", "characters a delta", "ns a character, without", "with", "time ratio")
CALL = Call(role="actor", purpose="solve", messages=(Message(role="user", content="Hi"),))


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of text, and its deltas of `size` characters."""

    name: str
    size: int
    deltas: Sequence[Delta]

    @classmethod
    def of(cls, name: str, write: Callable[[Random, int], str], size: int, characters: int) -> Work:
        """Generate a text of this many characters."""
        text = write(Random(0), characters)
        parts = [text[at : at + size] for at in range(0, characters, size)]
        return cls(name, size, [Delta(text=part, tokens=1) for part in parts])

    def run(self, *, is_searched: bool) -> float:
        """Return the seconds that a completion takes to grow by all deltas."""
        partial = PartialCompletion(CALL, 0, 0)
        began = time.perf_counter()
        for delta in self.deltas:
            if is_searched:
                partial.ended_by_loop(delta)
            partial.add(delta)
        return time.perf_counter() - began


def words(random: Random, characters: int) -> str:
    """Return random words."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz      ", k=characters))


def near_loops(random: Random, characters: int) -> str:
    """Return a text that repeats almost as long as a loop, at every distance."""
    runs = ("a" * (MAX_PATTERN - 3) + "".join(random.choices("ab", k=3)) for _ in range(characters))
    text = ""
    while len(text) < characters:
        text += next(runs)
    return text[:characters]


KINDS = {"words": words, "near loops": near_loops}


def measure(pairs: int, characters: int) -> list[tuple[Work, Pairs[float]]]:
    """Measure each kind of text with `pairs` pairs of completions of this many characters."""
    found = []
    for name, write in KINDS.items():
        for size in (4, 100):
            work = Work.of(name, write, size, characters)
            runs = [(work.run(is_searched=False), work.run(is_searched=True)) for _ in range(pairs)]
            found.append((work, Pairs(name, *zip(*runs, strict=True))))
    return found


def report(measured: Sequence[tuple[Work, Pairs[float]]]) -> str:
    """Return the table of all kinds of text."""
    rows = []
    for work, pairs in measured:
        characters = sum(len(delta.text) for delta in work.deltas)
        without, searched = (1e9 * each / characters for each in pairs.medians(lambda s: s))
        ratio = pairs.compared(lambda direct, through: through / direct)
        rows.append(
            (work.name, str(work.size), f"{without:.1f}", f"{searched:.1f}", ratio.shown(".2f"))
        )
    return table(HEADER, rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repetition", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="pairs per row (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="measure a tenth of the text")
    options = parser.parse_args()
    print(report(measure(options.pairs, 40_000 if options.quick else 400_000)))


if __name__ == "__main__":
    main()
