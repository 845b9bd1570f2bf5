"""Rows of tasks to which the clock does something, as the worker's role sees them: of all tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from gorax_engine.store import queries

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json
    from gorax_engine.store.session import Session

_SQL: Final = queries.load("task_deadlines")
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class DueTask:
    """An open task whose `next_action_at` has come. `now` is the database's time of the look-up."""

    id: UUID
    tenant_id: UUID
    title: str
    assignees: list[Json]
    config: dict[str, Json]
    escalation_level: int
    due_date: Instant | None
    limit_at: Instant | None
    next_action_at: Instant
    now: Instant


async def due(session: Session, limit: int) -> list[DueTask]:
    """Return up to `limit` tasks to which something is due, oldest first."""
    return [
        DueTask(
            row["id"],
            row["tenant_id"],
            row["title"],
            _decode(row["assignees"]),
            _decode(row["config"]),
            row["escalation_level"],
            row["due_us"],
            row["limit_us"],
            row["next_us"],
            row["now_us"],
        )
        for row in await session.fetch(_SQL.due_tasks, limit)
    ]


async def end(session: Session, ends: Sequence[Json]) -> int:
    """Decide tasks in the place of people (see gorax_end_tasks); return how many were ended."""
    rows = await session.fetch(_SQL.end_tasks, _encode(ends).decode())
    return int(rows[0]["ended"])


async def escalate(session: Session, moves: Sequence[Json]) -> int:
    """Remind and escalate (see gorax_escalate_tasks); return how many tasks were moved."""
    rows = await session.fetch(_SQL.escalate_tasks, _encode(moves).decode())
    return int(rows[0]["moved"])
