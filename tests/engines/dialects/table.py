"""The table of all dialects, and the page about them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tests.engines.dialects.chunk_speeches import CHUNKS, FRAMING
from tests.engines.dialects.finish_speeches import FINISH
from tests.engines.dialects.request_speeches import ERRORS, REQUESTS
from tests.engines.dialects.speech import Speech
from tests.engines.dialects.usage_speeches import USAGE

PAGE = Path(__file__).parents[3] / "docs" / "compatibility" / "upstreams.md"

GROUPS: Mapping[str, tuple[Speech, ...]] = {
    "Usage": USAGE,
    "Finish reasons": FINISH,
    "Chunks": CHUNKS,
    "Framing": FRAMING,
    "Requests and models": REQUESTS,
    "Errors": ERRORS,
}
SPEECHES = {speech.name: speech for group in GROUPS.values() for speech in group}

_INTRODUCTION = """# Upstream dialects

Servers with OpenAI's API differ in details. This page lists the dialects that an engine of the kind `http` reads, and those that it rejects.
`python -m tests.engines.dialects.table` writes it from the table that the tests run: each dialect is served on a socket, and
`POST /solve` runs `single`, streamed and not, and a vote of three drafts.

* *exact* usage equals the server's own count. *estimated* usage has `estimated: true` in the reply.
* A figure is a token count only if it is a whole number from 0 to 10⁹. Any other figure, also NaN, is not reported, and the usage is estimated.
* Usage may come at any place. The last report wins, also over smaller running counts. A count of 0 tokens for a text is not reported.
* Running counts are used for budgets only if the probe showed that they grow with the text (capability `token_counts`). If they end before
  the text, the rest of it is estimated.
* Whether `n` has an effect, and the usage covers all completions, is probed (capability `n`). Without it, several completions are separate
  requests.
* Our own count limits a completion to `max_tokens` too. It ends with `length` once it has more than `max_tokens` chunks with text, or more than
  16 bytes for each token plus 256. Its stream is closed, and its usage is estimated unless the server has reported it. Chunks are not counted
  if a completion of the probe, with at most four tokens, had more than four.
* A log probability is a number of at most 0, a token id a whole number below 2³², a score a number of at most 10⁹. Any other value interrupts the
  stream, or is an invalid score.
* A fetched reply or an event has at most 16 MiB, also decompressed. A longer or too deeply nested one, an unknown compression, and a status that is
  not final interrupt the stream.
* A reported prompt beyond the context window, or with a template of more than 16,384 tokens, is charged, but not used to estimate later prompts.
* Errors have neither API keys nor inner addresses: a key becomes `[key]`, the address of the engine its name, and another inner address `[address]`.
* Text after the finish reason is ignored. A completion that the server aborts or fails to generate is retried, then fails.
* A sampling parameter that the server rejects is not dropped: the call fails with the server's message.
* On servers other than vLLM, a resumable call cannot keep a stop string of the strategy: such a call is rejected.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for title, speeches in GROUPS.items():
        rows = [
            f"| {speech.what} | {speech.servers} | {_outcome(speech)} | {_usage(speech)} |"
            for speech in speeches
        ]
        head = "| dialect | for example | outcome | usage |\n|---|---|---|---|"
        parts.append("\n".join((f"\n## {title}\n", head, *rows, "")))
    return "".join(parts)


def _outcome(speech: Speech) -> str:
    if speech.refused is not None:
        return f"error: “{speech.refused}”"
    if speech.vote_refused is not None:
        return f"read; a vote fails: “{speech.vote_refused}”"
    return "read" if speech.n_requests == 1 else "read; one request for each completion"


def _usage(speech: Speech) -> str:
    return "" if speech.refused is not None else speech.usage


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}: {len(SPEECHES)} dialects\n")
