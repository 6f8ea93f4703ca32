"""Markdown formatting of estimates, shares and tables, and documents with a generated part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from secondpass.service.lab.evaluation.intervals import Estimate
from secondpass.strategies.api.errors import SecondpassError

BEGIN, END = "<!-- results -->", "<!-- /results -->"


class NoMarkers(SecondpassError):
    """A document does not contain exactly one pair of markers."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: must contain one line {BEGIN!r} and after it one line {END!r}; the tables go between them"
        )


def slug(title: str) -> str:
    """Return `title` as a file name: lower-case letters and digits, joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """Return a Markdown table; the first `names` columns are left-aligned, the others right-aligned."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = [("-" * w if at < names else "-" * (w - 1) + ":") for at, w in enumerate(widths)]
    lines = [
        [c.ljust(w) if at < names else c.rjust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in cells
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def percent(estimate: Estimate) -> str:
    """Format a share and its interval in percent: "70.3 [65.5..74.7]"."""
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}..{100 * estimate.high:.1f}]"


def points(estimate: Estimate | None) -> str:
    """Format a difference and its interval in percentage points: "-0.32 [-0.74..+0.11]"; "" for None."""
    if estimate is None:
        return ""
    value, low, high = (_signed(100 * x) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}..{high}]"


def share(value: float | None, digits: int = 3) -> str:
    """Format a number with `digits` decimals; "" for None."""
    return "" if value is None else f"{value:.{digits}f}"


def between_markers(path: Path, text: str, title: str = "# Results") -> str:
    """Return the content of `path` with `text` between its markers. Raises NoMarkers.

    If `path` does not exist, the content is `title` and the text between new markers.
    """
    if not path.exists():
        return f"{title}\n\n{BEGIN}\n{text}\n{END}\n"
    page = replace_between(path.read_text(encoding="utf-8"), BEGIN, END, text)
    if page is None:
        raise NoMarkers(path)
    return page


def replace_between(page: str, begin: str, end: str, text: str) -> str | None:
    """Return the page with `text` between two markers; None unless it contains exactly one pair."""
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        return None
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text
