"""Rows of tenants, as the tenant itself may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_row

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("tenants")


async def get(connection: Connection, tenant_id: UUID) -> Row | None:
    """Return the tenant of the transaction."""
    return as_row(await connection.fetchrow(_SQL.get_tenant, tenant_id))


async def has_start_key(connection: Connection, tenant_id: UUID, kind: str, key: str) -> bool:
    """Return whether a start with this key was accepted, and is still known."""
    return bool(await connection.fetchval(_SQL.has_start_key, tenant_id, kind, key))


async def admission(connection: Connection, tenant_id: UUID, max_depth: int, max_age: int) -> str | None:
    """Return which limit of its queue a tenant has reached, None if it may queue more; see gorax_admission."""
    reached: str | None = await connection.fetchval(_SQL.admission, tenant_id, max_depth, max_age)
    return reached
