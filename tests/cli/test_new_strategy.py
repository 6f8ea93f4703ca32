"""`secondpass new-strategy` writes a strategy that passes every check, or nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from secondpass.service.cli.main import main
from secondpass.service.cli.new_strategy.checkout import IMPORTS, TABLE, with_import, with_row
from secondpass.service.cli.new_strategy.skeletons import SKELETONS
from tests.cli.running import COMMAND, ROOT, surroundings

IMPORT_LINES = "import secondpass.strategies.alpha\nimport secondpass.strategies.gamma\n"
TABLE_PAGE = """\
# Strategies

| setting | meaning |
|---|---|
| `n` | drafts |

| strategy | learns from | does | papers (arXiv) | streams tokens |
|---|---|---|---|---|
| [`alpha`](alpha.md) | nothing | returns one completion | | yes |

More.
"""
LONGEST = "a" + "b" * 63


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The files of a checkout that the command needs."""
    (tmp_path / "strategies" / "prompts").mkdir(parents=True)
    (tmp_path / "docs" / "strategies").mkdir(parents=True)
    (tmp_path / IMPORTS).write_text(f'"""Strategies."""\n\n{IMPORT_LINES}')
    (tmp_path / TABLE).write_text(TABLE_PAGE)
    return tmp_path


def files_of(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def new_strategy(root: Path, *arguments: str) -> int:
    return main(["new-strategy", *arguments, "--root", str(root)])


def test_a_judge_is_written_with_its_prompt_and_page(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_strategy(small, "beta") == 0
    printed = capsys.readouterr().out.splitlines()
    created = ["strategies/beta.py", "strategies/prompts/beta.txt", "docs/strategies/beta.md"]
    assert printed == [
        *(f"created {path}" for path in created),
        f"changed {IMPORTS}",
        f"changed {TABLE}",
        "next:",
        "  pytest tests/strategies/test_contract.py --strategy beta",
        "  pytest tests/docs/test_strategy_pages.py",
        "  make check",
        "to undo: delete the created files, and the line and the row that were added",
    ]
    files = files_of(small)
    assert files.keys() == {*created, IMPORTS, TABLE}
    assert "alpha\nimport secondpass.strategies.beta\nimport" in files[IMPORTS]
    row = "| [`beta`](beta.md) | grades of a judge | selects by score | | no |\n"
    assert files[TABLE] == TABLE_PAGE.replace("\n\nMore", f"\n{row}\nMore")
    assert "{candidate}" in files["strategies/prompts/beta.txt"]


def test_a_vote_has_no_prompt(small: Path) -> None:
    assert new_strategy(small, "zeta", "--kind", "vote") == 0
    files = files_of(small)
    assert files.keys() == {"strategies/zeta.py", "docs/strategies/zeta.md", IMPORTS, TABLE}
    assert files[IMPORTS].endswith("gamma\nimport secondpass.strategies.zeta\n")
    assert "| [`zeta`](zeta.md) | agreement |" in files[TABLE]


@pytest.mark.parametrize("kind", SKELETONS)
def test_a_page_has_the_sections_of_a_strategy(kind: str) -> None:
    page = SKELETONS[kind].page("beta")
    assert re.findall(r"(?m)^#+ .*$", page) == [
        "# beta",
        "## Parameters",
        "## How it works",
        "## Cost",
        "## When it helps, when it harms",
        "## Result",
        "## Papers and deviations",
    ]
    fields = re.findall(r"(?m)^    (\w+): \w+ = Field", SKELETONS[kind].module("beta"))
    assert re.findall(r"(?m)^\| `(\w+)` \|", page) == fields
    assert "```mermaid" in page


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Upper", "must match [a-z][a-z0-9_]{0,63}, not 'Upper'"),
        ("1st", "must match"),
        ("a-b", "must match"),
        ("../a", "must match"),
        ("", "must match"),
        (f"{LONGEST}b", "must match"),
        ("lambda", "'lambda' is a Python keyword"),
        ("single", "strategy 'single' is already registered by secondpass.strategies.single"),
        ("alpha", f"'alpha' is taken: {IMPORTS}, {TABLE}"),
        ("prompts", "'prompts' is taken: strategies/prompts"),
        ("sum", "'sum' is a name that the module uses for something else"),
        ("replace", "'replace' is a name that the module uses for something else"),
        ("candidate", "'candidate' is a name that the module uses for something else"),
        ("value_error", "'ValueError' is a name that the module uses for something else"),
        ("solve", "'solve' is the prompt name of the client's conversation"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(
    small: Path, capsys: pytest.CaptureFixture[str], name: str, problem: str
) -> None:
    before = files_of(small)
    assert new_strategy(small, name) == 2
    assert problem in capsys.readouterr().err
    assert files_of(small) == before


@pytest.mark.parametrize(
    "path", ["strategies/beta.py", "strategies/prompts/beta.txt", "docs/strategies/beta.md"]
)
def test_a_name_whose_file_exists_is_refused(
    small: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    (small / path).write_text("mine")
    before = files_of(small)
    assert new_strategy(small, "beta") == 2
    assert f"'beta' is taken: {path}" in capsys.readouterr().err
    assert files_of(small) == before


@pytest.mark.parametrize("missing", [IMPORTS, TABLE, "strategies/prompts"])
def test_a_folder_that_is_not_a_checkout_is_refused(
    small: Path, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    path = small / missing
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    assert new_strategy(small, "beta") == 2
    assert f"{small} is not a checkout of secondpass: it lacks {missing}" in capsys.readouterr().err


def test_the_current_folder_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-strategy", "beta"]) == 2
    lacking = f"{IMPORTS}, strategies/prompts, {TABLE}"
    error = f"the current folder is not a checkout of secondpass: it lacks {lacking}"
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        (IMPORTS, "", "no line begins with 'import secondpass.strategies.'"),
        (TABLE, "# Strategies\n", "no table whose first column is 'name' or 'strategy'"),
    ],
)
def test_a_file_without_its_list_is_refused(
    small: Path, capsys: pytest.CaptureFixture[str], path: str, text: str, problem: str
) -> None:
    (small / path).write_text(text)
    before = files_of(small)
    assert new_strategy(small, "beta") == 2
    assert f"{path}: {problem}" in capsys.readouterr().err
    assert files_of(small) == before


@pytest.mark.parametrize("at", range(5))
def test_a_write_that_fails_leaves_the_checkout_as_it_was(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    opened = Path.open
    writes = 0

    def failing(path: Path, mode: str = "r", **options: str) -> object:
        nonlocal writes
        if mode in ("w", "x"):
            writes += 1
            if writes == at + 1:
                raise OSError("no space left on device")
        return opened(path, mode, **options)  # type: ignore[call-overload]

    before = files_of(small)
    monkeypatch.setattr(Path, "open", failing)
    assert new_strategy(small, "beta") == 1
    monkeypatch.undo()
    assert "no space left on device; nothing was written" in capsys.readouterr().err
    assert files_of(small) == before


def test_an_import_is_put_where_isort_puts_it() -> None:
    names = ["zz", "a", "a10", "a2", "beta_2", "betas", "alpha1"]
    source = IMPORT_LINES + "from secondpass.strategies.api.registry import STRATEGIES\n"
    for name in names:
        source = with_import(source, name) or ""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "I"]
    command += ["--config", 'lint.isort.known-first-party = ["secondpass"]', "-"]
    ended = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + source
    assert with_import(source, "a2") is None


def test_a_row_is_added_to_a_table_at_the_end_of_the_page() -> None:
    page = "| name | what it learns from |\n|---|---|\n| `a` | nothing |"
    cells = SKELETONS["vote"].cells("beta")
    assert with_row(page, "beta", cells) == f"{page}\n| [`beta`](beta.md) | agreement |\n"


def run(checkout: Path, *command: str) -> str:
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env=surroundings(PYTHONPATH=str(checkout)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr
    return ended.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, without what git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in filter(None, listed.split("\0")):
        source, target = ROOT / path, tmp_path / path
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return tmp_path


LINT = "import sys; from importlinter.cli import lint_imports_command as run; sys.argv[1:] = ['--no-cache']; run()"


@pytest.mark.compat
def test_the_results_pass_every_check_at_once(checkout: Path) -> None:
    names = {"in_between": "judge", "zz_vote": "vote", LONGEST: "vote", f"z{LONGEST[1:]}": "judge"}
    names |= {f"a{'b' * length}": "judge" for length in (18, 27, 28)}  # around the line length
    written: set[str] = set()
    for name, kind in names.items():
        printed = run(checkout, *COMMAND[1:], "new-strategy", name, "--kind", kind)
        paths = re.findall(r"(?m)^(?:created|changed) (.*)$", printed)
        assert len(paths) == (5 if kind == "judge" else 4)
        written |= {*paths}
    run(checkout, "-m", "ruff", "format", "--check", "--no-cache", "strategies")
    run(checkout, "-m", "ruff", "check", "--no-cache", "strategies")
    run(checkout, "-m", "mypy", "--cache-dir", f"{checkout}/.mypy", "-p", "secondpass.strategies")
    run(checkout, "-c", LINT)
    run(checkout, "-m", "tools.prose", *sorted(written - {IMPORTS, TABLE}))
    pytest_quiet = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0")
    for name in ("in_between", "zz_vote"):
        run(checkout, *pytest_quiet, "tests/strategies/test_contract.py", "--strategy", name)
    fast = "not (vllm or serial or slow or compat or faults)"
    tests = ("tests/docs", "tests/strategies/api", "tests/cli/test_listings.py")
    run(checkout, *pytest_quiet, "-m", fast, *tests)


def test_the_skeletons_are_the_examples_of_the_page() -> None:
    page = (ROOT / "docs" / "adding-a-strategy.md").read_text()
    for kind, name in (("vote", "first_agreement"), ("judge", "best_judged")):
        assert f"```python\n{SKELETONS[kind].module(name)}```" in page
    assert f"```text\n{SKELETONS['judge'].prompt}```" in page
