r"""Normal forms of mathematical answers: exact values with their units and names.

A value is plain data: ["rational", "3/4"], ["words", ...], ["tree", tree], a structure of values (["set", ...],
["(", ")", ...], ["matrix", ...]), ["equation", tree] or ["relation", ">", tree]. Values without trees are equal exactly if
they are the same data. `service.equivalence` replaces trees by what they evaluate to.
"""

from __future__ import annotations

import re

from secondpass.strategies.answers.forms.folding import TEXT_MARK, fold
from secondpass.strategies.answers.forms.form import NormalForm
from secondpass.strategies.answers.forms.splitting import join_digits
from secondpass.strategies.answers.forms.statements import StatementReader

MAX_LENGTH = 2000
"""Maximum characters of an answer that is parsed; longer answers are compared as text."""

_MAX_DEPTH = 60
_PREFIX = "form: "
_NUMBER = re.compile(r"-?\d+(?:/\d+)?", re.ASCII)
_MATH_COMMAND = re.compile(
    r"\\(?!text|mbox|boxed|fbox|mathrm|operatorname|\$|[%,;: {}])[A-Za-z(\[]|(?<!\\)\$"
)
_APPROXIMATE = re.compile(
    rf"^(?:{TEXT_MARK}?(?:about|approximately|roughly)\s|\\approx\s|\\sim\s|~)\s*"
)


def normalise(answer: str) -> str:
    """Return the normal form of an answer as a text: answers with equal texts are equal.

    A number without a unit is itself. Other forms start with "form: ", and are returned unchanged.
    """
    if answer.startswith(_PREFIX):
        return answer
    text = normal_form(answer).text
    return text if _NUMBER.fullmatch(text) else _PREFIX + text


def normal_form(answer: str) -> NormalForm:
    """Parse an answer; what cannot be read is compared as text. Linear in its length, which is bounded."""
    collapsed = " ".join(answer.split())
    if len(answer) > MAX_LENGTH or _is_deep(answer):
        return NormalForm(["text", collapsed])
    text, math_mode = _without_delimiters(answer.strip(" \t\r\n*_`"))
    text = join_digits(fold(text)).strip(" *`").lstrip("=: ")
    text = text.rstrip(" ,;:?")
    if re.search(r"[A-Za-z]{2}[!?]+$", text):  # otherwise a factorial
        text = text.rstrip("!?")
    text = re.sub(r"(?<=[^.])\.$", "", text)
    if not text:
        return NormalForm(["text", collapsed])
    return StatementReader(math_mode=math_mode).answer(_APPROXIMATE.sub("", text))


def _is_deep(text: str) -> bool:
    depth = deepest = 0
    for character in text:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest > _MAX_DEPTH


def _without_delimiters(text: str) -> tuple[str, bool]:
    """Return the text without formula delimiters, and whether it is in math mode."""
    text = re.sub(r"(?<!\\)\\[()\[\]](?!\\)", " \ue002 ", text)
    had = "\ue002" in text
    text = text.replace("\ue002", " ").strip()
    if "$$" in text:
        text, had = text.replace("$$", " "), True
    signs = re.findall(r"(?<!\\)\$", text)
    if signs and len(signs) % 2 == 0:
        text, had = re.sub(r"(?<!\\)\$", " ", text), True
    return text, had or bool(_MATH_COMMAND.search(re.sub(r"(?<!\\)\$", "", text)))
