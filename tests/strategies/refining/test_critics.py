"""Issues in the prompts of retries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secondpass.strategies.refining.critics import shown_issues


@given(st.lists(st.text(max_size=30), max_size=4), st.text(min_size=1, max_size=20))
def test_shown_issues_never_repeat_the_whole_version(issues: list[str], attempted: str) -> None:
    whole = " ".join(attempted.split())
    if whole and whole not in "Something in it is wrong.":
        issues = [*issues, f"It says: {attempted}!"]
        for line in shown_issues(issues, attempted).splitlines():
            assert whole not in " ".join(line.split())
    assert shown_issues(issues, attempted)
