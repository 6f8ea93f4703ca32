"""The generated part of docs/results.md: headline tables and links to the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from secondpass.service.lab.evaluation.recorded_sets import VoteSet
from secondpass.service.lab.reports import answer_format, markdown, vote_tables
from secondpass.service.lab.reports.pages import Page, generated
from secondpass.service.lab.reports.run_tables import MARGIN, RunTables

_STRATEGIES = f"""\
Strategies at their default settings, the cheapest first. Accuracy is in % with 95% Wilson intervals. Differences are in percentage
points, paired by question, with 95% bootstrap intervals. "vs voting" compares with plain voting (`self_consistency` with only `n` set)
that uses the same number of decode tokens. The conclusion is about that difference, with a margin of {100 * MARGIN:g} points. Decode
tokens are means per question."""
_RUN_HEADINGS = ("strategy", "accuracy, %", "vs `single`", "vs voting", "conclusion", "decode tokens")  # fmt: skip
_VOTES = """\
No model ran: recorded samples were voted on. The adaptive rule stops a vote as soon as the leader is certain enough (0.95)."""


def summary(
    runs: Sequence[RunTables], votes: Sequence[VoteSet], pages: Sequence[Page], folder: str
) -> str:
    """Return the Markdown between the markers of the summary; links point into `folder`."""
    return "\n\n".join([generated(), *_tables(runs, votes), *_links(pages, folder)])


def _tables(runs: Sequence[RunTables], votes: Sequence[VoteSet]) -> Iterator[str]:
    headline = _headline(runs)
    if headline:
        yield "## Strategies"
        yield _STRATEGIES
    for report in headline:
        rows = [(name, accuracy, single, voting, conclusion, decode)
                for name, accuracy, single, voting, conclusion, _, decode, *_ in report.default_rows]  # fmt: skip
        yield f"### {report.runs.title}"
        yield markdown.table(_RUN_HEADINGS, rows)
    if blocks := answer_format.format_blocks([report.runs for report in runs]):
        yield "## Answer-format instruction"
        yield from blocks
    if votes:
        yield "## Voting over recorded samples"
        yield _VOTES
        yield vote_tables.overview_table(votes)


def _headline(runs: Sequence[RunTables]) -> list[RunTables]:
    """Return the runs with the answer format, and those without it that have no counterpart."""
    formatted = {
        (report.runs.data, report.runs.model)
        for report in runs
        if report.runs.formatted is not False
    }
    return [
        report
        for report in runs
        if report.runs.formatted is not False
        or (report.runs.data, report.runs.model) not in formatted
    ]


def _links(pages: Sequence[Page], folder: str) -> list[str]:
    lines = [f"* [{page.title}]({folder}/{page.name}.md): {page.summary}" for page in pages]
    return ["## All tables", "\n".join(lines)]
