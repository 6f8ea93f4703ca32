"""What a draft leaves in vLLM's cache is found again, and a continuation goes on from the very tokens: over HTTP and in process."""

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
from secondpass.testing.support import bills, make_run
from tests.engines.in_process import in_process_engine, model_folder
from tools.local_vllm import VllmServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    # vLLM reads the field itself, and deprecates it for its clients.
    pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning"),
]

WIDTH = 16
SLOW = (pytest.mark.slow, pytest.mark.timeout(1200))
TOKENS = 48

Ids = tuple[int, ...]


@dataclass
class Subject:
    """An engine over a real vLLM, the prompts that reached vLLM as tokens, and where vLLM tells its metrics."""

    engine: Engine
    metrics_url: str | None
    prompts: list[Ids] = field(default_factory=list)

    async def count(self, name: str) -> int:
        """A counter of vLLM's own."""
        if self.metrics_url is None:
            told = generate_latest(REGISTRY).decode()
        else:
            async with httpx.AsyncClient(trust_env=False) as client:
                told = (await client.get(self.metrics_url)).text
        found = re.findall(rf"^vllm:{name}_total{{[^}}]*}} (\S+)$", told, re.MULTILINE)
        assert found, name
        return round(sum(map(float, found)))


@asynccontextmanager
async def over_http(server: VllmServer) -> AsyncIterator[Subject]:
    async with httpx.AsyncClient(transport=AiohttpTransport(), trust_env=False) as client:
        engine = HttpEngine("vllm", server.base_url, client=client)
        subject = Subject(engine, f"{server.root_url}/metrics")

        async def note(request: httpx.Request) -> None:
            if request.url.path == "/v1/completions":
                subject.prompts.append(tuple(json.loads(request.content)["prompt"]))

        await engine.start()
        assert engine.why_not_ready is None
        client.event_hooks = {"request": [note]}
        yield subject


@asynccontextmanager
async def in_process() -> AsyncIterator[Subject]:
    async with in_process_engine() as engine:
        subject = Subject(engine, None)
        client: Any = engine._client
        generate = client.generate

        def noted(prompt: Any, *args: Any, **options: Any) -> Any:
            subject.prompts.append(tuple(prompt["prompt_token_ids"]))
            return generate(prompt, *args, **options)

        client.generate = noted
        yield subject


@pytest.fixture(scope="module", params=["http", "in_process"])
async def subject(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Subject]:
    if request.param == "in_process":
        made = in_process()
    else:
        made = over_http(request.getfixturevalue("vllm_server"))
    async with made as subject:
        yield subject


# -- reads -------------------------------------------------------------------------------------------------------

FARM = (
    "A farmer has 17 sheep and 12 goats. He sells 5 sheep, buys 8 goats, and then gives a third of his goats "
    "to his neighbour. How many animals does he have left? Work it out step by step."
)


@pytest.mark.parametrize("reads", [12, pytest.param(50, marks=SLOW)])
async def test_a_probe_finds_its_draft_in_the_cache(
    reads: int,
    subject: Subject,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    own = {"is_right": "Is this solution right? Reply with one word, Yes or No."}
    monkeypatch.setattr(prompts, "PROMPTS", {**prompts.PROMPTS, **own})
    run = make_run(
        subject.engine,
        question=f"{FARM} There are {reads} ways to see it.",  # nothing of it is cached yet
        sampling=Sampling(temperature=1, seed=1, max_tokens=120),
    )
    drawn = await run.map(lambda index: run.ask(SOLVE, index=index), range(reads), width=WIDTH)
    drafts = [draft for draft in drawn if draft is not None]
    before = [await subject.count(name) for name in COUNTERS]

    async def probe(draft: Completion) -> None:
        read = await run.classify("is_right", ("Yes", "No"), after=draft)
        assert read.probabilities is not None
        assert sum(read.probabilities.values()) == pytest.approx(1)

    await run.map(probe, drafts, width=WIDTH)
    read = [bill for bill in bills(run) if bill.purpose == "is_right"]
    assert len(read) == reads
    record_property("cached share", await share_counted(subject, before, read))


COUNTERS = ("prefix_cache_queries", "prefix_cache_hits")


async def share_counted(
    subject: Subject, before: Sequence[int], read: Sequence[CallFinished]
) -> float:
    """The share of prompt tokens that came out of the cache, as vLLM counts since `before` and as we billed alike."""
    billed = [sum(bill.usage.prompt for bill in read), sum(bill.usage.cached for bill in read)]
    counted: list[int] = []
    with anyio.move_on_after(5):  # its counters come with the engine's next report
        while counted != billed:
            now = [await subject.count(name) for name in COUNTERS]
            counted = [one - other for one, other in zip(now, before, strict=True)]
            await anyio.sleep(0.05)
    assert counted == billed
    share = billed[1] / billed[0]
    assert share > 0.7
    return share


# -- continuations -----------------------------------------------------------------------------------------------

KINDS = ("greedy", "sampled", "greedy", "made")
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
    """The model's tokens, from its own files and not from vLLM."""

    tokenizer: Any

    def prompt(self, question: str) -> Ids:
        turns = [{"role": "user", "content": question}]
        return tuple(
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        )

    def of(self, text: str) -> Ids:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, ids: Ids) -> str:
        """The text of `ids`, up to a character that they break off in."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).rstrip("\ufffd")

    def are_odd(self, ids: Ids) -> bool:
        """Whether the text of `ids` is made of other tokens."""
        return self.of(self.tokenizer.decode(ids, skip_special_tokens=False)) != ids


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer  # noqa: PLC0415 - heavy

        return Tokens(AutoTokenizer.from_pretrained(model_folder()))


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=SLOW)])
async def test_a_draft_goes_on_from_its_own_tokens_as_if_never_stopped(
    count: int, subject: Subject, tokens: Tokens
) -> None:
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    limiter = anyio.CapacityLimiter(WIDTH)

    async def compare(place: int) -> None:
        kind, question = KINDS[place % len(KINDS)], QUESTIONS[place % len(QUESTIONS)]
        question = question.format(place + 3, place * 7 % 40)
        async with limiter:
            draft, given = await write(subject.engine, kind, question, place, tokens)
            ids = draft.token_ids
            cut = random.Random(place).choice(places_to_cut(ids, given, tokens))
            if kind == "sampled":
                kept = (Segment(tokens.text(ids[:cut]), ids[:cut]),)
                held = replace(draft, segments=kept)
            else:
                held, _ = await write(subject.engine, kind, question, place, tokens, cut - given)
            longer = await extend(subject.engine, held, len(ids) - cut)
        seen[kind] += 1
        seen["odd"] += tokens.are_odd(ids)
        where = f"{kind}, {question!r} after {cut}"
        if tokens.prompt(question) + held.token_ids not in subject.prompts:
            wrong.append(f"{where}: another prompt")
        if longer is not None and longer.token_ids[:cut] != held.token_ids:
            wrong.append(f"{where}: without its prefix")
        if kind != "sampled" and (longer is None or known(longer) != known(draft)):
            wrong.append(f"{where}: {longer and longer.text!r} and not {draft.text!r}")

    async with anyio.create_task_group() as group:
        for place in range(count):
            group.start_soon(compare, place)
    assert not wrong
    assert seen["greedy"] + seen["sampled"] + seen["made"] == count
    assert seen["odd"] >= count / 4


@pytest.mark.parametrize("is_finished", [False, True])
async def test_a_draft_goes_on_from_its_own_tokens_after_a_text_too(
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
    written = longer.token_ids[len(own) :]
    assert subject.prompts[-2] == first
    assert subject.prompts[-1] == first + written + tokens.of(unknown(longer) + text)
    assert longer.text.startswith(draft.text + text)
    assert again.text.startswith(longer.text + text)


async def write(
    engine: Engine, kind: str, question: str, place: int, tokens: Tokens, cap: int = TOKENS
) -> tuple[Completion, int]:
    """A draft, and how many of its first tokens are not the model's: those of ODD, a character at a time.

    The model writes no more than `cap` tokens.
    """
    if kind != "made":
        temperature = 0 if kind == "greedy" else 1.3
        sampling = Sampling(temperature=temperature, seed=place, max_tokens=cap)
        return await make_run(engine, question=question, sampling=sampling).ask(SOLVE), 0
    odd = ODD[place // len(KINDS) % len(ODD)]
    ids = tuple(token for character in odd for token in tokens.of(character))
    messages = (Message(role="user", content=question),)
    odd_draft = Completion(messages=messages, segments=(Segment(odd, ids),))
    draft = await extend(engine, odd_draft, cap)
    assert draft is not None
    return draft, len(ids)


def places_to_cut(ids: Ids, given: int, tokens: Tokens) -> list[int]:
    """After the first `given` tokens, where the model wrote more than white space before and after."""
    return [
        cut
        for cut in range(given + 1, len(ids))
        if tokens.text(ids[given:cut]).strip() and tokens.text(ids[cut:]).strip()
    ]


async def extend(engine: Engine, held: Completion, max_tokens: int) -> Completion | None:
    """`held` continued greedily; None where the model has nothing to add."""
    question = held.messages[-1].text
    run = make_run(engine, question=question, sampling=Sampling(temperature=0))
    # Another run wrote it, whose streams mean nothing to this one.
    own = replace(held, segments=tuple(replace(each, source=None) for each in held.segments))
    try:
        return await run.extend(own, draw=Draw(max_tokens=max_tokens))
    except UnusableCompletion:
        return None


def known(completion: Completion) -> tuple[Ids, str]:
    """All tokens but those that came with the end, which may be no text, and their text."""
    texts = (each.text for each in completion.segments if each.token_ids is not None)
    return completion.token_ids, "".join(texts)


def unknown(completion: Completion) -> str:
    """The text at the end of a completion that came with its end token; mostly empty."""
    last = completion.segments[-1]
    return last.text if last.token_ids is None else ""
