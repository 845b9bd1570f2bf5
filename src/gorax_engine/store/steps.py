"""Rows of steps, as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("steps")


async def list_page(
    connection: Connection,
    tenant_id: UUID,
    execution_id: UUID,
    *,
    attempts: bool,
    after: Place,
    limit: int,
) -> list[Row]:
    """Return up to `limit` steps in the order in which they began; `attempts` shows all, not only the latest."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_steps, tenant_id, execution_id, attempts, at, last, limit))


async def watch(connection: Connection, tenant_id: UUID, execution_id: UUID, limit: int) -> list[Row]:
    """Return how up to `limit` attempts stand, the latest to change first, without their data."""
    return as_rows(await connection.fetch(_SQL.watch_steps, tenant_id, execution_id, limit))


async def tree(connection: Connection, tenant_id: UUID, execution_id: UUID, limit: int) -> list[Row]:
    """Return the latest attempts of up to `limit` steps in the order in which they began, without their data."""
    return as_rows(await connection.fetch(_SQL.tree_steps, tenant_id, execution_id, limit))
