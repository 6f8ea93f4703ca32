"""Program inside the two sandboxes of `service.sandbox`: the candidate process and the test process.

It runs from source text (`python -I -S -c SOURCE ROLE DESCRIPTOR LIMITS`) and imports nothing from secondpass. Tests never
share a process with the code under test: they call it through a socket that carries only plain data. Code that exits,
patches `assert`, `math` or `builtins`, or returns an object that compares equal to everything therefore cannot make a
test pass.

The candidate process reads {"code"} from stdin. The test process reads {"tests", "code", "entry_point"} and writes two
lines to stdout: {"started": true} and {"status": "passed" | "failed" | "error", "why": text}.
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

MAX_MESSAGE_BYTES = 16 * 2**20
"""Maximum bytes of one message from the candidate."""

MAX_ERROR_CHARACTERS = 400
"""Maximum characters of a reported error."""

CONTAINER_METHODS = (
    "__len__", "__iter__", "__next__", "__getitem__", "__setitem__", "__str__", "__repr__",
    "__enter__", "__exit__",
)  # fmt: skip
"""Methods that tests may call on remote objects; no comparisons, which the code could forge."""

Json = Any


class CandidateBroken(BaseException):
    """The candidate process violated the protocol. A BaseException, so that tests do not catch it."""


class NotSerializable(Exception):
    """A test passed an argument that is not plain data."""


def encoded(value: Any, other: Callable[[Any], Json]) -> Json:  # noqa: PLR0911 - one per kind
    """Encode `value` as JSON; subclasses as their base, `other` for anything but plain data."""
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


def decoded(document: Json, reference: Callable[[int], Any]) -> Any:  # noqa: PLR0911 - one per kind
    """Decode the output of `encoded`. `reference` returns the object with a given number."""
    if not isinstance(document, dict):
        return document
    ((kind, content),) = document.items()
    match kind:
        case "bytes":
            return base64.b64decode(content)
        case "complex":
            return complex(*content)
        case "fraction":
            return Fraction(content)
        case "decimal":
            return Decimal(content)
        case "dict":
            return {decoded(k, reference): decoded(v, reference) for k, v in content}
        case "ref":
            return reference(int(content))
    makers: dict[str, Callable[[Any], Any]] = {
        "list": list, "tuple": tuple, "set": set, "frozenset": frozenset,
    }  # fmt: skip
    return makers[kind](decoded(each, reference) for each in content)


# Candidate process


class ObjectTable:
    """Objects of the candidate that are not plain data, by number."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def encode(self, value: Any) -> Json:
        """Encode `value` as JSON, with object numbers for anything but plain data."""
        return encoded(value, self._keep)

    def decode(self, document: Json) -> Any:
        """Decode a document from the test process."""
        return decoded(document, self.kept.__getitem__)

    def _keep(self, value: Any) -> Json:
        self.kept.append(value)
        return {"ref": len(self.kept) - 1}


def serve_candidate(link: socket.socket, code: str) -> None:
    """Run the code, send its names, then serve requests of the test process until it disconnects."""
    objects = ObjectTable()
    scope: dict[str, Any] = {"__name__": "candidate"}
    stream = link.makefile("rwb")

    def send(document: Json) -> None:
        try:
            stream.write(json.dumps(document).encode() + b"\n")
            stream.flush()
        except OSError:
            os._exit(0)  # the test process has ended

    try:
        exec(compile(code, "candidate.py", "exec"), scope)  # noqa: S102 - the purpose of this process
        names = {k: objects.encode(v) for k, v in scope.items() if not k.startswith("__")}
    except BaseException as error:  # noqa: BLE001 - a candidate may raise anything
        send(_error_document(error))
        return
    send({"names": names})
    for line in stream:
        try:
            reply = _perform(objects, json.loads(line))
        except BaseException as error:  # noqa: BLE001
            reply = _error_document(error)
        send(reply)


def _perform(objects: ObjectTable, request: Json) -> Json:
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
        if method is None:  # list() and others expect this type of error
            raise TypeError(f"{type(target).__name__!r} object has no {request['name']}")
        value = method(target, *arguments)
    # A function may be expected to mutate its arguments.
    changed = [objects.encode(a) if isinstance(a, list | dict | set) else None for a in arguments]
    return {"value": objects.encode(value), "arguments": changed}


def _error_document(error: BaseException) -> Json:
    try:
        message = str(error)[:MAX_ERROR_CHARACTERS]
    except BaseException:  # noqa: BLE001 - a custom __str__ may raise anything
        message = ""
    return {"raised": [kind.__name__ for kind in type(error).__mro__], "message": message}


# Test process


class CandidateProcess:
    """Client of the candidate process, used by the tests."""

    def __init__(self, link: socket.socket) -> None:
        self._stream = link.makefile("rwb")

    def names(self) -> dict[str, Any]:
        """Return the names that the code defines. Raises any error that running the code raised."""
        reply = self._read()
        return {name: self.decode(document) for name, document in reply["names"].items()}

    def ask(self, do: str, reference: int, name: str = "", *given: Any, **named: Any) -> Any:
        """Perform an operation on a remote object and return its value. Remote errors are raised here."""
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
            raise CandidateBroken("the code ended its process") from error
        reply = self._read()
        for argument, changed in zip(given, reply.get("arguments", ()), strict=False):
            if changed is not None:
                _update(argument, self.decode(changed))
        return self.decode(reply["value"])

    def decode(self, document: Json) -> Any:
        """Decode a document from the candidate process."""
        return decoded(document, lambda number: RemoteObject(self, number))

    def _read(self) -> Json:
        try:
            line = self._stream.readline(MAX_MESSAGE_BYTES)
            if not line:
                raise CandidateBroken("the code ended its process")
            reply = json.loads(line)
        except (OSError, ValueError, RecursionError) as error:
            raise CandidateBroken("the code's process does not answer in order") from error
        if "raised" in reply:
            raise _rebuilt_error(reply["raised"], reply["message"])
        return reply


class RemoteObject:
    """Proxy of a candidate object, with calls, attributes and container methods."""

    def __init__(self, candidate: CandidateProcess, number: int) -> None:
        self.__dict__["_candidate"], self.__dict__["_number"] = candidate, number

    def __getattr__(self, name: str) -> Any:
        return self._candidate.ask("get", self._number, name)

    def __bool__(self) -> bool:
        return self._candidate.ask("truth", self._number) is True

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._candidate.ask("call", self._number, "", *given, **named)


def _forwarded(method: str) -> Callable[..., Any]:
    def forward(self: RemoteObject, *given: Any) -> Any:
        return self._candidate.ask("method", self._number, method, *given)

    return forward


for _method in CONTAINER_METHODS:
    setattr(RemoteObject, _method, _forwarded(_method))


def _reference_of(value: Any) -> Json:
    if isinstance(value, RemoteObject):
        return {"ref": value._number}  # noqa: SLF001 - a public name could shadow one of the object
    raise NotSerializable(f"test arguments must be plain data, got {type(value).__name__}")


def _update(argument: Any, changed: Any) -> None:
    if argument == changed:
        return
    if isinstance(argument, list):
        argument[:] = changed
    elif isinstance(argument, dict | set):
        argument.clear()
        argument.update(changed)


def _rebuilt_error(names: list[str], message: str) -> BaseException:
    """Rebuild a candidate's exception from its class names, as a subclass of the first builtin among them."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                error: Exception = type(names[0], (kind,), {})(message)
            except TypeError:
                break
            return error
    if "Exception" in names:
        return Exception(f"{names[0]}: {message}")
    return CandidateBroken(names[0])


def _imports(code: str) -> str:
    """Return the top-level standard library imports of the code, which its tests may rely on."""
    kept: list[ast.stmt] = []
    for statement in ast.parse(code).body:
        match statement:
            case ast.Import(names=names):
                modules = [name.name for name in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        if all(module.split(".")[0] in sys.stdlib_module_names for module in modules):
            kept.append(statement)
    return ast.unparse(ast.Module(kept, []))


def run_tests(link: socket.socket, job: Json) -> tuple[str, str]:
    """Run the tests in `job` against the candidate at the other end of `link`; return status and reason."""
    try:
        tree = ast.parse(job["tests"])
        tests = compile(tree, "tests.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "error", f"the tests are not valid Python: {error}"
    entry = job["entry_point"]
    if entry is None and _has_uncalled_check(tree):
        return "error", "the tests define check but never call it: end them with check(NAME)"
    try:
        scope = {"__name__": "tests"} | CandidateProcess(link).names()
        if entry is not None and not isinstance(scope.get(entry), RemoteObject):
            return "failed", f"the code does not define {entry}"
        tested = scope.get(entry)
        exec(_imports(job["code"]), scope)  # noqa: S102 - standard library imports only
        if entry is not None:
            scope[entry] = tested
        exec(tests, scope)  # noqa: S102 - the purpose of this process
        _call_tests(scope, tested)
    except NotSerializable as error:
        return "error", str(error)
    except BaseException as error:  # noqa: BLE001 - a test may raise anything
        return "failed", _failure_text(error, job["tests"])
    return "passed", ""


def _has_uncalled_check(tests: ast.Module) -> bool:
    """Return whether the tests define a HumanEval-style `check` without calling it."""
    defined = {each.name for each in tests.body if isinstance(each, ast.FunctionDef)}
    used = {each.id for each in ast.walk(tests) if isinstance(each, ast.Name)}
    return "check" in defined - used


def _call_tests(scope: dict[str, Any], tested: Any) -> None:
    """Call a HumanEval-style `check(candidate)` and all functions named test_... ."""
    functions = {
        name: value for name, value in scope.items() if isinstance(value, types.FunctionType)
    }
    if tested is not None and "check" in functions:
        functions["check"](tested)
    for name, function in functions.items():
        if name.startswith("test_"):
            function()


def _failure_text(error: BaseException, tests: str) -> str:
    if isinstance(error, CandidateBroken):
        return str(error)
    message = "".join(traceback.format_exception_only(error)).strip()[-MAX_ERROR_CHARACTERS:]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "tests.py"]
    lines = tests.splitlines()
    if frames and (number := frames[-1].lineno) and number <= len(lines):
        return f"{message} (line {number} of the tests: {lines[number - 1].strip()[:MAX_ERROR_CHARACTERS]})"
    return message


# Both processes


def confine(limits: Json) -> None:
    """Apply the resource limits, then drop the user permanently."""
    sys.set_int_max_str_digits(0)
    for name, soft in limits["resources"].items():
        # SIGXCPU at the soft limit identifies the cause; the hard limit stops code that ignores the signal.
        hard = soft + 1 if name == "RLIMIT_CPU" else soft
        resource.setrlimit(getattr(resource, name), (soft, hard))
    user = limits["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def main(role: str, descriptor: str, limits: str) -> NoReturn:
    """Run the process of `role`, then exit without running atexit handlers of the candidate."""
    confine(json.loads(limits))
    link = socket.socket(fileno=int(descriptor))
    job = json.loads(sys.stdin.buffer.read())
    if role == "candidate":
        serve_candidate(link, job["code"])
    else:
        verdicts = os.fdopen(os.dup(1), "w")
        for stream in (1, 2):  # discard the output of the tests
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        print(json.dumps({"started": True}), file=verdicts, flush=True)
        status, why = run_tests(link, job)
        print(json.dumps({"status": status, "why": why}), file=verdicts, flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
