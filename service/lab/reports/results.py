"""docs/results.md and README's table, made from whatever recorded sets and records files there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from secondpass.service.lab.evaluation.recorded_sets import RevisionSet, VoteSet, read_recorded_set
from secondpass.service.lab.evaluation.records import SUFFIX, read_records
from secondpass.service.lab.reports import (
    answer_format,
    markdown,
    run_tables,
    score_tables,
    vote_tables,
)
from secondpass.service.lab.reports.run_tables import Runs, gather
from secondpass.strategies.api.errors import SecondpassError

COMMAND = "make results DATA=DIR"

_RUN_HEADINGS = ("questions, model", "strategy", "accuracy, %", "to plain voting at equal tokens, points", "decode tokens")  # fmt: skip
_VOTE_HEADINGS = ("recorded set", "questions x samples", "one sample, %", "vote of all, %", "adaptive vote .95, %", "samples it drew")  # fmt: skip


class NothingFound(SecondpassError):
    """None of the folders has anything to show."""

    def __init__(self, folders: Sequence[Path]) -> None:
        where = ", ".join(map(str, folders))
        super().__init__(f"{where}: neither rec_*.jsonl nor *{SUFFIX} in it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the folders hold."""

    votes: tuple[VoteSet, ...]
    revisions: tuple[RevisionSet, ...]
    runs: tuple[Runs, ...]


def find(folders: Sequence[Path]) -> Found:
    """Read `rec_*.jsonl` and `*.records.jsonl` of the folders. Raises NothingFound, BadLine."""
    sets = [read_recorded_set(path) for path in _files(folders, "rec_*.jsonl") if not path.name.endswith(SUFFIX)]  # fmt: skip
    runs = gather((path, read_records(path)) for path in _files(folders, f"*{SUFFIX}"))
    if not (sets or runs):
        raise NothingFound(folders)
    return Found(
        votes=tuple(each for each in sets if isinstance(each, VoteSet)),
        revisions=tuple(each for each in sets if isinstance(each, RevisionSet)),
        runs=tuple(runs),
    )


def write_results(folders: Sequence[Path], out: Path, readme: Path | None = None) -> list[Path]:
    """Put the figures between the markers of `out` (and of `readme`) and draw plots beside it; gives what was written.

    Plots go to a folder named as `out` without its suffix. Nothing is written before everything was read. Raises
    NothingFound, NoSharedQuestions, BadLine, NoMarkers, NoMatplotlib.
    """
    found = find(folders)
    plots = out.with_suffix("")
    table = readme and markdown.between_markers(readme, readme_table(found), "# secondpass")
    text = markdown.between_markers(out, "\n\n".join(_sections(found, plots)))
    out.write_text(text, encoding="utf-8")
    if readme and table:
        readme.write_text(table, encoding="utf-8")
    return [out, *([readme] if readme else []), *sorted(plots.glob("frontier-*"))]


def readme_table(found: Found) -> str:
    """The short table: strategies that ran, then what early stopping does to recorded votes."""
    blocks = []
    if found.runs:
        rows = [row for runs in found.runs for row in run_tables.readme_rows(runs)]
        blocks.append(markdown.table(_RUN_HEADINGS, rows, names=2))
    if found.votes:
        blocks.append(markdown.table(_VOTE_HEADINGS, vote_tables.readme_rows(found.votes)))
    return "\n\n".join(blocks)


def _sections(found: Found, plots: Path) -> Iterator[str]:
    yield f"## Strategies\n\nMade by `{COMMAND}` on {datetime.now(UTC).date().isoformat()}."
    if (worth := answer_format.format_section(found.runs)) is not None:
        yield worth
    for runs in found.runs:
        yield run_tables.run_section(runs, plots)
    if found.votes:
        yield vote_tables.vote_section(found.votes)
        yield vote_tables.vote_frontier(found.votes, plots)
    if scored := [each for each in found.votes if each.scores]:
        yield score_tables.score_section(scored)
    if found.revisions:
        yield score_tables.revision_section(found.revisions)


def _files(folders: Sequence[Path], pattern: str) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.glob(pattern))]
