"""Quoting of candidate text in prompts, as protection against prompt injection.

Candidate text appears between two boundary lines that a candidate cannot predict, with the control tokens of chat
templates broken. Text without content to judge is detected before a call. The name of a placeholder determines if it is
quoted: `{candidate}` and `{critique_b}` are, `{question}` is not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping, Sequence

Value = str | Sequence[str]
"""Value of a placeholder: one text, or for a quoted placeholder several."""

_QUOTED = frozenset(("candidate", "critique", "attempt", "review", "step", "tried", "reference"))
_JUDGED = frozenset(("candidate", "attempt"))

_TOKEN = re.compile(
    r"""
      <(?!<<)(?:
        \s*+ (?:
            [|\uff5c] (?:[^<>\n|\uff5c]{0,64}+[|\uff5c])+ \s*+>  # <|im_start|>, <|eot_id|>, also with full-width bars
          | (?:/\s*+)? (?:s|unk|pad|bos|eos|mask|image|think|thinking|thought|reasoning|answer|tool_call|
              tool_response|start_of_turn|end_of_turn|system|user|assistant|extra_id_\d++|seed:[a-z_]++) \s*+>
        )
      | <\s*+ (?:/\s*+)? SYS\s*+>>
      )
    | \[\s*+(?:/\s*+)?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|THINK|CLS|SEP|MASK|PAD|UNK|IMG|
        gMASK|sMASK)\s*+\]
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Reasoning tags and chat-template control tokens.

Templates: ChatML, Llama, Mistral, Gemma, DeepSeek, Phi, Command and GPT-OSS. The time is linear in the text: an
attempt never backtracks over spaces, and never passes the next opener.
"""

_JOINERS = frozenset("\u200c\u200d")  # required by the spelling of several scripts
_VISIBLE_CONTROLS = frozenset("\n\t")


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


def quoted(values: Mapping[str, Value], boundary: str) -> dict[str, str]:
    """Return the values with candidate text quoted; several texts of one name are numbered from 1.

    Raises ValueError for several texts of a name that is not quoted.
    """
    filled: dict[str, str] = {}
    for name, value in values.items():
        if is_quoted(name):
            filled[name] = _quote(name, value, boundary)
        elif isinstance(value, str):
            filled[name] = value
        else:
            raise ValueError(
                f"{name!r} takes one text; only placeholders of candidate text take several"
            )
    return filled


def _quote(name: str, value: Value, boundary: str) -> str:
    tag = name.replace("_", " ").upper() if isinstance(value, str) else _first_word(name).upper()
    texts = (
        [(tag, value)]
        if isinstance(value, str)
        else [(f"{tag} {i}", t) for i, t in enumerate(value, 1)]
    )
    return "\n\n".join(quote(text, label, boundary) for label, text in texts)


def quote(text: str, label: str, boundary: str) -> str:
    """Return the text between two boundary lines, which nothing in it can imitate."""
    # Broken, not removed: the text around a removed boundary could form the boundary again.
    body = disarm(text).replace(boundary, f"{boundary[:8]}\u00b7{boundary[8:]}")
    return f"[{label} {boundary}]\n{body}\n[END OF {label} {boundary}]"


def disarm(text: str) -> str:
    """Return the text without invisible characters and with every control token broken by a middle dot.

    All other text is unchanged. The function is idempotent.
    """
    visible = "".join(character for character in text if _is_visible(character))
    return _TOKEN.sub(_break_token, visible)


def _is_visible(character: str) -> bool:
    if character in _VISIBLE_CONTROLS or character in _JOINERS:
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def _break_token(match: re.Match[str]) -> str:
    """Insert a middle dot after the first character, so that no tokenizer recognises the token."""
    token = match[0]
    return f"{token[0]}\u00b7{token[1:]}"


def has_tokens(text: str) -> bool:
    """Return True if the text contains a control token."""
    return _TOKEN.search(text) is not None


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
_MIN_REPEATED_SHARE = 0.8


def _repeats(items: Sequence[str], min_length: int) -> bool:
    """Return True if most items recur with one period of up to 16 items.

    False for a sequence of fewer than `min_length` items.
    """
    if len(items) < min_length:
        return False
    for period in range(1, _MAX_PERIOD + 1):
        same = sum(a == b for a, b in zip(items[period:], items, strict=False))
        if same >= _MIN_REPEATED_SHARE * (len(items) - period):
            return True
    return False


def _texts_of(value: Value) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
