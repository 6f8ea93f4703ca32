"""Execution of a run for a route: admission, metrics, and errors as HttpError."""

from __future__ import annotations

import logging
import uuid

from starlette.requests import Request

from secondpass.service.common.errors import HttpError, release
from secondpass.service.common.events import Subscriber, Trace
from secondpass.service.http.problems import Internal, StrategyFailed, as_http_error
from secondpass.service.http.state import service_of
from secondpass.service.runs.execute import execute, usage_record
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
    with service.traffic.run(run):
        try:
            return await execute(run)
        except HttpError:
            raise
        except Exception as error:  # the client must be informed of any failure
            failure = as_http_error(error)
            if isinstance(failure, Internal):
                failure = StrategyFailed(spec.strategy.name, usage_record(run))
                logger.exception(
                    "request %s, run %s: internal error", request.state.request_id, spec.id
                )
            release(error)
            raise failure from None
        finally:
            for each in run.failures.values():
                release(each)
