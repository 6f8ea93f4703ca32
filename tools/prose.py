"""Check the project's prose against the rules in `tools/prose.toml`.

The check reads docstrings, comments, names of tests, message texts, `--help` output and pages. `python -m tools.prose` prints each
finding as `FILE:LINE: rule: excerpt (advice)` and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, get_args

from secondpass.service.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
RULES = ROOT / "tools" / "prose.toml"

Kind = Literal["first_line", "docstring", "comment", "text", "name", "help", "page"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_KINDS = KINDS[1:]
"""All but `first_line`, which is the beginning of a docstring."""

_IS_PROSE = re.compile(r"[a-z]+ [a-z]+ [a-z]+")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])[\")\]]*\s+(?=[\"'(`\[]*[A-Z0-9])|\n\s*\n|\n\s*[-*|] |\n\s*\d+\. |\n\s*[\w*, ]+:\s"
    r"|\n\s+\w+ {2,}|;\s|\|"
)
_FENCE = re.compile(r"^( *)```.*?^\1```[^\n]*$", re.DOTALL | re.MULTILINE)
_COMMENT_IN_PAGE = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"``[^`]+``|`[^`\n]+`")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_INDENTED = re.compile(r"(?m)^(?: {4}|\t)(?![-*\d]).*$")
_DIRECTIVE = re.compile(r"^#\s*(?:noqa|type:|pragma|fmt:|!|pyright|hadolint|syntax=|-\*-)")
_LINE_COMMENT = re.compile(r"(?m)(?:^|\s)#+ (?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of prose: where it is, of what kind, and its text without code."""

    path: str
    line: int
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: a pattern that must not match, or a maximum number of words in a sentence.

    `bad` is a passage that the rule reports, `good` the corrected passage.
    """

    name: str
    advice: str
    kinds: frozenset[Kind]
    bad: str
    good: str
    pattern: re.Pattern[str] | None = None
    max_words: int | None = None

    def offences(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield the offset and the excerpt of each part of `text` that breaks the rule."""
        if self.pattern is not None:
            for match in self.pattern.finditer(text):
                yield match.start(), match[0].strip()
        if self.max_words is not None:
            start = 0
            for sentence in _SENTENCE_END.split(text):
                words = sentence.split()
                if len(words) > self.max_words:
                    yield (
                        start + len(sentence) - len(sentence.lstrip()),
                        f"{' '.join(words[:8])} ...",
                    )
                start = text.find(sentence, start) + len(sentence)


@dataclass(frozen=True, slots=True)
class Finding:
    """A passage that breaks a rule."""

    path: str
    line: int
    rule: Rule
    excerpt: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule.name}: {self.excerpt!r} ({self.rule.advice})"


@dataclass(frozen=True, slots=True)
class Config:
    """Rules, glob patterns of the files to read, and exempt kinds of passages by glob pattern."""

    rules: tuple[Rule, ...]
    files: tuple[str, ...]
    exempt: dict[str, tuple[Kind, ...]]

    def is_exempt(self, path: str, kind: Kind) -> bool:
        """Return whether passages of this kind in the file are not checked."""
        return any(fnmatch(path, glob) and kind in kinds for glob, kinds in self.exempt.items())


def load(path: Path = RULES) -> Config:
    """Read the rules.

    Raises:
        ValueError: A rule has an unknown key or kind, or not exactly one of `pattern` and `max_words`.
    """
    document = tomllib.loads(path.read_text())
    rules = tuple(_rule(entry) for entry in document["rule"])
    exempt = {glob: tuple(kinds) for glob, kinds in document["exempt"].items()}
    return Config(rules, tuple(document["files"]), exempt)


def _rule(entry: dict[str, Any]) -> Rule:
    known = {"name", "pattern", "max_words", "advice", "kinds", "bad", "good"}
    kinds = frozenset(entry.get("kinds", DEFAULT_KINDS))
    if unknown := (entry.keys() - known) | (kinds - set(KINDS)):
        raise ValueError(f"rule {entry.get('name')!r}: unknown {', '.join(sorted(unknown))}")
    if ("pattern" in entry) == ("max_words" in entry):
        raise ValueError(f"rule {entry['name']!r}: needs one of pattern and max_words")
    pattern = re.compile(entry["pattern"], re.MULTILINE) if "pattern" in entry else None
    texts = {key: entry[key] for key in ("name", "advice", "bad", "good")}
    return Rule(**texts, kinds=kinds, pattern=pattern, max_words=entry.get("max_words"))


def without_code(text: str) -> str:
    """Replace inline code by `X` and links by their text; line breaks stay."""
    return _LINK.sub(r"\1", _CODE.sub("X", text))


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def of_page(path: str, text: str) -> Iterator[Passage]:
    """Yield the prose of a Markdown page: no code blocks, no HTML comments."""
    for pattern in (_FENCE, _COMMENT_IN_PAGE, _INDENTED):
        text = pattern.sub(_blank, text)
    yield Passage(path, 1, "page", without_code(text))


def of_comments(path: str, text: str) -> Iterator[Passage]:
    """Yield the comments of a file in which `#` begins one."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE_COMMENT.search(line)
        if match and not _DIRECTIVE.match(line.strip()):
            yield Passage(path, number, "comment", without_code(match["text"]))


def of_python(path: str, text: str) -> Iterator[Passage]:
    """Yield the docstrings, comments, names of tests and message texts of a module."""
    tree = ast.parse(text)
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        for docstring in _docstrings(node):
            docstrings.add(id(docstring))
            yield from _of_docstring(path, docstring)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", node.name).strip("_").lower()
            yield Passage(path, node.lineno, "name", words.replace("_", " "))
    yield from _of_literals(path, tree, docstrings)
    yield from _of_python_comments(path, text)


def _docstrings(node: ast.AST) -> Iterator[ast.Constant]:
    """Yield the docstring of a module, class or function, and those of the attributes in its body."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for statement in node.body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value


def _of_docstring(path: str, node: ast.Constant) -> Iterator[Passage]:
    text = str(node.value)
    yield Passage(path, node.lineno, "first_line", text.split("\n", 1)[0])
    yield Passage(path, node.lineno, "docstring", without_code(text))


def _of_literals(path: str, tree: ast.AST, docstrings: set[int]) -> Iterator[Passage]:
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in docstrings or id(node) in inside:
                continue
            text = node.value
        else:
            continue
        if _IS_PROSE.search(text):
            yield Passage(path, node.lineno, "text", without_code(text))


def _of_python_comments(path: str, text: str) -> Iterator[Passage]:
    """Yield comments; consecutive lines are one passage."""
    block: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or _DIRECTIVE.match(token.string):
            continue
        number = token.start[0]
        if block and number == last + 1:
            block.append(token.string.lstrip("# "))
        else:
            if block:
                yield Passage(path, start, "comment", without_code("\n".join(block)))
            block, start = [token.string.lstrip("# ")], number
        last = number
    if block:
        yield Passage(path, start, "comment", without_code("\n".join(block)))


def of_help() -> Iterator[Passage]:
    """Yield the `--help` output of each command."""
    parser, commands = build_parser()
    for name, each in {"": parser, **commands}.items():
        yield Passage(f"secondpass {name} --help".replace("  ", " "), 1, "help", each.format_help())


def passages(config: Config, root: Path = ROOT) -> Iterator[Passage]:
    """Yield every passage of the configured files, and of `--help`."""
    for file in sorted({file for glob in config.files for file in root.glob(glob)}):
        path = str(file.relative_to(root))
        if file.suffix == ".py":
            yield from of_python(path, file.read_text())
        elif file.suffix == ".md":
            yield from of_page(path, file.read_text())
        else:
            yield from of_comments(path, file.read_text())
    yield from of_help()


def check(found: Iterator[Passage] | Sequence[Passage], config: Config) -> list[Finding]:
    """Return what breaks a rule, in the order of the passages."""
    return [
        Finding(passage.path, passage.line + passage.text.count("\n", 0, at), rule, excerpt)
        for passage in found
        for rule in config.rules
        if passage.kind in rule.kinds and not config.is_exempt(passage.path, passage.kind)
        for at, excerpt in rule.offences(passage.text)
    ]


def main(prefixes: Sequence[str]) -> int:
    """Print the findings and return the exit code; `prefixes` restricts the paths that are reported."""
    config = load()
    findings = check(passages(config), config)
    shown = [each for each in findings if not prefixes or each.path.startswith(tuple(prefixes))]
    for finding in shown:
        print(finding)
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
