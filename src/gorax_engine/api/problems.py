"""The one place that maps errors to HTTP: RFC 9457 problem documents with a stable code and a request id.

Everything below raises `GoraxError`s; nothing else in the API chooses an error status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec

from gorax_engine.errors import (
    Conflict,
    Forbidden,
    GoraxError,
    IdempotencyMismatch,
    InvalidInput,
    MalformedInput,
    NotFound,
    PayloadTooLarge,
    PreconditionFailed,
    Problem,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

CONTENT_TYPE: Final = "application/problem+json"

METHOD_NOT_ALLOWED: Final = "method_not_allowed"
UNSUPPORTED_MEDIA_TYPE: Final = "unsupported_media_type"

_STATUS_BY_TYPE: Final[dict[type[GoraxError], int]] = {
    InvalidInput: 422,
    MalformedInput: 400,
    PayloadTooLarge: 413,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    IdempotencyMismatch: 422,
    PreconditionFailed: 412,
    TooManyRequests: 429,
    Unavailable: 503,
}
_STATUS_BY_CODE: Final = {METHOD_NOT_ALLOWED: 405, UNSUPPORTED_MEDIA_TYPE: 415}

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ProblemAnswer:
    """A problem document, ready to be sent: the status, the headers that go with it, and the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def status_of(error: GoraxError) -> int:
    """Return the HTTP status of `error`; 500 for errors that no client should ever see."""
    if error.code in _STATUS_BY_CODE:
        return _STATUS_BY_CODE[error.code]
    for kind in type(error).__mro__:
        if kind in _STATUS_BY_TYPE:
            return _STATUS_BY_TYPE[kind]
    return 500


def problem_answer(error: GoraxError, request_id: str) -> ProblemAnswer:
    """Return the answer to a request that ended in `error`.

    429 and 503 carry Retry-After, 401 says how to authenticate.
    """
    status = status_of(error)
    if status >= 500 and not isinstance(error, Unavailable):
        return unexpected_answer(request_id)
    headers: dict[str, str] = {}
    if isinstance(error, (TooManyRequests, Unavailable)):
        headers["Retry-After"] = str(max(1, error.retry_after))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="gorax"'
    problems = error.problems if isinstance(error, InvalidInput) else ()
    return ProblemAnswer(status, _document(status, error.code, error.message, request_id, problems), headers)


def unexpected_answer(request_id: str) -> ProblemAnswer:
    """Return the answer to a request that ended in a bug: nothing of the cause is shown, the log has it."""
    detail = "The server made a mistake; its log has the cause under this request id."
    return ProblemAnswer(500, _document(500, GoraxError.code, detail, request_id, ()))


def _document(status: int, code: str, detail: str, request_id: str, problems: tuple[Problem, ...]) -> bytes:
    document: dict[str, Any] = {
        "type": f"urn:gorax:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    document["errors"] = [{"pointer": p.pointer, "code": p.code, "message": p.message} for p in problems]
    return _encode(document)
