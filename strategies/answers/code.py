"""Extraction of answers that are source code.

The code is the last block that defines something. Output, shell commands and usage are never the code. Blocks are ranked
by regular expressions, because hostile input may exhaust a parser; only blocks that are joined are parsed.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Sequence
from enum import IntEnum

from secondpass.strategies.answers.fences import MarkdownSegment, segments
from secondpass.strategies.answers.markers import conclusion

MAX_PARSED_CHARACTERS = 10_000
"""Most characters of the last block and those joined with it. Blocks beyond them are not parsed."""

MAX_JOINED_BLOCKS = 16
"""Blocks before the last one that may be joined with it."""

_PYTHON = frozenset({"", "python", "python3", "py", "py3", "ipython", "ipython3"})
_NO_PROGRAM = frozenset({
    "text", "txt", "plain", "plaintext", "output", "out", "stdout", "stderr", "result",
    "console", "log", "terminal", "bash", "sh", "shell", "zsh", "fish", "shell-session",
    "shellsession", "sh-session", "cmd", "bat", "batch", "powershell", "ps1", "json", "jsonl",
    "json5", "csv", "tsv", "diff", "patch", "pycon", "markdown", "md", "mermaid", "ini", "math",
    "latex", "tex",
})  # fmt: skip
"""Languages of output, shell commands and data."""

_KNOWN = _PYTHON | _NO_PROGRAM

_DEFINITION = re.compile(
    r"^(?:(?:async[ \t]{1,4})?def[ \t]{1,4}(\w{1,200})[ \t]{0,4}[(\[]|class[ \t]{1,4}(\w{1,200})[ \t]{0,4}[(:\[]"
    r"|(\w{1,200})[ \t]{0,4}(?::[^=\n]{1,200})?=[ \t]{0,4}lambda\b)",
    re.MULTILINE,
)
_ASSIGNMENT = re.compile(
    r"^[ \t]{0,40}[A-Za-z_][\w.,* \t]{0,200}(?:\[[^]\n]{0,200}\])?[ \t]{0,4}(?::[^=\n]{1,200})?[-+*/%&|^]{0,2}=(?!=)",
    re.MULTILINE,
)
_STATEMENT = re.compile(
    r"^[ \t]{0,40}(?:import|from|for|while|if|with|try|print|return|raise|assert|del)\b[^\n]{0,200}[\w)\]:'\"]",
    re.MULTILINE,
)
_PROMPT = re.compile(r"\s{0,100}(?:>>>|In \[\d{1,5}\]:|\$ |% |C:\\)")
_TEST = re.compile(
    r"test|main$|example|demo|usage|(?:check|verify|bench|benchmark|run_tests?|run_all_tests|run_checks)$|\w{1,200}Tests?(?:Case)?$",
    re.IGNORECASE,
)
_IMPORTED_CODE = re.compile(
    r"^(?:from|import)[ \t]{1,4}(?:solutions?|answer|main|module|(?:your|my)_?(?:module|code|solution|file|script))\b",
    re.MULTILINE,
)
_MAGIC = re.compile(r"^(?:%{1,2}[A-Za-z][^\n]*|![A-Za-z./][^\n]*)\n?", re.MULTILINE)
_STUB_LINE = re.compile(
    r"[ \t]{0,40}(?:$|\#|(?:\.\.\.|pass|raise[ \t]{1,4}NotImplementedError\b[^\n]*)[ \t]*(?:\#|$)|(?:@|import\b|from\b)"
    r"|(?:async[ \t]{1,4})?def\b[^\n]{0,500}:[ \t]*(?:\.\.\.|pass)?[ \t]*(?:\#|$))"
)
_DOCSTRING = re.compile(r"^[ \t]{1,40}[rR]?(\"\"\"|\'\'\')(?:(?!\1)[\s\S])*\1[ \t]*$", re.MULTILINE)
_INDENTED_CODE = re.compile(r"^( {4}|\t)(?=(?:async |def |class |import |from |@\w))", re.MULTILINE)
_CODE_START = re.compile(
    r"^(?:(?:async[ \t]{1,4})?def[ \t]|class[ \t]{1,4}\w{1,200}[ \t]{0,4}[(:\[]|@\w|import[ \t]{1,4}\w"
    r"|from[ \t]{1,4}[\w.]{1,200}[ \t]{1,4}import\b|\w{1,200}[ \t]{0,4}=[ \t]{0,4}lambda\b)",
    re.MULTILINE,
)
_CODE_LINE = re.compile(
    r"""[ \t]|$|[#@)\]}"']
      | (?:(?:async[ \t]{1,4})?def|class)[ \t]{1,4}\w{1,200}[ \t]{0,4}[(:\[]
      | (?:import|del|global|assert|raise)[ \t]{1,4}\w
      | from[ \t]{1,4}[\w.]{1,200}[ \t]{1,4}import\b
      | (?:if|elif|for|while|with|try|except|finally|else|match)\b[^\n]{0,500}:[ \t]{0,40}(?:\#|$)
      | (?:print)[ \t]{0,4}\(
      | [A-Za-z_][\w.]{0,200}(?:\[[^]\n]{0,200}\])?[ \t]{0,4}
        (?:\(|[-+*/%&|^]{0,2}=(?!=)|:[ \t]{0,4}[\w.\[\], |"']{1,200}=)
    """,
    re.VERBOSE | re.MULTILINE,
)


class Rank(IntEnum):
    """Rank of a segment: the last one of the highest rank is the code."""

    NONE = 0
    SCRIPT = 1
    ASSIGNMENTS = 2
    STUBS = 3
    TESTS = 4
    UNFENCED = 5
    DEFINITIONS = 6


def extract(text: str, *, finished: bool = True) -> str | None:
    """Return the code of a completion, or None.

    It is the last block that defines a function or class other than tests, else the last one that assigns a variable.
    Earlier blocks are put before it if they define names that it needs. Without Python the last block of another
    programming language is the code, and without blocks a finished reply as a whole.

    Args:
        text: Text of the completion.
        finished: False for a truncated completion, of which only closed blocks count.
    """
    tail = conclusion(text)
    if tail is None:
        return None
    found = list(segments(tail))
    is_fenced = len(found) > 1
    if not finished:
        found = [each for each in found if each.language is not None and each.is_closed]
    ranks = [_rank(each) for each in found]
    best = max(ranks, default=Rank.NONE)
    if best is Rank.NONE:
        others = [each.text for each in found if _is_other_language(each)]
        if others:
            return others[-1]
        return tail.strip("\n") if finished and not is_fenced else None
    last = len(ranks) - 1 - ranks[::-1].index(best)
    if best is Rank.UNFENCED:
        return _unfenced_code(found[last].text)
    return _joined([each.text for each in found[:last] if _is_python(each)], found[last].text)


def normalise(answer: str) -> str:
    """Return the code without trailing white space on its lines, stripped."""
    return "\n".join(line.rstrip() for line in answer.strip().splitlines())


def _is_python(segment: MarkdownSegment) -> bool:
    return segment.language in _PYTHON and not _PROMPT.match(segment.text)


def _is_other_language(segment: MarkdownSegment) -> bool:
    return bool(segment.text) and segment.language is not None and segment.language not in _KNOWN


def _rank(segment: MarkdownSegment) -> Rank:
    if segment.language is None:
        is_code = _unfenced_code(segment.text)
        return Rank.UNFENCED if is_code else Rank.NONE
    if not segment.text.strip() or not _is_python(segment):
        return Rank.NONE
    names = [next(filter(None, found.groups())) for found in _DEFINITION.finditer(segment.text)]
    if names:
        if all(map(_TEST.match, names)) or _IMPORTED_CODE.search(segment.text):
            return Rank.TESTS
        return Rank.STUBS if _is_stub(segment.text) else Rank.DEFINITIONS
    if _ASSIGNMENT.search(segment.text):
        return Rank.ASSIGNMENTS
    is_script = segment.language or _STATEMENT.search(segment.text)
    return Rank.SCRIPT if is_script else Rank.NONE


def _is_stub(code: str) -> bool:
    """Return whether a block contains functions without bodies only."""
    return all(map(_STUB_LINE.match, _DOCSTRING.sub("", code).split("\n")))


def _unfenced_code(text: str) -> str:
    """Return the code in a text without fences: from its first definition to the next line of prose."""
    start = _CODE_START.search(text)
    if start is None and (indented := _INDENTED_CODE.search(text)):
        lines = text[indented.start() :].split("\n")
        block = itertools.takewhile(lambda line: not line.strip() or line[0] in " \t", lines)
        text = textwrap.dedent("\n".join(block))
        start = _CODE_START.search(text)
    if start is None or not _DEFINITION.search(text, start.start()):
        return ""
    kept: list[str] = []
    for line in text[start.start() :].split("\n"):
        if not _CODE_LINE.match(line):
            break
        kept.append(line)
    code = "\n".join(kept).strip("\n")
    return code if _DEFINITION.search(code) else ""


def _joined(earlier: Sequence[str], code: str) -> str:
    """Return the code after those earlier blocks, newest first, that define names it needs."""
    code = _without_magics(code)
    scope = _names(code) if earlier else None
    if scope is None:
        return code
    defined, used = scope
    parts = [code]
    left = MAX_PARSED_CHARACTERS - len(code)
    for text in map(_without_magics, reversed(earlier[-MAX_JOINED_BLOCKS:])):
        if (left := left - len(text)) < 0:
            break
        missing = used - defined
        other = _names(text)
        if other is None or other[0] & defined:
            continue
        if other[0] & missing or (other[1] & defined and _has_only_functions(text)):
            parts.insert(0, text)
            defined |= other[0]
            used |= other[1]
    return "\n\n".join(parts)


def _without_magics(code: str) -> str:
    """Return the code without the commands of a notebook, unless it is Python with them."""
    if _MAGIC.search(code) is None or _names(code) is not None:
        return code
    return _MAGIC.sub("", code)


def _has_only_functions(code: str) -> bool:
    """Return whether a program only imports and defines functions, and so may precede what it calls."""
    return all(
        isinstance(each, ast.Import | ast.ImportFrom)
        or (isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and not each.decorator_list)
        for each in ast.parse(code).body
    )


def _names(code: str) -> tuple[set[str], set[str]] | None:
    """Return the names that the top level of a program defines, and those that the program reads."""
    if len(code) > MAX_PARSED_CHARACTERS:
        return None
    try:
        tree = ast.parse(code)
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    local = {each.arg for each in nodes if isinstance(each, ast.arg)}
    used = {e.id for e in nodes if isinstance(e, ast.Name) and isinstance(e.ctx, ast.Load)}
    return set().union(*map(_defined, tree.body)), used - local


def _defined(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {(each.asname or each.name).split(".")[0] for each in names}
        case _:
            stored = (e for e in ast.walk(statement) if isinstance(e, ast.Name))
            return {each.id for each in stored if isinstance(each.ctx, ast.Store)}
