"""Rows of schedules as their tenant keeps them, and what became of their occurrences.

Every function needs a connection whose transaction is bound to the tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from gorax_engine.errors import Conflict
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("schedules")

_CHANGEABLE: Final = (
    "name", "description", "cron_expression", "timezone", "dst_gap", "dst_fold", "starts_at", "ends_at", "jitter",
    "catchup_window", "misfire_policy", "misfire_limit", "overlap_policy", "input", "priority", "enabled",
    "next_run_at", "due_at",
)  # fmt: skip


async def insert(connection: Connection, tenant_id: UUID, user_id: UUID, row: Row) -> Row:
    """Store a new schedule; `row` has its id, workflow_id, node_id and all that may change.

    Raises Conflict if its workflow has a schedule of that name.
    """
    values = [row[field] for field in _CHANGEABLE]
    record = await connection.fetchrow(
        _SQL.insert_schedule, row["id"], tenant_id, row["workflow_id"], row["node_id"], *values, user_id
    )
    if record is None:
        raise _name_taken(row["name"])
    return dict(record)


async def change(connection: Connection, tenant_id: UUID, row: Row) -> Row:
    """Write all that may change of a locked schedule. Raises Conflict if the name is taken."""
    values = [row[field] for field in _CHANGEABLE]
    try:
        record = await connection.fetchrow(_SQL.change_schedule, tenant_id, row["id"], *values)
    except asyncpg.UniqueViolationError:
        raise _name_taken(row["name"]) from None
    if record is None:
        raise RuntimeError("a schedule that is locked has gone")
    return dict(record)


async def get(connection: Connection, tenant_id: UUID, schedule_id: UUID, *, lock: bool = False) -> Row | None:
    """Return a schedule; with `lock` nobody else changes or fires it until the transaction ends."""
    query = _SQL.lock_schedule if lock else _SQL.get_schedule
    return as_row(await connection.fetchrow(query, tenant_id, schedule_id))


async def lock_of_workflow(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> list[Row]:
    """Return all schedules of a workflow, locked."""
    return as_rows(await connection.fetch(_SQL.lock_of_workflow, tenant_id, workflow_id))


async def list_page(
    connection: Connection,
    tenant_id: UUID,
    workflow_id: UUID | None,
    enabled: bool | None,
    name: str | None,
    after: Place,
    limit: int,
) -> list[Row]:
    """Return up to `limit` schedules, newest first."""
    at, last = after or (None, None)
    filters = (workflow_id, enabled, name)
    return as_rows(await connection.fetch(_SQL.list_schedules, tenant_id, *filters, at, last, limit))


async def delete(connection: Connection, tenant_id: UUID, schedule_ids: Sequence[UUID]) -> None:
    """Delete schedules with the history of their occurrences; their runs stay."""
    await connection.execute(_SQL.delete_schedules, tenant_id, schedule_ids)


async def retire(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> None:
    """Disable the schedules of a workflow."""
    await connection.execute(_SQL.retire_schedules, tenant_id, workflow_id)


async def list_occurrences(
    connection: Connection, tenant_id: UUID, schedule_id: UUID, before: datetime | None, limit: int
) -> list[Row]:
    """Return what became of up to `limit` occurrences earlier than `before`, newest first."""
    return as_rows(await connection.fetch(_SQL.list_occurrences, tenant_id, schedule_id, before, limit))


async def now(connection: Connection) -> datetime:
    """Return the time by the clock that decides what is due."""
    moment: Any = await connection.fetchval(_SQL.database_now)
    assert isinstance(moment, datetime)
    return moment


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"The workflow has a schedule with the name `{name}` already; choose another one.", code="name_taken"
    )
