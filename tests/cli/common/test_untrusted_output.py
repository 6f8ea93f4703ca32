"""Untrusted text in the output of every command: no control character reaches the terminal."""

from __future__ import annotations

import ast
import io
import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.panel import Panel

from secondpass.service.cli.common.failure import failure_from_problem
from secondpass.service.cli.common.output import print_error, print_json, print_text, printable
from secondpass.service.cli.common.rich_output import PrintableConsole, progress_bar, table_of
from secondpass.service.cli.listings import ListOptions
from secondpass.service.cli.main import main
from secondpass.service.cli.pool.progress import print_status
from secondpass.service.engines.scripted.engine import ScriptedEngine
from secondpass.testing.support import constant_reply
from tests.cli.running import at_terminal
from tests.http.serving import Served, serving

CLI = Path(__file__).resolve().parents[3] / "service/cli"
WILD = "\x1b[31mred\x1b]0;title\x07\x1b]52;c;YQ==\x1b\\\x1b]8;;http://x\x07over\rwritten\x08\x9b2J\u202eabc\u2066d[bold]e[/bold]"
TEXT = st.one_of(st.text(), st.lists(st.sampled_from([*WILD, "\r\n", "\t"])).map("".join))


def controls_in(text: str) -> set[str]:
    return {
        each
        for each in text
        if unicodedata.category(each) in ("Cc", "Cf") and each not in "\n\t\u200c\u200d"
    }


@given(TEXT)
def test_no_control_character_except_line_feed_and_tab_is_printable(text: str) -> None:
    assert not controls_in(printable(text))
    assert printable(printable(text)) == printable(text)


@given(
    st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"), include_characters="\n\t"))
)
def test_other_text_is_unchanged(text: str) -> None:
    assert printable(text) == text
    assert printable(text.replace("\n", "\r\n")) == text


def test_all_output_passes_through_one_module() -> None:
    found = []
    for path in CLI.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("print", "Console") or name.endswith(
                (".Console", "stdout.write", "stderr.write")
            ):
                found.append((str(path.relative_to(CLI)), name))
    assert set(found) == {("common/output.py", "print")}


@pytest.fixture(scope="module")
def hostile() -> Iterator[Served]:
    engine = ScriptedEngine(constant_reply(f"{WILD} The answer is \\boxed{{42}}. {WILD}"))
    engine.model = WILD
    with serving(engine) as running:
        yield running


@pytest.mark.parametrize(
    "arguments",
    [
        ("solve", "6?"),
        ("solve", "6?", "--trace"),
        ("solve", "6?", "--task", "math", "--trace"),
        ("solve", "Write.", "--strategy", "self_refine", "--trace"),
        ("models",),
        ("strategies",),
        ("solve", "6?", "--model", f"x{WILD}"),
    ],
)
def test_no_command_prints_a_control_character_to_a_pipe(
    hostile: Served, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*arguments, "--url", hostile.url])
    captured = capsys.readouterr()
    assert captured.out or captured.err
    assert not controls_in(captured.out + captured.err)


@pytest.mark.parametrize("arguments", [("solve", "6?"), ("models",)])
def test_json_is_unchanged_in_a_pipe(
    hostile: Served, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*arguments, "--json", "--url", hostile.url])
    printed = capsys.readouterr().out
    assert (
        printed == json.dumps(json.loads(printed), ensure_ascii=False, separators=(",", ":")) + "\n"
    )
    assert "\u202eabc" in printed


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@given(TEXT)
def test_json_at_a_terminal_is_the_same_document_without_control_characters(text: str) -> None:
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        print_json({"text": text})
    assert not controls_in(screen.getvalue())
    assert json.loads(screen.getvalue()) == {"text": text}


@pytest.mark.parametrize(
    "arguments", [("solve", "6?", "--trace"), ("models",), ("models", "--json")]
)
def test_no_escape_of_a_model_reaches_a_terminal(
    hostile: Served, arguments: tuple[str, ...]
) -> None:
    with at_terminal(*arguments, "--url", hostile.url) as terminal:
        assert terminal.end() == 0
    assert not controls_in(terminal.text)  # without rich's own colours and cursor movements
    raw = terminal.written.decode()
    for escape in ("\x1b]", "\x07", "\x08", "\x9b", "\u202e", "\u2066", "\x1b[31mred"):
        assert escape not in raw
    assert "[bo" in terminal.text  # markup, which a narrow table may truncate


def test_text_drawn_by_rich_is_printable_and_not_markup() -> None:
    out = io.StringIO()
    console = PrintableConsole(file=out, width=200, markup=False, force_terminal=False)
    console.print(WILD, Panel(WILD, title=WILD), table_of((WILD, "b"), [(WILD, WILD)]))
    assert not controls_in(out.getvalue())
    assert "[bold]e[/bold]" in out.getvalue()


def test_messages_and_progress_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    options = ListOptions(command="models")
    for problem in ({"status": 400, "detail": WILD, "field": WILD}, {"error": {"message": WILD}}):
        print_error(options, str(failure_from_problem(problem)))
    print_text(WILD)
    print_status(WILD)
    with progress_bar(2) as update:
        update(WILD, 1)
    captured = capsys.readouterr()
    assert not controls_in(captured.out + captured.err)
    assert captured.err.count("[bold]e[/bold]") >= 3
