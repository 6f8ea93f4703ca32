"""docs/errors.md contains every error code and exit code, and no others."""

import re
from pathlib import Path

from secondpass.service.cli.common import failure
from secondpass.service.common.errors import HttpError, NotFound
from secondpass.service.http.problems import openai_error, openai_status

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
STATUS = re.compile(r"(?m)^\| status \| (\d{3})")
BELOW_V1 = re.compile(r"(?m)^\| status \| \d{3}; (\d{3}) below `/v1`")


def kinds_of(kind: type[HttpError] = HttpError) -> set[type[HttpError]]:
    below = set(kind.__subclasses__())
    found = below.union(*map(kinds_of, below))
    # Other tests may define additional errors.
    return {each for each in found if each.__module__.startswith("secondpass.service")}


def codes() -> dict[str, type[HttpError]]:
    return {kind.code: kind for kind in kinds_of() if hasattr(kind, "code")}


def sections() -> dict[str, str]:
    """Return the text of the section of each code."""
    text = PAGE.read_text().split("\n## Codes\n")[1].split("\n## ")[0]
    parts = re.split(r"\n### (\w+)\n", text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_page_has_exactly_one_section_per_code() -> None:
    openai_only = openai_error(NotFound("no such model", field="model"))["error"]["code"]
    assert set(sections()) == {*codes(), openai_only}


def test_sections_contain_status_cause_and_advice() -> None:
    for code, text in sections().items():
        rows = re.findall(r"(?m)^\| (\w+) \| \S.* \|$", text)
        assert rows == ["status", "cause", "client", "operator"], code
    for code, kind in codes().items():
        shown = STATUS.search(sections()[code])
        assert shown, code
        error = kind.__new__(kind)  # the constructors have different parameters
        below_v1 = BELOW_V1.search(sections()[code])
        assert int(shown[1]) in (kind.status, openai_status(error)), code
        assert int((below_v1 or shown)[1]) == openai_status(error), code


def test_page_contains_every_exit_code_of_solve() -> None:
    text = PAGE.read_text().split("\n## Exit codes\n")[1].split("Other commands:")[0]
    rows = [int(code) for code in re.findall(r"(?m)^\| (\d+) \|", text)]
    assert rows == [
        failure.SUCCEEDED,
        failure.FAILED,
        failure.REFUSED,
        failure.NO_ANSWER,
        failure.INTERRUPTED,
    ]
