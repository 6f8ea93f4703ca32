"""Strategies of other distributions are registered by their entry points; a failing one is reported."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from secondpass.strategies.api.entry_points import GROUP
from tests.cli.running import ROOT, piped, surroundings

LIST = "from secondpass.strategies import STRATEGIES; print(*list(STRATEGIES)[-2:])"
READ = "from secondpass.strategies import STRATEGIES; list(STRATEGIES)"


def registering(name: str) -> str:
    """Return the source of a module that registers a strategy."""
    return f'''
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from secondpass.strategies.api.registry import Params, strategy

@strategy({name!r}, Params, paper=None, signal="none", update="none")
async def solve(run: Run, params: Params) -> Candidate:
    """One completion."""
    return run.candidate(await run.ask(SOLVE))
'''


def install(site: Path, name: str, entries: Mapping[str, str], **modules: str) -> None:
    """Write the files of an installed distribution."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{entry} = {value}" for entry, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)


def python(code: str, site: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=surroundings(PYTHONPATH=f"{site}:{ROOT}"),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("code", [LIST, f"import b_mod; {LIST}", f"import a_mod, b_mod; {LIST}"])
def test_installed_strategies_are_listed_after_those_of_secondpass(
    code: str, tmp_path: Path
) -> None:
    install(tmp_path, "second", {"b": "b_mod:solve"}, b_mod=registering("b"))
    install(tmp_path, "first", {"a": "a_mod"}, a_mod=registering("a"))
    listed = python(code, tmp_path)
    assert (listed.stdout, listed.stderr) == ("a b\n", "")


def test_one_module_registers_several_strategies(tmp_path: Path) -> None:
    both = registering("a") + registering("b")
    install(tmp_path, "outside", {"a": "mod", "b": "mod"}, mod=both)
    assert python(LIST, tmp_path).stdout == "a b\n"


@pytest.mark.parametrize(
    ("entry", "source", "problem"),
    [
        ("a = absent", "", "cannot be imported: ModuleNotFoundError: No module named 'absent'"),
        ("a = mod", "raise OSError('no licence')", "cannot be imported: OSError: no licence"),
        (
            "a = mod:absent",
            registering("a"),
            "cannot be imported: AttributeError: module 'mod' has no attribute 'absent'",
        ),
        ("a = mod", "import sys; sys.exit(0)", "cannot be imported: SystemExit: 0"),
        ("a = mod", "raise GeneratorExit('gone')", "cannot be imported: GeneratorExit: gone"),
        (
            "a = mod",
            "class Odd(Exception):\n def __str__(self): raise OSError\nraise Odd",
            "cannot be imported: Odd: (its message cannot be read)",
        ),
        ("a = mod", "raise OSError('\x1b[31m' + 'x' * 999)", f"OSError: \ufffd[31m{'x' * 294}…"),
        ("a = not valid!!", "", "its value must be package.module or package.module:function"),
        (
            "a = mod",
            READ + registering("a"),
            "RuntimeError: STRATEGIES cannot be read while entry points are imported; read it later",
        ),
        ("a = mod", "", "registers no strategy named 'a'"),
        ("a = mod", registering("b"), "registers no strategy named 'a'"),
        ("single = mod", "", "'single' is already registered by secondpass.strategies.single"),
        (
            "single = mod",
            registering("single"),
            "'single' is already registered by secondpass.strategies.single",
        ),
    ],
)
def test_an_entry_point_that_fails_is_named_with_its_distribution(
    entry: str, source: str, problem: str, tmp_path: Path
) -> None:
    name, value = entry.split(" = ")
    install(tmp_path, "outside", {name: value}, mod=source)
    last = python(READ, tmp_path).stderr.splitlines()[-1]
    assert f"outside 1.0: entry point {name} = {value!r} (group secondpass.strategies)" in last
    assert problem in last


@pytest.mark.parametrize("first", ["", "import mod_b; "])
def test_two_distributions_with_one_name_are_an_error_in_any_order(
    first: str, tmp_path: Path
) -> None:
    for each in "ab":
        modules = {f"mod_{each}": registering("same")}
        install(tmp_path, f"outside_{each}", {"same": f"mod_{each}"}, **modules)
    last = python(first + READ, tmp_path).stderr.splitlines()[-1]
    assert "strategy 'same' is already registered by mod_" in last


def test_a_distribution_brings_prompts_of_its_own_under_free_names(tmp_path: Path) -> None:
    (tmp_path / "hint.txt").write_text("A hint: {hint}\n")
    code = (
        "from pathlib import Path\n"
        "from secondpass.strategies.prompts import add_prompts, fill\n"
        f"add_prompts(Path({str(tmp_path)!r}))\n"
        "print(fill('hint', {'hint': 'six sevens'}))\n"
        f"add_prompts(Path({str(tmp_path)!r}))"
    )
    run = python(code, tmp_path)
    assert run.stdout == "A hint: six sevens\n"
    assert run.stderr.endswith("ValueError: prompts with these names exist already: hint\n")


def test_every_read_reports_the_failure(tmp_path: Path) -> None:
    install(tmp_path, "outside", {"a": "mod"}, mod="")
    code = (
        "from secondpass.strategies import STRATEGIES\n"
        "for _ in range(2):\n try: 'single' in STRATEGIES\n except Exception as e: print(e)"
    )
    first, second = python(code, tmp_path).stdout.splitlines()
    assert first == second
    assert "registers no strategy named 'a'" in first


def test_every_entry_point_that_fails_is_reported(tmp_path: Path) -> None:
    entries = {"d": "mod_d", "c": "mod_c", "b": "mod_b", "a": "mod_a"}
    modules = {"mod_a": "", "mod_b": registering("b"), "mod_c": "1 / 0", "mod_d": "1 / 0"}
    install(tmp_path, "outside", entries, **modules)
    problems = python(READ, tmp_path).stderr.splitlines()[-3:]
    assert [problem.partition("entry point ")[2][:1] for problem in problems] == ["c", "d", "a"]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_strategy_is_imported_ends_the_service(
    number: int, tmp_path: Path
) -> None:
    source = f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(30)"
    install(tmp_path, "outside", {"a": "mod"}, mod=source)
    flags = ["--engine", "scripted", "--model", "scripted", "--port", "0"]
    ended = piped("serve", *flags, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (ended.returncode, ended.stderr) == (128 + number, b"")


def test_a_function_of_another_package_may_be_registered(tmp_path: Path) -> None:
    """It may be a function of secondpass with other params; the registering module owns the name."""
    ours = "from secondpass.strategies.single import single as ours\n"
    again = (
        registering("other")
        + ours
        + ('strategy("mine", Params, paper=None, signal="none", update="none")(ours)\n')
    )
    install(tmp_path, "outside", {"mine": "mod"}, mod=again)
    assert python(LIST, tmp_path).stdout == "mine other\n"


def test_threads_that_read_first_all_see_the_whole_table(tmp_path: Path) -> None:
    install(
        tmp_path, "outside", {"a": "mod"}, mod=f"import time; time.sleep(0.3){registering('a')}"
    )
    code = (
        "from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "from secondpass.strategies import STRATEGIES\n"
        "with Pool(8) as pool: tables = {*pool.map(lambda _: (*STRATEGIES,), range(8))}\n"
        "[table] = tables\n"
        "print('single' in table, table[-1])"
    )
    assert python(code, tmp_path).stdout == "True a\n"


@pytest.mark.parametrize(
    "command", [["serve"], ["solve", "What is 6 times 7?", "--embedded", "--"]]
)
def test_a_module_that_runs_an_event_loop_is_imported_before_ours(
    command: list[str], tmp_path: Path
) -> None:
    source = "import asyncio, sys; asyncio.run(asyncio.sleep(0)); sys.stderr.write('imported ')"
    install(tmp_path, "outside", {"a": "mod"}, mod=f"{source}\n{registering('a')}\n1 / 0")
    flags = ["--engine", "scripted", "--model", "scripted"]
    ended = piped(*command, *flags, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert ended.returncode in (1, 2)
    assert ended.stderr.decode().startswith("imported secondpass ")
    assert b"ZeroDivisionError" in ended.stderr


def test_a_service_with_a_broken_strategy_does_not_start(tmp_path: Path) -> None:
    install(tmp_path, "outside", {"a": "mod"}, mod="raise OSError('no licence')")
    flags = ["--engine", "scripted", "--model", "scripted", "--port", "0"]
    problem = "cannot be imported: OSError: no licence"
    ended = piped("serve", *flags, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (ended.returncode, ended.stderr.decode()) == (
        2,
        f"secondpass serve: outside 1.0: entry point a = 'mod' (group {GROUP}) {problem}\n",
    )
