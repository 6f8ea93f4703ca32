"""Candidate process: runs the code under test and serves calls from the test process."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import socket
import sys
import types
from collections import deque
from typing import Any

from .wire import (
    MAX_ERROR_CHARACTERS,
    MAX_PRINTED_CHARACTERS,
    Json,
    decoded,
    encoded,
    typing_names,
)

_MUTABLE = (list, dict, set, deque, bytearray)


class ObjectTable:
    """Objects of the candidate that are not plain data, by number. An object keeps its number."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._runner: Any = None

    def encode(self, value: Any) -> Json:
        """Encode `value` as JSON, with object numbers for anything but plain data."""
        return encoded(value, self._keep)

    def decode(self, document: Json) -> Any:
        """Decode a document from the test process."""
        return decoded(document, self._find)

    def run(self, awaitable: Any) -> Any:
        """Run an awaitable in the event loop of all calls."""
        if self._runner is None:
            self._runner = importlib.import_module(
                "asyncio"
            ).Runner()  # its import doubles the start
        return self._runner.run(_awaited(awaitable))

    def _find(self, kind: str, content: Json) -> Any:
        if kind == "error_class":
            return next(e for e in self.kept if _class_names(e) == content)
        return self.kept[content]

    def _keep(self, value: Any) -> Json:
        number = self._numbers.setdefault(id(value), len(self.kept))
        if number == len(self.kept):
            self.kept.append(value)
        if names := _class_names(value):
            return {"error_class": names}
        is_own = type(value).__module__ == "candidate"
        if inspect.isawaitable(value) and not is_own:
            return {"coroutine": number}
        return {"ref": [number, type(value).__name__, is_own]}


class _Copy(io.TextIOBase):
    """Standard output whose text is also sent to the tests."""

    def __init__(self, output: Any) -> None:
        self._output = output
        self.text = ""

    def write(self, text: str) -> int:
        self.text = (self.text + text)[:MAX_PRINTED_CHARACTERS]
        return int(self._output.write(text))

    def flush(self) -> None:
        self._output.flush()


def serve_candidate(link: socket.socket, code: str) -> None:
    """Run the code, send its names, then serve requests of the test process until it disconnects."""
    objects = ObjectTable()
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module  # dataclasses look it up
    stream = link.makefile("rwb")
    copy = sys.stdout = _Copy(sys.stdout)

    def send(document: Json) -> None:
        try:
            stream.write(json.dumps(document).encode() + b"\n")
            stream.flush()
        except OSError:
            os._exit(0)  # the test process has ended

    given = typing_names(code)  # judges of programming contests import them
    vars(module).update(given)
    try:
        exec(compile(code, "candidate.py", "exec", dont_inherit=True), vars(module))  # noqa: S102 - the purpose of this process
        own = {k: v for k, v in vars(module).items() if k not in given or v is not given[k]}
        names = {k: objects.encode(v) for k, v in own.items() if not k.startswith("__")}
    except BaseException as error:  # noqa: BLE001 - a candidate may raise anything
        send(_error_document(objects, error))
        return
    send({"names": names})
    while line := _line(stream):
        copy.text = ""
        try:
            reply = _perform(objects, json.loads(line))
        except BaseException as error:  # noqa: BLE001
            reply = _error_document(objects, error)
        send({**reply, "printed": copy.text})


def _line(stream: Any) -> bytes:
    """Return the next request; b"" if the test process has ended."""
    try:
        line: bytes = stream.readline()
    except OSError:
        return b""
    return line


def _perform(objects: ObjectTable, request: Json) -> Json:
    value: Any
    target = objects.kept[request["ref"]]
    arguments = objects.decode(request["arguments"])
    match request["do"]:
        case "get":
            value = getattr(target, request["name"])
        case "set":
            setattr(target, request["name"], *arguments)
            value = None
        case "truth":
            value = bool(target)
        case "instance":
            value = isinstance(arguments[0], target)
        case "subclass":
            value = issubclass(arguments[0], target)
        case "await":
            value = objects.run(target)
        case "call":
            value = target(*arguments, **objects.decode(request["named"]))
        case _:
            value = _method_result(target, request["name"], arguments)
            if value is NotImplemented:
                return {"unsupported": True}
    # A function may be expected to mutate its arguments.
    changed = [objects.encode(a) if isinstance(a, _MUTABLE) else None for a in arguments]
    return {"value": objects.encode(value), "arguments": changed}


async def _awaited(target: Any) -> Any:
    return await target


def _method_result(target: Any, name: str, arguments: list[Any]) -> Any:
    """Call a special method as the operator does, with its fallbacks; NotImplemented if there is none."""
    if name == "__iter__":
        return iter(target)
    if name == "__contains__":
        return arguments[0] in target
    if name == "__reversed__":
        return reversed(target)
    method = getattr(type(target), name, None)
    if method is None and arguments and name not in ("__getitem__", "__setitem__", "__delitem__"):
        return NotImplemented
    if method is None:  # list() and others expect this type of error
        raise TypeError(f"{type(target).__name__!r} object has no {name}")
    return method(target, *arguments)


def _class_names(value: Any) -> list[str] | None:
    """Return the names of an exception class and its bases; None for anything else and for builtin ones."""
    if not (isinstance(value, type) and issubclass(value, BaseException)):
        return None
    return list(map(_qualified_name, value.__mro__))


def _qualified_name(kind: type) -> str:
    is_local = kind.__module__ in ("builtins", "candidate")
    return kind.__name__ if is_local else f"{kind.__module__}.{kind.__name__}"


def _error_document(objects: ObjectTable, error: BaseException) -> Json:
    try:
        message = str(error)[:MAX_ERROR_CHARACTERS]
    except BaseException:  # noqa: BLE001 - a custom __str__ may raise anything
        message = ""
    try:
        own = {k: objects.encode(v) for k, v in vars(error).items() if not k.startswith("__")}
        arguments = objects.encode(error.args)
    except BaseException:  # noqa: BLE001
        own, arguments = {}, {"tuple": []}
    return {
        "raised": list(map(_qualified_name, type(error).__mro__)),
        "message": message,
        "given": arguments,
        "own": own,
    }
