"""What runs inside the two sandboxes of `service.sandbox`: the candidate's process and the tests' process.

Run as text (`python -I -S -c SOURCE ROLE DESCRIPTOR LIMITS`), so it imports nothing of secondpass. The tests never share
a process with the code that they test: they call it through a socket, over which nothing but plain data travels.
So code that ends its process, patches `assert`, `math` or `builtins`, or returns an object that says it equals
everything, cannot make a test pass: only the right data can.

The candidate's job on stdin is {"code"}; the tests' {"tests", "code", "entry_point"}, and they answer on stdout with the
lines {"started": true} and {"status": "passed" | "failed" | "error", "why": text}.
"""

from __future__ import annotations

import ast
import base64
import builtins
import json
import os
import resource
import socket
import sys
import traceback
import types
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

LONGEST_LINE = 16 * 2**20
"""Bytes of one message; a candidate that says more is broken."""

TEXT = 400
"""Characters of an error that are told."""

CONTAINER_METHODS = (
    "__len__", "__iter__", "__next__", "__getitem__", "__setitem__", "__str__", "__repr__",
    "__enter__", "__exit__",
)  # fmt: skip
"""What a test may do to an object that is no plain data. No comparison: the candidate would be its own judge."""

Json = Any


class Broken(BaseException):
    """The candidate's process does not answer as it should; no `except Exception` of a test holds this up."""


class Unsendable(Exception):
    """A test hands the candidate something that is no plain data."""


def encoded(value: Any, other: Callable[[Any], Json]) -> Json:  # noqa: PLR0911 - one a kind
    """`value` as JSON; `other` decides about what is no plain data. A subclass is sent as what it extends."""
    match value:
        case None | bool() | str():
            return value if value is None or isinstance(value, bool) else str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes() | bytearray():
            return {"bytes": base64.b64encode(value).decode()}
        case complex():
            return {"complex": [value.real, value.imag]}
        case Fraction() | Decimal():
            return {type(value).__name__.lower(): str(value)}
        case list() | tuple() | set() | frozenset():
            kind = next(k for k in (list, tuple, set, frozenset) if isinstance(value, k))
            return {kind.__name__: [encoded(each, other) for each in value]}
        case dict():
            return {"dict": [[encoded(k, other), encoded(v, other)] for k, v in value.items()]}
        case _:
            return other(value)


def decoded(document: Json, reference: Callable[[int], Any]) -> Any:  # noqa: PLR0911 - one a kind
    """The value that `encoded` made a document of; `reference` gives the object of a number."""
    if not isinstance(document, dict):
        return document
    ((kind, told),) = document.items()
    match kind:
        case "bytes":
            return base64.b64decode(told)
        case "complex":
            return complex(*told)
        case "fraction":
            return Fraction(told)
        case "decimal":
            return Decimal(told)
        case "dict":
            return {decoded(k, reference): decoded(v, reference) for k, v in told}
        case "ref":
            return reference(int(told))
    makers: dict[str, Callable[[Any], Any]] = {
        "list": list, "tuple": tuple, "set": set, "frozenset": frozenset,
    }  # fmt: skip
    return makers[kind](decoded(each, reference) for each in told)


# The candidate's side


class Objects:
    """The candidate's objects that are no plain data, by number."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def encode(self, value: Any) -> Json:
        """`value` as JSON, with a number for what is no plain data."""
        return encoded(value, self._keep)

    def decode(self, document: Json) -> Any:
        """The value of a document that the tests sent."""
        return decoded(document, self.kept.__getitem__)

    def _keep(self, value: Any) -> Json:
        self.kept.append(value)
        return {"ref": len(self.kept) - 1}


def serve_candidate(link: socket.socket, code: str) -> None:
    """Run the code, tell its names, then do as the tests ask until they hang up."""
    objects = Objects()
    scope: dict[str, Any] = {"__name__": "candidate"}
    stream = link.makefile("rwb")

    def say(document: Json) -> None:
        try:
            stream.write(json.dumps(document).encode() + b"\n")
            stream.flush()
        except OSError:
            os._exit(0)  # the tests are over

    try:
        exec(compile(code, "candidate.py", "exec"), scope)  # noqa: S102 - what this process is for
        names = {k: objects.encode(v) for k, v in scope.items() if not k.startswith("__")}
    except BaseException as error:  # noqa: BLE001 - a candidate may raise anything
        say(_raised(error))
        return
    say({"names": names})
    for line in stream:
        try:
            reply = _done(objects, json.loads(line))
        except BaseException as error:  # noqa: BLE001
            reply = _raised(error)
        say(reply)


def _done(objects: Objects, request: Json) -> Json:
    target = objects.kept[request["ref"]]
    if request["do"] == "get":
        return {"value": objects.encode(getattr(target, request["name"]))}
    if request["do"] == "truth":
        return {"value": bool(target)}
    arguments = objects.decode(request["arguments"])
    if request["do"] == "call":
        value = target(*arguments, **objects.decode(request["named"]))
    else:
        method = getattr(type(target), request["name"], None)
        if method is None:  # Python's own word for it; list() and others count on it
            raise TypeError(f"{type(target).__name__!r} object has no {request['name']}")
        value = method(target, *arguments)
    # A function may be meant to change its arguments.
    changed = [objects.encode(a) if isinstance(a, list | dict | set) else None for a in arguments]
    return {"value": objects.encode(value), "arguments": changed}


def _raised(error: BaseException) -> Json:
    try:
        says = str(error)[:TEXT]
    except BaseException:  # noqa: BLE001 - its own __str__
        says = ""
    return {"raised": [kind.__name__ for kind in type(error).__mro__], "says": says}


# The tests' side


class CandidateProcess:
    """The other process, as the tests reach it."""

    def __init__(self, link: socket.socket) -> None:
        self._stream = link.makefile("rwb")

    def names(self) -> dict[str, Any]:
        """What the code defines. Raises whatever running it raised."""
        told = self._read()
        return {name: self.decode(document) for name, document in told["names"].items()}

    def ask(self, do: str, reference: int, name: str = "", *given: Any, **named: Any) -> Any:
        """Do something to an object over there; what that raises is raised here."""
        request = {
            "do": do,
            "ref": reference,
            "name": name,
            "arguments": encoded(list(given), _reference_of),
            "named": encoded(named, _reference_of),
        }
        try:
            self._stream.write(json.dumps(request).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise Broken("the code ended its process") from error
        reply = self._read()
        for mine, changed in zip(given, reply.get("arguments", ()), strict=False):
            if changed is not None:
                _refill(mine, self.decode(changed))
        return self.decode(reply["value"])

    def decode(self, document: Json) -> Any:
        """The value of a document that the candidate sent."""
        return decoded(document, lambda number: Remote(self, number))

    def _read(self) -> Json:
        try:
            line = self._stream.readline(LONGEST_LINE)
            if not line:
                raise Broken("the code ended its process")
            reply = json.loads(line)
        except (OSError, ValueError, RecursionError) as error:
            raise Broken("the code's process does not answer in order") from error
        if "raised" in reply:
            raise _rebuilt(reply["raised"], reply["says"])
        return reply


class Remote:
    """An object of the candidate: it can be called, and asked for attributes and items."""

    def __init__(self, candidate: CandidateProcess, number: int) -> None:
        self.__dict__["_candidate"], self.__dict__["_number"] = candidate, number

    def __getattr__(self, name: str) -> Any:
        return self._candidate.ask("get", self._number, name)

    def __bool__(self) -> bool:
        return self._candidate.ask("truth", self._number) is True

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._candidate.ask("call", self._number, "", *given, **named)


def _forwarded(method: str) -> Callable[..., Any]:
    def forward(self: Remote, *given: Any) -> Any:
        return self._candidate.ask("method", self._number, method, *given)

    return forward


for _method in CONTAINER_METHODS:
    setattr(Remote, _method, _forwarded(_method))


def _reference_of(value: Any) -> Json:
    if isinstance(value, Remote):
        return {"ref": value._number}  # noqa: SLF001 - any public name would hide one of the object's own
    raise Unsendable(f"a test hands over a {type(value).__name__}, and only plain data can be")


def _refill(mine: Any, now: Any) -> None:
    if mine == now:
        return
    if isinstance(mine, list):
        mine[:] = now
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(now)


def _rebuilt(names: list[str], says: str) -> BaseException:
    """The exception that a candidate raised, by its name where that is a builtin's."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                error: Exception = type(names[0], (kind,), {})(says)
            except TypeError:
                break
            return error
    return Exception(f"{names[0]}: {says}") if "Exception" in names else Broken(names[0])


def _imports(code: str) -> str:
    """The imports of the standard library at the top of the code: its tests may count on them."""
    found: list[ast.stmt] = []
    for statement in ast.parse(code).body:
        match statement:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        if all(module.split(".")[0] in sys.stdlib_module_names for module in modules):
            found.append(statement)
    return ast.unparse(ast.Module(found, []))


def run_tests(link: socket.socket, job: Json) -> tuple[str, str]:
    """Status and reason of the tests in `job`, run against the candidate at the other end of `link`."""
    try:
        tree = ast.parse(job["tests"])
        tests = compile(tree, "tests.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "error", f"the tests are no Python: {error}"
    entry = job["entry_point"]
    if entry is None and _leaves_check(tree):
        return "error", "the tests define check and never call it: end them with check(NAME)"
    try:
        scope = {"__name__": "tests"} | CandidateProcess(link).names()
        if entry is not None and not isinstance(scope.get(entry), Remote):
            return "failed", f"the code does not define {entry}"
        tested = scope.get(entry)
        exec(_imports(job["code"]), scope)  # noqa: S102 - only imports of the standard library
        if entry is not None:
            scope[entry] = tested
        exec(tests, scope)  # noqa: S102 - what this process is for
        _call_tests(scope, tested)
    except Unsendable as error:
        return "error", str(error)
    except BaseException as error:  # noqa: BLE001 - whatever ends a test but its own end
        return "failed", _told(error, job["tests"])
    return "passed", ""


def _leaves_check(tests: ast.Module) -> bool:
    """Do the tests define `check` as HumanEval's do, and leave it to somebody else to call it?"""
    defined = {each.name for each in tests.body if isinstance(each, ast.FunctionDef)}
    used = {each.id for each in ast.walk(tests) if isinstance(each, ast.Name)}
    return "check" in defined - used


def _call_tests(scope: dict[str, Any], tested: Any) -> None:
    """Call `check(candidate)` as HumanEval's tests have it, and functions named test_... ."""
    own = {name: value for name, value in scope.items() if isinstance(value, types.FunctionType)}
    if tested is not None and "check" in own:
        own["check"](tested)
    for name, function in own.items():
        if name.startswith("test_"):
            function()


def _told(error: BaseException, tests: str) -> str:
    if isinstance(error, Broken):
        return str(error)
    said = "".join(traceback.format_exception_only(error)).strip()[-TEXT:]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "tests.py"]
    lines = tests.splitlines()
    if frames and (number := frames[-1].lineno) and number <= len(lines):
        return f"{said} (line {number} of the tests: {lines[number - 1].strip()[:TEXT]})"
    return said


# Both


def confine(limits: Json) -> None:
    """Give up what this process may still do, for good: its user, then its resources."""
    sys.set_int_max_str_digits(0)
    for name, most in limits["resources"].items():
        # At the soft limit of CPU time a signal tells what happened; the hard one is for code that ignores it.
        hard = most + 1 if name == "RLIMIT_CPU" else most
        resource.setrlimit(getattr(resource, name), (most, hard))
    user = limits["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def main(role: str, descriptor: str, limits: str) -> NoReturn:
    """Play the role until it is over; leaves without running what a candidate may have left behind."""
    confine(json.loads(limits))
    link = socket.socket(fileno=int(descriptor))
    job = json.loads(sys.stdin.buffer.read())
    if role == "candidate":
        serve_candidate(link, job["code"])
    else:
        verdicts = os.fdopen(os.dup(1), "w")
        for stream in (1, 2):  # a test's own prints
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        print(json.dumps({"started": True}), file=verdicts, flush=True)
        status, why = run_tests(link, job)
        print(json.dumps({"status": status, "why": why}), file=verdicts, flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
