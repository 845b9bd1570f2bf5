"""Reading requests: bodies under a cap and through the JSON edge, If-Match, Idempotency-Key, and the principal."""

import re
from typing import Final

import anyio
from starlette.requests import Request
from starlette.types import Receive, Scope

from gorax_engine.api.problems import UNSUPPORTED_MEDIA_TYPE
from gorax_engine.core import json_edge
from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.core.model import Json
from gorax_engine.errors import InvalidInput, MalformedInput, PayloadTooLarge, PreconditionFailed
from gorax_engine.tenancy.principals import Principal

BODY_DEADLINE: Final = 30.0
"""Seconds that a client may take to send a body."""

MAX_IDEMPOTENCY_KEY: Final = 255

_JSON_TYPE: Final = re.compile(r"\s*application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]{1,255}")


class ClientGone(Exception):
    """The client closed the connection before its body was complete: there is nobody to answer."""


class ParsedRequest(Request):
    """A request whose body was read and parsed already, under our limits, before FastAPI asks for it."""

    def __init__(self, scope: Scope, receive: Receive, raw: bytes, value: Json) -> None:
        super().__init__(scope, receive)
        self._raw = raw
        self._value = value

    async def body(self) -> bytes:
        """Return the raw body."""
        return self._raw

    async def json(self) -> Json:
        """Return the parsed body."""
        return self._value


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Return the whole body, never holding more than `max_bytes` and one message of it.

    Raises PayloadTooLarge (at once if Content-Length says so), MalformedInput if it takes too long, ClientGone.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > max_bytes:
            raise _too_large(max_bytes)
    # Nearly all bodies come whole in the first message; only the others need a buffer and a deadline of their own.
    with anyio.move_on_after(BODY_DEADLINE):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
            return body
        return await _read_rest(bytearray(body), receive, max_bytes)
    raise MalformedInput(f"The body did not arrive within {BODY_DEADLINE:.0f} seconds.", code="body_timeout")


async def _read_rest(buffer: bytearray, receive: Receive, max_bytes: int) -> bytes:
    more = True
    while more:
        if len(buffer) > max_bytes:
            raise _too_large(max_bytes)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        buffer += message.get("body", b"")
        more = message.get("more_body", False)
    if len(buffer) > max_bytes:
        raise _too_large(max_bytes)
    return bytes(buffer)


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {max_bytes} bytes.")


async def read_json(request: Request, limits: JsonLimits, *, required: bool) -> ParsedRequest:
    """Return the request with its body read and parsed; an empty one is none where it is not `required`.

    Raises what `read_body` and `json_edge.parse` raise, and MalformedInput for a body that says it isn't JSON.
    """
    content_type = request.headers.get("content-type")
    if content_type is not None and not _JSON_TYPE.fullmatch(content_type):
        raise MalformedInput(
            f"The body must be JSON; send `Content-Type: application/json`, not `{content_type[:100]}`.",
            code=UNSUPPORTED_MEDIA_TYPE,
        )
    raw = await read_body(request.scope, request.receive, limits.max_bytes)
    value = json_edge.parse(raw, limits) if raw or required else None
    return ParsedRequest(request.scope, request.receive, raw, value)


async def principal_of(request: Request) -> Principal:
    """Return the principal that the gate has admitted (a FastAPI dependency)."""
    principal: Principal = request.state.principal
    return principal


def idempotency_key_of(request: Request) -> str | None:
    """Return the Idempotency-Key, None without one. Raises InvalidInput if it can't be one."""
    key = request.headers.get("idempotency-key")
    if key is not None and not _PRINTABLE.fullmatch(key):
        raise InvalidInput(
            f"Idempotency-Key must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters without spaces.",
            code="invalid_idempotency_key",
        )
    return key


def check_if_match(request: Request, revision: int) -> None:
    """Raise PreconditionFailed if If-Match names other versions than `revision`; no header, no check."""
    header = request.headers.get("if-match")
    if header is None:
        return
    tags = [tag.strip() for tag in header.split(",")]
    if "*" not in tags and etag(revision) not in tags:
        raise PreconditionFailed(
            f"The object has changed: its version is now {etag(revision)}; read it again and repeat the change."
        )


def etag(revision: int) -> str:
    """Return the entity tag of a revision."""
    return f'"{revision}"'
