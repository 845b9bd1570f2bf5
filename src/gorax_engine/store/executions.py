"""Rows of executions, as the API shows them. The engine's own reading and writing of runs is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection, Database

_SQL: Final = load("executions")


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which runs a list shows; None means any. `start_date` is inclusive, `end_date` exclusive."""

    workflow_id: UUID | None = None
    status: str | None = None
    trigger_type: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    error_search: str | None = None
    waiting_for: str | None = None


async def get(connection: Connection, tenant_id: UUID, execution_id: UUID) -> Row | None:
    """Return a run with its data."""
    return as_row(await connection.fetchrow(_SQL.get_execution, tenant_id, execution_id))


async def children(connection: Connection, tenant_id: UUID, execution_id: UUID, limit: int) -> list[Row]:
    """Return up to `limit` runs that a run has started, the oldest first."""
    return as_rows(await connection.fetch(_SQL.children, tenant_id, execution_id, limit))


async def list_page(
    connection: Connection,
    tenant_id: UUID,
    wanted: ExecutionFilter,
    after: Place,
    limit: int,
) -> list[Row]:
    """Return up to `limit` runs without their data, newest first."""
    await connection.execute(_SQL.plan_by_values)
    at, last = after or (None, None)
    return as_rows(
        await connection.fetch(
            _SQL.list_executions,
            tenant_id,
            wanted.workflow_id,
            wanted.status,
            wanted.trigger_type,
            wanted.start_date,
            wanted.end_date,
            None if wanted.error_search is None else _contains(wanted.error_search),
            wanted.waiting_for,
            at,
            last,
            limit,
        )
    )


def _contains(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def queue_state(database: Database) -> Row:
    """Return how many live runs there are (running, ready, parked, timers_due), the oldest_age in seconds, and
    human_tasks_open.

    Counts end at 100,000: a scrape must not grow with the backlog. Raises Unavailable.
    """
    async with database.worker() as connection:
        return as_rows(await connection.fetch(_SQL.queue_state))[0]
