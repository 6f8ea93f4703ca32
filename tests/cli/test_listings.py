"""`secondpass strategies` and `models`, the help texts, and shell completion."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from secondpass.service.cli.completion import SHELLS
from secondpass.service.cli.main import main
from secondpass.service.cli.parser import build_parser
from secondpass.service.config.settings import Settings
from secondpass.strategies import STRATEGIES
from tests.cli.running import COMMAND, ROOT, surroundings
from tests.http.serving import Served

COMMANDS = ("serve", "solve", "strategies", "models", "new-strategy", "completion")


def test_strategies_are_listed_with_signal_update_paper_and_params(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["strategies", "--url", served.url]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["name", "summary", "signal", "update", "paper", "params"]
    names = [row[0].partition(" ")[0] for row in rows[1:]]
    assert names == list(STRATEGIES)
    defaults = [row[0] for row in rows if " (" in row[0]]
    assert defaults == ["meta_rm (default if open)", "single (default)"]
    vote = rows[1 + names.index("self_consistency")]
    assert "arxiv.org/abs/2203.11171" in vote
    assert "n=8" in vote[-1].split()


def test_every_model_is_listed_once(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--url", served.url]) == 0
    assert capsys.readouterr().out == "model\tcontext\nscripted\t32768\n"


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@127.0.0.1:1", "http://user%3Ahunter2%40127.0.0.1:1"]
)
def test_a_url_with_a_password_is_refused_and_not_echoed(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "--url", url]) == 2
    shown = capsys.readouterr().err
    assert "--api-key-env" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("command", "path"), [("strategies", "/strategies"), ("models", "/v1/models")]
)
def test_json_is_the_response_of_the_server(
    served: Served, capsys: pytest.CaptureFixture[str], command: str, path: str
) -> None:
    assert main([command, "--url", served.url, "--json"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert json.loads(shown) == served.get(path).json()


@pytest.mark.parametrize("command", ["strategies", "models"])
def test_an_unreachable_server_exits_with_1(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([command, "--url", "http://127.0.0.1:1"]) == 1
    assert "secondpass serve" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"    {command} ") or line == f"    {command}" for line in lines)


@pytest.mark.parametrize(
    "command", ["strategies", "models", "solve", "eval", "new-strategy", "completion"]
)
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    prefix = "source <(" if command == "completion" else ""
    assert f"examples:\n  {prefix}secondpass {command}" in capsys.readouterr().out


def test_help_of_solve_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "  130  Ctrl-C" in shown


def test_every_option_is_in_the_manual() -> None:
    _, known = build_parser()
    pages = Path(ROOT) / "docs" / "operations"
    manual = "".join((pages / f"{name}.md").read_text() for name in ("command-line", "evaluation"))
    flags = {f for p in known.values() for action in p._actions for f in action.option_strings}
    assert [flag for flag in sorted(flags - {"-h", "--help"}) if f"`{flag}" not in manual] == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_script_contains_every_command_and_the_flags_of_serve(
    capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in (*COMMANDS, "budget-tokens", *(n.replace("_", "-") for n in Settings.model_fields)):
        assert word in script or word in ("engines", "roles", "profiles")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["str"], {"strategies"}),
        (["solve", "--budget"], {"--budget-tokens", "--budget-calls"}),
        (["solve", "--task", ""], {"math", "choice", "code", "open"}),
        (["serve", "--max-n"], {"--max-n"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str]) -> None:
    line = " ".join(f"'{word}'" for word in ["secondpass", *words])
    script = (
        f"source <({' '.join(COMMAND)} completion bash)\n"
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}\n"
        "$(complete -p secondpass | sed 's/.*-F \\([^ ]*\\).*/\\1/') secondpass\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=surroundings(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(ended.stdout.split()) == expected, ended.stderr


@pytest.mark.parametrize("package", ["rich", "shtab"])
def test_without_an_extra_the_error_names_the_package_to_install(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    served: Served,
    package: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else name)
    if package == "shtab":
        assert main(["completion", "bash"]) == 1
    else:
        assert main(["solve", "What is 6 times 7?", "--url", served.url, "--trace"]) == 0
    assert "pip install 'secondpass[cli]'" in capsys.readouterr().err
