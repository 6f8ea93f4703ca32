"""Upper bounds of the prompt tokens of calls, for engines that cannot count them.

A text has at most one token for each UTF-8 byte. The tokens of a chat template and of an image do not show in the text:
they are learned from the prompt tokens that the engine reports. Engines differ, so each model has its own figures.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace

from secondpass.strategies.api.engine import MAX_TEMPLATE_TOKENS, Call, Engine
from secondpass.strategies.api.values import ImagePart, Message, PrefixPart, TextPart

PER_MESSAGE = 16
"""Chat template tokens assumed for each message."""

IMAGE_TOKENS = 16_384
"""Tokens assumed for an image of a model that has reported none: the largest image of common models."""

MIN_IMAGE_TOKENS = 16
"""Tokens by which a count grows for each image if it includes images. A mere placeholder has fewer."""


_DENSE = (string.digits + string.punctuation).encode()
"""Characters that many tokenizers never join to others."""

_WIDE = tuple((lead, *((3, 1.5) if lead < 0xF0 else (4, 3.0))) for lead in range(0xE0, 0xF8))
"""First byte, bytes and assumed tokens of characters of 3 and 4 bytes, such as Chinese and emoji."""


@dataclass(slots=True)
class _Learned:
    """Figures of one model.

    Attributes:
        template: Most tokens reported beyond the bound of a text prompt.
        image: Most tokens reported for an image; None before the first report.
        counts_images: The engine's own count includes images; None before the first count.
    """

    template: int = 0
    image: int | None = None
    counts_images: bool | None = None


class PromptSizes:
    """Upper bounds of prompt tokens, learned from reports. Shared by all runs of a process."""

    def __init__(self) -> None:
        self._learned: dict[tuple[str, str], _Learned] = {}

    def bound(self, engine: Engine, call: Call) -> int:
        """Return an upper bound of the prompt tokens of `call`, without a request to the engine."""
        return text_bound(call) + self._template(engine) + self._images(engine, call)

    def estimate(self, engine: Engine, call: Call) -> int:
        """Return a cautious estimate of the prompt tokens of a `call` without images, at most its bound."""
        other = PER_MESSAGE * len(call.messages) + self._template(engine)
        return sum(map(_estimated, _texts(call))) + _ids(call) + other

    async def count(self, engine: Engine, call: Call) -> int:
        """Return the engine's own count, plus an upper bound of images that it does not include.

        Raises CapabilityMissing without `tokenize`, and EngineError if the count fails.
        """
        counted = await engine.count_prompt(call)
        if not (images := images_of(call)):
            return counted
        learned = self._of(engine)
        if learned.counts_images is None:
            text = await engine.count_prompt(replace(call, messages=without_images(call.messages)))
            learned.counts_images = counted - text >= MIN_IMAGE_TOKENS * images
        return counted if learned.counts_images else counted + self._images(engine, call)

    def learn(self, engine: Engine, call: Call, reported: int, expected: int) -> None:
        """Record the prompt tokens that the engine reported for `call`, `expected` as returned here.

        An implausible report, which would end every later run at its limits, is not believed: of more tokens than the
        context window, MAX_TEMPLATE_TOKENS for a template or IMAGE_TOKENS for an image.
        """
        learned, images = self._of(engine), images_of(call)
        if engine.context_window is not None and reported > engine.context_window:
            return
        beyond = reported - text_bound(call)
        if not images:
            if beyond <= MAX_TEMPLATE_TOKENS:
                learned.template = max(learned.template, beyond)
            return
        if beyond > images * IMAGE_TOKENS + MAX_TEMPLATE_TOKENS:
            return
        learned.image = max(learned.image or 0, math.ceil(reported / images))
        if reported > expected:
            learned.counts_images = False

    def _template(self, engine: Engine) -> int:
        return max(self._of(engine).template, engine.template_tokens or 0)

    def _images(self, engine: Engine, call: Call) -> int:
        """Return an upper bound of the tokens of all images: the largest learned cost, times the images."""
        unknown = min(engine.context_window or IMAGE_TOKENS, IMAGE_TOKENS)
        learned = self._of(engine).image
        return images_of(call) * (unknown if learned is None else learned)

    def _of(self, engine: Engine) -> _Learned:
        return self._learned.setdefault((engine.name, engine.model), _Learned())


def images_of(call: Call) -> int:
    """Return the number of images in the messages of a call."""
    return sum(isinstance(part, ImagePart) for m in call.messages for part in _parts(m))


def text_bound(call: Call) -> int:
    """Return an upper bound of the tokens of messages, schema, stop strings and prefix, without images."""
    return sum(map(len, _texts(call))) + _ids(call) + PER_MESSAGE * len(call.messages)


def _texts(call: Call) -> Iterator[bytes]:
    """Yield the texts of messages, schema, stop strings and prefix in UTF-8."""
    for message in without_images(call.messages):
        yield message.model_dump_json(exclude_none=True).encode()
    yield (call.schema or "").encode()
    for stop in call.sampling.stop or ():
        yield stop.encode()
    for part in _prefix(call):
        if isinstance(part, str):
            yield part.encode()


def _ids(call: Call) -> int:
    """Return the number of tokens in the prefix."""
    return sum(isinstance(part, int) for part in _prefix(call))


def _prefix(call: Call) -> tuple[PrefixPart, ...]:
    return call.prefix if isinstance(call.prefix, tuple) else (call.prefix or "",)


def _estimated(text: bytes) -> int:
    """Return the estimated tokens of a text, at most its bytes.

    Digits, the spaces before them and signs have one token each, wide characters those in `_WIDE`, and other characters
    a third of their bytes.
    """
    dense = len(text) - len(text.translate(None, _DENSE))
    dense += sum(text.count(b" %d" % digit) for digit in range(10))
    wide = sum(size * text.count(lead) for lead, size, _ in _WIDE)
    tokens = sum(tokens * text.count(lead) for lead, _, tokens in _WIDE)
    return dense + math.ceil(tokens + (len(text) - dense - wide) / 3)


def without_images(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages with only the text parts of their content."""
    return tuple(
        message
        if isinstance(message.content, str | None)
        else message.model_copy(
            update={"content": tuple(p for p in message.content if isinstance(p, TextPart))}
        )
        for message in messages
    )


def _parts(message: Message) -> Iterator[TextPart | ImagePart]:
    yield from () if isinstance(message.content, str) else message.content or ()
