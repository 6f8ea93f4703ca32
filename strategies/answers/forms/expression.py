r"""Parser of formulas into trees, from LaTeX or plain notation.

A tree is a list: ["num", "3/4"], ["sym", "x"], ["const", "pi"], ["+", a, b], ["*", a, b], ["/", a, b], ["^", a, b],
["-", a], ["!", a] or [function, arguments...]. Trees are plain data: they are sent to the processes that compare them.

Letters multiply only in math mode, or where all are among `FACTORS`. Other runs of letters are one symbol.
"""

from __future__ import annotations

import re
from typing import Final

from secondpass.strategies.answers.forms.folding import TEXT_MARK
from secondpass.strategies.answers.forms.symbols import (
    CONSTANTS,
    FACTORS,
    FUNCTION_ALIASES,
    FUNCTIONS,
    GREEK,
    INFINITY,
    Tree,
    symbol_run,
)

MAX_DEPTH: Final = 40
MAX_NODES: Final = 400
MAX_TREE_DEPTH: Final = 120

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_SCIENTIFIC = re.compile(r"[eE](-?\d{1,6}|\+\d{2,6})(?![\w.])", re.ASCII)
_REPEATING = re.compile(
    r"(\d*+)\.(\d*+)(?:\\(?:overline|bar)\s?(?:\{(\d+)\}|(\d))|\((\d+)\))", re.ASCII
)
_MIXED = re.compile(
    r"(\d++)(?: ++(\d++)/(\d++)(?![\w.!^])|\s*+\\frac\s?(?:\{(\d+)\}|(\d))\s?(?:\{(\d+)\}|(\d)))",
    re.ASCII,
)
_LETTERS = re.compile(TEXT_MARK + "?([A-Za-z]+)")
_COMMAND = re.compile(r"\\([A-Za-z]+)\*?")
_SUBSCRIPT = re.compile(r"\s?_\s?(?:\{([A-Za-z0-9+\-, ]{1,12})\}|([A-Za-z0-9]))")
_ACCENTED = re.compile(r"\{([A-Za-z]{1,3})\}|([A-Za-z])")
_RELATED = re.compile(r"'+")
_OPEN = {"(": ")", "[": "]", "{": "}"}


class Unreadable(Exception):
    """A text is not a formula of this grammar."""


def parse(text: str, *, math_mode: bool, plus_minus: int = 1) -> Tree:
    r"""Return the tree of a folded formula. Raises Unreadable.

    `math_mode` is as in `symbol_run`; `plus_minus` (1 or -1) is the sign read for \pm.
    """
    parser = _Parser(text, math_mode=math_mode, plus_minus=plus_minus)
    tree = parser.sum(0)
    if parser.peek() or _is_deep(tree):
        raise Unreadable(text)
    return tree


def _is_deep(tree: Tree) -> bool:
    """Return whether a tree is too deep for the functions that recurse over it."""
    level = [tree]
    for _ in range(MAX_TREE_DEPTH):
        level = [each for parent in level for each in parent if isinstance(each, list)]
        if not level:
            return False
    return True


class _Parser:
    """Recursive descent over one text; every method returns the tree at the current position."""

    def __init__(self, text: str, *, math_mode: bool, plus_minus: int) -> None:
        self.text = text
        self.at = 0
        self.math_mode = math_mode
        self.plus_minus = plus_minus
        self.nodes = 0
        self.bars = 0

    def peek(self) -> str:
        """Skip spaces and return the next character, empty at the end."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def skip(self, token: str) -> bool:
        if self.text.startswith(token, self.at) and not (
            token[0] == "\\"
            and self.text[self.at + len(token) : self.at + len(token) + 1].isalpha()
        ):
            self.at += len(token)
            return True
        return False

    def count(self, depth: int) -> None:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise Unreadable(self.text)

    def sum(self, depth: int) -> Tree:
        self.count(depth)
        tree = self.product(depth + 1)
        while sign := self.sign():
            right = self.product(depth + 1)
            tree = ["+", tree, right if sign > 0 else ["-", right]]
        return tree

    def sign(self) -> int:
        self.peek()
        if self.skip("+"):
            return 1
        if self.skip("-"):
            return -1
        if self.skip("\\pm"):
            return self.plus_minus
        return -self.plus_minus if self.skip("\\mp") else 0

    def product(self, depth: int) -> Tree:
        tree = self.signed(depth + 1)
        while True:
            following = self.peek()
            if self.skip("*") or self.skip("\\cdot") or self.skip("\\times"):
                tree = ["*", tree, self.signed(depth + 1)]
            elif self.skip("/") or self.skip("\\div"):
                tree = ["/", tree, self.signed(depth + 1)]
            elif following and self.is_factor(following):
                if following.isdigit() and self.text[self.at - 1].isdigit():
                    raise Unreadable(self.text)
                if following == "." or (following.isdigit() and self.is_after_number()):
                    raise Unreadable(self.text)
                tree = ["*", tree, self.power(depth + 1)]
            else:
                return tree

    def is_factor(self, following: str) -> bool:
        if following == "|":
            return not self.bars
        if following == "\\":
            return not re.match(
                r"\\(?:pm|mp|\}|\\|cup|cap|le|ge|ne|in|ldots|approx|equiv|to|choose|rfloor|rceil)(?![A-Za-z])",
                self.text[self.at : self.at + 10],
            )
        return following.isalnum() or following in "([{." or following == TEXT_MARK

    def is_after_number(self) -> bool:
        before = self.text[: self.at].rstrip()
        return before[-1:].isdigit() and before != self.text[: self.at]

    def signed(self, depth: int) -> Tree:
        self.count(depth)
        sign = self.sign()
        if sign:
            tree = self.signed(depth + 1)
            return tree if sign > 0 else ["-", tree]
        return self.power(depth + 1)

    def power(self, depth: int) -> Tree:
        tree = self.postfix(depth)
        self.peek()
        if self.skip("^"):
            exponent = self.exponent(depth + 1)
            tree = ["^", tree, exponent]
            self.peek()
            while self.skip("!"):
                tree = ["!", tree]
        return tree

    def exponent(self, depth: int) -> Tree:
        """Read the exponent after "^": of letters that multiply only the first, as in LaTeX."""
        following = _LETTERS.match(self.text, self.at)
        if following and len(following[1]) > 1 and self.multiplies(following):
            self.at = following.start(1) + 1
            return symbol_run(following[1][0], multiplies=True)
        return self.signed(depth)

    def multiplies(self, run: re.Match[str]) -> bool:
        """Return whether the letters of a run are factors; those before "^" always are."""
        letters = run[1]
        if run[0].startswith(TEXT_MARK) or letters in CONSTANTS:
            return False
        if FUNCTION_ALIASES.get(letters, letters) in FUNCTIONS:
            return False
        is_base = len(letters) <= 3 and self.text[run.end() : run.end() + 1] == "^"
        return self.math_mode or is_base or FACTORS.issuperset(letters)

    def postfix(self, depth: int) -> Tree:
        tree = self.primary(depth + 1)
        while True:
            self.peek()
            if self.skip("!!"):
                tree = ["!!", tree]
            elif self.skip("!"):
                tree = ["!", tree]
            elif self.skip("\\circ") or self.skip("\\degree"):
                tree = ["*", tree, ["/", ["const", "pi"], ["num", "180"]]]
            elif self.skip("\\%"):
                raise Unreadable(self.text)
            else:
                return tree

    def primary(self, depth: int) -> Tree:
        self.count(depth)
        following = self.peek()
        if not following:
            raise Unreadable(self.text)
        if following.isdigit() or following == ".":
            return self.number()
        if following in _OPEN or self.text.startswith("\\{", self.at):
            return self.group(depth)
        if following == "|":
            self.at += 1
            self.bars += 1
            inside = self.sum(depth + 1)
            self.bars -= 1
            self.expect("|")
            return ["abs", inside]
        if following == "\\":
            return self.command(depth)
        if match := self.take(_LETTERS):
            return self.word(match, depth)
        raise Unreadable(self.text)

    def number(self) -> Tree:
        if match := self.take(_REPEATING):
            whole, fixed, repeated = match[1] or "0", match[2], match[match.lastindex or 0]
            nines = "9" * len(repeated) + "0" * len(fixed)
            tail = ["/", ["num", repeated], ["num", nines]]
            return ["+", ["num", f"{whole}.{fixed or 0}"], tail]
        if match := self.take(_MIXED):
            whole, *parts = match.groups()
            over, under = filter(None, parts)
            return ["+", ["num", whole], ["/", ["num", over], ["num", under]]]
        match = self.take(_NUMBER)
        if match is None:
            raise Unreadable(self.text)
        digits = match[0].rstrip(".")
        if not self.math_mode and (exponent := self.take(_SCIENTIFIC)):
            return ["*", ["num", digits], ["^", ["num", "10"], ["num", exponent[1].lstrip("+")]]]
        if self.text[self.at : self.at + 1] == "_":
            raise Unreadable(self.text)
        return ["num", digits]

    def group(self, depth: int) -> Tree:
        opening = self.text[self.at]
        if opening == "\\":
            raise Unreadable(self.text)
        self.at += 1
        outer, self.bars = self.bars, 0
        if opening == "{" and (chosen := self.choose(depth)):
            self.bars = outer
            return chosen
        tree = self.sum(depth + 1)
        self.expect(_OPEN[opening])
        self.bars = outer
        return tree

    def choose(self, depth: int) -> Tree | None:
        r"""Read {n \choose k}, whose brace is already read."""
        if not re.match(r"[^{}]{1,40}\\choose(?![A-Za-z])", self.text[self.at : self.at + 60]):
            return None
        upper = self.sum(depth + 1)
        self.peek()
        if not self.skip("\\choose"):
            raise Unreadable(self.text)
        lower = self.sum(depth + 1)
        self.expect("}")
        return ["binom", upper, lower]

    def expect(self, token: str) -> None:
        self.peek()
        if not self.skip(token):
            raise Unreadable(self.text)

    def command(self, depth: int) -> Tree:
        match = self.take(_COMMAND)
        if match is None:
            raise Unreadable(self.text)
        name = FUNCTION_ALIASES.get(match[1], match[1])
        if name in ("frac", "binom"):
            upper = self.argument(depth)
            return ["/" if name == "frac" else "binom", upper, self.argument(depth)]
        if name == "sqrt":
            return self.root(depth)
        if name in ("lfloor", "lceil"):
            inside = self.sum(depth + 1)
            self.expect("\\r" + name[1:])
            return ["floor" if name == "lfloor" else "ceil", inside]
        if name in FUNCTIONS:
            return self.function(name, depth)
        return self.subscripted(name) if name in GREEK else self.constant(name)

    def constant(self, name: str) -> Tree:
        """Read a constant, or a letter with an accent as one symbol."""
        if name == "pi" or name in INFINITY:
            return symbol_run(name, multiplies=False)
        self.peek()
        inside = self.take(_ACCENTED) if name in ("overline", "vec", "hat", "bar") else None
        if inside is None:
            raise Unreadable(self.text)
        return ["sym", f"{name} {inside[1] or inside[2]}"]

    def argument(self, depth: int) -> Tree:
        r"""Read the argument of \frac: a group, or one digit, letter or command."""
        following = self.peek()
        if following == "{":
            self.at += 1
            outer, self.bars = self.bars, 0
            tree = self.sum(depth + 1)
            self.expect("}")
            self.bars = outer
            return tree
        if following.isdigit():
            self.at += 1
            return ["num", following]
        if following.isalpha():
            self.at += 1
            return symbol_run(following, multiplies=True)
        return self.primary(depth + 1)

    def root(self, depth: int) -> Tree:
        has_space = self.text[self.at : self.at + 1] == " "
        if self.peek() == "[":
            self.at += 1
            index = self.sum(depth + 1)
            self.expect("]")
            return ["root", self.argument(depth), index]
        if (
            has_space and self.peek().isdigit()
        ):  # the sign for roots folds to "\\sqrt ", before all digits
            return ["sqrt", self.number()]
        return ["sqrt", self.argument(depth)]

    def function(self, name: str, depth: int) -> Tree:
        self.peek()
        base = None
        if name == "log" and self.skip("_"):
            base = self.argument(depth)
        power = self.argument(depth) if self.peek() == "^" and self.skip("^") else None
        if power is not None and power[0] == "-":
            if power[1] != ["num", "1"] or name not in ("sin", "cos", "tan"):
                raise Unreadable(self.text)
            name, power = f"arc{name}", None
        if self.peek() in ("(", "{", "["):
            inside = self.group(depth)
        else:
            inside = self.power(depth + 1)
            while (following := self.peek()) and (following.isalnum() or following == "\\"):
                if following == "\\" and not self.text.startswith("\\pi", self.at):
                    break
                if self.take(re.compile(r"(?=(?:sin|cos|tan|log|ln)\b)")):
                    break
                inside = ["*", inside, self.power(depth + 1)]
        tree = [name, inside] if base is None else [name, inside, base]
        return tree if power is None else ["^", tree, power]

    def word(self, match: re.Match[str], depth: int) -> Tree:
        letters = match[1]
        is_text = match[0].startswith(TEXT_MARK)
        name = FUNCTION_ALIASES.get(letters, letters)
        if name in FUNCTIONS and not (is_text and self.peek() not in tuple("([{\\")):
            return self.function(name, depth)
        if letters in ("f", "g", "h") and self.text[self.at : self.at + 1] == "(":
            raise Unreadable(self.text)
        if len(letters) == 1:
            return self.subscripted(letters)
        if not self.multiplies(match):
            return symbol_run(letters, multiplies=False)
        self.at = match.end() - 1  # a power belongs to the last letter only
        return ["*", symbol_run(letters[:-1], multiplies=True), self.power(depth + 1)]

    def subscripted(self, name: str) -> Tree:
        subscript = self.take(_SUBSCRIPT)
        if self.take(_RELATED):
            raise Unreadable(self.text)
        if subscript is None:
            return symbol_run(name, multiplies=False)
        return ["sym", f"{name}_{(subscript[1] or subscript[2]).replace(' ', '')}"]
