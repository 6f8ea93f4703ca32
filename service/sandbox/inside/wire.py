"""Encoding of plain data between the candidate process and the test process.

Nothing that the candidate sends is executed: decoding creates values of a few builtin and standard types only.
"""

from __future__ import annotations

import base64
import builtins
import importlib
import re
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_MESSAGE_BYTES = 16 * 2**20
"""Maximum bytes of one message from the candidate."""

MAX_ERROR_CHARACTERS = 400
"""Maximum characters of a reported error."""

MAX_PRINTED_CHARACTERS = 2**16
"""Maximum characters of the output of one call that are sent to the tests."""

Json = Any

TYPING_NAMES = frozenset({
    "Any", "Callable", "DefaultDict", "Deque", "Dict", "FrozenSet", "Iterable", "Iterator", "List", "Optional", "Sequence", "Set",
    "Tuple", "Type", "Union",
})  # fmt: skip
"""Names of `typing` that programs use in annotations without an import."""

_FACTORIES = (int, float, str, list, dict, set, tuple, bool)
"""Default factories of a defaultdict that are sent with it."""

_TEXT_FORMS: dict[str, tuple[str, str]] = {
    "datetime.datetime": ("isoformat", "fromisoformat"),
    "datetime.date": ("isoformat", "fromisoformat"),
    "datetime.time": ("isoformat", "fromisoformat"),
    "uuid.UUID": ("__str__", ""),
    "pathlib.Path": ("__str__", ""),
    "pathlib.PosixPath": ("__str__", ""),
}
"""Methods of standard classes that write and read them as text; "" for the class itself."""


def encoded(value: Any, other: Callable[[Any], Json]) -> Json:  # noqa: C901, PLR0911 - one per kind
    """Encode `value` as JSON; subclasses as their base, `other` for anything but plain data."""
    match value:
        case None | bool() | str():
            return value if value is None or isinstance(value, bool) else str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes() | bytearray():
            kind = "bytes" if isinstance(value, bytes) else "bytearray"
            return {kind: base64.b64encode(value).decode()}
        case complex():
            return {"complex": [value.real, value.imag]}
        case Fraction() | Decimal():
            return {type(value).__name__.lower(): str(value)}
        case tuple() if isinstance(getattr(type(value), "_fields", None), tuple):
            fields = [str(each) for each in type(value)._fields]  # type: ignore[attr-defined]
            return {"named": [type(value).__name__, fields, [encoded(e, other) for e in value]]}
        case list() | tuple() | set() | frozenset() | deque():
            kinds = (list, tuple, set, frozenset, deque)
            kind = next(k.__name__ for k in kinds if isinstance(value, k))
            return {kind: [encoded(each, other) for each in value]}
        case dict():
            items = [[encoded(k, other), encoded(v, other)] for k, v in value.items()]
            made = (
                getattr(value, "default_factory", None) if isinstance(value, defaultdict) else None
            )
            if made in _FACTORIES:
                return {"defaultdict": [made.__name__, items]}
            mappings: tuple[type, ...] = (OrderedDict, Counter, dict)
            return {next(k.__name__ for k in mappings if type(value) is k or k is dict): items}
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case _:
            standard = _encoded_standard(value)
            return other(value) if standard is None else standard


def _encoded_standard(value: Any) -> Json:
    if isinstance(value, type):
        is_builtin = vars(builtins).get(value.__name__) is value
        return {"type": value.__name__} if is_builtin else None
    name = f"{type(value).__module__}.{type(value).__name__}"
    if name == "datetime.timedelta":
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if name in _TEXT_FORMS:
        return {"standard": [name, getattr(value, _TEXT_FORMS[name][0])()]}
    return None


def decoded(document: Json, reference: Callable[[str, Json], Any]) -> Any:  # noqa: C901, PLR0911 - one per kind
    """Decode the output of `encoded`. `reference` returns the object for any other kind and its content."""
    if not isinstance(document, dict):
        return document
    ((kind, content),) = document.items()
    match kind:
        case "bytes":
            return base64.b64decode(content)
        case "bytearray":
            return bytearray(base64.b64decode(content))
        case "complex":
            return complex(*content)
        case "fraction":
            numerator, _, denominator = content.partition("/")  # no exponent, which may be huge
            return Fraction(int(numerator), int(denominator or 1))
        case "decimal":
            return Decimal(content)
        case "dict" | "OrderedDict" | "Counter":
            made = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}[kind]
            return made({decoded(k, reference): decoded(v, reference) for k, v in content})
        case "defaultdict":
            name, items = content
            factory = next(each for each in _FACTORIES if each.__name__ == name)
            return defaultdict(factory, decoded({"dict": items}, reference))
        case "range":
            return range(*content)
        case "list" | "tuple" | "set" | "frozenset" | "deque":
            maker: Callable[[Any], Any] = {
                "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque,
            }[kind]  # fmt: skip
            return maker(decoded(each, reference) for each in content)
        case "named" | "type" | "timedelta" | "standard":
            return _decoded_standard(kind, content, reference)
    return reference(kind, content)


def _decoded_standard(kind: str, content: Json, reference: Callable[[str, Json], Any]) -> Any:
    if kind == "named":
        name, fields, values = content
        return namedtuple(name, fields)(*(decoded(each, reference) for each in values))  # noqa: PYI024 - fields are not known
    if kind == "type":
        found = getattr(builtins, content)
        if not isinstance(found, type):  # a function such as exec would run what the code returns
            raise TypeError(f"{content} is not a type")
        return found
    if kind == "timedelta":
        return importlib.import_module("datetime").timedelta(*content)
    name, text = content
    module, _, attribute = name.rpartition(".")
    read = _TEXT_FORMS[name][1]
    found = getattr(importlib.import_module(module), attribute)
    return (getattr(found, read) if read else found)(text)


def typing_names(code: str) -> dict[str, Any]:
    """Return the classes of `typing` that a program mentions, for annotations without an import."""
    mentioned = TYPING_NAMES & set(re.findall(r"\w+", code))
    return {n: getattr(importlib.import_module("typing"), n) for n in mentioned}


def update(argument: Any, changed: Any) -> None:
    """Give an argument of a call the content that the code gave it, unless it is equal already."""
    is_reordered = isinstance(argument, dict) and list(argument) != list(changed)
    if argument == changed and not is_reordered:
        return
    if isinstance(argument, bytearray) and isinstance(changed, bytearray):
        argument[:] = changed
    elif isinstance(argument, list | deque) and isinstance(changed, list | deque):
        argument.clear()
        argument.extend(changed)
    elif isinstance(argument, dict | set) and isinstance(changed, dict | set):
        argument.clear()
        argument.update(changed)
