"""Reader of streamed replies, in the dialects of docs/compatibility/upstreams.md.

Replies are parsed into plain dicts. Validating each chunk with a pydantic model would cost more than
all other processing of a delta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from secondpass.service.engines.common.json_text import parse_json
from secondpass.service.engines.common.redaction import Quote
from secondpass.service.engines.openai.connection import Connection
from secondpass.service.engines.openai.finish_reasons import (
    FAILED,
    FINISH_REASONS,
    INTERRUPTED,
    is_unfinished,
)
from secondpass.service.engines.openai.logprobs import confidences_of, logprobs_of
from secondpass.service.engines.openai.message_text import text_of
from secondpass.service.engines.openai.own_count import OwnCount
from secondpass.service.engines.openai.usage import UsageMeter, token_ids_of, usage_of
from secondpass.service.engines.openai.wire import Dialect
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import EngineError, EngineUnavailable, StreamInterrupted
from secondpass.strategies.api.values import FinishReason, ReportedUsage


class ReplyReader:
    """Reader of the chunks of one streamed reply to `call`.

    A server with the capability `token_counts` shows the tokens of each chunk, and each delta covers the usage so far. The
    usage of other servers is read once every completion is finished. Later text is ignored.
    A completion that exceeds `max_tokens` by our own count ends with "length".

    Attributes:
        prompt_ids: The rendered prompt; empty unless the server returns it.
    """

    def __init__(self, call: Call, connection: Connection, dialect: Dialect) -> None:
        self.prompt_ids: tuple[int, ...] = ()
        self._call = call
        self._connection = connection
        self._has_token_ids = dialect.has_token_ids
        self._is_counting = "token_counts" in dialect.capabilities
        self._meter = UsageMeter(call.n, per_choice=dialect.counts_per_choice)
        self._unfinished = set(range(call.n))
        self._halves: dict[int, str] = {}  # first halves of characters, by completion
        self._early: ReportedUsage | None = None  # with no text after it
        self._has_text = self._has_tool_call = False
        self._own = OwnCount(call.n, call.sampling.max_tokens, splits_tokens=dialect.splits_tokens)

    @property
    def is_ended(self) -> bool:
        """True if every completion is finished, some by our own count: the rest is not read."""
        return bool(self._own.ended) and not self._unfinished

    def read(self, payload: bytes) -> Iterator[Delta]:
        """Yield the deltas of one chunk, or of a whole reply. Call within a `Connection.parsing` block.

        Raises:
            StreamInterrupted: the chunk is not JSON, or the server interrupted a completion.
            CallRejected, EngineUnavailable: the chunk is an error object.
        """
        if (chunk := self._parse(payload)) is None:
            return
        choices = chunk.get("choices")
        if not choices or "error" in chunk:
            self._connection.raise_if_error(chunk, self._call.role)
        if self._has_token_ids:
            self.prompt_ids = token_ids_of(chunk.get("prompt_token_ids")) or self.prompt_ids
        report = usage_of(chunk)
        if not choices:
            if report is not None:
                yield from self._read_report(report)
            return
        if len(choices) == 1:
            choice = choices[0]
            yield from self._read_choice(choice, self._index_of(choice), report or usage_of(choice))
            return
        is_whole = all("message" in choice for choice in choices)
        for position, choice in enumerate(choices):
            index = self._index_of(choice, position if is_whole else None)
            yield from self._read_choice(choice, index, usage_of(choice))
        if report is not None:
            yield from self._read_report(report)

    def _parse(self, payload: bytes) -> dict[str, Any] | None:
        """Return the JSON object of a chunk; None for null."""
        try:
            chunk = parse_json(payload)
        except ValueError:
            text = payload.decode(errors="replace")
            raise self._interrupted(
                lambda quote: f"expected a JSON chunk, got {quote(text)}"
            ) from None
        if chunk is None or isinstance(chunk, dict):
            return chunk
        text = repr(chunk)
        raise self._interrupted(lambda quote: f"expected a JSON object, got {quote(text)}")

    def early_usage(self) -> Iterator[Delta]:
        """Yield the usage of a reply that ended before all its completions were finished, if it was reported.

        A report before any text has the tokens of the prompt only: the engine may have generated others.
        """
        if self._early is not None:
            report = self._meter.whole(self._early)
            if self._unfinished and not self._meter.has_text:
                report = replace(report, completion=None)
            yield Delta(usage=report)
            self._early = None

    def finish(self, interruption: StreamInterrupted | None) -> None:
        """Check the end of a stream that may have been interrupted.

        Raises:
            StreamInterrupted: a completion has no finish reason; the interruption, if there is one.
            EngineError: the reply has tool calls instead of text.
        """
        if self._unfinished:
            if interruption is not None:
                raise interruption
            missing = f"{len(self._unfinished)} of {self._call.n}"
            raise self._interrupted(lambda _: f"{missing} completions have no finish reason")
        if self._has_tool_call and not self._has_text:
            name, role = self._connection.engine, self._call.role
            message = (
                f"engine {name!r} returned a tool call instead of text; the call offers no tools"
            )
            raise EngineError(message, engine=name, role=role)

    def _index_of(self, choice: dict[str, Any], position: int | None = None) -> int:
        """Return the index of a choice; a reply with one completion may omit it."""
        index = choice.get("index")
        if index is None:
            index = 0 if self._call.n == 1 else position
        if type(index) is not int or not 0 <= index < self._call.n:
            found = "no index" if index is None else f"index {index!r}"
            raise self._interrupted(
                lambda quote: f"a choice of the reply has {quote(found)} with n={self._call.n}"
            )
        return index

    def _read_report(self, report: ReportedUsage) -> Iterator[Delta]:
        """Yield a report on the whole reply; keep it until the reply is finished, or until `early_usage`."""
        if self._unfinished:
            self._early = report
        else:
            yield Delta(usage=self._meter.whole(report))

    def _read_choice(
        self, choice: dict[str, Any], index: int, report: ReportedUsage | None
    ) -> Iterator[Delta]:
        if not self._unfinished:
            if report is not None:
                yield from self._read_report(report)
            return
        is_finished = index not in self._unfinished
        text, reasoning, has_tool_call = text_of(choice)
        if text and (self._halves or not text.isascii()):
            text = self._joined(index, text)
        reason = None if is_finished else self._finish_reason(choice.get("finish_reason"))
        if index in self._own.ended:
            text = reasoning = ""
        if text or reasoning:
            if is_finished:
                raise self._interrupted(
                    lambda _: f"completion {index} has text after its finish reason"
                )
            self._meter.add_text(index)
            self._early = None
            reasoning, text, reason = self._bounded(index, reasoning, text, reason)
        self._has_text = self._has_text or bool(text)
        self._has_tool_call = self._has_tool_call or has_tool_call
        ids = token_ids_of(choice.get("token_ids")) if self._has_token_ids else ()
        tokens, usage = self._count(index, len(ids), report)
        if reason is not None:
            self._unfinished.discard(index)
        if text or reasoning or tokens or reason or usage:
            k = self._call.logprobs
            logprobs = logprobs_of(choice) if k is not None else ()
            confidences = confidences_of(choice, k) if k else ()
            yield Delta(
                index, text, reasoning, tokens, ids, reason, usage, None, logprobs, confidences
            )
        if reason and not self._unfinished:
            yield from self._kept_usage()

    def _bounded(
        self, index: int, reasoning: str, text: str, reason: FinishReason | None
    ) -> tuple[str, str, FinishReason | None]:
        """Return reasoning, text and finish reason of a delta, up to `max_tokens` by our own count."""
        kept = self._own.admit(index, reasoning + text, is_last=reason is not None)
        if kept is None:
            return reasoning, text, reason
        return kept[: len(reasoning)], kept[len(reasoning) :], "length"

    def _count(
        self, index: int, ids: int, report: ReportedUsage | None
    ) -> tuple[int, ReportedUsage | None]:
        """Return the tokens of a delta with `ids` token ids, and the usage so far of a counting server."""
        if report is None:
            return ids, None
        grown = self._meter.add_report(index, report)
        if not self._is_counting:
            return ids, None
        running = self._meter.running
        if report.completion is None:
            running = replace(running, completion=None)
        return ids or grown, running

    def _kept_usage(self) -> Iterator[Delta]:
        """Yield the usage that was reported before the last finish reason, if it was not yielded yet."""
        if self._early is not None:
            yield from self.early_usage()
        elif not self._is_counting and (final := self._meter.final):
            yield Delta(usage=final)

    def _joined(self, index: int, text: str) -> str:
        """Return the text with characters that the server split between chunks, as UTF-16 surrogates.

        The first half of a pair at the end is kept for the next text. Other halves become replacement characters.
        """
        text = self._halves.pop(index, "") + text
        if "\ud800" <= text[-1] <= "\udbff":
            self._halves[index] = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _finish_reason(self, found: Any) -> FinishReason | None:
        if is_unfinished(found):
            return None
        reason = found.strip().lower() if isinstance(found, str) else repr(found)
        if reason in FINISH_REASONS:
            return FINISH_REASONS[reason]
        shown = str(found)
        if reason in FAILED:
            name, role = self._connection.engine, self._call.role
            raise EngineUnavailable(
                f"engine {name!r} failed during generation (finish reason {shown.strip()!r})",
                engine=name,
                role=role,
            )
        if reason in INTERRUPTED:
            raise self._interrupted(
                lambda _: f"the engine interrupted the completion ({shown.strip()})"
            )
        raise self._interrupted(lambda quote: f"unknown finish reason {quote(shown)!r}")

    def _interrupted(self, message: Callable[[Quote], str]) -> StreamInterrupted:
        return self._connection.interrupted(message, self._call.role)
