"""All functions that read text of clients, models, engines or upstreams on the event loop."""

import json
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from secondpass.service.calls.delivered import Delivered
from secondpass.service.calls.prompt_size import PromptSizes
from secondpass.service.calls.repetition import ends_with_loop
from secondpass.service.common import (
    client_messages,
    errors,
    json_text,
    routing_headers,
    strict_json,
    validation,
)
from secondpass.service.engines.common import status_codes
from secondpass.service.engines.common.redaction import Redactor, masked
from secondpass.service.engines.openai import finish_reasons, message_text
from secondpass.service.engines.openai.connection import MAX_ERROR_BYTES
from secondpass.service.engines.openai.usage import usage_of
from secondpass.service.engines.scripted.tokens import _TOKEN as SCRIPTED_TOKEN
from secondpass.service.http import chat_schema, resolve, schema
from secondpass.service.sandbox.report import parsed_report
from secondpass.strategies import prompts
from secondpass.strategies.answers import code, fences, task_guess
from secondpass.strategies.answers.forms import normal_form, units
from secondpass.strategies.answers.forms.partition import partition
from secondpass.strategies.answers.markers import first_turn
from secondpass.strategies.answers.task import Task, brace_depth, extract, guess, normalise
from secondpass.strategies.api import model_profiles, quoting
from secondpass.strategies.api.engine import Call, Delta
from secondpass.strategies.api.errors import SecondpassError
from secondpass.strategies.api.step_splitter import split_steps
from secondpass.strategies.api.values import Candidate, Completion, Message
from secondpass.strategies.continuation import forced_answer, reasoning, safe_points
from secondpass.strategies.judging import reply_schemas
from secondpass.strategies.refining import retries, revision_chain
from secondpass.strategies.voting.json_fields import FieldVote, fields_of
from secondpass.strategies.voting.medoid import Medoid
from tests.hostile_text.timing import Use

TASKS = {
    "math": Task(kind="math"),
    "choice": Task(kind="choice", options=("an apple", "a banana", "a cherry")),
    "code": Task(kind="code"),
    "open": Task(kind="open"),
}

FRAMES: dict[str, tuple[str, str]] = {
    "tag": ("<answer>", "</answer>"),
    "box": ("\\boxed{", "}"),
    "open box": ("\\boxed{", ""),
    "statement": ("The answer is ", ""),
    "last": ("", ". The answer is 7."),
    "field": ('{"answer": "', '"}'),
    "fence": ("```python\n", "\n```\n"),
    "second fence": ("```python\ny = 1\n```\n```python\nz = y\n", "\n```\n"),
    "json fence": ("```json\n{", "}\n```\n"),
    "definition": ("def f(x):\n", "\n"),
    "reasoning": ("<think>", "</think> 7"),
    "object": ("{", "}"),
    "list": ("[", "]"),
}
"""Surroundings that lead a parser to the text within: the text before and after it."""


_REDACTOR = Redactor("e", "http://10.0.0.1:8000", ("secret key/1", "EMPTY"))
_SERVICE: Any = SimpleNamespace(settings=SimpleNamespace(allow_image_hosts=()))


def _quiet(use: Use) -> Use:
    """Return a function that ignores the errors that a parser documents."""

    def run(text: str) -> object:
        with suppress(SecondpassError, ValidationError):
            return use(text)
        return None

    return run


def _call(text: str) -> Call:
    return Call(role="actor", purpose="solve", messages=(Message(role="user", content=text),))


def _completion(text: str, **rest: Any) -> Completion:
    return Completion.of(text, (Message(role="user", content="?"),), **rest)


def _body(text: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], "a": 1}).encode()


def _solve(text: str) -> object:
    body = {"messages": [{"role": "user", "content": text}], "strategy": {"name": text[:10]}}
    return schema.validate(schema.SolveRequest, body)


def _conversation(text: str) -> object:
    turn = client_messages.ClientMessage(role="user", content=text)
    return resolve.read_conversation(_SERVICE, [turn])


def _reflection(text: str, **rest: Any) -> object:
    return reasoning.reflection_point(_completion(text, **rest), model_profiles.profile_of("qwen3"))


def _voted(text: str) -> object:
    vote = FieldVote()
    for index in range(2):
        vote.add(Candidate(text=text, answer=text, index=index))
    return vote.leader


def _elected(text: str) -> object:
    medoid = Medoid()
    for index in range(2):
        medoid.add(Candidate(text=text + str(index), index=index))
    return medoid.leader


def _estimated(text: str) -> object:
    engine: Any = SimpleNamespace(name="e", model="m", context_window=None, template_tokens=None)
    sizes, call = PromptSizes(), _call(text)
    return sizes.bound(engine, call), sizes.estimate(engine, call)


def _delivered(text: str) -> int:
    delivered = Delivered(1)
    delivered.add(Delta(0, text))
    return delivered.estimate(10**6)


def _partitioned(text: str) -> object:
    return partition([normal_form.normal_form(text), normal_form.normal_form(text + "1")], None)


def _message_of_invalid_value(text: str) -> object:
    try:
        return Message(role="user", content=text, name={text: text})  # type: ignore[arg-type]
    except ValidationError as error:
        return [validation.message_with_value(each) for each in error.errors()]


PARSERS: dict[str, Use] = {
    # answers
    **{f"extract {kind}": partial(extract, task) for kind, task in TASKS.items()},
    **{
        f"extract truncated {kind}": partial(extract, task, finished=False)
        for kind, task in TASKS.items()
    },
    **{f"normalise {kind}": partial(normalise, task) for kind, task in TASKS.items()},
    "guess": guess,
    "options": task_guess.options,
    "is_quantitative": task_guess.is_quantitative,
    "brace_depth": brace_depth,
    "asked_unit": units.asked_unit,
    "partition": _partitioned,
    "segments": lambda text: list(fences.segments(text)),
    "first_turn": first_turn,
    "code.normalise": code.normalise,
    # prompts
    "disarm": quoting.disarm,
    "has_tokens": quoting.has_tokens,
    "degenerate": quoting.degenerate,
    "quoted": lambda text: quoting.quoted({"candidate": text}, "0123456789abcdef"),
    "boundary_of": lambda text: quoting.boundary_of(b"s", "p", {"candidate": text}),
    "fill": lambda text: prompts.fill("critique", {"candidate": text, "question": text}),
    "profile_of": lambda text: model_profiles.profile_of(text[:300]),
    "conclusion": lambda text: model_profiles.profile_of("qwen3").conclusion(text),
    "conclusion of gpt-oss": lambda text: model_profiles.profile_of("gpt-oss").conclusion(text),
    # judges and critics
    "parse_reply": lambda text: reply_schemas.parse_reply(text, reply_schemas.Critique),
    "parse_label": lambda text: reply_schemas.parse_label(text, ("yes", "no")),
    "parse_label_object": lambda text: reply_schemas.parse_label_object(text, ("yes", "no")),
    "parse_scores": lambda text: reply_schemas.parse_scores(text, 2),
    "split_review": lambda text: revision_chain.split_review(text, is_open=True),
    "loses_numbers": lambda text: retries.loses_numbers(text, text),
    "split_steps": split_steps,
    # continuations
    "is_safe_end": safe_points.is_safe_end,
    "last_safe_point": safe_points.last_safe_point,
    "parse_forced_answer": lambda text: forced_answer.parse_forced_answer(TASKS["math"], text),
    "forced letter": lambda text: forced_answer.parse_forced_answer(TASKS["choice"], text),
    "reflection_point": _reflection,
    "reflection_point of a truncated text": lambda text: _reflection(text, finish_reason="length"),
    "reflection_point in reasoning": lambda text: _reflection("7", reasoning=text),
    # votes
    "fields_of": fields_of,
    "field vote": _voted,
    "medoid": _elected,
    # requests
    "decode": lambda text: strict_json.decode(_body(text)),
    "decode raw": lambda text: strict_json.decode(text.encode()),
    "without_member": lambda text: json_text.without_member(_body(text), "a"),
    "SolveRequest": _solve,
    "ChatRequest": lambda text: chat_schema.validate_chat(
        {"model": text, "messages": json.loads(_body(text))["messages"]}
    ),
    "conversation": _conversation,
    "is_blank": resolve.is_blank,
    "is_token": routing_headers.is_token,
    "is_value": routing_headers.is_value,
    "session_of": lambda text: routing_headers.session_of({"x-session-id": text}, {}),
    "opening_of": lambda text: routing_headers.opening_of(json.loads(_body(text))),
    "error messages": _message_of_invalid_value,
    "excerpt": errors.excerpt,
    "prompt sizes": _estimated,
    # engines
    "clean": lambda text: _REDACTOR.clean(text[:MAX_ERROR_BYTES]),  # most bytes of an error
    "for_client": _REDACTOR.for_client,
    "for_log": _REDACTOR.for_log,
    "masked": lambda text: masked(text.encode(), _REDACTOR.secrets),
    "status excerpt": status_codes.excerpt,
    "parse_object": status_codes.parse_object,
    "error_message": lambda text: status_codes.error_message({"error": {"message": text}}),
    "error_status": lambda text: status_codes.error_status({"type": text, "code": text}),
    "parse_retry_after": status_codes.parse_retry_after,
    "is_unfinished": finish_reasons.is_unfinished,
    "text_of": lambda text: message_text.text_of(
        {"delta": {"content": [{"type": "text", "text": text}]}}
    ),
    "usage_of": lambda text: usage_of({"usage": {"prompt_tokens": text}}),
    "scripted tokens": SCRIPTED_TOKEN.findall,
    "delivered": _delivered,
    "ends_with_loop": lambda text: ends_with_loop(text[-8192:].encode()),
    "sandbox report": lambda text: parsed_report(text.encode()),
}
PARSERS = {name: _quiet(use) for name, use in PARSERS.items()}
