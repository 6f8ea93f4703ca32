"""Candidate text inside a judge's prompt is data: nothing that a candidate writes may steer or end the prompt.

What a candidate wrote is put between two lines that it cannot know, with the control tokens of chat templates broken
in it, and text that gives a judge nothing to judge is found before a judge is asked. Which placeholders are candidate
text goes by their names: `{candidate}`, `{critique_b}` and their kind are quoted, `{question}` is not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping, Sequence

Value = str | Sequence[str]
"""What fills a placeholder: a text, or for one that is quoted also several."""

_QUOTED = frozenset(("candidate", "critique", "attempt", "review", "step", "tried", "reference"))
_JUDGED = frozenset(("candidate", "attempt"))

_TOKEN = re.compile(
    r"""
      <\s*[|\uff5c]+ [^<>\n]{0,64}? [|\uff5c]+\s*>           # <|im_start|>, <|eot_id|>, also with full-width bars
    | <\s*/?\s*(?:s|unk|pad|bos|eos|mask|image|think|thinking|thought|reasoning|answer|tool_call|tool_response|
        start_of_turn|end_of_turn|system|user|assistant|extra_id_\d+|seed:[a-z_]+)\s*>
    | <<\s*/?\s*SYS\s*>>
    | \[\s*/?\s*(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|THINK|CLS|SEP|MASK|PAD|UNK|IMG|
        gMASK|sMASK)\s*\]
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""The control tokens of ChatML, Llama, Mistral, Gemma, DeepSeek, Phi, Command and GPT-OSS, and thinking tags."""

_JOINERS = frozenset("\u200c\u200d")  # words of several scripts are spelt with them
_KEPT = frozenset("\n\t")


def is_quoted(placeholder: str) -> bool:
    """Does a placeholder of this name stand for text that a candidate (or a critic) wrote?"""
    return _first_word(placeholder) in _QUOTED


def is_judged(placeholder: str) -> bool:
    """Does a placeholder of this name stand for what a judge is to judge?"""
    return _first_word(placeholder) in _JUDGED


def _first_word(placeholder: str) -> str:
    return placeholder.split("_", maxsplit=1)[0].removesuffix("s")


def boundary_of(secret: bytes, purpose: str, values: Mapping[str, Value]) -> str:
    """The boundary of one prompt, 16 hexadecimal digits that nobody without `secret` can foretell.

    The same secret and values give the same boundary, in whichever order calls are made.
    """
    message = repr((purpose, sorted((name, _listed(value)) for name, value in values.items())))
    return hmac.new(secret, message.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:16]


def quoted(values: Mapping[str, Value], boundary: str) -> dict[str, str]:
    """`values` with each one that is candidate text quoted; several texts of one name are numbered from 1.

    Raises ValueError for several texts where the name is not one of candidate text.
    """
    filled: dict[str, str] = {}
    for name, value in values.items():
        if is_quoted(name):
            filled[name] = _quote(name, value, boundary)
        elif isinstance(value, str):
            filled[name] = value
        else:
            raise ValueError(f"{name!r} takes one text: only candidate text may be several")
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
    """`text` between two lines with the boundary; nothing in it can be taken for either of them."""
    # Broken and not left out: what is left around a piece that is taken out may be the same piece again.
    body = disarm(text).replace(boundary, f"{boundary[:8]}\u00b7{boundary[8:]}")
    return f"[{label} {boundary}]\n{body}\n[END OF {label} {boundary}]"


def disarm(text: str) -> str:
    """`text` without invisible characters, and with a space inside each control token, so that it is none.

    What is not a control token or invisible is left as it is. Disarming twice changes nothing more.
    """
    seen = "".join(character for character in text if _is_visible(character))
    return _TOKEN.sub(_broken, seen)


def _is_visible(character: str) -> bool:
    if character in _KEPT or character in _JOINERS:
        return True
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def _broken(match: re.Match[str]) -> str:
    """The token with a mark after its first character, which no tokenizer's table has."""
    token = match[0]
    return f"{token[0]}\u00b7{token[1:]}"


def has_tokens(text: str) -> bool:
    """Is there a control token in the text?"""
    return _TOKEN.search(text) is not None


def degenerate(text: str) -> str | None:
    """Why there is nothing to judge in a text, or None: it is empty, only punctuation, or it repeats itself."""
    seen = disarm(text).strip()
    if not seen:
        return "it is empty"
    if all(unicodedata.category(character)[0] in "PZCM" for character in seen):
        return "it is only punctuation"
    words = seen.split()
    if _repeats(words, least=40) or (len(words) < 40 and _repeats(list("".join(words)), least=120)):
        return "it repeats itself"
    return None


_LONGEST_PERIOD = 16
_SHARE = 0.8


def _repeats(items: Sequence[str], least: int) -> bool:
    """Is most of a sequence of at least `least` items what stood there up to 16 items before, over and over?"""
    if len(items) < least:
        return False
    for period in range(1, _LONGEST_PERIOD + 1):
        same = sum(a == b for a, b in zip(items[period:], items, strict=False))
        if same >= _SHARE * (len(items) - period):
            return True
    return False


def _listed(value: Value) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
