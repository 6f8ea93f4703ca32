"""Client of the candidate process: proxies of its objects, and its errors, for use by the tests."""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from .wire import (
    MAX_ERROR_CHARACTERS,
    MAX_MESSAGE_BYTES,
    MAX_PRINTED_CHARACTERS,
    Json,
    decoded,
    encoded,
    update,
)

FORWARDED = (
    "__len__", "__iter__", "__next__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__reversed__",
    "__str__", "__repr__", "__format__", "__hash__", "__enter__", "__exit__",
    "__aiter__", "__anext__", "__aenter__", "__aexit__",
)  # fmt: skip
"""Methods that tests may call on all remote objects."""

OPERATORS = (
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__floordiv__",
    "__rfloordiv__", "__mod__", "__rmod__", "__pow__", "__rpow__", "__matmul__", "__and__", "__or__", "__xor__",
    "__lshift__", "__rshift__", "__neg__", "__pos__", "__abs__", "__invert__", "__round__",
)  # fmt: skip
"""Methods of classes that the tests name. Their results must be objects: a number could be forged."""

COMPARISONS = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
"""Methods that compare two objects of a class that the tests name."""

CONVERSIONS = ("__int__", "__float__", "__index__", "__complex__")
"""Methods that are never called: their results could be forged."""

_PREDICATES = frozenset(
    name
    for kind in (str, set, float)
    for name in dir(kind)
    if re.match("is|startswith|endswith", name)
)
"""Methods of builtin classes whose result is true or false.

An object of another class could return true for each.
"""

STANDARD_ERRORS = frozenset({
    "asyncio.exceptions", "binascii", "configparser", "copy", "csv", "_csv", "dataclasses", "decimal", "graphlib", "json.decoder",
    "queue", "_queue", "re", "re._constants", "statistics", "struct", "subprocess", "uuid", "zlib", "zoneinfo._common",
    "email.errors", "fractions", "string", "tomllib", "xml.etree.ElementTree", "xml.parsers.expat",
})  # fmt: skip
"""Standard modules whose exception classes the tests share.

Classes that control a test run, such as SkipTest, are not shared.
"""

_VALUE_TYPES = frozenset({
    "dict_keys", "dict_items", "mappingproxy", "ChainMap", "UserDict", "UserList", "UserString", "SimpleNamespace", "memoryview",
})  # fmt: skip
"""Standard classes that are not plain data and equal objects of other classes."""


_UNREADABLE = "the code's process does not answer in order"


class CandidateBroken(BaseException):
    """The candidate process violated the protocol. A BaseException, so that tests do not catch it."""


class NotSerializable(Exception):
    """A test passed an argument that is not plain data, or compared an object that cannot be compared."""


class CandidateProcess:
    """Client of the candidate process.

    Attributes:
        comparable: Names of the classes whose operators and comparisons tests may use.
        on_call: Called before the first request.
        calls: Number of requests.
        broken: The violation of the protocol, if any; tests may have caught it.
        misuse: The first use of the code that the socket cannot transport, if any.
    """

    def __init__(
        self,
        link: socket.socket,
        on_call: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = link.makefile("rwb")
        self._lock = threading.RLock()  # tests may use threads
        self._objects: dict[int, RemoteObject] = {}
        self._own_objects = 0
        self._errors: dict[tuple[str, ...], type[Exception]] = {}
        self.comparable: Collection[str] = ()
        self.on_call = on_call
        self.calls = 0
        self.broken: CandidateBroken | None = None
        self.misuse: NotSerializable | None = None

    def names(self) -> dict[str, Any]:
        """Return the names that the code defines. Raises any error that running the code raised."""
        names = self._interpreted(self._read(), self._decoded_names)
        self._own_objects = len(self._objects)
        return dict(names)

    def _decoded_names(self, reply: Json) -> dict[str, Any]:
        return {name: self.decode(document) for name, document in reply["names"].items()}

    @property
    def has_results(self) -> bool:
        """True if calls returned objects that are not plain data."""
        return len(self._objects) > self._own_objects

    def ask(self, do: str, reference: int, name: str = "", *given: Any, **named: Any) -> Any:
        """Perform an operation on a remote object and return its value. Remote errors are raised here."""
        request = {
            "do": do,
            "ref": reference,
            "name": name,
            "arguments": encoded(list(given), self._reference_of),
            "named": encoded(named, self._reference_of),
        }
        try:
            with self._lock:
                reply = self._exchange(request)
        except (StopIteration, StopAsyncIteration) as error:
            if name in ("__next__", "__anext__") or do == "await":
                raise
            why = f"the code raises {type(error).__name__}, which ends iterations of the tests"
            raise self.misused(why) from error
        if do == "method" and reply.get("unsupported"):
            return NotImplemented
        return self._interpreted(reply, lambda reply: self._value(reply, given))

    def _value(self, reply: Json, given: tuple[Any, ...]) -> Any:
        for argument, changed in zip(given, reply.get("arguments", ()), strict=False):
            if changed is not None:
                update(argument, self.decode(changed))
        return self.decode(reply["value"])

    def _interpreted(self, reply: Json, read: Callable[[Json], Any]) -> Any:
        """Return what `read` finds in a reply. A reply that it cannot read violates the protocol."""
        try:
            return read(reply)
        except RecursionError as error:
            raise self.misused("a result of the code is nested too deeply") from error
        except Exception as error:
            raise self._broken(_UNREADABLE) from error

    def _exchange(self, request: Json) -> Json:
        if not self.calls:
            self.on_call()
        self.calls += 1
        try:
            self._stream.write(json.dumps(request).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise self._broken("the code ended its process") from error
        return self._read()

    def decode(self, document: Json) -> Any:
        """Decode a document from the candidate process."""
        return decoded(document, self._find)

    def misused(self, why: str) -> NotSerializable:
        """Record a use that the socket cannot transport, and return its error."""
        error = NotSerializable(why)
        self.misuse = self.misuse or error
        return error

    def _broken(self, why: str) -> CandidateBroken:
        error = CandidateBroken(why)
        self.broken = self.broken or error
        return error

    def _find(self, kind: str, content: Json) -> Any:
        if kind == "error_class":
            return self._error_class(tuple(content)) or CandidateBroken
        if kind == "coroutine":
            return self._coroutine(content)
        number, class_name, is_own = content
        if number not in self._objects:
            self._objects[number] = RemoteObject(self, number, str(class_name), is_own is True)
        return self._objects[number]

    async def _coroutine(self, number: int) -> Any:
        return self.ask("await", number)

    def _reference_of(self, value: Any) -> Json:
        if isinstance(value, RemoteObject):
            return {"ref": value.__dict__["_number"]}
        for names, kind in self._errors.items():
            if value is kind:
                return {"error_class": list(names)}
        raise self.misused(f"test arguments must be plain data, got {type(value).__name__}")

    def _read(self) -> Json:
        try:
            line = self._stream.readline(MAX_MESSAGE_BYTES)
            if not line:
                raise self._broken("the code ended its process")
            reply = json.loads(line)
        except (OSError, ValueError, RecursionError) as error:
            raise self._broken(_UNREADABLE) from error
        if not isinstance(reply, dict) or not isinstance(reply.get("printed", ""), str):
            raise self._broken(_UNREADABLE)
        sys.stdout.write(reply.get("printed", "")[:MAX_PRINTED_CHARACTERS])  # tests may capture it
        if "raised" in reply:
            raise self._interpreted(reply, self._rebuilt_error)
        return reply

    def _rebuilt_error(self, reply: Json) -> BaseException:
        """Rebuild a candidate's exception from its class names, as a subclass of the first builtin among them."""
        names, message = reply["raised"], reply["message"]
        kind = self._error_class(tuple(names))
        if kind is None:
            return self._broken(names[0].rpartition(".")[2])
        given = self.decode(reply["given"])
        try:
            error = kind(*given)
        except TypeError:
            error = kind.__new__(kind)
            error.args = given
        own = {k: self.decode(v) for k, v in reply["own"].items() if not k.startswith("__")}
        error.__dict__.update(own, _message=str(message)[:MAX_ERROR_CHARACTERS])
        return error

    def _error_class(self, names: tuple[str, ...]) -> type[Exception] | None:
        """Return the local class of an exception class, given as its name and those of its bases.

        None for a class that does not derive from Exception.
        """
        module, _, name = names[0].rpartition(".") if names else ("", "", "")
        is_standard = module in STANDARD_ERRORS
        known = getattr(importlib.import_module(module) if is_standard else builtins, name, None)
        if isinstance(known, type) and issubclass(known, Exception):
            return known
        if "Exception" not in names:
            return None
        if names not in self._errors:
            base = self._error_class(names[1:]) or Exception
            own = {"__str__": _message_of, "__init__": Exception.__init__}
            self._errors[names] = type(name, (base,), own)
        return self._errors[names]


def _message_of(error: Exception) -> str:
    message = error.__dict__.get("_message")
    return message if isinstance(message, str) else Exception.__str__(error)


class RemoteObject:
    """Proxy of a candidate object, with calls, attributes and container methods."""

    def __init__(
        self, candidate: CandidateProcess, number: int, class_name: str, is_own: bool
    ) -> None:
        self.__dict__.update(
            _candidate=candidate, _number=number, _class_name=class_name, _is_own=is_own
        )

    def __getattr__(self, name: str) -> Any:
        if name in _PREDICATES and not _is_of_named_class(self):
            class_name = self.__dict__["_class_name"]
            raise self._candidate.misused(f"the tests do not name the class {class_name}")
        return self._candidate.ask("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._candidate.ask("set", self._number, name, value)

    def __bool__(self) -> bool:
        return self._candidate.ask("truth", self._number) is True

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._candidate.ask("call", self._number, "", *given, **named)

    def __instancecheck__(self, instance: Any) -> bool:
        try:
            return self._candidate.ask("instance", self._number, "", instance) is True
        except NotSerializable:
            return False

    def __subclasscheck__(self, other: Any) -> bool:
        return self._candidate.ask("subclass", self._number, "", other) is True

    def __mro_entries__(self, _: Any) -> Any:
        raise self._candidate.misused("a class of the tests derives from a class of the code")

    def __reduce_ex__(self, _: Any) -> Any:
        raise self._candidate.misused("the tests copy an object of the code")


def _is_of_named_class(value: RemoteObject) -> bool:
    """Return whether the tests name the class of an object: it may claim the name of a function."""
    class_name: str = value.__dict__["_class_name"]
    candidate: CandidateProcess = value.__dict__["_candidate"]
    return class_name in candidate.comparable and not class_name[:1].islower()


def _forwarded(method: str) -> Callable[..., Any]:
    def forward(self: RemoteObject, *given: Any) -> Any:
        if method in ("__exit__", "__aexit__") and given and isinstance(given[1], AssertionError):
            given = (None, None, None)  # the code may not suppress a failure
            return _without_value(
                lambda: self._candidate.ask("method", self._number, method, *given)
            )
        own = self.__dict__
        if method == "__contains__" and not _is_of_named_class(self):
            if own["_is_own"]:
                raise self._candidate.misused(
                    f"the tests do not name the class {own['_class_name']}"
                )
            return any(each is given[0] or each == given[0] for each in iter(self))
        return self._candidate.ask("method", self._number, method, *given)

    return forward


def _without_value(leave: Callable[[], Any]) -> Any:
    """Leave a context of the code, whose result and errors may not replace a failure."""

    async def wait(result: Any) -> None:
        with suppress(Exception):
            await result

    with suppress(Exception):
        result = leave()
        return wait(result) if inspect.isawaitable(result) else None
    return None


def _operated(method: str) -> Callable[..., Any]:
    def operate(self: RemoteObject, *given: Any) -> Any:
        own = self.__dict__
        candidate: CandidateProcess = own["_candidate"]
        if own["_class_name"] not in candidate.comparable:
            if own["_is_own"]:
                raise candidate.misused(f"the tests do not name the class {own['_class_name']}")
            return NotImplemented
        value = candidate.ask("method", own["_number"], method, *given)
        if value is NotImplemented or isinstance(value, RemoteObject):
            return value
        raise candidate.misused(f"{method} of {own['_class_name']} returns no object of the code")

    return operate


def _compared(method: str) -> Callable[[RemoteObject, Any], Any]:
    def compare(self: RemoteObject, other: Any) -> Any:
        own = self.__dict__
        candidate: CandidateProcess = own["_candidate"]
        if method in ("__eq__", "__ne__") and (self is other or other is None):
            return (self is other) == (method == "__eq__")
        is_named = own["_class_name"] in candidate.comparable
        if isinstance(other, RemoteObject) and (is_named or not own["_is_own"]):
            return candidate.ask("method", own["_number"], method, other) if is_named else False
        is_similar = type(other).__name__ == own["_class_name"]
        is_similar |= own["_class_name"] in _VALUE_TYPES and not own["_is_own"]
        if isinstance(other, RemoteObject) or is_named or is_similar:
            kind = type(other).__name__
            raise candidate.misused(f"objects of {own['_class_name']} are compared with {kind}")
        return NotImplemented

    return compare


def _unconverted(self: RemoteObject, *_: Any) -> Any:
    candidate: CandidateProcess = self.__dict__["_candidate"]
    if self.__dict__["_is_own"]:
        raise candidate.misused("the tests convert an object of the code to a number")
    raise TypeError(f"{self.__dict__['_class_name']} is not a number")


def _attribute(name: str) -> property:
    return property(lambda self: self._candidate.ask("get", self._number, name))


for _method in ("__doc__", "__annotations__", "__module__"):
    setattr(RemoteObject, _method, _attribute(_method))
for _method in FORWARDED:
    setattr(RemoteObject, _method, _forwarded(_method))
for _method in OPERATORS:
    setattr(RemoteObject, _method, _operated(_method))
for _method in COMPARISONS:
    setattr(RemoteObject, _method, _compared(_method))
for _method in CONVERSIONS:
    setattr(RemoteObject, _method, _unconverted)
