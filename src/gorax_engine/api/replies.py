"""Answers of handlers, and acts that happen once per Idempotency-Key.

An act runs in one transaction of the tenant, and its answer is kept in that same transaction: either both are there
afterwards, or neither, whatever dies in between. A second request with the key waits for nobody: while the first one
runs it is a conflict, later it gets the kept answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from gorax_engine.api.requests import idempotency_key_of
from gorax_engine.errors import Conflict, IdempotencyMismatch
from gorax_engine.store import request_idempotency
from gorax_engine.store.request_idempotency import RequestKey

if TYPE_CHECKING:
    from starlette.requests import Request

    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.tenancy.principals import Principal

REPLAYED: Final = "Idempotent-Replayed"

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reply:
    """What an act answers. `kept` is what a repeat is told, where that differs (a secret is told once)."""

    body: Mapping[str, Any] | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Any] | None = None


def one(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return the reply with one object."""
    return Reply({"data": data}, status, headers or {})


def respond(reply: Reply) -> Response:
    """Encode a reply. Times are RFC 3339 in UTC, ids are text."""
    if reply.body is None:
        return Response(status_code=reply.status, headers=dict(reply.headers))
    return Response(_encode(reply.body), reply.status, dict(reply.headers), "application/json")


async def act(
    database: Database, request: Request, principal: Principal, do: Callable[[Connection], Awaitable[Reply]]
) -> Response:
    """Do something once per Idempotency-Key, in one transaction of the tenant.

    Raises IdempotencyMismatch if the key was used for another request, Conflict (idempotency_key_running) while the
    first one runs, and what `do` raises; then nothing is kept and the key is free.
    """
    key = idempotency_key_of(request)
    async with database.tenant(principal.tenant_id, principal.user_id) as connection:
        if key is None:
            return respond(await do(connection))
        request_key = RequestKey(
            principal.tenant_id,
            principal.user_id,
            key,
            request.method,
            request.url.path,
            hashlib.sha256(await request.body() + b"\0" + request.url.query.encode()).digest(),
        )
        kept = await _find(connection, request_key)
        if kept is not None:
            return respond(kept)
        reply = await do(connection)
        await request_idempotency.keep(connection, request_key, reply.status, _kept(reply))
        return respond(reply)


async def _find(connection: Connection, key: RequestKey) -> Reply | None:
    if not await request_idempotency.try_lock(connection, key):
        message = "The first request with this Idempotency-Key still runs; ask again when it has ended."
        raise Conflict(message, code="idempotency_key_running")
    row = await request_idempotency.find(connection, key)
    if row is None:
        return None
    if (row["method"], row["path"], bytes(row["body_hash"])) != (key.method, key.path, key.body_hash):
        raise IdempotencyMismatch("This Idempotency-Key was used before with another request; use a new key.")
    return Reply(row["response"]["body"], row["status"], {**row["response"]["headers"], REPLAYED: "true"})


def _kept(reply: Reply) -> Json:
    return {"body": reply.body if reply.kept is None else reply.kept, "headers": dict(reply.headers)}
