"""Token counts in replies: which reports cover a whole call, and which counts are credible.

Servers report usage on a chunk of its own, on a chunk with choices, on each chunk, or never. A figure that is not a whole
number is not reported.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from secondpass.strategies.api.values import ReportedUsage

MAX_COUNT = 10**9
"""Largest number of tokens; a larger figure counts as not reported."""


def count_of(value: Any) -> int | None:
    """Return `value` if it is a number of tokens, else None: for example for null, text, 10.0 and True."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def token_ids_of(found: Any) -> tuple[int, ...]:
    """Return a list of token ids; empty for null.

    Raises TypeError, OverflowError or ValueError unless each is a whole number from 0 to 2**32 - 1.
    """
    if not found:
        return ()
    if type(found) is not list:
        raise TypeError("the token ids are not a list")
    return tuple(array("I", found))


def usage_of(reply: Mapping[str, Any]) -> ReportedUsage | None:
    """Return the usage in a reply, a chunk or a choice; None if it contains no count."""
    usage = reply.get("usage")
    if usage is None and isinstance(groq := reply.get("x_groq"), dict):
        usage = groq.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = count_of(usage.get("prompt_tokens"))
    completion = count_of(usage.get("completion_tokens"))
    if prompt is None and completion is None:
        return None
    return ReportedUsage(prompt, _cached_tokens(usage, prompt), completion)


def _cached_tokens(usage: Mapping[str, Any], prompt: int | None) -> int:
    """Return the prompt tokens found in the prefix cache; 0 if they are not reported or exceed the prompt."""
    details = usage.get("prompt_tokens_details")
    names = (
        details.get("cached_tokens") if isinstance(details, dict) else None,
        usage.get("prompt_cache_hit_tokens"),  # DeepSeek
        usage.get("cached_tokens"),  # Moonshot
    )
    cached = next((count for value in names if (count := count_of(value))), 0)
    return cached if prompt is None or cached <= prompt else 0


class UsageMeter:
    """The usage of one streamed reply with `n` completions.

    Reports that arrive before the last finish reason may be of two kinds. With `per_choice`, each counts the tokens of one
    completion, as in vLLM. Otherwise it counts those of the whole reply.

    A completion count is not credible if it is 0 after text. Nor is it if it did not grow with the text and is below the
    number of chunks with text.
    """

    __slots__ = (
        "_cached",
        "_chunks",
        "_counts",
        "_is_fresh",
        "_previous",
        "_prompt",
        "_total",
        "per_choice",
    )

    def __init__(self, n: int, *, per_choice: bool) -> None:
        self.per_choice = per_choice and n > 1
        size = n if self.per_choice else 1
        self._counts: list[int | None] = [None] * size  # latest credible count
        self._previous = [0] * size  # latest count before the latest text
        self._is_fresh = [True] * size  # no text since the latest count
        self._chunks = [0] * size  # chunks with text
        self._prompt: int | None = None
        self._total: int | None = None
        self._cached = 0

    def add_text(self, index: int) -> None:
        """Note a chunk with text of completion `index`."""
        at = index if self.per_choice else 0
        self._chunks[at] += 1
        if self._is_fresh[at]:
            self._previous[at] = self._counts[at] or 0
            self._is_fresh[at] = False

    @property
    def has_text(self) -> bool:
        """True if any chunk had text."""
        return any(self._chunks)

    def add_report(self, index: int, report: ReportedUsage) -> int:
        """Add the report of a chunk with completion `index`; return by how much its count has grown."""
        at = index if self.per_choice else 0
        if report.prompt is not None:
            self._prompt = report.prompt
        self._cached = report.cached or self._cached
        count, before = report.completion, self._counts[at] or 0
        if count is None or count < before or not self._is_credible(count, at):
            return 0
        self._counts[at], self._is_fresh[at] = count, True
        self._total = (self._total or 0) + count - before
        return count - before

    def _is_credible(self, count: int, at: int) -> bool:
        chunks = self._chunks[at]
        return not chunks or (count > 0 and (count > self._previous[at] or count >= chunks))

    @property
    def running(self) -> ReportedUsage:
        """The usage of the reply so far."""
        return ReportedUsage(self._prompt, self._cached, self._total)

    @property
    def final(self) -> ReportedUsage | None:
        """The usage of the finished reply; its completion tokens are None if text came after the last count."""
        usage = self.running
        if None in self._counts or not all(self._is_fresh):
            usage = replace(usage, completion=None)
        return None if usage == ReportedUsage() else usage

    def whole(self, report: ReportedUsage) -> ReportedUsage:
        """Return a report on the whole reply, without completion tokens that are not credible."""
        count, chunks = report.completion, sum(self._chunks)
        if count is None or not chunks:
            return report
        is_repeated = sum(self._previous) >= count and count < chunks
        return replace(report, completion=None) if count == 0 or is_repeated else report
