"""What the scheduler asks of the database, for all tenants at once: what is due, and what became of it.

All but `peek` and `expire` need the worker's connection in a transaction; what is locked stays so until that ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import asyncpg

from gorax_engine.errors import Unavailable
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_rows
from gorax_engine.store.session import RecordRejected

if TYPE_CHECKING:
    from gorax_engine.store.session import Fetcher

_SQL: Final = load("scheduler")


@dataclass(frozen=True, slots=True)
class Peek:
    """What there is to do: seconds until the next schedule is due (None: there is none), and whether any is queued."""

    due_in: float | None
    queued: bool


@dataclass(frozen=True, slots=True)
class LockedSchedule:
    """A schedule that is due, or has occurrences queued. `input_size` is in bytes of JSON."""

    id: UUID
    tenant_id: UUID
    workflow_id: UUID
    node_id: str | None
    priority: int
    overlap_policy: str
    cron_expression: str
    timezone: str
    dst_gap: str
    dst_fold: str
    starts_at: datetime | None
    ends_at: datetime | None
    misfire_policy: str
    misfire_limit: int
    catchup_window: timedelta
    jitter: timedelta
    next_run_at: datetime | None
    input_size: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is around a locked schedule: the time, why nothing can start, its live runs, how many are queued."""

    id: UUID
    now: datetime
    refusal: str | None
    live: Sequence[UUID]
    queued: int


class DecidedRow(NamedTuple):
    """What became of an occurrence, as `schedule_occurrences` has it."""

    schedule_id: UUID
    scheduled_for: datetime
    tenant_id: UUID
    status: str
    reason: str | None
    execution_id: UUID | None


class MissedRow(NamedTuple):
    """A stretch of occurrences that were missed; `number` is None if they are too many to count."""

    schedule_id: UUID
    scheduled_for: datetime
    tenant_id: UUID
    reason: str
    through: datetime
    number: int | None


class AdvancedRow(NamedTuple):
    """When a schedule occurs next and is due (None: never), and what it ran last (None: as before)."""

    schedule_id: UUID
    next_run_at: datetime | None
    due_at: datetime | None
    last_run_at: datetime | None
    last_execution_id: UUID | None


@contextmanager
def refused_data() -> Iterator[None]:
    """Turn what Postgres says of data that it won't take, whoever sends it how often, into RecordRejected."""
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError) as error:
        if "no partition" in str(error):
            raise Unavailable(
                "The partition of this month is missing; it is made by a daemon with the role maintenance."
            ) from error
        raise RecordRejected(str(error), error.sqlstate or "22000") from error


async def peek(connection: Fetcher) -> Peek:
    """Say what there is to do."""
    (row,) = await connection.fetch(_SQL.peek)
    return Peek(row["due_in"], row["queued"])


async def lock_due(connection: Fetcher, limit: int) -> list[LockedSchedule]:
    """Lock up to `limit` schedules that are due and that nobody else is at, those due for longest first."""
    return [LockedSchedule(*row.values()) for row in await connection.fetch(_SQL.lock_due, limit)]


async def lock_queued(connection: Fetcher, limit: int) -> list[LockedSchedule]:
    """Lock up to `limit` schedules with queued occurrences that have no live run, or are disabled."""
    return [LockedSchedule(*row.values()) for row in await connection.fetch(_SQL.lock_queued, limit)]


async def circumstances(connection: Fetcher, schedule_ids: Sequence[UUID]) -> dict[UUID, Circumstances]:
    """Return what is around schedules that are locked."""
    rows = await connection.fetch(_SQL.circumstances, schedule_ids)
    return {row["id"]: Circumstances(*row.values()) for row in rows}


async def taken(connection: Fetcher, occurrences: Sequence[tuple[UUID, datetime]]) -> set[tuple[UUID, datetime]]:
    """Return those of the occurrences, by schedule and time, of which something has become already."""
    ids, times = zip(*occurrences, strict=True)
    return {(row["schedule_id"], row["scheduled_for"]) for row in await connection.fetch(_SQL.taken, ids, times)}


async def inputs(connection: Fetcher, schedule_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return what the runs of schedules are given, as JSON."""
    return {row["id"]: row["input"] for row in await connection.fetch(_SQL.inputs, schedule_ids)}


async def oldest_queued(connection: Fetcher, schedule_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return the occurrence of each schedule that has been queued for longest."""
    rows = await connection.fetch(_SQL.oldest_queued, schedule_ids)
    return {row["schedule_id"]: row["scheduled_for"] for row in rows}


async def lock_runs(connection: Fetcher, execution_ids: Sequence[UUID]) -> list[UUID]:
    """Lock the queue rows of runs in the order in which everybody does; return those that live."""
    return [row["execution_id"] for row in await connection.fetch(_SQL.lock_runs, execution_ids)]


async def record_decided(connection: Fetcher, rows: Sequence[DecidedRow]) -> None:
    """Write what became of occurrences that nobody has decided on before."""
    await connection.fetch(_SQL.record_decided, *zip(*rows, strict=True))


async def record_missed(connection: Fetcher, rows: Sequence[MissedRow]) -> None:
    """Write which occurrences were missed."""
    await connection.fetch(_SQL.record_missed, *zip(*rows, strict=True))


async def record_queued(connection: Fetcher, rows: Sequence[DecidedRow]) -> None:
    """Write what became of occurrences that were queued."""
    columns = list(zip(*rows, strict=True))
    await connection.fetch(_SQL.record_queued, *columns[:2], *columns[3:])


async def skip_queued(connection: Fetcher, reasons: dict[UUID, str]) -> int:
    """Skip all that is queued of these schedules, each for its reason; return how many occurrences that were."""
    return len(await connection.fetch(_SQL.skip_queued, list(reasons), list(reasons.values())))


async def advance(connection: Fetcher, rows: Sequence[AdvancedRow]) -> None:
    """Write when schedules occur next and what they ran last."""
    await connection.fetch(_SQL.advance, *zip(*rows, strict=True))


async def note_runs(connection: Fetcher, rows: Sequence[tuple[UUID, datetime, UUID]]) -> None:
    """Write what schedules ran last and when."""
    await connection.fetch(_SQL.note_runs, *zip(*rows, strict=True))


async def disable(connection: Fetcher, schedule_ids: Sequence[UUID]) -> None:
    """Disable schedules."""
    await connection.fetch(_SQL.disable, schedule_ids)


async def lock_for_backfill(connection: Fetcher, tenant_id: UUID, schedule_id: UUID) -> bool:
    """Keep a schedule of the tenant from being fired; return whether there is one."""
    return bool(await connection.fetch(_SQL.lock_for_backfill, tenant_id, schedule_id))


async def occurrences_at(connection: Fetcher, schedule_id: UUID, times: Sequence[datetime]) -> dict[datetime, Row]:
    """Return what is recorded of a schedule at these times."""
    rows = as_rows(await connection.fetch(_SQL.occurrences_at, schedule_id, times))
    return {row["scheduled_for"]: row for row in rows}


async def record_backfilled(
    connection: Fetcher, tenant_id: UUID, schedule_id: UUID, started: Sequence[tuple[datetime, UUID]]
) -> None:
    """Write which occurrences of a locked schedule were started afterwards, and by which runs."""
    times, runs = zip(*started, strict=True)
    await connection.fetch(_SQL.record_backfilled, schedule_id, tenant_id, times, runs)


async def expire(fetcher: Fetcher, limit: int, age: timedelta) -> int:
    """Delete up to `limit` occurrences that were decided longer than `age` ago; return how many."""
    return len(await fetcher.fetch(_SQL.expire_occurrences, limit, age))
