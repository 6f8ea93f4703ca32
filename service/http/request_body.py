"""Reading of request bodies: content type, size limit, and a place among the requests in progress."""

from __future__ import annotations

from starlette.requests import Request

from secondpass.service.common.errors import Malformed, TooLarge
from secondpass.service.common.uploads import Upload
from secondpass.service.http.state import Service, service_of


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body must be at most {limit} bytes", field="body")


async def read_body(request: Request, service: Service | None = None) -> bytes:
    """Read the raw body. The request counts as one in progress while it is read.

    Args:
        request: The request.
        service: The service; by default that of the request's application.

    Raises:
        TooLarge: The body exceeds `max_body_bytes`.
        Malformed: The content type is not JSON, or the body is compressed.
        NotAdmitted: There is no room for another request.
        BodyTooSlow: The body arrives too late or too slowly.
    """
    service = service or service_of(request)
    limit = service.settings.max_body_bytes
    content_type = request.headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() != "application/json":
        problem = "must be" if content_type else "is missing; it must be"
        raise Malformed(f"{problem} application/json", field="content-type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Malformed("is not supported: send the body uncompressed", field="content-encoding")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    upload: Upload = request.state.upload
    body = bytearray()
    with service.traffic.reading(upload):
        async for chunk in request.stream():
            if len(body) + len(chunk) > limit:
                raise _too_large(limit)
            body += chunk
    return bytes(body)
