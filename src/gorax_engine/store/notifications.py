"""Rows of what users were told. The transaction must be bound to the user, or it sees none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("notifications")


async def list_page(
    connection: Connection, tenant_id: UUID, user_id: UUID, *, unread: bool | None, after: Place, limit: int
) -> list[Row]:
    """Return up to `limit` notifications of a user, newest first; all, only unread ones or only read ones."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_notifications, tenant_id, str(user_id), unread, at, last, limit))


async def mark_read(connection: Connection, tenant_id: UUID, user_id: UUID, notification_id: UUID) -> Row | None:
    """Mark a notification as read and return it; None if the user has no such one."""
    return as_row(await connection.fetchrow(_SQL.read_notification, tenant_id, str(user_id), notification_id))
