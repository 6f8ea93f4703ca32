"""What the documentation lists is all there is."""

from pathlib import Path

from secondpass.strategies.api.quoting import is_quoted
from secondpass.strategies.api.run import Run
from secondpass.strategies.prompts import PROMPTS, placeholders

DOCS = Path(__file__).parents[2] / "docs"


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
