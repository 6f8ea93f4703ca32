"""Display of a run at a terminal: a tree of its calls with their results, and bars of its budget.

Model output is untrusted. It is never interpreted as markup, and its control characters do not reach the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from secondpass.service.cli.common.failure import Json
from secondpass.service.cli.common.output import printable

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
END_STYLES = {
    "finished": ("✓", "green"),
    "truncated": ("✂", "yellow"),
    "cancelled": ("□", "dim"),
    "failed": ("✗", "red"),
}
"""Symbol and style of a call by its `end`."""

BUDGET = {"max_tokens": "tokens", "max_calls": "calls", "deadline_ms": "seconds"}
"""Limits with a bar, and their labels."""

TAIL_LINES = 4
OTHER_LINES = 4 + len(BUDGET) + TAIL_LINES
"""Lines of the display other than those of calls."""


@dataclass
class _Call:
    """A call: its `call.started` and `call.finished` events, its text so far, and its results."""

    started: Json
    began: float
    finished: Json | None = None
    text: str = ""
    candidates: dict[int, Json] = field(default_factory=dict)
    verdicts: list[Json] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return 1 + len(self.candidates) + len(self.verdicts) + bool(self.text)


class RunDisplay:
    """A rich renderable of the current state of a run.

    Args:
        limits: Limits of the request by the name of their field. `run.finished` replaces them by all limits.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        self._limits = dict(limits)
        self._title = "waiting for the server"
        self._began = time.monotonic()
        self._calls: dict[int, _Call] = {}
        self._best: int | None = None
        self._text = ""
        self._spent: dict[str, float] | None = None
        self._is_finished = False

    def update(self, name: str, document: Json) -> None:
        """Apply the next event of the run."""
        match name:
            case "run.started":
                self._began = time.monotonic() - document["at"]
                params = [f"{k}={v}" for k, v in document["params"].items() if v is not None]
                models = dict.fromkeys(document["models"].values())
                self._title = "  ".join([document["strategy"], *params, *models])
            case "call.started":
                self._calls[document["call"]] = _Call(document, time.monotonic())
            case "call.delta":
                self._calls[document["call"]].text += document["text"]
            case "call.finished":
                call = self._calls.setdefault(
                    document["call"], _Call(document | {"n": 1}, time.monotonic())
                )
                call.finished = document
                call.text = "\n".join(document.get("texts", ()))
            case "candidate":
                self._add_candidate(document)
            case "verdict":
                self._add_verdict(document)
            case "answer.delta":
                self._text += document["text"]
            case "run.finished":
                self._apply_answer(document)
                self._spent = {kind: b["spent"] for kind, b in document["budget"].items()}
                self._limits = {
                    kind: b["limit"]
                    for kind, b in document["budget"].items()
                    if b["limit"] is not None
                }

    def finish(self) -> None:
        """Mark the run as finished: from now on the whole run is drawn, with the full texts."""
        self._is_finished = True

    def _add_candidate(self, document: Json) -> None:
        candidate = document["candidate"]
        index = candidate["index"]
        if document["is_best"]:
            self._best = index
        for call in reversed(self._calls.values()):
            first = call.started["index"]
            if call.started["role"] == "actor" and first <= index < first + call.started["n"]:
                call.candidates[index] = candidate
                return

    def _apply_answer(self, answer: Json) -> None:
        """Replace the scores of candidates by the final ones.

        A vote that agrees with the leader causes no event, so earlier scores may be stale.
        """
        final = {candidate["index"]: candidate for candidate in answer.get("candidates", ())}
        for call in self._calls.values():
            for index, candidate in call.candidates.items():
                if index in final:
                    call.candidates[index] = final[index]
                elif index == self._best and answer["confidence"] not in (None, candidate["score"]):
                    call.candidates[index] = candidate | {
                        "score": answer["confidence"],
                        "score_kind": answer["confidence_kind"],
                        "why": None,
                    }

    def _add_verdict(self, document: Json) -> None:
        for call in reversed(self._calls.values()):
            is_tests = document["role"] == "verifier" and call.started["role"] == "actor"
            if is_tests or all(call.started[key] == document[key] for key in ("role", "purpose")):
                call.verdicts.append(document)
                return

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = None if self._is_finished else max(3, options.size.height - OTHER_LINES)
        parts: list[Any] = [self._tree(height), Padding(self._bars(), (0, 0, 0, 2))]
        if self._text and not self._is_finished:
            tail = printable(self._text).splitlines()[-TAIL_LINES:]
            parts += [_line(line, "italic") for line in tail]
        yield Group(*parts)

    def _tree(self, height: int | None) -> Tree:
        tree = Tree(_line(self._title, "bold"), guide_style="dim")
        calls = list(self._calls.values())
        shown = len(calls) if height is None else _fitting(calls, height)
        if hidden := calls[: len(calls) - shown]:
            tokens = sum(_tokens(call) for call in hidden)
            tree.add(_line(f"… {len(hidden)} earlier calls, {tokens} tokens", "dim"))
        for call in calls[len(calls) - shown :]:
            branch = tree.add(self._head(call))
            for row in self._rows(call):
                branch.add(row)
        return tree

    def _head(self, call: _Call) -> Text:
        started, finished = call.started, call.finished
        number, last = started["index"] + 1, started["index"] + started["n"]
        name = f"{started['role']} {started['purpose']} " + (
            f"{number}" if last == number else f"{number} to {last}"
        )
        if finished is None:
            now = time.monotonic()
            symbol = "·" if self._is_finished else SPINNER[int(now * 10) % len(SPINNER)]
            return _line(f"{symbol} {name}  {now - call.began:.1f} s", "cyan")
        symbol, style = END_STYLES.get(finished["end"], END_STYLES["failed"])
        facts = [f"{_tokens(call)} tokens", f"{finished['seconds']:.2f} s"]
        if finished["end"] != "finished":
            facts.append(finished["end"])
        if finished["wasted"]:
            facts.append(f"{finished['wasted']} wasted")
        if finished["error"]:
            facts.append(finished["error"])
        return _line(f"{symbol} {name}  {'  '.join(facts)}", style)

    def _rows(self, call: _Call) -> Iterator[Text]:
        if call.text:
            yield Text(printable(call.text)) if self._is_finished else _tail(call.text)
        for verdict in call.verdicts:
            yield _line(_verdict_text(verdict), "magenta")
        for index, candidate in call.candidates.items():
            is_best = index == self._best
            yield _line(_candidate_text(candidate, is_best), "bold green" if is_best else "")

    def _bars(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        for kind, name in BUDGET.items():
            scale, digits = (1000, 1) if kind == "deadline_ms" else (1, 0)
            limit, spent = self._limits.get(kind), self._spent_so_far()[kind]
            amount = f"{spent / scale:.{digits}f}"
            if limit is None:
                grid.add_row(name, "", amount)
                continue
            bar = ProgressBar(total=limit, completed=min(spent, limit), width=24)
            grid.add_row(name, bar, f"{amount} of {limit / scale:g}")
        return grid

    def _spent_so_far(self) -> dict[str, float]:
        if self._spent is not None:
            return self._spent
        calls = self._calls.values()
        return {
            "max_tokens": sum(_tokens(call) for call in calls),
            "max_calls": sum(c.finished["attempts"] if c.finished else 1 for c in calls),
            "deadline_ms": (time.monotonic() - self._began) * 1000,
        }


def _verdict_text(verdict: Json) -> str:
    """Return the label probabilities or the verdict, the reward and the error, as far as present."""
    labels = verdict.get("labels")
    parts = [f"{label} {p:.2f}" for label, p in labels["probabilities"].items()] if labels else []
    if not labels and verdict.get("verdict") is not None:
        parts.append(verdict["verdict"])
    if verdict.get("reward") is not None:
        parts.append(f"reward {verdict['reward']:.3g}")
    if verdict.get("error") is not None:
        parts.append(verdict["error"])
    return "  ".join(parts)


def _line(text: str, style: str = "") -> Text:
    return Text(
        " ".join(printable(text).splitlines()), style=style, no_wrap=True, overflow="ellipsis"
    )


def _tail(text: str) -> Text:
    return _line("…" + " ".join(text[-60:].split()), "dim")


def _tokens(call: _Call) -> int:
    return call.finished["usage"]["completion"] if call.finished else 0


def _candidate_text(candidate: Json, is_best: bool) -> str:
    answer = candidate["answer"]
    if answer is None:
        answer = " ".join(candidate["text"][:60].split()) + "…"
    parts = [f"{'★' if is_best else '→'} {answer}"]
    if candidate["score"] is not None:
        parts.append(f"{candidate['score_kind']} {candidate['score']:.2f}")
    if candidate["why"]:
        parts.append(candidate["why"])
    return "  ".join(parts)


def _fitting(calls: list[_Call], height: int) -> int:
    """Return how many of the last calls fit into `height` lines; at least 1."""
    used = 0
    for count, call in enumerate(reversed(calls)):
        used += call.lines
        if used > height and count:
            return count
    return len(calls)
