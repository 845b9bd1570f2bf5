"""Starting the runs of schedules within the caller's transaction, on the worker's connection.

Data that Postgres refuses fails its own occurrence alone: the others are started all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from gorax_engine.core.instants import format_instant
from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import Json
from gorax_engine.core.schedules import instant_of
from gorax_engine.engine.starting import MAX_GROUP_CHARACTERS, StartRequest, row_of
from gorax_engine.store import queue, scheduler
from gorax_engine.store.session import RecordRejected
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from gorax_engine.store.database import Connection
    from gorax_engine.store.queue import StartRow

_log = get_logger(__name__)

STARTED: Final = "started"
SKIPPED: Final = "skipped"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class ScheduledStart:
    """A run to be started for an occurrence. `counts` says whether the schedule's overlap policy asks for it later."""

    schedule_id: UUID
    tenant_id: UUID
    workflow_id: UUID
    node_id: str | None
    priority: int
    scheduled_for: datetime
    fired_at: datetime
    trigger_type: str = "schedule"
    started_by: UUID | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a start: started, skipped (`reason` is the verdict) or failed."""

    start: ScheduledStart
    status: str
    reason: str | None
    execution_id: UUID | None


async def start_scheduled(connection: Connection, starts: Sequence[ScheduledStart]) -> list[Outcome]:
    """Start runs, in one statement unless their inputs are large; return what became of each, in their order."""
    if not starts:
        return []
    inputs = await scheduler.inputs(connection, list({start.schedule_id for start in starts}))
    outcomes: list[Outcome] = []
    for group in _groups(starts, inputs):
        try:
            outcomes += await _start(connection, group)
        except RecordRejected:
            for member in group:
                outcomes.append(await _start_alone(connection, member))
    return outcomes


def trigger_data(schedule_id: UUID, scheduled_for: datetime, fired_at: datetime, body: Json) -> dict[str, Json]:
    """Return what a run sees as `trigger`."""
    return {
        "schedule_id": str(schedule_id),
        "scheduled_for": format_instant(instant_of(scheduled_for)),
        "fired_at": format_instant(instant_of(fired_at)),
        "body": body,
    }


def _groups(
    starts: Iterable[ScheduledStart], inputs: Mapping[UUID, str]
) -> Iterator[list[tuple[ScheduledStart, StartRow]]]:
    group: list[tuple[ScheduledStart, StartRow]] = []
    characters = 0
    for start in starts:
        row = row_of(_request(start, inputs[start.schedule_id]))
        size = sum(map(len, row))
        if group and characters + size > MAX_GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
        group.append((start, row))
        characters += size
    yield group


def _request(start: ScheduledStart, body: str) -> StartRequest:
    # As the database has it: what is stored need not be read to be stored again.
    data = trigger_data(start.schedule_id, start.scheduled_for, start.fired_at, msgspec.Raw(body.encode()))
    return StartRequest(
        start.tenant_id,
        start.workflow_id,
        start.trigger_type,
        data,
        start.node_id,
        start.priority,
        started_by=start.started_by,
    )


async def _start(connection: Connection, group: Sequence[tuple[ScheduledStart, StartRow]]) -> list[Outcome]:
    links = encode([{"schedule": str(start.schedule_id)} if start.counts else {} for start, _ in group])
    with scheduler.refused_data():
        async with connection.transaction():
            verdicts = await queue.start(
                connection, [row for _, row in group], worker_id=None, room=0, ring=True, links=links
            )
    return [
        Outcome(start, STARTED, None, verdict.execution_id)
        if verdict.verdict == "started"
        else Outcome(start, SKIPPED, verdict.verdict, None)
        for (start, _), verdict in zip(group, verdicts, strict=True)
    ]


async def _start_alone(connection: Connection, member: tuple[ScheduledStart, StartRow]) -> Outcome:
    try:
        (outcome,) = await _start(connection, [member])
    except RecordRejected as refusal:
        _log.error("scheduled_start_rejected", schedule_id=str(member[0].schedule_id), sqlstate=refusal.sqlstate)
        return Outcome(member[0], FAILED, f"rejected: {refusal}", None)
    return outcome
