"""Generate docs/results.md, its pages and plots, and the table of README.md from recorded data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from secondpass.service.lab.evaluation.recorded_sets import RevisionSet, VoteSet, read_recorded_set
from secondpass.service.lab.evaluation.records import SUFFIX, read_records
from secondpass.service.lab.reports import markdown, vote_tables
from secondpass.service.lab.reports.pages import Page, build_pages
from secondpass.service.lab.reports.run_tables import RunTables, group_records, run_report
from secondpass.service.lab.reports.summary import summary
from secondpass.strategies.api.errors import SecondpassError

_RUN_HEADINGS = ("questions, model", "strategy", "accuracy, %", "vs voting at equal tokens, points", "decode tokens")  # fmt: skip


class NoInputs(SecondpassError):
    """The folders contain neither recorded sets nor run records."""

    def __init__(self, folders: Sequence[Path]) -> None:
        where = ", ".join(map(str, folders))
        super().__init__(f"{where}: no rec_*.jsonl and no *{SUFFIX} found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Recorded sample sets and run records of all folders."""

    votes: tuple[VoteSet, ...]
    revisions: tuple[RevisionSet, ...]
    runs: tuple[RunTables, ...]


def read_inputs(folders: Sequence[Path]) -> Inputs:
    """Read `rec_*.jsonl` and `*.records.jsonl` of the folders.

    Raises:
        NoInputs: The folders contain no such file.
        BadLine: A line cannot be used, or a run appears in two files.
        NoSharedQuestions: No question was run with all settings of a question set.
    """
    sets = [read_recorded_set(path) for path in _files(folders, "rec_*.jsonl") if not path.name.endswith(SUFFIX)]  # fmt: skip
    groups = group_records((path, read_records(path)) for path in _files(folders, f"*{SUFFIX}"))
    if not (sets or groups):
        raise NoInputs(folders)
    return Inputs(
        votes=tuple(each for each in sets if isinstance(each, VoteSet)),
        revisions=tuple(each for each in sets if isinstance(each, RevisionSet)),
        runs=tuple(map(run_report, groups)),
    )


def write_results(folders: Sequence[Path], out: Path, readme: Path | None = None) -> list[Path]:
    """Write the summary to `out` and one page per subject to the folder beside it; return the paths.

    The folder is named like `out` without its suffix and also receives the plots. Every document is written between
    its markers; text outside of them is kept. No document is written before all inputs are read.

    Raises:
        NoInputs, BadLine, NoSharedQuestions: See `read_inputs`.
        NoMarkers: An existing document has no pair of markers.
        NoMatplotlib: Plots are needed and matplotlib is not installed.
    """
    inputs = read_inputs(folders)
    folder = out.with_suffix("")
    pages = build_pages(inputs.runs, inputs.votes, inputs.revisions, folder, out.name)
    texts = {out: markdown.between_markers(out, summary(inputs.runs, inputs.votes, pages, folder.name), "# Results")}  # fmt: skip
    if readme:
        texts[readme] = markdown.between_markers(readme, readme_table(inputs), "# secondpass")
    texts |= {_path(folder, page): _document(folder, page) for page in pages}
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*texts, *sorted(folder.glob("frontier-*"))]


def readme_table(inputs: Inputs) -> str:
    """Return the table of README.md: strategies at their defaults, then early stopping of recorded votes."""
    blocks = []
    if inputs.runs:
        rows = [
            (report.runs.title, name, accuracy, difference, decode)
            for report in inputs.runs
            for name, accuracy, _, difference, _, _, decode, *_ in report.default_rows
        ]
        blocks.append(markdown.table(_RUN_HEADINGS, rows, names=2))
    if inputs.votes:
        blocks.append(vote_tables.overview_table(inputs.votes))
    return "\n\n".join(blocks)


def _path(folder: Path, page: Page) -> Path:
    return folder / f"{page.name}.md"


def _document(folder: Path, page: Page) -> str:
    return markdown.between_markers(_path(folder, page), page.text, f"# {page.title}")


def _files(folders: Sequence[Path], pattern: str) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.glob(pattern))]
