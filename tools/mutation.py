"""Mutants of Python source: single edits that change the behaviour of the code.

An edit replaces one span of the text, so a mutant differs from its source in one or two lines. The operators:

- comparison: `<` to `<=`, `==` to `!=`, `in` to `not in`, `is` to `is not`, and the reverse
- boolean: `and` to `or`, and the reverse
- negation: `not x` to `x`, and a bare condition `x` to `not x`
- off by one: an integer, `len()`, `sum()`, `int()` or `//` plus or minus one; 0 becomes 1 only
- dropped statement: a call, an await or an assignment becomes `pass`
- swapped arguments: two neighbouring positional arguments of a call

Excluded, because no test could detect the mutant or every test would:

- annotations, decorators, base classes, imports, `if TYPE_CHECKING`, `if __name__ == "__main__"`
- docstrings, f-strings, log calls, `assert`, `__all__` and `__slots__`
- the bodies of protocols, abstract methods and overloads
- dropping an assignment that introduces a name, or an attribute in `__init__` or `__post_init__`
- swapping the arguments of `min` and `max` (same result), or of `isinstance`, `getattr` and the like (always fails)
- swapping a `yield`, which needs parentheses
"""

import ast
import difflib
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest

FLIPPED = {"<": "<=", ">": ">=", "==": "!=", "in": "not in", "is": "is not", "and": "or"}
FLIPPED |= {new: old for old, new in FLIPPED.items()}
TOKEN = re.compile(r"#.*|\b(?:not\s+in|is\s+not|in|is|and|or)\b|[<>=!]=|[<>]")
WHOLE_NUMBERS = frozenset({"len", "sum", "int"})
COMMUTATIVE = frozenset({"min", "max"})
CANNOT_MOVE = (ast.Starred, ast.Yield, ast.YieldFrom)
ORDER_IS_FIXED = frozenset({"isinstance", "issubclass", "hasattr", "getattr", "setattr", "cast"})
INITIALISERS = frozenset({"__init__", "__post_init__"})
EXCLUDED = frozenset(
    {
        *("TYPE_CHECKING", "__name__", "Literal", "Protocol", "abstractmethod", "overload"),
        *("log", "logger", "logging", "warnings", "__all__", "__slots__"),
    }
)
"""Names that exclude the statement, class, function or subscript that contains them."""

Edit = tuple[int, int, str]
"""Start and end of a span in characters, and the replacement text."""

Assignment = (ast.Assign, ast.AugAssign, ast.AnnAssign)
Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Step = (ast.stmt, ast.ExceptHandler, ast.match_case)
Scope = (ast.Module, ast.ClassDef, *Function)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit of the module at `path` (relative to the checkout) with the source `text`."""

    path: str
    text: str
    operator: str
    edit: Edit

    @property
    def line(self) -> int:
        """The 1-based line on which the edit starts."""
        return self.text.count("\n", 0, self.edit[0]) + 1

    @property
    def mutated(self) -> str:
        """The source of the module after the edit."""
        start, end, new = self.edit
        return self.text[:start] + new + self.text[end:]

    def diff(self) -> str:
        """Return the edit as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.text, self.mutated))
        return "".join(difflib.unified_diff(before, after, self.path, self.path, n=2))

    def rank(self, seed: int) -> tuple[bytes, Edit]:
        """Return a sort key that is pseudo-random in `seed` and independent of other lines and modules."""
        start, end, new = self.edit
        first = self.text.rfind("\n", 0, start) + 1
        site = (seed, self.path, self.operator, self.text[first:end], start - first, new)
        return hashlib.sha256(repr(site).encode()).digest(), self.edit


def mutants(path: str, text: str) -> Iterator[Mutant]:
    """Yield all mutants of a module. Raises SyntaxError if `text` is not Python."""
    source = Source(text)
    for node in _reachable(source.tree):
        for operator, edits in OPERATORS.items():
            for edit in edits(source, node):
                yield Mutant(path, text, operator, edit)


def sample(candidates: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """Draw at most `count` mutants, one per site, cycling through the operators.

    `seed` determines the order of the sites of an operator. A larger `count` extends the list. Modules are drawn in
    proportion to their sites.
    """
    by_operator: defaultdict[str, dict[tuple[str, int], Mutant]] = defaultdict(dict)
    for mutant in sorted(candidates, key=lambda mutant: mutant.rank(seed)):
        by_operator[mutant.operator].setdefault((mutant.path, mutant.edit[0]), mutant)
    turns = zip_longest(*(by_operator[operator].values() for operator in OPERATORS))
    return list(islice((mutant for turn in turns for mutant in turn if mutant), count))


class Source:
    """Text and syntax tree of a module, and the positions of its nodes in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def code(self, node: ast.expr | ast.stmt) -> str:
        """Return the text of the node."""
        return ast.get_source_segment(self.text, node) or ""

    def start(self, node: ast.expr | ast.stmt) -> int:
        """Return the start of the node in characters; the parser counts columns in bytes."""
        before = self._lines[node.lineno - 1].encode()[: node.col_offset].decode()
        return self._starts[node.lineno - 1] + len(before)

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Return the end of the node in characters."""
        return self.start(node) + len(self.code(node))

    def flip(self, left: ast.expr, right: ast.expr) -> Edit:
        """Return the edit that flips the operator between two operands."""
        tokens = TOKEN.finditer(self.text, self.end(left), self.start(right))
        found = next(each for each in tokens if not each.group().startswith("#"))
        return *found.span(), FLIPPED[" ".join(found.group().split())]


def _comparison(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Compare):
        for left, right in pairwise([node.left, *node.comparators]):
            yield source.flip(left, right)


def _boolean(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.BoolOp):
        for left, right in pairwise(node.values):
            yield source.flip(left, right)


def _negation(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start = source.start(node)
        yield start, start + len("not") + source.text.startswith("not ", start), ""
    conditions: list[ast.expr] = node.ifs if isinstance(node, ast.comprehension) else []
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        conditions = [node.test]
    for condition in conditions:
        if isinstance(condition, ast.Name | ast.Attribute | ast.Subscript | ast.Call):
            yield source.start(condition), source.start(condition), "not "


def _off_by_one(source: Source, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield source.start(node), source.end(node), str(node.value + 1)
        if node.value:  # index 0 and index -1 may be the same item
            yield source.start(node), source.end(node), str(node.value - 1)
    elif isinstance(node, ast.BinOp | ast.Call) and _is_whole_number(node):
        for step in ("+ 1", "- 1"):
            yield source.start(node), source.end(node), f"({source.code(node)} {step})"


def _is_whole_number(node: ast.BinOp | ast.Call) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.FloorDiv)
    return _name(node.func) in WHOLE_NUMBERS and len(node.args) == 1


def _swapped_arguments(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, ast.Call) or _name(node.func) in COMMUTATIVE | ORDER_IS_FIXED:
        return
    for left, right in pairwise(node.args):
        is_fixed = isinstance(left, CANNOT_MOVE) or isinstance(right, CANNOT_MOVE)
        if not is_fixed and ast.dump(left) != ast.dump(right):
            gap = source.text[source.end(left) : source.start(right)]
            swapped = source.code(right) + gap + source.code(left)
            yield source.start(left), source.end(right), swapped


def _dropped_statement(source: Source, node: ast.AST) -> Iterator[Edit]:
    if not isinstance(node, Scope):
        return
    bound: set[str] = set()
    is_initialiser = False
    if isinstance(node, Function):
        bound = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        is_initialiser = node.name in INITIALISERS
    for statement in _without_new_names(node.body, bound):
        makes = any(isinstance(target, ast.Attribute) for target in _targets(statement))
        if not (is_initialiser and makes):
            yield source.start(statement), source.end(statement), "pass"


def _without_new_names(body: Sequence[ast.AST], bound: set[str]) -> Iterator[ast.stmt]:
    """Yield the calls, awaits and assignments of a scope that introduce no name.

    `bound` contains the names that are bound before `body`.
    """
    for statement in body:
        if _is_excluded(statement) or isinstance(statement, Scope):
            continue
        names = {target.id for target in _targets(statement) if isinstance(target, ast.Name)}
        is_call = isinstance(statement, ast.Expr) and isinstance(
            statement.value, ast.Call | ast.Await
        )
        is_assignment = isinstance(statement, Assignment) and statement.value and names <= bound
        if isinstance(statement, ast.stmt) and (is_call or is_assignment):
            yield statement
        bound = bound | names
        for _, field in ast.iter_fields(statement):
            block = field if isinstance(field, list) else []
            inner = [each for each in block if isinstance(each, Step)]
            yield from _without_new_names(inner, bound)


def _targets(node: ast.AST) -> list[ast.AST]:
    """Return the targets of a statement: names, attributes and items, including those in tuples."""
    targets: list[ast.expr | None] = []
    if isinstance(node, ast.Assign):
        targets = [*node.targets]
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        targets = [node.target]
    elif isinstance(node, ast.With | ast.AsyncWith):
        targets = [item.optional_vars for item in node.items]
    below = [each for target in targets if target for each in ast.walk(target)]
    return [each for each in below if isinstance(getattr(each, "ctx", None), ast.Store)]


def _reachable(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and its descendants that may be mutated."""
    if not _is_excluded(node):
        yield node
        for child in _children(node):
            yield from _reachable(child)


def _children(node: ast.AST) -> Iterable[ast.AST]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        defaults = [each for each in (*node.args.defaults, *node.args.kw_defaults) if each]
        return [*defaults, *(node.body if isinstance(node.body, list) else [node.body])]
    if isinstance(node, ast.ClassDef):
        return node.body
    if isinstance(node, ast.AnnAssign):
        return [node.value] if node.value else []
    return ast.iter_child_nodes(node)


def _is_excluded(node: ast.AST) -> bool:
    candidates: Iterable[ast.AST] = _targets(node)
    if isinstance(node, ast.If):
        candidates = ast.walk(node.test)
    elif isinstance(node, ast.ClassDef):
        candidates = node.bases
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        candidates = node.decorator_list
    elif isinstance(node, ast.Subscript):
        candidates = [node.value]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        candidates = ast.iter_child_nodes(node.value.func)
    is_diagnostic = isinstance(node, ast.JoinedStr | ast.Assert)
    return is_diagnostic or any(_name(candidate) in EXCLUDED for candidate in candidates)


def _name(node: ast.AST) -> str:
    """Return the last part of a dotted name without its subscript, or an empty string."""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


OPERATORS: Mapping[str, Callable[[Source, ast.AST], Iterator[Edit]]] = {
    "comparison": _comparison,
    "boolean": _boolean,
    "negation": _negation,
    "off by one": _off_by_one,
    "dropped statement": _dropped_statement,
    "swapped arguments": _swapped_arguments,
}
