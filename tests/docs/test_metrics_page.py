"""docs/operations/metrics.md lists every metric with its labels, and no others."""

import re
from pathlib import Path

from tests.http.serving import serving

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"
ROW = re.compile(r"(?m)^\| `(secondpass_\w+)` \| (\w+) \| ([^|]*)\|")


def test_page_lists_exactly_the_metrics_with_their_types() -> None:
    with serving() as served:
        served.solve()
        lines = served.get("/metrics").text.splitlines()
    served_types = {
        name: kind
        for _, _, name, kind in (line.split() for line in lines if line.startswith("# TYPE"))
        if not name.endswith("_created")
    }
    assert {name: kind for name, kind, _ in ROW.findall(PAGE.read_text())} == served_types


def test_page_lists_the_labels_of_each_metric() -> None:
    with serving() as served:
        served.solve()
        text = served.get("/metrics").text
    for name, _, labels in ROW.findall(PAGE.read_text()):
        samples = re.findall(rf"(?m)^{name}(?:_count)?(?:{{(.*)}})? ", text)
        shown = set(re.findall(r"`(\w+)`", labels))
        assert all(set(re.findall(r'(\w+)="', sample)) == shown for sample in samples), name
