"""Upper bounds of the prompt tokens of calls, for engines that cannot count them.

A text has at most one token for each UTF-8 byte. The tokens of a chat template and of an image do not show in the text:
they are learned from the prompt tokens that the engine reports. Engines differ, so each model has its own figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from secondpass.strategies.api.engine import Call, Engine
from secondpass.strategies.api.values import ImagePart, Message, TextPart

PER_MESSAGE = 16
"""Chat template tokens assumed for each message."""

IMAGE_TOKENS = 16_384
"""Tokens assumed for an image of a model that has reported none: the largest image of common models."""

MIN_IMAGE_TOKENS = 16
"""Tokens by which a count grows for each image if it includes images. A mere placeholder has fewer."""


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
        learned = self._of(engine)
        template = max(learned.template, engine.template_tokens or 0)
        return text_bound(call) + template + self._images(engine, call)

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
        """Record the prompt tokens that the engine reported for `call`, `expected` as returned here."""
        learned, images = self._of(engine), images_of(call)
        if not images:
            learned.template = max(learned.template, reported - text_bound(call))
            return
        learned.image = max(learned.image or 0, math.ceil(reported / images))
        if reported > expected:
            learned.counts_images = False

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
    """Return an upper bound of the tokens of messages, schema and prefix, without images."""
    texts = sum(
        len(message.model_dump_json(exclude_none=True).encode())
        for message in without_images(call.messages)
    )
    schema = len((call.schema or "").encode())
    prefix = call.prefix or ""
    parts = prefix if isinstance(prefix, tuple) else (prefix,)
    bound = sum(1 if isinstance(part, int) else len(part.encode()) for part in parts)
    return texts + PER_MESSAGE * len(call.messages) + schema + bound


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
