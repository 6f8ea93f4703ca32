"""The prose check: each rule reports its bad example only, and each kind of passage is found."""

import textwrap
from pathlib import Path

import pytest

from tools.prose import (
    KINDS,
    RULES,
    Kind,
    Passage,
    Rule,
    check,
    load,
    of_comments,
    of_help,
    of_page,
    of_python,
    passages,
)

CONFIG = load()


def offends(rule: Rule, text: str) -> bool:
    return any(rule.offences(text))


@pytest.mark.parametrize("rule", CONFIG.rules, ids=lambda rule: rule.name)
def test_each_rule_reports_its_bad_example_and_accepts_the_corrected_one(rule: Rule) -> None:
    assert offends(rule, rule.bad)
    kind: Kind = "first_line" if rule.kinds == {"first_line"} else "docstring"
    corrected = check([Passage("service/example.py", 1, kind, rule.good)], CONFIG)
    assert [str(finding) for finding in corrected] == []


def test_rule_names_are_unique() -> None:
    names = [rule.name for rule in CONFIG.rules]
    assert len(names) == len(set(names))


MODULE = '''
"""Module docstring, told.

With a second line.
"""

LIMIT = 3
"""Attribute docstring, told."""

# A comment, told,
# on two lines.
code = "# not a comment, told"  # noqa: told


class Told:
    """Class docstring, told."""

    field: int = Field(default=1, description="a field that is told so")

    def told_by_name(self) -> None:
        """Method docstring, told.

        The name `told` in code is not prose.
        """
        raise ValueError(f"the field {self.field} was told so: {code!r}")
'''


def kinds_of(found: list[Passage]) -> dict[Kind, list[str]]:
    return {kind: [each.text for each in found if each.kind == kind] for kind in KINDS}


def test_python_passages_are_docstrings_comments_names_and_messages() -> None:
    found = kinds_of(list(of_python("module.py", MODULE)))
    assert found["first_line"] == [
        "Module docstring, told.",
        "Attribute docstring, told.",
        "Class docstring, told.",
        "Method docstring, told.",
    ]
    assert found["docstring"][-1].endswith("The name X in code is not prose.\n        ")
    assert found["comment"] == ["A comment, told,\non two lines."]
    assert found["name"] == ["told", "told by name"]
    assert found["text"] == [
        "# not a comment, told",
        "a field that is told so",
        "the field X was told so: X",
    ]


def test_findings_have_the_line_of_the_offence() -> None:
    found = check(list(of_python("service/module.py", MODULE)), CONFIG)
    lines = {finding.line for finding in found if finding.rule.name == "told"}
    assert lines == {2, 8, 10, 12, 15, 16, 18, 20, 21, 25}


PAGE = textwrap.dedent("""\
    # A heading

    A sentence with `told` in code, and a [link that is told](told.md).

    ```python
    told = 1
    ```

        told indented

    <!-- told -->

    | told | cell |
    """)


def test_a_page_is_checked_without_code_link_targets_and_comments() -> None:
    (passage,) = of_page("docs/page.md", PAGE)
    findings = check([passage], CONFIG)
    assert [(finding.line, finding.rule.name) for finding in findings] == [
        (3, "told"),
        (13, "told"),
    ]


def test_comments_of_makefiles_and_manifests_are_checked() -> None:
    text = "key: value # is told\n# noqa: told\nrun: ## told to run\n"
    found = [(each.line, each.text) for each in of_comments("Makefile", text)]
    assert found == [(1, "is told"), (3, "told to run")]


def test_a_long_sentence_is_reported_and_two_short_ones_are_not() -> None:
    (rule,) = (each for each in CONFIG.rules if each.max_words)
    words = "word " * 20
    assert offends(rule, f"{words}{words}.")
    assert not offends(rule, f"A {words.strip()}. A {words.strip()}.")
    assert not offends(rule, f"| {words} | {words} |")
    assert not offends(rule, f"* {words}\n* {words}")


def test_the_help_of_every_command_is_checked() -> None:
    found = {each.path: each for each in of_help()}
    assert "secondpass solve --help" in found
    assert "secondpass serve --help" in found
    assert all(each.kind == "help" and each.text for each in found.values())


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ('kinds = ["docstrings"]', "docstrings"),
        ('patern = "x"', "patern"),
        ("max_words = 3", "one of pattern and max_words"),
    ],
)
def test_a_mistake_in_the_rules_is_an_error(tmp_path: Path, broken: str, problem: str) -> None:
    file = tmp_path / "prose.toml"
    entry = 'name = "n"\npattern = "x"\nadvice = "a"\nbad = "x"\ngood = "y"\n'
    file.write_text(f"files = []\n[exempt]\n[[rule]]\n{entry}{broken}\n")
    with pytest.raises(ValueError, match=problem):
        load(file)


def test_the_project_follows_the_rules() -> None:
    found = list(passages(CONFIG))
    assert {each.kind for each in found} == set(KINDS)
    assert RULES.name in {Path(each.path).name for each in found}
    assert [str(finding) for finding in check(found, CONFIG)] == []
