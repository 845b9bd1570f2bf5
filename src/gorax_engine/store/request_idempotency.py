"""Answers that were given under an Idempotency-Key, kept in the transaction of the act that they tell about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.model import Json
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_row

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("request_idempotency")

LIFETIME: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key and the request that it was sent with."""

    tenant_id: UUID
    principal_id: UUID
    key: str
    method: str
    path: str
    body_hash: bytes


async def try_lock(connection: Connection, key: RequestKey) -> bool:
    """Say whether no other request runs under this key; then none will until the transaction ends."""
    locked: bool = await connection.fetchval(_SQL.try_lock, f"{key.tenant_id}:{key.principal_id}:{key.key}")
    return locked


async def find(connection: Connection, key: RequestKey) -> Row | None:
    """Return the kept answer: method, path, body_hash, status, response."""
    return as_row(await connection.fetchrow(_SQL.find_answer, key.tenant_id, key.principal_id, key.key))


async def keep(connection: Connection, key: RequestKey, status: int, response: Json) -> None:
    """Keep an answer for `LIFETIME`."""
    await connection.execute(
        _SQL.keep_answer,
        key.tenant_id,
        key.principal_id,
        key.key,
        key.method,
        key.path,
        key.body_hash,
        status,
        response,
        LIFETIME,
    )
