"""Evidence from a probe of several tokens: support of `n`, and the scope of token counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secondpass.service.engines.openai.finish_reasons import is_unfinished
from secondpass.service.engines.openai.message_text import text_of
from secondpass.service.engines.openai.usage import usage_of

PROBE_TOKENS = 4
"""Token limit of each completion of the probe."""

Chunks = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CountProbe:
    """The result of a probe.

    Attributes:
        has_n: The reply had two completions, and its counts cover both.
        is_running: The count of a completion grew while it was generated.
        per_choice: The usage of a chunk counts the tokens of its choice, rather than of the whole reply.
        splits_tokens: A completion had more chunks with text than tokens.
        prompt: The most prompt tokens that a chunk reported; None if none did.
    """

    has_n: bool = False
    is_running: bool = False
    per_choice: bool = False
    splits_tokens: bool = False
    prompt: int | None = None


def read_counts(chunks: Chunks) -> CountProbe:
    """Return what the chunks of a reply show.

    The request was for one or two completions of at most PROBE_TOKENS tokens. Call within a `Connection.parsing` block.
    """
    with_text = Counter(
        choice.get("index")
        for chunk in chunks
        for choice in choices_of(chunk)
        if (content := text_of(choice)).text or content.reasoning
    )
    found = CountProbe(
        is_running=_is_running(chunks),
        splits_tokens=max(with_text.values(), default=0) > PROBE_TOKENS,
        prompt=_prompt_tokens(chunks),
    )
    per_choice = _counts_per_choice(chunks) if set(with_text) == {0, 1} else None
    if per_choice is None or (not per_choice and _counts_one_choice(chunks)):
        return found
    return replace(found, has_n=True, per_choice=per_choice)


def choices_of(chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the choices of a chunk."""
    choices = chunk.get("choices")
    return [choice for choice in choices or () if isinstance(choice, dict)]


def _counts(chunks: Chunks) -> Iterator[tuple[Any, int, bool]]:
    """Yield index, completion tokens and whether it is finished, for chunks with one choice and a count."""
    unfinished = {choice.get("index") for chunk in chunks for choice in choices_of(chunk)}
    for chunk in chunks:
        choices = choices_of(chunk)
        if len(choices) != 1:
            continue
        is_late = not unfinished
        index, is_finished = (
            choices[0].get("index"),
            not is_unfinished(choices[0].get("finish_reason")),
        )
        if is_finished:
            unfinished.discard(index)
        usage = usage_of(chunk) or usage_of(choices[0])
        if usage is not None and usage.completion is not None and not is_late:
            yield index, usage.completion, is_finished


def _prompt_tokens(chunks: Chunks) -> int | None:
    reports = [usage_of(each) for chunk in chunks for each in (chunk, *choices_of(chunk))]
    return max((each.prompt for each in reports if each and each.prompt is not None), default=None)


def _is_running(chunks: Chunks) -> bool:
    """Return whether the count of a completion grew before its end."""
    first: dict[Any, int] = {}
    for index, count, is_finished in _counts(chunks):
        if count and not is_finished and count > first.setdefault(index, count):
            return True
    return False


def _counts_one_choice(chunks: Chunks) -> bool:
    """Return whether the last count is at most the number of chunks with text of one of two completions."""
    found = [usage_of(each) for chunk in chunks for each in (chunk, *choices_of(chunk))]
    counts = [usage.completion for usage in found if usage and usage.completion]
    with_text = Counter(
        choice.get("index")
        for chunk in chunks
        for choice in choices_of(chunk)
        if text_of(choice).text
    )
    return bool(counts) and counts[-1] <= max(with_text.values(), default=0)


def _counts_per_choice(chunks: Chunks) -> bool | None:
    """Return whether the last counts of both completions count one each; None if they may be either.

    A count of the whole reply grows with each completion, beyond the limit of one if both reach it. Equal counts beyond the
    limit of both are of neither kind.
    """
    last: dict[Any, int] = {}
    for index, count, _ in _counts(chunks):
        last.pop(index, None)
        last[index] = count
    if len(last) < 2:
        return False
    earlier, later = last.values()
    if max(earlier, later) > PROBE_TOKENS:
        return None if earlier == later > 2 * PROBE_TOKENS else False
    return True if later <= earlier else None
