"""Heuristics for the task of a question. An uncertain question is neither a choice nor quantitative."""

from __future__ import annotations

import re
from string import ascii_uppercase

MAX_CHARACTERS = 20_000
"""Number of final characters of a question that are examined; the task is usually at the end."""

_MARKERS = {
    "lines": re.compile(
        r"^[ \t]{0,8}(?:[-*][ \t]+)?(?:\*\*)?\(?([A-Z])[).](?:\*\*)?[ \t]+", re.MULTILINE
    ),
    "brackets": re.compile(r"(?<![^\s,;])\(?([A-Z])\)[ \t]*"),
    "stops": re.compile(r"(?:^|(?<=\s))([A-Z])\.[ \t]+", re.MULTILINE),
}
_CHOICE_CUE = re.compile(
    r"\?|:\s|\b(?:which|what|choose|select|pick|option|options|following|answer)\b", re.IGNORECASE
)
_OPTION_SEPARATORS = " \t\r\n,;|"

_NUMBER = re.compile(
    r"(?<![A-Za-z_])\d+|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty"
    r"|hundred|thousand|dozen|half|twice|double|triple|third|quarter|each)\b",
    re.IGNORECASE,
)
_AMOUNT = re.compile(
    r"\bhow (?:many|much|long|far|old|fast|tall|heavy|big|deep)\b|\bwhat (?:percent\w*|fraction)\b"
    r"|\b(?:calculate|compute|determine|find) (?:the|her|his|its|their|how)\b"
    r"|\b(?:total|average|mean|sum|remainder|probability|perimeter|area|volume|difference|product|ratio)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"\?|\b(?:calculate|compute|evaluate|solve|simplify|determine|find|express|enter|what|how)\b",
    re.IGNORECASE,
)
_ARITHMETIC = re.compile(
    r"(?:^|\b(?:what(?:'s| is)|calculate|compute|evaluate|solve|simplify|find)\s+)[-(\\$ ]{0,4}\d[\d.,]{0,20}"
    r"\s?(?:[-+*/^\u00d7\u00f7]|\*\*|times|plus|minus|divided by|mod)\s?[-(]{0,3}\d",
    re.IGNORECASE,
)
_EQUATION = re.compile(
    r"\b(?:solve|find|for)\b.{0,80}\b\d{0,6}[a-z]\b.{0,40}=\s?-?\w", re.IGNORECASE
)
_LATEX = re.compile(
    r"\\(?:[dt]?frac|sqrt|sum|int|prod|lim|cdot|times|binom|log|sin|cos|tan|pi|angle|triangle|begin"
    r"|[(\[])|\$[^$\n]{1,200}[=^_+\\\d][^$\n]{0,200}\$"
)
_PROSE_TASK = re.compile(
    r"\A\W{0,8}(?:(?:please|can you|could you)\s+)?(?:explain|describe|write|summari[sz]e|translate|discuss|tell"
    r"|list|give|create|generate|suggest|rewrite|edit|compose|draft|prove|show that|implement|design)\b"
    r"|\bwrite an? |^\s{0,8}def ",
    re.IGNORECASE | re.MULTILINE,
)


def options(question: str) -> tuple[str, ...]:
    """Return the options that a question lists as A, B, ...; empty for fewer than two."""
    text = question[-MAX_CHARACTERS:]
    for style, marker in _MARKERS.items():
        run = _last_run(text, marker)
        # Two letters inside a sentence need not be options: (A) and (B), A. Smith and B. Jones.
        if len(run) >= (2 if style == "lines" or _asks_to_choose(text, run, style) else 3):
            return _texts(text, run)
    return ()


def _last_run(text: str, marker: re.Pattern[str]) -> list[re.Match[str]]:
    """Return the last run of at least two consecutive markers A, B, ..., or an empty list."""
    runs: list[list[re.Match[str]]] = []
    for match in marker.finditer(text):
        if match[1] == "A":
            runs.append([match])
        elif runs and match[1] == ascii_uppercase[len(runs[-1]) % 26]:
            runs[-1].append(match)
    return next((run for run in reversed(runs) if len(run) >= 2), [])


def _asks_to_choose(text: str, run: list[re.Match[str]], style: str) -> bool:
    """Return True if the text asks for a choice; "A." must also be where a sentence can start."""
    before = text[: run[0].start()].rstrip() if run else ""
    return bool(_CHOICE_CUE.search(text)) and (style == "brackets" or before[-1:] in (*"?:.;", ""))


def _texts(text: str, run: list[re.Match[str]]) -> tuple[str, ...]:
    """Return the text after each marker, up to the next one or the end of the last one's line."""
    ends = [match.start() for match in run[1:]] + [len(text)]
    found = [text[match.end() : end] for match, end in zip(run, ends, strict=True)]
    found[-1] = found[-1].strip().partition("\n")[0]
    cleaned = tuple(option.strip(_OPTION_SEPARATORS) for option in found)
    return cleaned if all(cleaned) else ()


def is_quantitative(question: str) -> bool:
    """Return True if the words and symbols of a question ask for a number or a formula."""
    text = question[-MAX_CHARACTERS:]
    if _ARITHMETIC.search(text):
        return True
    if _PROSE_TASK.search(text):
        return False
    if _EQUATION.search(text) or (_LATEX.search(text) and _REQUEST.search(text)):
        return True
    numbers = len(_NUMBER.findall(text))
    return numbers >= 2 and bool(_AMOUNT.search(text) and _REQUEST.search(text))
