"""docs/adding-a-strategy.md: the examples run as printed, and its tables match the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.runs.outcome import Outcome
from secondpass.strategies.api.engine import Call
from secondpass.strategies.api.entry_points import GROUP
from secondpass.strategies.api.handles import StepStream
from secondpass.strategies.api.judgements import Judgement, Preference
from secondpass.strategies.api.quoting import is_quoted
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import Candidate, Capability, Completion, Draw, Verdict
from secondpass.strategies.prompts import PROMPTS, placeholders
from secondpass.strategies.voting.vote import Vote
from secondpass.testing.support import make_run
from tests.cli.running import ROOT, surroundings

PAGE = ROOT / "docs" / "adding-a-strategy.md"
ADDS_PROMPTS = """
import importlib.resources

from secondpass.strategies.prompts import add_prompts

add_prompts(importlib.resources.files(__package__) / "prompts")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Create a folder for PYTHONPATH with the package and the test that the page describes."""
    page = PAGE.read_text()
    examples = re.findall(r"```python\n(.*?@strategy.*?)```", page, re.DOTALL)
    (prompt,) = re.findall(r"`(\w+\.txt)`:\n\n```text\n(.*?)```", page, re.DOTALL)
    (declared,) = re.findall(rf'\[project\.entry-points\."{GROUP}"\]\n(.*?)\n\n', page, re.DOTALL)
    folder = tmp_path / "my_package"
    (folder / "prompts").mkdir(parents=True)
    (folder / "__init__.py").write_text(ADDS_PROMPTS)
    (folder / "prompts" / prompt[0]).write_text(prompt[1])
    names = [re.findall(r'@strategy\("(\w+)"', example)[0] for example in examples]
    assert names == ["first_agreement", "best_judged"]
    for name, example in zip(names, examples, strict=True):
        (folder / f"{name}.py").write_text(example)
    assert declared == 'best_judged = "my_package.best_judged"'
    entries = "".join(f"{name} = my_package.{name}\n" for name in names)
    (example,) = re.findall(r"```python\n(import pytest\n.*?)```", page, re.DOTALL)
    (tmp_path / "test_of_the_page.py").write_text(example)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}")
    return tmp_path


def run_pytest(package: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    env = surroundings(PYTHONPATH=f"{package}:{ROOT}")
    run = subprocess.run(command, cwd=package, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    assert " passed in " in run.stdout


@pytest.mark.compat
@pytest.mark.parametrize("name", ["first_agreement", "best_judged"])
def test_examples_pass_the_contract_tests_repeatedly(package: Path, name: str) -> None:
    plugin = ("-p", "secondpass.testing", "--strategy", name)
    for _ in range(3):
        run_pytest(package, *plugin, "--pyargs", "secondpass.testing.suite")


def test_the_test_of_the_page_passes(package: Path) -> None:
    run_pytest(package, "test_of_the_page.py")


def test_examples_are_formatted_and_linted_like_the_strategies(package: Path) -> None:
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    strategies = [str(path) for path in package.glob("my_package/*_*.py") if "__" not in path.name]
    assert len(strategies) == 2
    test = str(package / "test_of_the_page.py")
    for command in (
        ["format", "--check", "--diff", *strategies, test],
        ["check", "--ignore", "INP001", *strategies],
        ["check", "--ignore", "INP001,D100,D103,S101", test],
    ):
        run = subprocess.run(
            [*ruff, *command, *config], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr


VERBS = {
    "ask",
    "sample",
    "steps",
    "extend",
    "extend_steps",
    "classify",
    "critique",
    "compare",
    "score",
    "verify",
    "map",
    "as_completed",
    "class_of",
    "candidate",
    "propose",
    "elect",
    "note",
    "reserve",
    "model",
}


def test_the_run_protocol_has_nineteen_verbs_and_the_page_on_strategies_names_them() -> None:
    page = PAGE.read_text()
    properties = {"question", "messages", "task", "best", "stop_reason"}
    public = {name for name in dir(Run) if not name.startswith("_")} | {"stop_reason"}
    assert public == VERBS | properties
    assert len(VERBS) == 19
    assert {name for name in public if f"`{name}`" not in page and f"`{name}(" not in page} == set()


VALUES: tuple[type, ...] = (
    Draw,
    Completion,
    StepStream,
    Candidate,
    Judgement,
    Preference,
    Verdict,
    Vote,
    Call,
    Reply,
    ScriptedEngine,
    Outcome,
)


@pytest.mark.parametrize("value", VALUES)
def test_tables_of_values_name_existing_fields(value: type) -> None:
    row = rf"(?m)^\| `{value.__name__}(?:\(\w+\))?` \| (.*) \|$"
    (cell,) = re.findall(row, PAGE.read_text())
    plain = re.sub(r" \((?:[^()`]|`[^`]*`)*\)", "", cell)  # without remarks in parentheses
    names = set(re.findall(r"`([a-z]\w*)(?:\(.*?\)|=[^`]*)?`", plain)) - {"class_of"}
    assert names
    fields = {*getattr(value, "__dataclass_fields__", ()), *dir(value)}
    assert names - fields == set()


def test_the_share_of_a_vote_ignores_drafts_without_a_class() -> None:
    vote = Vote(n=4)
    vote.add(Candidate(text="none", index=0), None)
    assert (vote.share, vote.leader.score) == (None, None)
    assert vote.leaders(2) == []
    for index in (1, 2):
        vote.add(Candidate(text="7", answer="7", index=index), 0)
    assert (vote.share, vote.leader.score) == (1, 1)
    vote.add(Candidate(text="8", answer="8", index=3), 1)
    assert vote.ballots == [None, 0, 0, 1]
    assert [(each.answer, each.score) for each in vote.leaders(2)] == [("7", None), ("8", None)]


@pytest.mark.parametrize(
    ("reply", "lacking", "verdict"),
    [
        (Reply("", labels={"A": 0.7, "B": 0.3}), set(), 0.7),
        (Reply("", labels={"A": 0.7, "B": 0.3}, fault="interrupt"), set(), 0.7),
        (Reply("A"), set(), None),
        (Reply("", labels={"A": 1}, fault="unavailable"), set(), None),
        (Reply("", labels={"A": 1}, fault="refuse"), set(), None),
        (Reply('{"verdict": "A"}'), {"labels"}, 1.0),
        (Reply("A"), {"labels"}, None),
        (Reply("A, I think", fault="interrupt"), {"labels", "schema"}, None),
        (Reply("A"), {"labels", "schema"}, 1.0),
        (Reply("neither"), {"labels", "schema"}, None),
    ],
)
@pytest.mark.anyio
async def test_scripted_replies_have_the_documented_effect(
    reply: Reply, lacking: set[Capability], verdict: float | None
) -> None:
    engine = ScriptedEngine(lambda _call, _index: reply, lacking=frozenset(lacking))
    run = make_run(engine)

    async def grade(text: str) -> float:
        judgement = await run.classify(
            "prefer", ("A", "B"), question="7 or 8?", candidate_a=text, candidate_b="It is 8."
        )
        probability = judgement.probability("A")
        return float(judgement.verdict == "A") if probability is None else probability

    assert await run.map(grade, ["It is 7."], min_results=0) == [verdict]
    assert run.degraded["judge"] == (verdict is None)
    is_asked_again = verdict is None and "labels" in lacking and reply.fault is None
    assert len(engine.calls) == 1 + is_asked_again


def test_the_page_on_strategies_names_every_quoted_placeholder() -> None:
    page = PAGE.read_text()
    quoted = {each for name in PROMPTS for each in placeholders(name) if is_quoted(each)}
    words = {each.split("_")[0].removesuffix("s") for each in quoted}
    assert {word for word in words if f"`{word}`" not in page} == set()
