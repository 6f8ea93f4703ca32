"""A strategy in a separate distribution is served, and the published contract tests cover it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import httpx
import pytest

from secondpass.strategies import STRATEGIES
from tests.packaging.installing import CHECKOUT, OFFLINE, copied, pip
from tools.processes import free_port, serving

NAME = "universal_self_consistency"
PARAMS = f"{NAME}.UniversalSelfConsistency"
SOURCE = CHECKOUT / "examples" / "external_strategy"
MODULE = '''
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import SOLVE, Candidate
from secondpass.strategies.api.registry import Params, strategy

@strategy("{name}", Params, paper=None, signal="none", update="none")
async def broken(run: Run, params: Params) -> Candidate:
    """A strategy that breaks the contract."""
{body}
'''
SWALLOWING = """
try:
    return run.candidate(await run.ask(SOLVE))
except BaseException:
    return Candidate(text="cancelled", answer=None)
"""

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PYTHONPATH folder with secondpass and the distribution."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secondpass").mkdir()
    sources = [copied(folder / "secondpass"), shutil.copytree(SOURCE, folder / "external")]
    pip("install", *OFFLINE, "--target", folder / "site", *sources)
    return folder / "site"


@pytest.fixture(scope="module")
def client(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service process that has the distribution on its path."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("serve") / "log"
    flags = ["--engine", "scripted", "--model", "m", "--port", str(port)]
    command = [sys.executable, "-P", "-m", "secondpass.service", "serve", *flags]
    env = {"PYTHONPATH": str(site)}
    with (
        serving("secondpass", command, f"{url}/readyz", log, timeout=60, env=env),
        httpx.Client(base_url=url, trust_env=False, timeout=20) as client,
    ):
        yield client


def run_contract_tests(
    package: Path, site: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    """Run pytest in the folder of a package."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", *options],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(site), "PYTEST_ADDOPTS": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def passed(run: "subprocess.CompletedProcess[str]") -> int:
    """Return the number of passed tests. Fails unless all tests passed."""
    only_passed = re.fullmatch(r"(\d+) passed in [\d.]+s", run.stdout.splitlines()[-1])
    assert only_passed, run.stdout + run.stderr
    return int(only_passed[1])


def test_strategy_is_listed_after_the_built_in_ones(client: httpx.Client) -> None:
    listed = [entry["name"] for entry in client.get("/strategies").json()["strategies"]]
    assert listed == [*STRATEGIES, NAME]
    assert f"m@{NAME}" in {entry["id"] for entry in client.get("/v1/models").json()["data"]}


def test_openapi_document_contains_the_strategy_and_its_params(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    (choice,) = [each for each in schemas["StrategyChoice"]["oneOf"] if each["title"] == NAME]
    assert choice["properties"]["params"] == {"$ref": f"#/components/schemas/{PARAMS}"}
    assert schemas[PARAMS]["properties"]["n"]["description"] == "drafts"
    names = schemas["SolveRequest"]["properties"]["strategy"]["anyOf"][0]["oneOf"][0]["enum"]
    assert NAME in names


def test_solve_uses_the_params_of_the_strategy(client: httpx.Client) -> None:
    body = {"question": "What is 6 times 7?", "strategy": {"name": NAME, "params": {"n": 2}}}
    reply = client.post("/solve", json={**body, "task": {"kind": "math"}})
    assert (reply.status_code, reply.json()["answer"]) == (200, "42")
    assert {role: usage["calls"] for role, usage in reply.json()["usage"].items()} == {
        "actor": 2,
        "judge": 1,
    }
    assert reply.json()["confidence_kind"] == "p_most_consistent"
    body["strategy"] = {"name": NAME, "params": {"n": 0}}
    assert client.post("/solve", json=body).status_code == 422


def test_chat_selects_the_strategy_by_model_suffix(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "What is 6 times 7?"}]
    reply = client.post("/v1/chat/completions", json={"model": f"m@{NAME}", "messages": messages})
    assert reply.status_code == 200
    assert "42" in reply.json()["choices"][0]["message"]["content"]


def test_package_runs_the_contract_tests_of_its_strategy_only(site: Path, tmp_path: Path) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "package")
    with_test_module = run_contract_tests(package, site)
    without_test_module = run_contract_tests(package, site, "--pyargs", "secondpass.testing.suite")
    assert passed(with_test_module) == passed(without_test_module) >= 41


def test_single_contract_tests_can_be_imported_and_marked(site: Path, tmp_path: Path) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "package")
    (package / "tests" / "test_contract.py").write_text(
        "import pytest\n"
        "from secondpass.testing.suite import test_default_params_produce_the_answer, test_open_question_gets_an_answer\n"
        "pytestmark = pytest.mark.filterwarnings('error')\n"
    )
    assert passed(run_contract_tests(package, site)) == 4


def test_a_broken_distribution_is_reported_before_any_test(site: Path, tmp_path: Path) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "package")
    broken = shutil.copytree(site, tmp_path / "site")
    (broken / NAME / "__init__.py").write_text("import sys; sys.exit(0)\n")
    run = run_contract_tests(package, broken)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"universal-self-consistency 1.0: entry point {NAME}" in run.stderr
    assert "cannot be imported: SystemExit: 0" in run.stderr


@pytest.mark.parametrize(
    ("body", "failing"),
    [
        ('return Candidate(text="", answer=None)', "test_default_params_produce_the_answer"),
        (SWALLOWING, "test_client_disconnect_cancels_every_call"),
    ],
    ids=["answers with nothing", "swallows its cancellation"],
)
def test_contract_tests_detect_broken_strategies(
    body: str, failing: str, site: Path, tmp_path: Path
) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "package")
    broken = shutil.copytree(site, tmp_path / "site")
    (broken / NAME / "__init__.py").write_text(MODULE.format(name=NAME, body=indent(body, "    ")))
    run = run_contract_tests(package, broken)
    assert run.returncode == 1
    # pytest explains an assertion only in modules that it rewrites.
    line = rf"FAILED tests/test_contract.py::{failing}\[[\w-]*\] - "
    assert re.search(line + "(AssertionError: )?assert ", run.stdout), run.stdout


def test_an_unknown_strategy_is_reported_before_any_test(site: Path, tmp_path: Path) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "package")
    run = run_contract_tests(package, site, "--strategy", "universal")
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--strategy: 'universal' is not registered; registered: critic_retry" in run.stderr
