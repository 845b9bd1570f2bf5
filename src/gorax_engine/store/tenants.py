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
