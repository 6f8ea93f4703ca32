"""docs/api.md contains every field, event, error code and enum value."""

import re
from pathlib import Path
from typing import get_args

from secondpass.service.common.errors import ClientDisconnected
from secondpass.service.common.events import CallEnd, Event
from secondpass.service.common.limits import RequestBudget
from secondpass.service.http import response_models
from secondpass.service.http.schema import SolveRequest
from secondpass.strategies.answers.task import TaskRequest
from secondpass.strategies.api.values import FinishReason, Role, Sampling, StopReason
from tests.docs.test_errors_page import codes

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_page_contains_every_field_event_and_code() -> None:
    page = PAGE.read_text()
    models = (
        SolveRequest,
        Sampling,
        RequestBudget,
        TaskRequest,
        response_models.Answer,
        response_models.StrategyCard,
    )
    words = {field for model in models for field in model.model_fields} - {"name"}
    words |= {event.type for event in Event.__subclasses__()}
    words |= set(codes())
    unsent = ClientDisconnected.code  # the client has disconnected
    missing = {word for word in words if not re.search(rf"[`\"]{word}[`\"]", page)}
    assert missing <= {unsent}


def test_page_contains_every_stop_reason_finish_reason_role_and_call_end() -> None:
    page = PAGE.read_text()
    values = {*get_args(StopReason), *get_args(FinishReason), *get_args(Role), *get_args(CallEnd)}
    assert {value for value in values if f"`{value}`" not in page} == set()
