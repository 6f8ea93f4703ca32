"""Error responses: RFC 9457 problem details, and OpenAI's error objects below /v1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from secondpass.service.common.errors import (
    DeadlineExceeded,
    EngineFailed,
    EngineOverloaded,
    HttpError,
    InvalidRequest,
    Malformed,
    NoAnswerWithinBudget,
    NotFound,
    ReasoningOverLimit,
    describe,
    excerpt,
)
from secondpass.service.http.encoding import dumps, error_members
from secondpass.strategies.api.errors import (
    DEFAULT_RETRY_AFTER,
    CallRejected,
    CapabilityMissing,
    EngineError,
    EngineUnavailable,
    RoleMissing,
)

OPENAI_PATHS = "/v1"


class Internal(HttpError):
    """A defect of the service. The cause is logged and not returned."""

    status = 500
    code = "internal"


class StrategyFailed(Internal):
    """An unexpected exception in a run; the error names the strategy and contains the usage."""

    def __init__(self, strategy: str, usage_record: Mapping[str, Any]) -> None:
        super().__init__(
            f"strategy {strategy!r} failed; the cause is in the service's log under this request id"
        )
        self._usage_record = usage_record

    @property
    def extra(self) -> Mapping[str, Any]:
        return self._usage_record


class Unsupported(InvalidRequest):
    """A field or value of OpenAI's protocol that no strategy supports."""

    code = "unsupported"


class UnmetRequirement(InvalidRequest):
    """The strategy needs a capability that an engine lacks, or a role without an engine."""

    code = "capability_missing"


class MethodNotAllowed(HttpError):
    """The path exists for other methods only."""

    status = 405
    code = "method_not_allowed"


class TargetTooLong(InvalidRequest):
    """The target of the request (path and query) exceeds the configured size limit."""

    status = 414
    code = "target_too_long"


class HeadersTooLarge(InvalidRequest):
    """The headers of the request exceed the configured size or number."""

    status = 431
    code = "headers_too_large"


class HeadersTooSlow(InvalidRequest):
    """The headers of the request did not arrive in time."""

    status = 408
    code = "headers_too_slow"


def as_http_error(error: Exception) -> HttpError:
    """Convert any exception to an HttpError."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, CapabilityMissing | RoleMissing):
        return UnmetRequirement(str(error), field="strategy")
    if isinstance(error, EngineError):
        return _from_engine(error)
    if isinstance(error, HTTPException):
        return _from_starlette(error)
    return Internal("internal error; the cause is in the service's log under this request id")


def _from_engine(error: EngineError) -> HttpError:
    if isinstance(error, CallRejected) and error.is_about_request:
        return InvalidRequest(f"engine {error.engine!r} rejected the call: {excerpt(str(error))}")
    if isinstance(error, EngineUnavailable) and error.is_overloaded:
        overloaded = EngineOverloaded(describe(error), role=error.role)
        overloaded.retry_after = error.retry_after or DEFAULT_RETRY_AFTER
        return overloaded
    return EngineFailed(describe(error), role=error.role)


def _from_starlette(error: HTTPException) -> HttpError:
    """Convert an error that Starlette raises itself."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(
            f"method not allowed; use {(error.headers or {}).get('Allow', 'another method')}"
        )
    is_not_found = error.status_code == HTTPStatus.NOT_FOUND
    return NotFound("path not found") if is_not_found else Malformed(error.detail)


def problem(error: HttpError) -> dict[str, Any]:
    """Build the RFC 9457 document of an error."""
    document: dict[str, Any] = {
        "type": f"urn:secondpass:problem:{error.code}",
        "title": _title(error.status),
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.field is not None:
        document["field"] = error.field
    return document | error_members(error.extra)


def openai_error(error: HttpError) -> dict[str, Any]:
    """Build OpenAI's error object of an error."""
    status = openai_status(error)
    field = error.field
    if isinstance(error, NoAnswerWithinBudget | DeadlineExceeded | UnmetRequirement):
        field = f"secondpass.{field}"  # raised without knowledge of the route
    if isinstance(error, ReasoningOverLimit):
        field = field and field.removeprefix("sampling.")
    message = error.detail if field is None else f"{field}: {error.detail}"
    kind = {401: "authentication_error", 404: "not_found_error"}.get(
        status, "invalid_request_error"
    )
    body: dict[str, Any] = {
        "message": message,
        "type": kind if status < 500 else "server_error",
        "param": field,
        "code": "model_not_found"
        if isinstance(error, NotFound) and error.field == "model"
        else error.code,
    }
    if error.extra:
        body["secondpass"] = error_members(error.extra)
    return {"error": body}


def error_chunks(error: HttpError) -> bytes:
    """Encode an error as the last events of a stream of OpenAI's chunks."""
    return b"data: %b\n\ndata: [DONE]\n\n" % dumps(openai_error(error))


def openai_status(error: HttpError) -> int:
    """Return the status of an error below /v1, where every invalid value is a 400."""
    is_invalid = isinstance(error, InvalidRequest | ReasoningOverLimit)
    if is_invalid and error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return HTTPStatus.BAD_REQUEST
    return error.status


def error_response(error: HttpError, path: str) -> Response:
    """Build the error response to a request for `path`."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.should_retry is not None:
        headers["x-should-retry"] = str(error.should_retry).lower()
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if path.startswith(OPENAI_PATHS):
        return Response(
            dumps(openai_error(error)), openai_status(error), headers, "application/json"
        )
    return Response(dumps(problem(error)), error.status, headers, "application/problem+json")


def _title(status: int) -> str:
    return "Client Closed Request" if status == 499 else HTTPStatus(status).phrase
