"""Control tokens that a tokenizer lists, beyond those of the known model families."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from secondpass.strategies.api.control_tokens import tokens_beyond_known

MAX_LISTED = 10_000
"""Most tokens that are read of a list; an upstream may send any number."""

_MAX_TEMPLATE = 200_000


def listed_control_tokens(
    special: Iterable[object], added: Iterable[object], template: str
) -> frozenset[str]:
    """Return the control tokens of a tokenizer that are not known without it, each at most 64 characters.

    Args:
        special: special tokens of the tokenizer.
        added: other tokens outside of its vocabulary. Of these only those in the chat template are control tokens:
            many tokenizers also add runs of spaces and HTML tags.
        template: the chat template; "" if there is none.
    """
    shown = template[:_MAX_TEMPLATE]
    in_template = (each for each in tokens_beyond_known(_texts(added)) if each in shown)
    return tokens_beyond_known(_texts(special)).union(in_template)


def tokenizer_control_tokens(tokenizer: Any, template: str | None) -> frozenset[str]:
    """Return the control tokens of a tokenizer with the interface of Hugging Face's.

    `template` is the chat template in use; None for the tokenizer's own.
    """
    special = map(str, tokenizer.all_special_tokens)
    own = template or getattr(tokenizer, "chat_template", None)
    texts = own.values() if isinstance(own, dict) else (own or "",)
    return listed_control_tokens(special, tokenizer.get_added_vocab(), "".join(texts))


def _texts(tokens: Iterable[object]) -> Iterable[str]:
    return (each for each in islice(tokens, MAX_LISTED) if isinstance(each, str))
