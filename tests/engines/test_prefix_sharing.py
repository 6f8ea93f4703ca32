"""Prefix cache hits and exact continuations on vLLM, over HTTP and in process."""

from __future__ import annotations

import json
import random
import re
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from prometheus_client import REGISTRY, generate_latest

from secondpass.service.common.events import CallFinished
from secondpass.service.engines.openai.engine import HttpEngine
from secondpass.strategies import prompts
from secondpass.strategies.api.engine import Engine
from secondpass.strategies.api.errors import UnusableCompletion
from secondpass.strategies.api.values import (
    SOLVE,
    Completion,
    Draw,
    Message,
    Sampling,
    Segment,
)
from secondpass.testing.support import call_records, make_run
from tests.engines.in_process import in_process_engine, model_folder
from tools.local_vllm import VllmServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    # vLLM itself reads the field that it deprecates.
    pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning"),
]

WIDTH = 16
SLOW = (pytest.mark.slow, pytest.mark.timeout(1200))
TOKENS = 48

Ids = tuple[int, ...]


@dataclass
class Subject:
    """An engine for a real vLLM, the token prompts that reached vLLM, and the URL of its metrics.

    `metrics_url` is None in process.
    """

    engine: Engine
    metrics_url: str | None
    prompts: list[Ids] = field(default_factory=list)

    async def count(self, name: str) -> int:
        """Return the value of vLLM's counter `name`."""
        if self.metrics_url is None:
            metrics = generate_latest(REGISTRY).decode()
        else:
            async with httpx.AsyncClient(trust_env=False) as client:
                metrics = (await client.get(self.metrics_url)).text
        values = re.findall(rf"^vllm:{name}_total{{[^}}]*}} (\S+)$", metrics, re.MULTILINE)
        assert values, name
        return round(sum(map(float, values)))


@asynccontextmanager
async def over_http(server: VllmServer) -> AsyncIterator[Subject]:
    async with httpx.AsyncClient(transport=AiohttpTransport(), trust_env=False) as client:
        engine = HttpEngine("vllm", server.base_url, client=client)
        subject = Subject(engine, f"{server.root_url}/metrics")

        async def record(request: httpx.Request) -> None:
            if request.url.path == "/v1/completions":
                subject.prompts.append(tuple(json.loads(request.content)["prompt"]))

        await engine.start()
        assert engine.why_not_ready is None
        client.event_hooks = {"request": [record]}
        yield subject


@asynccontextmanager
async def in_process() -> AsyncIterator[Subject]:
    async with in_process_engine() as engine:
        subject = Subject(engine, None)
        client: Any = engine._client
        generate = client.generate

        def recorded(prompt: Any, *args: Any, **options: Any) -> Any:
            subject.prompts.append(tuple(prompt["prompt_token_ids"]))
            return generate(prompt, *args, **options)

        client.generate = recorded
        yield subject


@pytest.fixture(scope="module", params=["http", "in_process"])
async def subject(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Subject]:
    if request.param == "in_process":
        context = in_process()
    else:
        context = over_http(request.getfixturevalue("vllm_server"))
    async with context as subject:
        yield subject


# -- label reads -------------------------------------------------------------------------------------------------

FARM = (
    "A farmer has 17 sheep and 12 goats. He sells 5 sheep, buys 8 goats, and then gives a third of his goats "
    "to his neighbour. How many animals does he have left? Work it out step by step."
)


@pytest.mark.parametrize("reads", [12, pytest.param(50, marks=SLOW)])
async def test_a_label_read_after_a_draft_hits_the_prefix_cache(
    reads: int,
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    own = {"is_right": "Is this solution right? Reply with one word, Yes or No."}
    monkeypatch.setattr(prompts, "PROMPTS", {**prompts.PROMPTS, **own})
    run = make_run(
        subject.engine,
        question=f"{FARM} There are {reads} ways to see it.",  # a prompt that is not cached yet
        sampling=Sampling(temperature=1, seed=1, max_tokens=120),
    )
    drawn = await run.map(lambda index: run.ask(SOLVE, index=index), range(reads), width=WIDTH)
    drafts = [draft for draft in drawn if draft is not None]
    before = [await subject.count(name) for name in COUNTERS]

    async def classify(draft: Completion) -> None:
        read = await run.classify("is_right", ("Yes", "No"), after=draft)
        assert read.probabilities is not None
        assert sum(read.probabilities.values()) == pytest.approx(1)

    await run.map(classify, drafts, width=WIDTH)
    calls = [call for call in call_records(run) if call.purpose == "is_right"]
    assert len(calls) == reads
    record_property("cached share", await cached_share(subject, before, calls))


COUNTERS = ("prefix_cache_queries", "prefix_cache_hits")


async def cached_share(
    subject: Subject, before: Sequence[int], calls: Sequence[CallFinished]
) -> float:
    """Return the share of cached prompt tokens in `calls`.

    The usage of the calls must equal the increase of vLLM's counters since `before`.
    """
    charged = [sum(call.usage.prompt for call in calls), sum(call.usage.cached for call in calls)]
    counted: list[int] = []
    with anyio.move_on_after(5):  # the counters are updated with the engine's next report
        while counted != charged:
            now = [await subject.count(name) for name in COUNTERS]
            counted = [one - other for one, other in zip(now, before, strict=True)]
            await anyio.sleep(0.05)
    assert counted == charged
    share = charged[1] / charged[0]
    assert share > 0.7
    return share


# -- continuations -----------------------------------------------------------------------------------------------

KINDS = ("greedy", "sampled", "greedy", "retokenized")
QUESTIONS = (
    "What is {0} + {1}? Explain it at length.",
    "Tell me a story about {0} foxes and {1} hens.",
    "Write {0} Python functions that add {1}, with   wide    spaces.",
    "Erzähle mir etwas über {0} Äpfel, 🦊 und {1} Birnen.",
    "Is {0} > {1}? Say why.",
)
ODD = (
    "Well  ,   naïve 🦊🐔 façades …",
    "x=1;\n\n\n\n  y = 2",
    "ﬁne “quotes” 東京\t\t",
    "unbelievable",
)


@dataclass(frozen=True)
class Tokens:
    """The model's tokenizer, loaded from its files without vLLM."""

    tokenizer: Any

    def prompt(self, question: str) -> Ids:
        turns = [{"role": "user", "content": question}]
        return tuple(
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        )

    def of(self, text: str) -> Ids:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, ids: Ids) -> str:
        """Return the text of `ids` without an incomplete last character."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).rstrip("\ufffd")

    def are_odd(self, ids: Ids) -> bool:
        """Return whether the text of `ids` tokenizes to other tokens."""
        return self.of(self.tokenizer.decode(ids, skip_special_tokens=False)) != ids


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer  # noqa: PLC0415 - heavy

        return Tokens(AutoTokenizer.from_pretrained(model_folder()))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=SLOW)])
async def test_a_continuation_of_a_draft_equals_a_draft_without_interruption(
    count: int, subject: Subject, tokens: Tokens
) -> None:
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    limiter = anyio.CapacityLimiter(WIDTH)

    async def compare(number: int) -> None:
        kind, question = KINDS[number % len(KINDS)], QUESTIONS[number % len(QUESTIONS)]
        question = question.format(number + 3, number * 7 % 40)
        async with limiter:
            draft, given = await draw(subject.engine, kind, question, number, tokens)
            ids = draft.token_ids
            length = random.Random(number).choice(prefix_lengths(ids, given, tokens))
            if kind == "sampled":
                segments = (Segment(tokens.text(ids[:length]), ids[:length]),)
                prefix = replace(draft, segments=segments)
            else:
                limit = length - given
                prefix, _ = await draw(subject.engine, kind, question, number, tokens, limit)
            longer = await extend(subject.engine, prefix, len(ids) - length)
        seen[kind] += 1
        seen["odd"] += tokens.are_odd(ids)
        where = f"{kind}, {question!r} after {length}"
        if tokens.prompt(question) + prefix.token_ids not in subject.prompts:
            wrong.append(f"{where}: another prompt")
        if longer is not None and longer.token_ids[:length] != prefix.token_ids:
            wrong.append(f"{where}: without its prefix")
        if kind != "sampled" and (longer is None or known(longer) != known(draft)):
            wrong.append(f"{where}: {longer and longer.text!r} instead of {draft.text!r}")

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(compare, number)
    assert not wrong
    assert seen["greedy"] + seen["sampled"] + seen["retokenized"] == count
    assert seen["odd"] >= count / 4


@pytest.mark.parametrize("is_finished", [False, True])
async def test_a_continuation_after_an_inserted_text_keeps_the_tokens_of_the_draft(
    is_finished: bool, subject: Subject, tokens: Tokens
) -> None:
    question, text = "Say hello, in one short sentence.", "\n\nWait, 🦊 let me see.\n\n"
    sampling = Sampling(temperature=0, max_tokens=200)
    run = make_run(subject.engine, question=question, sampling=sampling)
    draw = Draw() if is_finished else Draw(max_tokens=4)
    draft = await run.ask(SOLVE, draw=draw, resumable=True)
    assert draft.is_truncated != is_finished
    own = draft.token_ids
    assert own
    longer = await run.extend(draft, text=text, draw=Draw(max_tokens=6), resumable=True)
    again = await run.extend(longer, text=text, draw=Draw(max_tokens=6))
    first = tokens.prompt(question) + own + tokens.of(unknown(draft) + text)
    added = longer.token_ids[len(own) :]
    assert subject.prompts[-2] == first
    assert subject.prompts[-1] == first + added + tokens.of(unknown(longer) + text)
    assert longer.text.startswith(draft.text + text)
    assert again.text.startswith(longer.text + text)


async def draw(
    engine: Engine, kind: str, question: str, number: int, tokens: Tokens, limit: int = TOKENS
) -> tuple[Completion, int]:
    """Return a draft, and the number of its first tokens that the model did not generate.

    Those are a text of ODD, tokenized one character at a time. The model generates at most `limit` tokens.
    """
    if kind != "retokenized":
        temperature = 0 if kind == "greedy" else 1.3
        sampling = Sampling(temperature=temperature, seed=number, max_tokens=limit)
        return await make_run(engine, question=question, sampling=sampling).ask(SOLVE), 0
    odd = ODD[number // len(KINDS) % len(ODD)]
    ids = tuple(token for character in odd for token in tokens.of(character))
    messages = (Message(role="user", content=question),)
    odd_draft = Completion(messages=messages, segments=(Segment(odd, ids),))
    draft = await extend(engine, odd_draft, limit)
    assert draft is not None
    return draft, len(ids)


def prefix_lengths(ids: Ids, given: int, tokens: Tokens) -> list[int]:
    """Return the prefix lengths above `given` that leave generated, visible text on both sides."""
    return [
        length
        for length in range(given + 1, len(ids))
        if tokens.text(ids[given:length]).strip() and tokens.text(ids[length:]).strip()
    ]


async def extend(engine: Engine, prefix: Completion, max_tokens: int) -> Completion | None:
    """Return the greedy continuation of `prefix`; None if the model adds nothing."""
    question = prefix.messages[-1].text
    run = make_run(engine, question=question, sampling=Sampling(temperature=0))
    # The sources are streams of another run, which are invalid in this one.
    own = replace(prefix, segments=tuple(replace(each, source=None) for each in prefix.segments))
    try:
        return await run.extend(own, draw=Draw(max_tokens=max_tokens))
    except UnusableCompletion:
        return None


def known(completion: Completion) -> tuple[Ids, str]:
    """Return all token ids, and the text of the segments with token ids.

    That excludes text that came with the end token.
    """
    texts = (each.text for each in completion.segments if each.token_ids is not None)
    return completion.token_ids, "".join(texts)


def unknown(completion: Completion) -> str:
    """Return the text that came with the completion's end token; usually empty."""
    last = completion.segments[-1]
    return last.text if last.token_ids is None else ""
