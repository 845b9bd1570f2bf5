"""Backfilling: starting afterwards what a schedule has not started within a stretch of the past.

Each transaction deals with a few occurrences, and what it has started it never starts again: a backfill that was cut
off, or is repeated, goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.instants import format_instant
from gorax_engine.core.recurrence import RecurrenceError
from gorax_engine.core.schedules import ScheduleSpec, instant_of, occurrences
from gorax_engine.errors import Conflict, Forbidden, InvalidInput, MalformedInput, NotFound, Problem
from gorax_engine.store import scheduler
from gorax_engine.store.scheduler import MissedRow
from gorax_engine.telemetry import ExecutionStarted, OccurrencesDecided
from gorax_engine.triggers.scheduled_starts import FAILED, STARTED, Outcome, ScheduledStart, start_scheduled

if TYPE_CHECKING:
    from gorax_engine.core.recurrence import Recurrence
    from gorax_engine.errors import GoraxError
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.rows import Row
    from gorax_engine.telemetry import Telemetry

LIMIT: Final = 1_000
"""Occurrences in one backfill."""
COUNTED: Final = 10_000
"""How far those are counted that are too many."""
CHUNK: Final = 200
TRIGGER_TYPE: Final = "backfill"


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is to be filled: from `start` through `end`, at most `limit` occurrences."""

    start: datetime
    end: datetime
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of a backfill: the occurrences in order, with their runs (None: it is queued)."""

    started: int
    already: int
    occurrences: Sequence[tuple[datetime, UUID | None]]


class Backfills:
    """Fills the past of schedules, by the worker's connection."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._telemetry = telemetry

    async def fill(self, tenant_id: UUID, user_id: UUID, row: Row, stretch: Stretch, now: datetime) -> Filled:
        """Start every occurrence of a schedule in `stretch` that was not started; the runs count for no overlap policy.

        Raises InvalidInput with every fault of the stretch, NotFound, and those of a start (Conflict, Forbidden); what
        was started before is kept.
        """
        _check(stretch, now)
        recurrence = _recurrence(row)
        times = _times(recurrence, stretch)
        started = 0
        found: list[tuple[datetime, UUID | None]] = []
        for begin in range(0, len(times), CHUNK):
            chunk = times[begin : begin + CHUNK]
            async with self._database.worker() as connection, connection.transaction():
                runs, new = await _fill(connection, tenant_id, user_id, row, recurrence, chunk, stretch.end, now)
            if new:
                self._telemetry.emit(ExecutionStarted(TRIGGER_TYPE, new))
                self._telemetry.emit(OccurrencesDecided(STARTED, new))
            started += new
            found += [(at, runs[at]) for at in chunk]
        return Filled(started, len(times) - started, found)


def _check(stretch: Stretch, now: datetime) -> None:
    problems = []
    if stretch.end > now:
        message = f"`end` lies ahead; the past goes until {format_instant(instant_of(now))}."
        problems.append(Problem("invalid_stretch", "/end", message))
    if stretch.start > stretch.end:
        problems.append(Problem("invalid_stretch", "/start", "`start` must not be later than `end`."))
    if problems:
        raise InvalidInput("This stretch can't be filled; see `errors`.", code="invalid_stretch", problems=problems)


def _recurrence(row: Row) -> Recurrence:
    try:
        return ScheduleSpec.of_row(row).recurrence()
    except RecurrenceError as error:
        raise Conflict(f"The schedule can't be read any more: {error}", code="unreadable") from None


def _times(recurrence: Recurrence, stretch: Stretch) -> list[datetime]:
    ahead = occurrences(recurrence, stretch.start, stretch.end)
    times = list(islice(ahead, stretch.limit))
    more = sum(1 for _ in islice(ahead, COUNTED))
    if more:
        many = f"more than {COUNTED:,}" if more == COUNTED else f"{len(times) + more:,}"
        message = (
            f"There are {many} occurrences in this stretch, and {stretch.limit:,} at most may be: fill less at once."
        )
        raise InvalidInput(
            message, code="too_many_occurrences", problems=[Problem("too_many_occurrences", "/end", message)]
        )
    return times


async def _fill(
    connection: Connection,
    tenant_id: UUID,
    user_id: UUID,
    row: Row,
    recurrence: Recurrence,
    times: Sequence[datetime],
    end: datetime,
    now: datetime,
) -> tuple[Mapping[datetime, UUID | None], int]:
    """Fill a few occurrences in the caller's transaction; return the run of each, and how many were started now."""
    schedule_id = row["id"]
    if not await scheduler.lock_for_backfill(connection, tenant_id, schedule_id):
        raise NotFound(f"There is no schedule {schedule_id}.", code="schedule_not_found")
    recorded = await scheduler.occurrences_at(connection, schedule_id, times)
    runs: dict[datetime, UUID | None] = {
        at: known["execution_id"] for at, known in recorded.items() if known["status"] in (STARTED, "queued")
    }
    starts = [
        ScheduledStart(
            schedule_id,
            tenant_id,
            row["workflow_id"],
            row["node_id"],
            row["priority"],
            at,
            now,
            TRIGGER_TYPE,
            user_id,
            counts=False,
        )
        for at in times
        if at not in runs
    ]
    outcomes = await start_scheduled(connection, starts)
    new = [(outcome.start.scheduled_for, _run(outcome)) for outcome in outcomes]
    if new:
        await scheduler.record_backfilled(connection, tenant_id, schedule_id, new)
    missed = [
        rest
        for at, _ in new
        if at in recorded and (rest := _rest(tenant_id, schedule_id, recorded[at], recurrence, end)) is not None
    ]
    if missed:
        await scheduler.record_missed(connection, missed)
    runs.update(new)
    return runs, len(new)


def _rest(tenant_id: UUID, schedule_id: UUID, known: Row, recurrence: Recurrence, end: datetime) -> MissedRow | None:
    """What is left, after the backfill, of a missed stretch whose row has become that of its first occurrence."""
    through = known["through"]
    if through is None or through <= end:
        return None
    following = next(recurrence.after(end), None)
    if following is None or following > through:
        return None
    number = known["count"]
    if number is not None:
        number -= sum(1 for _ in occurrences(recurrence, known["scheduled_for"], end))
    return MissedRow(schedule_id, following, tenant_id, known["reason"], through, number)


def _run(outcome: Outcome) -> UUID:
    """Return the run of a start, or raise why there is none."""
    if outcome.execution_id is not None:
        return outcome.execution_id
    if outcome.status == FAILED:
        raise MalformedInput("Postgres refused to store the schedule's input; change the schedule.")
    raise _refusal(outcome.reason or "")


def _refusal(verdict: str) -> GoraxError:
    match verdict:
        case "tenant_suspended":
            return Forbidden("The tenant is suspended; nothing can be started.", code=verdict)
        case "not_published":
            return Conflict("The workflow has no published version; publish it first.", code=verdict)
        case "workflow_inactive":
            return Conflict("The workflow is inactive; activate it first.", code=verdict)
        case "workflow_archived":
            return Conflict("The workflow is archived; nothing starts it any more.", code=verdict)
        case _:
            return Conflict("The workflow can't be started now.", code=verdict)
