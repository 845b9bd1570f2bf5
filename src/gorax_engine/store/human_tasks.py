"""Rows of human tasks as the API sees them: of one tenant, in its transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.json_edge import encode
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.session import Fetcher

_SQL: Final = load("human_tasks")


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a list shows; None means any. `assignees` are pairs of kind (user, role) and id or name."""

    status: str | None = None
    overdue: bool | None = None
    execution_id: UUID | None = None
    assignees: Sequence[tuple[str, str]] | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a decision: `decided` says whether it counted; the rest is the task's state now."""

    decided: bool
    status: str
    completed_by: UUID | None
    completed_at: datetime | None


async def get(connection: Connection, tenant_id: UUID, task_id: UUID) -> Row | None:
    """Return a task with all that belongs to it."""
    return as_row(await connection.fetchrow(_SQL.get_task, tenant_id, task_id))


async def list_page(
    connection: Connection, tenant_id: UUID, wanted: TaskFilter, after: UUID | None, limit: int
) -> list[Row]:
    """Return up to `limit` tasks, newest first, that are older than `after`."""
    await connection.execute(_SQL.plan_tasks_by_values)
    # What is overdue is pending, which an index knows.
    status = wanted.status or ("pending" if wanted.overdue else None)
    values = (tenant_id, status, wanted.overdue, wanted.execution_id, after, limit)
    if wanted.assignees is None:
        return as_rows(await connection.fetch(_SQL.list_tasks, *values))
    kinds, names = [kind for kind, _ in wanted.assignees], [name for _, name in wanted.assignees]
    return as_rows(await connection.fetch(_SQL.list_tasks_of, *values, kinds, names))


async def roles_of(connection: Connection, tenant_id: UUID, user_id: UUID) -> list[str]:
    """Return the names of the roles that a user holds."""
    return [record["name"] for record in await connection.fetch(_SQL.roles_of_user, tenant_id, user_id)]


async def assignee_exists(connection: Connection, tenant_id: UUID, kind: str, name: str) -> bool:
    """Return whether the tenant has this active user, by id, or this role, by name."""
    return bool(await connection.fetchval(_SQL.assignee_exists, tenant_id, kind, name))


async def decide(
    connection: Connection, tenant_id: UUID, task_id: UUID, status: str, by: UUID, response: Json
) -> Decided | None:
    """End a task by a person's decision and signal its run; None if the tenant has no such task."""
    row = await connection.fetchrow(_SQL.decide_task, tenant_id, task_id, status, by, response)
    return None if row is None else Decided(row["decided"], row["status"], row["completed_by"], row["completed_at"])


async def lock(connection: Connection, tenant_id: UUID, task_id: UUID) -> Row | None:
    """Return the state of a task and hold it until the end of the transaction."""
    return as_row(await connection.fetchrow(_SQL.lock_task, tenant_id, task_id))


async def reassign(
    connection: Connection,
    tenant_id: UUID,
    task_id: UUID,
    *,
    assignees: Sequence[Json],
    added: tuple[str, str],
    removed: tuple[str, str] | None,
    entry: Json,
) -> None:
    """Give a locked task new assignees; `entry` goes into its history. Assignees are (kind, id or name)."""
    await connection.execute(_SQL.reassign_task, tenant_id, task_id, list(assignees), [entry])
    await connection.execute(_SQL.add_assignee, tenant_id, task_id, *added)
    if removed is not None:
        await connection.execute(_SQL.remove_assignee, tenant_id, task_id, *removed)


async def tell(connection: Connection, news: Sequence[Json]) -> None:
    """Tell people about tasks (see gorax_tell_assignees)."""
    await connection.execute(_SQL.tell_assignees, list(news))


async def tell_assignees(session: Fetcher, news: Json) -> None:
    """Tell the assignees of one task of it, from a session of the engine's own."""
    await session.fetch(_SQL.tell_assignees_of_one, encode([news]))
