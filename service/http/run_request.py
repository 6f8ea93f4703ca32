"""A run as the routes execute it: counted, measured, and ended when its client leaves or the service drains."""

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
    """A fresh name for a run."""
    return f"{prefix}{uuid.uuid4().hex}"


async def perform(
    request: Request, spec: RunSpec, trace: Trace, subscriber: Subscriber | None = None
) -> Outcome:
    """Execute the run. Raises HttpError and its kinds, NotAdmitted among them, and nothing else."""
    service = service_of(request)
    trace.subscribe(service.metrics.subscriber(spec.strategy.name))
    if subscriber is not None:
        trace.subscribe(subscriber)
    run = LiveRun(spec, service.shared, trace)
    with service.traffic.run(run), failing_in_http(request.state.request_id, spec.id):
        return await execute(run)


@contextmanager
def failing_in_http(request: str, run: str) -> Iterator[None]:
    """Turn every error of the block into its HttpError; a defect of ours is logged under these ids."""
    try:
        yield
    except HttpError:
        raise
    except (
        Exception
    ) as error:  # the boundary: a client must learn that its run failed, whatever the reason
        failure = as_http_error(error)
        if isinstance(failure, Internal):
            logger.exception("request %s, run %s: failed by a defect", request, run)
        raise failure from error
