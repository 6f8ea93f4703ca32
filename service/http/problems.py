"""How an error looks on the wire: RFC 9457 problem details, and OpenAI's error objects below /v1."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from secondpass.service.common.errors import (
    AllCallsFailed,
    HttpError,
    InvalidRequest,
    Malformed,
    NoAnswer,
    NoAnswerWithinBudget,
    NotFound,
    excerpt,
)
from secondpass.service.http.encoding import bill, dumps
from secondpass.strategies.api.errors import (
    CallRejected,
    CapabilityMissing,
    EngineError,
    RoleMissing,
)

OPENAI_PATHS = "/v1"


class Internal(HttpError):
    """A defect of ours: what happened is in the log, not in the reply."""

    status = 500
    code = "internal"


class Unsupported(InvalidRequest):
    """Something that the protocol knows and a strategy cannot honour."""

    code = "unsupported"


class Incapable(InvalidRequest):
    """The strategy needs what an engine cannot do, or a role that no engine plays."""

    code = "capability_missing"


class WrongMethod(HttpError):
    """The path exists, for another method."""

    status = 405
    code = "method_not_allowed"


def as_http_error(error: Exception) -> HttpError:
    """What an error of any kind is in HTTP."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, CallRejected):
        return InvalidRequest(f"engine {error.engine!r} refused the call: {excerpt(str(error))}")
    if isinstance(error, CapabilityMissing | RoleMissing):
        return Incapable(str(error), field="strategy")
    if isinstance(error, EngineError):
        return AllCallsFailed(excerpt(str(error)), role=error.role)
    if isinstance(error, HTTPException):
        return _refusal(error)
    return Internal("the service failed; the log has the reason under this request's id")


def _refusal(error: HTTPException) -> HttpError:
    """What Starlette itself refuses."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return WrongMethod(
            f"this path takes {(error.headers or {}).get('Allow', 'another method')}"
        )
    is_lost = error.status_code == HTTPStatus.NOT_FOUND
    return NotFound("there is no such path") if is_lost else Malformed(error.detail)


def problem(error: HttpError) -> dict[str, Any]:
    """The RFC 9457 document of an error."""
    document: dict[str, Any] = {
        "type": f"urn:secondpass:problem:{error.code}",
        "title": _title(error.status),
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.field is not None:
        document["field"] = error.field
    return document | bill(error.extra)


def openai_error(error: HttpError) -> dict[str, Any]:
    """OpenAI's error object of an error."""
    status = openai_status(error)
    field = error.field
    if isinstance(error, NoAnswerWithinBudget | Incapable):
        field = f"secondpass.{field}"  # raised where nobody knows how the request was worded
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
    if isinstance(error, NoAnswer) and error.extra:
        body["secondpass"] = bill(error.extra)
    return {"error": body}


def openai_status(error: HttpError) -> int:
    """The status of an error below /v1, where every wrong value is a 400."""
    if isinstance(error, InvalidRequest) and error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return HTTPStatus.BAD_REQUEST
    return error.status


def respond(error: HttpError, path: str) -> Response:
    """The whole response to a request for `path`."""
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
