"""Edits of a checkout: the files of a new strategy, and the two files that list strategies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from secondpass.service.cli.common.failure import FAILED, REFUSED, Failure

IMPORTS = "strategies/__init__.py"
TABLE = "docs/strategies/README.md"

_NEEDED = (IMPORTS, "strategies/prompts", TABLE)
_IMPORT = "import secondpass.strategies."
_HEADER = re.compile(r"\|\s*(?:name|strategy)\s*\|")


class Checkout:
    """The checkout in a folder. Raises Failure if the folder lacks a file that the command needs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        if missing := [each for each in _NEEDED if not (root / each).exists()]:
            where = "the current folder" if root == Path() else str(root)
            raise Failure(
                f"--root: {where} is not a checkout of secondpass: it lacks {', '.join(missing)}",
                REFUSED,
            )

    def add(self, name: str, files: Mapping[str, str], cells: Mapping[str, str]) -> list[str]:
        """Create the files, import the module and list the strategy; return a line for each file.

        `files` maps paths in the checkout to texts, `cells` a word of a heading of the table to the strategy's cell. Raises
        Failure if a path or the name is taken or a file cannot be written; the checkout is then as it was.
        """
        taken = [each for each in (*files, f"strategies/{name}") if (self._root / each).exists()]
        imports = with_import(self._read(IMPORTS), name)
        table = with_row(self._read(TABLE), name, cells)
        if imports is None or table is None or taken:
            taken += [path for path, text in ((IMPORTS, imports), (TABLE, table)) if text is None]
            raise Failure(f"NAME: {name!r} is taken: {', '.join(taken)}", REFUSED)
        self._write(files, {IMPORTS: imports, TABLE: table})
        return [*(f"created {path}" for path in files), f"changed {IMPORTS}", f"changed {TABLE}"]

    def _read(self, path: str) -> str:
        return (self._root / path).read_text(encoding="utf-8")

    def _write(self, created: Mapping[str, str], changed: Mapping[str, str]) -> None:
        """Write all files, or none."""
        before = {self._root / path: (self._root / path).read_bytes() for path in changed}
        done: list[Path] = []
        try:
            for path, text in {**created, **changed}.items():
                with (self._root / path).open("w" if path in changed else "x", encoding="utf-8") as file:  # fmt: skip
                    done.append(self._root / path)
                    file.write(text)
        except BaseException as error:
            for written in done:
                if written in before:
                    written.write_bytes(before[written])
                else:
                    written.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise Failure(f"{error}; nothing was written", FAILED) from error
            raise


def with_import(source: str, name: str) -> str | None:
    """Return the source with an import of strategy `name` in isort's order; None if it has one.

    Raises Failure if the source imports no strategy.
    """
    lines = source.splitlines(keepends=True)
    modules = {
        at: line.removeprefix(_IMPORT).strip()
        for at, line in enumerate(lines)
        if line.startswith(_IMPORT)
    }
    if not modules:
        raise Failure(f"{IMPORTS}: no line begins with {_IMPORT!r}", REFUSED)
    if name in modules.values():
        return None
    later = [at for at, module in modules.items() if _isort_key(module) > _isort_key(name)]
    lines.insert(min(later, default=max(modules) + 1), f"{_IMPORT}{name}\n")
    return "".join(lines)


def _isort_key(module: str) -> list[tuple[bool, int, str]]:
    """Natural order: digits sort as one number, before any other character."""
    parts = re.findall(r"\d+|\D", module)
    return [(False, int(each), "") if each.isdigit() else (True, 0, each) for each in parts]


def with_row(page: str, name: str, cells: Mapping[str, str]) -> str | None:
    """Return the page with a row at the end of its table of strategies; None if it has one.

    Raises Failure if the page has no such table.
    """
    lines = page.splitlines(keepends=True)
    start = next((at for at, line in enumerate(lines) if _HEADER.match(line)), None)
    if start is None:
        raise Failure(f"{TABLE}: no table whose first column is 'name' or 'strategy'", REFUSED)
    end = start
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    if any(f"]({name}.md)" in line for line in lines[start:end]):
        return None
    headings = lines[start].strip().strip("|").split("|")
    found = (next((cells[word] for word in cells if word in each), "") for each in headings)
    row = "".join(f"| {cell} " if cell else "| " for cell in found)
    lines[end - 1] = lines[end - 1].rstrip("\n") + "\n"
    lines.insert(end, f"{row}|\n")
    return "".join(lines)
