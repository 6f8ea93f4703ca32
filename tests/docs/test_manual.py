"""What the documentation lists is all there is."""

import re
from pathlib import Path
from typing import get_args

from secondpass.service.common.errors import Abandoned, HttpError
from secondpass.service.common.events import Event
from secondpass.service.common.limits import Limits
from secondpass.service.config.settings import Settings
from secondpass.service.http import response_models
from secondpass.service.http.schema import SolveRequest
from secondpass.strategies import STRATEGIES
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.quoting import is_quoted
from secondpass.strategies.api.run import Run
from secondpass.strategies.api.values import FinishReason, Role, Sampling, StopReason
from secondpass.strategies.prompts import PROMPTS, placeholders
from tests.http.serving import serving

DOCS = Path(__file__).parents[2] / "docs"


def subclasses_of(kind: type[HttpError]) -> set[type[HttpError]]:
    below = set(kind.__subclasses__())
    return below.union(*map(subclasses_of, below))


def test_every_setting_is_in_the_manual() -> None:
    manual = (DOCS / "operations.md").read_text()
    flags = [f"`--{name.replace('_', '-')}`" for name in Settings.model_fields]
    # These are tables, in the file only.
    tables = ["`--engines`", "`--roles`", "`--profiles`"]
    assert [flag for flag in flags if flag not in manual] == tables


def test_every_metric_is_in_the_manual() -> None:
    manual = (DOCS / "operations.md").read_text()
    with serving() as served:
        served.solve()
        lines = served.get("/metrics").text.splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert [name for name in names if not name.endswith("_created") and name not in manual] == []


def test_every_field_event_and_code_is_in_the_page_on_http() -> None:
    page = (DOCS / "api.md").read_text()
    models = (
        SolveRequest,
        Sampling,
        Limits,
        TaskRequest,
        response_models.Answer,
        response_models.StrategyCard,
    )
    words = {field for model in models for field in model.model_fields} - {"name"}
    words |= {event.type for event in Event.__subclasses__()}
    words |= {kind.code for kind in subclasses_of(HttpError) if hasattr(kind, "code")}
    unsent = Abandoned.code  # nobody is left to read it
    missing = {word for word in words if not re.search(rf"[`\"]{word}[`\"]", page)}
    assert missing <= {unsent}
    reasons = set(get_args(StopReason)) | set(get_args(FinishReason)) | set(get_args(Role))
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()


def test_every_strategy_is_in_the_manual_with_all_its_parameters() -> None:
    manual = (DOCS / "strategies.md").read_text()
    for name, strategy in STRATEGIES.items():
        assert f"\n## {name}\n" in manual, f"docs/strategies.md has no section {name}"
        section = manual.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert "```mermaid" in section
        assert [
            field for field in strategy.params.all_fields() if f"`{field}`" not in section
        ] == []


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
    page = (DOCS / "adding-a-strategy.md").read_text()
    properties = {"question", "messages", "task", "best", "stop_reason"}
    public = {name for name in dir(Run) if not name.startswith("_")} | {"stop_reason"}
    assert public == VERBS | properties
    assert len(VERBS) == 19
    assert {name for name in public if f"`{name}`" not in page and f"`{name}(" not in page} == set()


def test_the_page_on_strategies_names_every_quoted_placeholder() -> None:
    page = (DOCS / "adding-a-strategy.md").read_text()
    quoted = {each for name in PROMPTS for each in placeholders(name) if is_quoted(each)}
    words = {each.split("_")[0].removesuffix("s") for each in quoted}
    assert {word for word in words if f"`{word}`" not in page} == set()
