"""Parser of JSON that another server sent."""

from __future__ import annotations

import json
from typing import Any

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
"""NaN and infinities, which JSON lacks, are read as null: a field with one counts as absent."""


def parse_json(raw: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError for any other text, and for one that is nested too deeply or has an integer of thousands of digits.
    """
    text = raw if isinstance(raw, str) else raw.decode(json.detect_encoding(raw), "surrogatepass")
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
