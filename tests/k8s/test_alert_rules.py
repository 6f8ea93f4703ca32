"""Alert rules and KEDA queries: valid, on existing metrics, tested with promtool and documented."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from secondpass.service.common.errors import EngineFailed, HttpError
from secondpass.service.engines.scripted.engine import Reply, ScriptedEngine
from secondpass.service.http.problems import Internal
from secondpass.strategies.api.values import StopReason
from tests.http.serving import Json, serving
from tests.k8s.manifests import find_object, render_overlay
from tests.k8s.promtool import ROOT, Rule, alerts, promtool, write_rules

pytestmark = pytest.mark.compat

CASES = sorted(Path(__file__).with_name("alert_cases").glob("*.yaml"))
MANUAL = Path(__file__).parents[2] / "docs/operations/alerts.md"
SEVERITIES = {"critical", "warning", "info"}
VOTE: Json = {"name": "self_consistency", "params": {"n": 3}}
# Rules whose expression ends in a threshold above zero.
WITH_THRESHOLD = [rule for rule in alerts() if re.search(r"> [\d.]*[1-9][\d.]*$", rule["expr"])]
OF_TARGETS = {"namespace", "pod", "job"}
TRIGGERS = ("in-flight", "queue")
JOB = "secondpass"  # value of the Service label that the ServiceMonitor's jobLabel selects

_SELECTOR = re.compile(r"\b(secondpass_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)(=~|=)\"([^\"]*)\"")
_GROUPED = re.compile(r"(?:by|on) \(([\w, ]+)\)")
_SAMPLE = re.compile(r"(?m)^(secondpass_\w+)(?:\{(.*)\})? \S+$")


Metrics = dict[str, dict[str, set[str]]]


def queries() -> dict[str, str]:
    """Queries of the ScaledObject in `prod`, by trigger name."""
    triggers = find_object(render_overlay("prod"), "ScaledObject", "secondpass")["spec"]["triggers"]
    return {one["name"]: one["metadata"]["query"] for one in triggers}


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    """Series of a real server after successful and failed solves and chats.

    Maps each series name to its labels and their values.
    """
    engine = ScriptedEngine(script=_fails_on_request)
    with serving(engine) as served:
        assert served.solve().status_code == 200
        assert served.solve(strategy=VOTE).status_code == 200
        assert served.post("/solve", {"question": "Fail."}).status_code == 502
        for content, status in (("Hello.", 200), ("Fail.", 503)):
            chat = {"model": "scripted", "messages": [{"role": "user", "content": content}]}
            assert served.post("/v1/chat/completions", chat).status_code == status
        text = served.get("/metrics").text
    found: Metrics = {}
    for name, labels in _SAMPLE.findall(text):
        values = found.setdefault(name, {})
        for label, _, value in _MATCHER.findall(labels):
            values.setdefault(label, set()).add(value)
    return found


def _fails_on_request(call: Any, _: int) -> Reply:
    fails = "Fail." in call.messages[-1].text
    return Reply("It is 42.", fault="unavailable" if fails else None)


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    checked = promtool("check", "rules", str(write_rules(tmp_path)), folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_promtool_cases_pass(case: Path, tmp_path: Path) -> None:
    write_rules(tmp_path)
    shutil.copy(case, tmp_path)
    tested = promtool("test", "rules", case.name, folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_failing_case_is_reported(tmp_path: Path) -> None:
    rules = write_rules(tmp_path)
    rules.write_text(rules.read_text().replace("== 0 or absent", "== 7 or absent"))
    shutil.copy(CASES[0], tmp_path)
    tested = promtool("test", "rules", CASES[0].name, folder=tmp_path)
    assert tested.returncode != 0
    assert "SecondpassDown" in tested.stdout + tested.stderr


@pytest.mark.parametrize("factor", [0.5, 5])
@pytest.mark.parametrize("rule", WITH_THRESHOLD, ids=lambda rule: str(rule["alert"]))
def test_changed_threshold_fails_a_case(rule: Rule, factor: float, tmp_path: Path) -> None:
    name = rule["alert"]
    expression, threshold = rule["expr"].rsplit("> ", 1)
    # The average number of attempts is at least 1, so scale only the part above 1.
    least = 1 if name == "SecondpassRetries" else 0
    other = least + (float(threshold) - least) * factor
    assert _passes_its_cases(name, rule["expr"], tmp_path)
    assert not _passes_its_cases(name, f"{expression}> {other:g}", tmp_path)


def _passes_its_cases(name: str, expression: str, scratch: Path) -> bool:
    """Return whether an alert with this expression passes its own cases.

    The cases of other alerts are skipped because they take seconds.
    """
    write_rules(scratch, {name: expression})
    cases = yaml.safe_load(CASES[0].read_text())
    cases["tests"] = [
        test | {"alert_rule_test": own_cases}
        for path in CASES
        for test in yaml.safe_load(path.read_text())["tests"]
        if (own_cases := [one for one in test["alert_rule_test"] if one["alertname"] == name])
    ]
    (scratch / "cases.yaml").write_text(yaml.safe_dump(cases))
    return promtool("test", "rules", "cases.yaml", folder=scratch).returncode == 0


def test_every_threshold_is_covered() -> None:
    names = {rule["alert"] for rule in WITH_THRESHOLD}
    compared = {rule["alert"] for rule in alerts() if "/ sum" in rule["expr"]}
    assert compared | {"SecondpassNearMaxRuns", "SecondpassOverheadHigh"} == names


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    fires: dict[str, set[bool]] = {}
    for path in CASES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                fires.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert fires == {rule["alert"]: {True, False} for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_alert_uses_existing_series_and_labels(rule: Rule, metrics: Metrics) -> None:
    assert "secondpass_" in rule["expr"] or "up{" in rule["expr"]
    assert list(_unknown(rule["expr"], metrics)) == []


@pytest.mark.parametrize("query", TRIGGERS)
def test_keda_query_uses_existing_series_and_labels(query: str, metrics: Metrics) -> None:
    text = queries()[query]
    assert "secondpass_" in text
    assert list(_unknown(text, metrics)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("secondpass_runs_in_flight", "secondpass_runs_in_flights"),
        ('job="', 'jobs="'),
        ('job="secondpass"', 'job="other"'),
        ('{namespace=~"', '{stop_reason=~"'),
        ("sum(", "sum by (tenant) ("),
    ],
)
def test_query_of_unknown_series_is_reported(old: str, new: str, metrics: Metrics) -> None:
    text = queries()["in-flight"]
    assert old in text
    assert list(_unknown(text.replace(old, new), metrics)) != []


def test_promtool_parses_the_keda_queries(tmp_path: Path) -> None:
    assert set(queries()) == set(TRIGGERS)
    assert _parsed(queries(), tmp_path)
    assert not _parsed({"broken": queries()["queue"].removesuffix(")")}, tmp_path)


def _parsed(texts: dict[str, str], scratch: Path) -> bool:
    """Return whether promtool parses each query, as a recording rule."""
    rules = [
        {"record": f"keda:{name.replace('-', '_')}", "expr": text} for name, text in texts.items()
    ]
    path = scratch / "queries.json"
    path.write_text(json.dumps({"groups": [{"name": "keda", "rules": rules}]}))
    checked = promtool("check", "rules", path.name, folder=scratch)
    return checked.returncode == 0 and f"{len(rules)} rules found" in checked.stdout


def _unknown(expression: str, metrics: Metrics) -> Iterator[str]:
    """Series, labels and label values of a PromQL expression that no server exports."""
    known = {*OF_TARGETS}
    for name, matchers in _SELECTOR.findall(expression):
        if name not in metrics:
            yield name
            continue
        known |= set(metrics[name])
        for label, _, values in _MATCHER.findall(matchers):
            if label in OF_TARGETS:
                if label == "job" and values != JOB:
                    yield f"{name}: job {values}"
            elif label not in metrics[name]:
                yield f"{name}: {label}"
            else:
                yield from (
                    f"{name}: {label} {value}"
                    for value in values.split("|")
                    if not _exists(label, value, metrics[name])
                )
    for group in _GROUPED.findall(expression):
        yield from {label.strip() for label in group.split(",")} - known


def test_max_runs_alert_fits_the_overlays_with_monitoring() -> None:
    (rule,) = (rule for rule in alerts() if rule["alert"] == "SecondpassNearMaxRuns")
    limits = {
        tomllib.loads((overlay / "secondpass.toml").read_text())["max_runs"]
        for overlay in (ROOT / "k8s/overlays").iterdir()
        if re.search(
            "components/monitoring|- ../prod", (overlay / "kustomization.yaml").read_text()
        )
    }
    assert {f"> {limit * 9 // 10}" for limit in limits} == {rule["expr"][-5:]}


def _exists(label: str, value: str, seen: dict[str, set[str]]) -> bool:
    """Return whether a label can have a value of a matcher, which may be a pattern such as `5..`."""
    if label == "stop_reason":
        codes = {
            kind.code
            for kind in (Internal, EngineFailed, *HttpError.__subclasses__())
            if hasattr(kind, "code")
        }
        return value in codes | set(get_args(StopReason))
    if label == "status" and value == "none":
        return True  # an engine without any reply
    return any(re.fullmatch(value, each) for each in seen[label])


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_alert_is_documented(rule: Rule) -> None:
    name = rule["alert"]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations/alerts.md#{name.lower()}"
    section = MANUAL.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert re.findall(r"(?m)^\*\*(Cause\.|Look at|Do\.)\*\*", section) == [
        "Cause.",
        "Look at",
        "Do.",
    ]


def test_documented_alerts_exist() -> None:
    assert re.findall(r"(?m)^## (\w+)$", MANUAL.read_text()) == [rule["alert"] for rule in alerts()]
