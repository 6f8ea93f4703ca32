"""Upper bounds of prompt tokens: chat templates, images, and limits that hold before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondpass.service.calls.prompt_size import (
    IMAGE_TOKENS,
    PER_MESSAGE,
    PromptSizes,
    images_of,
    text_bound,
    without_images,
)
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import BudgetExhausted
from secondpass.strategies.api.values import (
    Capability,
    ContentPart,
    ImagePart,
    ImageURL,
    Message,
    ReportedUsage,
    Sampling,
    TextPart,
)
from secondpass.testing.support import ON_BOTH_BACKENDS
from tests.calls.calls_support import CALL, CallHarness, PlannedEngine

pytestmark = pytest.mark.anyio

NO_COUNT: frozenset[Capability] = frozenset({"tokenize"})
PICTURE = "https://images.example/a.png"


@dataclass
class TemplateEngine(PlannedEngine):
    """Engine with known sizes: one token per byte of text, `template` tokens, and `image` per image.

    Its own count includes images only with `counts_images`.
    """

    template: int = 0
    image: int = 0
    counts_images: bool = True
    known_template: int | None = None
    counted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.plan = self._plan

    @property
    def template_tokens(self) -> int | None:
        return self.known_template

    def prompt_tokens(self, call: Call, *, has_images: bool = True) -> int:
        text = sum(len(m.text.encode()) for m in call.messages)
        return text + self.template + (images_of(call) * self.image if has_images else 0)

    async def count_prompt(self, call: Call) -> int:
        self.counted += 1
        return self.prompt_tokens(call, has_images=self.counts_images)

    def _plan(self, call: Call, _: int) -> Iterable[Delta]:
        usage = ReportedUsage(prompt=self.prompt_tokens(call), completion=1)
        yield Delta(text="Yes", tokens=1, finish_reason="stop", usage=usage)


def conversation(texts: Sequence[str], images: int = 0) -> Call:
    """Return a call with one user message per text; the first also has `images` images."""
    picture = ImagePart(type="image_url", image_url=ImageURL(url=PICTURE))
    messages = []
    for position, text in enumerate(texts):
        pictures = [picture] * (0 if position else images)
        parts: tuple[ContentPart, ...] = (TextPart(type="text", text=text), *pictures)
        messages.append(Message(role="user", content=parts if images else text))
    return replace(CALL, messages=tuple(messages))


def harness(engine: TemplateEngine, limit: int | None = None) -> CallHarness:
    return CallHarness(engine, {} if limit is None else {"max_prompt_tokens": limit})


async def spend(bench: CallHarness, call: Call) -> int:
    """Make the call and return the prompt tokens that all calls have spent."""
    await bench.perform(call)
    return int(bench.budget.spent["prompt_tokens"])


@ON_BOTH_BACKENDS
async def test_a_prompt_limit_holds_on_an_engine_with_a_long_template_known_from_its_probe() -> (
    None
):
    engine = TemplateEngine(lacking=NO_COUNT, template=500, known_template=500)
    bench = harness(engine, 400)
    with pytest.raises(BudgetExhausted) as error:
        await bench.perform(conversation(["Hello"]))
    assert error.value.kind == "prompt_tokens"
    assert engine.calls == []
    assert await spend(harness(engine, 800), conversation(["Hello"])) == 505


@ON_BOTH_BACKENDS
async def test_the_tokens_of_a_template_are_learned_from_a_report() -> None:
    engine = TemplateEngine(lacking=NO_COUNT, template=500)
    free = harness(engine)
    assert await spend(free, conversation(["Hello"])) == 505
    bench = harness(engine, 450)
    bench.stats.prompts._learned = free.stats.prompts._learned
    with pytest.raises(BudgetExhausted):
        await bench.perform(conversation(["Hello"]))
    assert len(engine.calls) == 1


@ON_BOTH_BACKENDS
async def test_images_are_counted_where_the_count_of_the_engine_includes_them() -> None:
    engine = TemplateEngine(template=4, image=300)
    bench = harness(engine, 310)
    assert await spend(bench, conversation(["Hello"], images=1)) == 309
    bench.assert_consistent()


@ON_BOTH_BACKENDS
async def test_an_image_costs_what_the_largest_one_so_far_did_where_counts_lack_images() -> None:
    engine = TemplateEngine(template=4, image=300, counts_images=False)
    free = harness(engine)
    await free.perform(conversation(["Hello"], images=1))
    for limit, fits in ((310, False), (330, True)):
        bench = harness(engine, limit)
        bench.stats.prompts._learned = free.stats.prompts._learned
        if fits:
            assert await spend(bench, conversation(["Hello"], images=1)) == 309
            continue
        with pytest.raises(BudgetExhausted) as error:
            await bench.perform(conversation(["Hello"], images=1))
        assert error.value.kind == "prompt_tokens"
    assert len(engine.calls) == 2


@ON_BOTH_BACKENDS
@pytest.mark.parametrize(("window", "tokens"), [(4096, 4096), (None, IMAGE_TOKENS)])
async def test_the_first_image_of_a_model_costs_as_much_as_any_image_can(
    window: int | None, tokens: int
) -> None:
    engine = TemplateEngine(lacking=NO_COUNT, image=300, window=window)
    call = conversation(["Hello"], images=1)
    bound = PromptSizes().bound(engine, call)
    assert bound == text_bound(call) + tokens
    with pytest.raises(BudgetExhausted):
        await harness(engine, bound - 1).perform(call)
    assert engine.calls == []
    assert await spend(harness(engine, bound), call) == 305


@ON_BOTH_BACKENDS
async def test_every_prompt_is_counted_when_the_request_limits_prompt_tokens() -> None:
    engine = TemplateEngine(template=4)
    for counts in (False, True):
        bench = harness(engine, 1_000_000)
        bench.budget.counts_prompts = counts
        await bench.perform(conversation(["Hello"]))
        assert engine.counted == int(counts)


def test_the_bytes_of_an_image_are_not_counted_as_tokens() -> None:
    call = conversation(["Hello"], images=1)
    data = "data:image/png;base64," + "A" * 100_000
    part = ImagePart(type="image_url", image_url=ImageURL(url=data))
    large = replace(call, messages=(Message(role="user", content=(part,)),))
    assert text_bound(large) < 100
    assert images_of(large) == images_of(call) == 1
    assert images_of(replace(large, messages=without_images(large.messages))) == 0


@given(
    texts=st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=3),
    template=st.integers(0, 2_000),
    image=st.integers(0, 2_000),
    images=st.integers(0, 3),
    limit=st.integers(1, 6_000),
    lacks_count=st.booleans(),
    counts_images=st.booleans(),
)
async def test_prompt_tokens_never_exceed_their_limit(
    texts: list[str],
    template: int,
    image: int,
    images: int,
    limit: int,
    lacks_count: bool,
    counts_images: bool,
) -> None:
    engine = TemplateEngine(
        lacking=NO_COUNT if lacks_count else frozenset(),
        template=template,
        known_template=template,
        image=image,
        counts_images=counts_images,
    )
    bench = harness(engine, limit)
    for _ in range(3):
        with suppress(BudgetExhausted):
            await bench.perform(conversation(texts, images))
        assert bench.budget.spent["prompt_tokens"] <= limit
    sent = sum(engine.prompt_tokens(call) for call in engine.calls)
    assert bench.budget.spent["prompt_tokens"] == sent


def test_the_prompt_bound_is_its_bytes_plus_a_constant_per_message() -> None:
    for count in (1, 3):
        call = conversation(["Grüße"] * count)
        size = len(call.messages[0].model_dump_json(exclude_none=True).encode())
        assert text_bound(call) == count * (size + PER_MESSAGE)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=16))
def test_stop_strings_count_in_the_bound(stops: list[str]) -> None:
    plain = conversation(["hi"])
    call = replace(plain, sampling=Sampling(stop=tuple(stops)))
    size = sum(len(stop.encode()) for stop in stops)
    assert text_bound(call) - text_bound(plain) == size
