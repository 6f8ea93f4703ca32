"""Plots of accuracy against cost, as PNG and SVG: one panel per question set and unit of cost."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from secondpass.service.lab.evaluation.frontier import REFERENCE, Point, reference_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXTRA = "pip install 'secondpass[eval]'"
_MARKERS = "osD^vPX*"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#444444")
_LINE = "#8a8a8a"
_COLUMNS = 3


class NoMatplotlib(Exception):
    """matplotlib is not installed."""

    def __init__(self) -> None:
        super().__init__(f"plots require matplotlib: {EXTRA}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Content of one pair of axes: points, their unit of cost, and an oracle's accuracy (0 to 1) if known."""

    title: str
    unit: str
    points: Sequence[Point]
    ceiling: float | None = None


def draw(panels: Sequence[Panel], caption: str, stem: Path) -> tuple[Path, Path]:
    """Draw `panels` side by side into STEM.png and STEM.svg and return both paths.

    Raises:
        ValueError: `panels` is empty.
        NoMatplotlib: matplotlib is not installed.
    """
    if not panels:
        raise ValueError("panels must not be empty")
    if importlib.util.find_spec("matplotlib") is None:
        raise NoMatplotlib
    import matplotlib as mpl  # noqa: PLC0415 - optional and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    # A fixed hash salt makes the output reproducible: a changed file means changed data.
    with mpl.rc_context({"svg.hashsalt": "secondpass", "font.size": 9, "svg.fonttype": "none"}):
        columns = min(_COLUMNS, len(panels))
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(4.4 * columns, 3.4 * rows + 0.8), layout="constrained")
        styles = _styles(panels)
        for at, panel in enumerate(panels, 1):
            _fill(figure.add_subplot(rows, columns, at), panel, styles)
        figure.supxlabel(caption, fontsize=8, color="#444444")
        handles = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)  # fmt: skip
        png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
        stem.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(png, dpi=150, metadata={"Software": None})
        figure.savefig(svg, metadata={"Date": None})
    return png, svg


def _fill(axes: Axes, panel: Panel, styles: dict[str, tuple[str, str]]) -> None:
    line = reference_of(panel.points, panel.unit)
    _draw_line(axes, line, panel.unit)
    if panel.ceiling is not None:
        axes.axhline(100 * panel.ceiling, color=_LINE, linewidth=0.8, linestyle=":", label="any sample correct (oracle)")  # fmt: skip
    for point in panel.points:
        if point not in line:
            _draw_point(axes, point, panel.unit, styles[point.strategy])
    _set_log_ticks(axes)
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(f"{panel.unit} per question")
    axes.set_ylabel("accuracy, %")
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _set_log_ticks(axes: Axes) -> None:
    """Use a logarithmic x axis with plain labels at 1, 2, 5, 10, 20, ..."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter  # noqa: PLC0415

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_line(axes: Axes, line: Sequence[Point], unit: str) -> None:
    costs = [point.cost(unit) for point in line]
    estimates = [point.accuracy for point in line]
    low, high = [100 * e.low for e in estimates], [100 * e.high for e in estimates]
    axes.fill_between(costs, low, high, color=_LINE, alpha=0.15, linewidth=0)
    axes.plot(
        costs,
        [100 * e.value for e in estimates],
        color=_LINE,
        marker=".",
        label=f"{REFERENCE} by n (reference)",
    )
    for point, cost, estimate in zip(line, costs, estimates, strict=True):
        _label(axes, point.setting, cost, estimate.value, _LINE, below=True)


def _draw_point(axes: Axes, point: Point, unit: str, style: tuple[str, str]) -> None:
    colour, marker = style
    estimate, cost = point.accuracy, point.cost(unit)
    axes.errorbar(
        [cost],
        [100 * estimate.value],
        yerr=[[100 * (estimate.value - estimate.low)], [100 * (estimate.high - estimate.value)]],
        color=colour,
        marker=marker,
        markersize=6,
        elinewidth=0.8,
        capsize=2,
        linestyle="none",
        label=point.strategy,
    )
    _label(axes, point.setting, cost, estimate.value, colour)


def _label(
    axes: Axes, text: str, cost: float, accuracy: float, colour: str, *, below: bool = False
) -> None:
    axes.annotate(
        text,
        (cost, 100 * accuracy),
        xytext=(2, -11 if below else 5),
        textcoords="offset points",
        fontsize=7,
        color=colour,
    )


def _styles(panels: Sequence[Panel]) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys(p.strategy for panel in panels for p in panel.points)
    return {
        name: (_COLOURS[at % len(_COLOURS)], _MARKERS[at % len(_MARKERS)])
        for at, name in enumerate(names)
    }
