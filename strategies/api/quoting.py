"""Quoting of candidate text in prompts, as protection against prompt injection.

Candidate text appears between two boundary lines that a candidate cannot predict, with the control tokens of chat
templates broken. Text without content to judge is detected before a call. The name of a placeholder determines if it is
quoted: `{candidate}` and `{critique_b}` are, `{question}` is not.
"""

from __future__ import annotations

import hashlib
import hmac
import operator
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice

from secondpass.strategies.api.control_tokens import BREAKER, token_pattern

Value = str | Sequence[str]
"""Value of a placeholder: one text, or for a quoted placeholder several."""

_QUOTED = frozenset(("candidate", "critique", "attempt", "review", "step", "tried", "reference"))
_JUDGED = frozenset(("candidate", "attempt"))

_JOINERS = frozenset("\u200c\u200d")  # required by the spelling of several scripts
_VISIBLE_CONTROLS = frozenset("\n\t")
_WITH_CONTROLS = (
    *range(0x20000),
    *range(0xE0000, 0xE1000),
)  # planes that have control or format characters


def is_quoted(placeholder: str) -> bool:
    """Return True if a placeholder of this name takes the text of a candidate or a critic."""
    return _first_word(placeholder) in _QUOTED


def is_judged(placeholder: str) -> bool:
    """Return True if a placeholder of this name takes the text to judge."""
    return _first_word(placeholder) in _JUDGED


def _first_word(placeholder: str) -> str:
    return placeholder.split("_", maxsplit=1)[0].removesuffix("s")


def boundary_of(secret: bytes, purpose: str, values: Mapping[str, Value]) -> str:
    """Return the boundary of one prompt: 16 hexadecimal digits, unpredictable without `secret`.

    It depends only on the arguments, not on the order of calls.
    """
    message = repr((purpose, sorted((name, _texts_of(value)) for name, value in values.items())))
    return hmac.new(secret, message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]


def quoted(
    values: Mapping[str, Value], boundary: str, tokens: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return the values with candidate text quoted; several texts of one name are numbered from 1.

    `tokens` are the control tokens of the engines that read the prompt; see `disarm`. Raises ValueError for several texts of a name that is not quoted.
    """
    filled: dict[str, str] = {}
    for name, value in values.items():
        if is_quoted(name):
            filled[name] = _quote(name, value, boundary, tokens)
        elif isinstance(value, str):
            filled[name] = value
        else:
            raise ValueError(
                f"{name!r} takes one text; only placeholders of candidate text take several"
            )
    return filled


def _quote(name: str, value: Value, boundary: str, tokens: frozenset[str]) -> str:
    tag = name.replace("_", " ").upper() if isinstance(value, str) else _first_word(name).upper()
    texts = (
        [(tag, value)]
        if isinstance(value, str)
        else [(f"{tag} {i}", t) for i, t in enumerate(value, 1)]
    )
    return "\n\n".join(quote(text, label, boundary, tokens) for label, text in texts)


def quote(text: str, label: str, boundary: str, tokens: frozenset[str] = frozenset()) -> str:
    """Return the text between two boundary lines, which nothing in it can imitate."""
    # Broken, not removed: the text around a removed boundary could form the boundary again.
    body = disarm(text, tokens).replace(boundary, f"{boundary[:8]}{BREAKER}{boundary[8:]}")
    return f"[{label} {boundary}]\n{body}\n[END OF {label} {boundary}]"


def disarm(text: str, tokens: frozenset[str] = frozenset()) -> str:
    """Return the text without invisible characters and with every control token broken by a middle dot.

    The dot follows the token's first character, so that no tokenizer recognises the token. Broken are the tokens of all
    known model families and the literals `tokens`, which are those of a tokenizer; see `tokens_beyond_known`. All other
    text is unchanged. The function is idempotent, and its time is linear in the text.
    """
    parts = token_pattern(tokens).split(invisible_characters().sub("", text))
    parts[1::2] = [f"{first}{BREAKER}" for first in parts[1::2]]
    return "".join(parts)


@cache
def invisible_characters() -> re.Pattern[str]:
    """Return the pattern of control and format characters, surrogates and private-use characters.

    Line feeds, tabs and the two joiners that scripts and emoji need are not among them.
    """
    kept = _JOINERS | _VISIBLE_CONTROLS
    found = [
        character
        for character in map(chr, _WITH_CONTROLS)
        if unicodedata.category(character) in ("Cc", "Cf") and character not in kept
    ]
    return re.compile(
        f"[{re.escape(''.join(found))}\ud800-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]"
    )


def has_tokens(text: str, tokens: frozenset[str] = frozenset()) -> bool:
    """Return True if the text contains a control token of a known family or one of the literals `tokens`."""
    return token_pattern(tokens).search(text) is not None


def degenerate(text: str) -> str | None:
    """Return why a text has no content to judge: it is empty, only punctuation, or repetitive; else None."""
    visible = disarm(text).strip()
    if not visible:
        return "it is empty"
    if all(unicodedata.category(character)[0] in "PZCM" for character in visible):
        return "it is only punctuation"
    words = visible.split()
    if _repeats(words, min_length=40) or (
        len(words) < 40 and _repeats(list("".join(words)), min_length=120)
    ):
        return "it repeats itself"
    return None


_MAX_PERIOD = 16
_MAX_COMPARED = 10_000
_MIN_REPEATED_SHARE = 0.8


def _repeats(items: Sequence[str], min_length: int) -> bool:
    """Return True if most of the first 10,000 items recur with one period of up to 16 items.

    False for a sequence of fewer than `min_length` items.
    """
    if len(items) < min_length:
        return False
    items = items[:_MAX_COMPARED]
    for period in range(1, _MAX_PERIOD + 1):
        same = sum(map(operator.eq, islice(items, period, None), items))
        if same >= _MIN_REPEATED_SHARE * (len(items) - period):
            return True
    return False


def _texts_of(value: Value) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
