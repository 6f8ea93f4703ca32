"""Answer classes as a function of the set of a run's answers, whatever their order.

An answer without a unit has the unit of the others while they have only one, or the one that the question names. An answer
without a name, as in "x = 5", likewise has the name of the others while they have only one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction

from secondpass.strategies.answers.forms.form import NormalForm, rational_text
from secondpass.strategies.answers.forms.units import Unit


def partition(forms: Sequence[NormalForm], asked: Unit | None = None) -> list[int]:
    """Return the class of each answer: the lowest index of an equal one.

    The classes do not depend on the order of the answers.

    Args:
        forms: Normal forms whose trees were resolved.
        asked: The unit that the question names.
    """
    unit = assumed_unit((form.unit for form in forms), asked)
    names = {form.name for form in forms if form.name is not None}
    name = names.pop() if len(names) == 1 else None
    parent = list(range(len(forms)))
    first: dict[str, int] = {}

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for at, form in enumerate(forms):
        for key in _keys(form, unit, name):
            one, other = root(first.setdefault(key, at)), root(at)
            parent[max(one, other)] = min(one, other)
    return [root(at) for at in range(len(forms))]


def assumed_unit(units: Iterable[Unit | None], asked: Unit | None) -> Unit | None:
    """Return the unit of answers that state none; None if several units are possible.

    A measure that the question names always is; a noun only if it decides between several units.
    """
    found = {unit for unit in units if unit is not None}
    if asked is not None and (asked in found or not asked.is_noun):
        return asked
    return found.pop() if len(found) == 1 else None


def _keys(form: NormalForm, unit: Unit | None, name: str | None) -> list[str]:
    """Return the keys of a form; forms that share one are equal."""
    if form.value[0] == "equation":
        return [json.dumps(form.value)]
    own_name, own_unit = form.name or name, form.unit or unit
    keys = [json.dumps([own_name, *_measure(form, own_unit)])]
    if form.equation is not None:
        keys.append(json.dumps(form.equation))
    return keys


def _measure(form: NormalForm, unit: Unit | None) -> list[object]:
    """Return the value in base units."""
    kind, *rest = form.value
    if unit is None:
        return ["", form.value]
    if kind == "rational" and isinstance(rest[0], str) and "x" not in rest[0]:
        return [unit.dimensions, ["rational", rational_text(Fraction(rest[0]) * unit.factor)]]
    return [unit.name, form.value]
