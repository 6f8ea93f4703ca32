"""Execution of a run for a route: admission, metrics, and errors as HttpError."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from secondpass.service.common.errors import HttpError
from secondpass.service.common.events import Subscriber, Trace
from secondpass.service.http.problems import Internal, as_http_error
from secondpass.service.http.state import service_of
from secondpass.service.runs.execute import execute
from secondpass.service.runs.outcome import Outcome
from secondpass.service.runs.run import LiveRun
from secondpass.service.runs.run_spec import RunSpec

logger = logging.getLogger(__name__)


def new_id(prefix: str) -> str:
    """Return a new id for a run, with a prefix."""
    return f"{prefix}{uuid.uuid4().hex}"


async def execute_run(
    request: Request, spec: RunSpec, trace: Trace, subscriber: Subscriber | None = None
) -> Outcome:
    """Execute the run. Raises only HttpError, for example NotAdmitted."""
    service = service_of(request)
    trace.subscribe(service.metrics.subscriber(spec.strategy.name))
    if subscriber is not None:
        trace.subscribe(subscriber)
    run = LiveRun(spec, service.shared, trace)
    with service.traffic.run(run), as_http_errors(request.state.request_id, spec.id):
        return await execute(run)


@contextmanager
def as_http_errors(request_id: str, run_id: str) -> Iterator[None]:
    """Convert every exception of the block to an HttpError. Internal errors are logged with both ids."""
    try:
        yield
    except HttpError:
        raise
    except Exception as error:  # the client must be informed of any failure
        failure = as_http_error(error)
        if isinstance(failure, Internal):
            logger.exception("request %s, run %s: internal error", request_id, run_id)
        raise failure from error
