"""Null candidates: stand-ins for the code that compute nothing.

Tests that accept all of them assert nothing about the code.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal, Self

from .proxy import COMPARISONS, CONVERSIONS, FORWARDED, OPERATORS

Kind = Literal["no", "yes", "none"]

KINDS: tuple[Kind, ...] = ("no", "yes", "none")
"""Kinds: all comparisons are false ("no") or true ("yes"), or functions return None ("none")."""

_VALUES: dict[str, Callable[[], Any]] = {
    "__len__": int, "__int__": int, "__index__": int, "__float__": float, "__str__": str, "__repr__": str,
    "__format__": str, "__complex__": complex, "__iter__": lambda: iter(()), "__reversed__": lambda: iter(()),
}  # fmt: skip
_UNUSED = (
    "__hash__",
    "__contains__",
    "__next__",
    "__enter__",
    "__exit__",
    "__anext__",
    "__setitem__",
    "__delitem__",
)


class Null:
    """An object on which every operation succeeds, without a result that an assertion could confirm."""

    def __init__(self, answer: bool) -> None:
        self.__dict__["_answer"] = answer

    def __getattr__(self, name: str) -> Null:
        if name.startswith("__"):
            raise AttributeError(name)
        return Null(bool(self))

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Null:
        return Null(bool(self))

    def __bool__(self) -> bool:
        return bool(self.__dict__["_answer"])

    def __contains__(self, _: Any) -> bool:
        return bool(self)

    def __instancecheck__(self, _: Any) -> bool:
        return bool(self)

    def __subclasscheck__(self, _: Any) -> bool:
        return bool(self)

    def __hash__(self) -> int:
        return id(self)

    def __next__(self) -> Any:
        raise StopIteration

    async def __anext__(self) -> Any:
        raise StopAsyncIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __setitem__(self, name: Any, value: Any) -> None:
        pass

    def __delitem__(self, name: Any) -> None:
        pass

    def __await__(self) -> Generator[Any, None, Null]:
        yield from ()
        return self


def _constant(value: Callable[[], Any]) -> Callable[..., Any]:
    return lambda self, *_: value()


for _method in (*FORWARDED, *OPERATORS, *CONVERSIONS):
    if _method in _VALUES:
        setattr(Null, _method, _constant(_VALUES[_method]))
    elif _method not in _UNUSED:
        setattr(Null, _method, lambda self, *_: Null(bool(self)))
for _method in COMPARISONS:
    setattr(Null, _method, lambda self, _: bool(self))


def null_names(names: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the names of a candidate with null values.

    Exception classes are kept: tests expect the code to raise them.
    """

    def replaced(value: Any) -> Any:
        if isinstance(value, type) and issubclass(value, Exception):
            return value
        return _return_none if kind == "none" else Null(kind == "yes")

    return {name: replaced(value) for name, value in names.items()}


def _return_none(*_: Any, **__: Any) -> None:
    return None
