"""A run as it is drawn: its calls, what came of them, and how much of the budget is left.

Text of a model is data: nothing in it is read as markup, and its control characters never reach the terminal.
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
from secondpass.service.cli.common.screen import printable

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ENDS = {
    "finished": ("✓", "green"),
    "truncated": ("✂", "yellow"),
    "cancelled": ("□", "dim"),
    "failed": ("✗", "red"),
}
BUDGET = {"max_tokens": "tokens", "max_calls": "calls", "deadline_ms": "seconds"}
"""The limits that are drawn, and what they are called."""

TAIL_LINES = 4
OTHER_LINES = 4 + len(BUDGET) + TAIL_LINES
"""Lines of the picture besides those of calls."""


@dataclass
class _Call:
    started: Json
    began: float
    finished: Json | None = None
    written: str = ""
    candidates: dict[int, Json] = field(default_factory=dict)
    verdicts: list[Json] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return 1 + len(self.candidates) + len(self.verdicts) + bool(self.written)


class Picture:
    """Takes the events of a run in order; rich draws what it is at the moment.

    `limits` are those that the request set, by the names of the request; the answer tells of all.
    """

    def __init__(self, limits: Mapping[str, float]) -> None:
        self._limits = dict(limits)
        self._title = "waiting for the server"
        self._began = time.monotonic()
        self._calls: dict[int, _Call] = {}
        self._best: int | None = None
        self._text = ""
        self._spent: dict[str, float] | None = None
        self._is_over = False

    def see(self, name: str, document: Json) -> None:
        """Take the next event."""
        match name:
            case "run.started":
                self._began = time.monotonic() - document["at"]
                params = [f"{k}={v}" for k, v in document["params"].items() if v is not None]
                models = dict.fromkeys(document["models"].values())
                self._title = "  ".join([document["strategy"], *params, *models])
            case "call.started":
                self._calls[document["call"]] = _Call(document, time.monotonic())
            case "call.delta":
                self._calls[document["call"]].written += document["text"]
            case "call.finished":
                call = self._calls.setdefault(
                    document["call"], _Call(document | {"n": 1}, time.monotonic())
                )
                call.finished = document
                call.written = "\n".join(document.get("texts", ()))
            case "candidate":
                self._see_candidate(document)
            case "verdict":
                self._see_verdict(document)
            case "answer.delta":
                self._text += document["text"]
            case "run.finished":
                self._see_outcome(document)
                self._spent = {kind: b["spent"] for kind, b in document["budget"].items()}
                self._limits = {
                    kind: b["limit"]
                    for kind, b in document["budget"].items()
                    if b["limit"] is not None
                }

    def end(self) -> None:
        """No further events; what is drawn from now on is the whole run."""
        self._is_over = True

    def _see_candidate(self, document: Json) -> None:
        candidate = document["candidate"]
        index = candidate["index"]
        if document["is_best"]:
            self._best = index
        for call in reversed(self._calls.values()):
            first = call.started["index"]
            if call.started["role"] == "actor" and first <= index < first + call.started["n"]:
                call.candidates[index] = candidate
                return

    def _see_outcome(self, answer: Json) -> None:
        """Votes that agreed with the leader came without an event of their own; the outcome counts them all."""
        told = {candidate["index"]: candidate for candidate in answer.get("candidates", ())}
        for call in self._calls.values():
            for index, candidate in call.candidates.items():
                if index in told:
                    call.candidates[index] = told[index]
                elif index == self._best and answer["confidence"] not in (None, candidate["score"]):
                    call.candidates[index] = candidate | {
                        "score": answer["confidence"],
                        "score_kind": answer["confidence_kind"],
                        "why": None,
                    }

    def _see_verdict(self, document: Json) -> None:
        for call in reversed(self._calls.values()):
            is_tests = document["role"] == "verifier" and call.started["role"] == "actor"
            if is_tests or all(call.started[key] == document[key] for key in ("role", "purpose")):
                call.verdicts.append(document)
                return

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = None if self._is_over else max(3, options.size.height - OTHER_LINES)
        parts: list[Any] = [self._tree(room), Padding(self._bars(), (0, 0, 0, 2))]
        if self._text and not self._is_over:
            tail = printable(self._text).splitlines()[-TAIL_LINES:]
            parts += [_line(line, "italic") for line in tail]
        yield Group(*parts)

    def _tree(self, room: int | None) -> Tree:
        tree = Tree(_line(self._title, "bold"), guide_style="dim")
        calls = list(self._calls.values())
        shown = len(calls) if room is None else _fitting(calls, room)
        if hidden := calls[: len(calls) - shown]:
            tokens = sum(_tokens(call) for call in hidden)
            tree.add(_line(f"… {len(hidden)} earlier calls, {tokens} tokens", "dim"))
        for call in calls[len(calls) - shown :]:
            branch = tree.add(self._head(call))
            for row in self._rows(call):
                branch.add(row)
        return tree

    def _head(self, call: _Call) -> Text:
        begun, ended = call.started, call.finished
        number, last = begun["index"] + 1, begun["index"] + begun["n"]
        name = f"{begun['role']} {begun['purpose']} " + (
            f"{number}" if last == number else f"{number} to {last}"
        )
        if ended is None:
            now = time.monotonic()
            mark = "·" if self._is_over else SPINNER[int(now * 10) % len(SPINNER)]
            return _line(f"{mark} {name}  {now - call.began:.1f} s", "cyan")
        mark, style = ENDS[ended["end"]]
        facts = [f"{_tokens(call)} tokens", f"{ended['seconds']:.2f} s"]
        if ended["end"] != "finished":
            facts.append(ended["end"])
        if ended["wasted"]:
            facts.append(f"{ended['wasted']} wasted")
        if ended["error"]:
            facts.append(ended["error"])
        return _line(f"{mark} {name}  {'  '.join(facts)}", style)

    def _rows(self, call: _Call) -> Iterator[Text]:
        if call.written:
            yield Text(printable(call.written)) if self._is_over else _tail(call.written)
        for verdict in call.verdicts:
            yield _line(_judged(verdict), "magenta")
        for index, candidate in call.candidates.items():
            is_best = index == self._best
            yield _line(_told(candidate, is_best), "bold green" if is_best else "")

    def _bars(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        for kind, name in BUDGET.items():
            scale, digits = (1000, 1) if kind == "deadline_ms" else (1, 0)
            limit, spent = self._limits.get(kind), self._spending()[kind]
            figures = f"{spent / scale:.{digits}f}"
            if limit is None:
                grid.add_row(name, "", figures)
                continue
            bar = ProgressBar(total=limit, completed=min(spent, limit), width=24)
            grid.add_row(name, bar, f"{figures} of {limit / scale:g}")
        return grid

    def _spending(self) -> dict[str, float]:
        if self._spent is not None:
            return self._spent
        calls = self._calls.values()
        return {
            "max_tokens": sum(_tokens(call) for call in calls),
            "max_calls": sum(c.finished["attempts"] if c.finished else 1 for c in calls),
            "deadline_ms": (time.monotonic() - self._began) * 1000,
        }


def _judged(verdict: Json) -> str:
    """What a verdict says, in as far as it says it."""
    read = verdict.get("labels")
    said = [f"{label} {p:.2f}" for label, p in read["probabilities"].items()] if read else []
    if not read and verdict.get("verdict") is not None:
        said.append(verdict["verdict"])
    if verdict.get("reward") is not None:
        said.append(f"reward {verdict['reward']:.3g}")
    if verdict.get("error") is not None:
        said.append(verdict["error"])
    return "  ".join(said)


def _line(text: str, style: str = "") -> Text:
    return Text(
        " ".join(printable(text).splitlines()), style=style, no_wrap=True, overflow="ellipsis"
    )


def _tail(text: str) -> Text:
    return _line("…" + " ".join(text[-60:].split()), "dim")


def _tokens(call: _Call) -> int:
    return call.finished["usage"]["completion"] if call.finished else 0


def _told(candidate: Json, is_best: bool) -> str:
    said = candidate["answer"]
    if said is None:
        said = " ".join(candidate["text"][:60].split()) + "…"
    parts = [f"{'★' if is_best else '→'} {said}"]
    if candidate["score"] is not None:
        parts.append(f"{candidate['score_kind']} {candidate['score']:.2f}")
    if candidate["why"]:
        parts.append(candidate["why"])
    return "  ".join(parts)


def _fitting(calls: list[_Call], room: int) -> int:
    """How many of the last calls have room for their lines; the newest always does."""
    taken = 0
    for count, call in enumerate(reversed(calls)):
        taken += call.lines
        if taken > room and count:
            return count
    return len(calls)
