"""The queue, the claims and the journal's flush, as statements over one Session each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gorax_engine.store import queries

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.model import Instant
    from gorax_engine.store.session import Fetcher, Session

_SQL: Final = queries.load("queue")
SEPARATOR: Final = "\x1f"
"""Between the values of a column that travels as one text: U+001F, the ASCII unit separator."""


class StepRow(NamedTuple):
    """One attempt of a step as `gorax_record_steps` takes it: text throughout, "" for NULL.

    `id` is hexadecimal; `input`, `output` and `more` are JSON; times are microseconds since the epoch. No value may
    hold U+001F, which separates them on the wire: JSON can't, and the ids of nodes and types are checked on save.
    """

    id: str
    node_id: str
    node_type: str
    status: str
    input: str
    output: str
    more: str
    started: str
    completed: str


class WaitRow(NamedTuple):
    """A wait of a step, as `waits` has it; `output` and `detail` are JSON."""

    step_id: UUID
    execution_id: UUID
    tenant_id: UUID
    node_id: str
    path: str
    round: int
    attempt: int
    kind: str
    due: Instant | None
    output: str | None
    event_name: str | None = None
    correlation_key: str | None = None
    detail: str | None = None


class EndRow(NamedTuple):
    """The end of a run. `waited` says that it may have rows in `waits` to close."""

    execution_id: UUID
    status: str
    output: str | None
    error_message: str | None
    error_code: str | None
    completed: Instant
    waited: bool


class ParkRow(NamedTuple):
    """A run that leaves memory until `due` (None: until it is woken), unless it was woken since `wake_seq`."""

    execution_id: UUID
    due: Instant | None
    wake_seq: int
    waiting_for: str


class OutboxRow(NamedTuple):
    """Something to be done after the end of a run, committed with it."""

    tenant_id: UUID
    kind: str
    payload: str


class StartRow(NamedTuple):
    """One start as `gorax_start_executions` takes it: text throughout, "" for NULL, bytes as `\\x` and hexadecimal.

    `trigger_data`, `query`, `headers`, `body` and `refusal` are JSON, and so are `key` and `path` (JSON strings).
    `key_ttl` is in seconds, `elapsed` in milliseconds. No value may hold U+001F.
    """

    tenant_id: str
    workflow_id: str
    trigger_type: str
    trigger_data: str
    trigger_node: str
    priority: str
    started_by: str
    key_kind: str
    key: str
    body_hash: str
    key_ttl: str
    webhook_id: str
    method: str
    path: str
    query: str
    headers: str
    body: str
    raw_body: str
    address: str
    elapsed: str
    refusal: str


@dataclass(frozen=True, slots=True)
class StartVerdict:
    """What became of one start. `claimed` means that the caller's worker owns it already, with token 1.

    `status` is the run's state; of a duplicate, that of the first by now (None if it is gone). A refused delivery
    has an event, and the id is no run's.
    """

    verdict: str
    execution_id: UUID
    event_id: UUID | None
    claimed: bool
    workflow_version: int
    started: Instant
    vars: str | None
    status: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this worker owns: the fence (`token`), and all that is needed to walk it."""

    execution_id: UUID
    tenant_id: UUID
    token: int
    wake_seq: int
    end_requested: str | None
    recovered: bool
    workflow_id: UUID
    workflow_version: int
    trigger_type: str
    trigger_node: str | None
    trigger_data: str
    vars: str | None
    created: Instant
    started: Instant
    parent_execution_id: UUID | None = None
    parent_step_id: UUID | None = None
    depth: int = 0
    origin_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """The rows of one flush. `fence` are (execution, tenant, token), as text, of every run that has a row in it.

    `steps` come with the place of their run in `fence`, from 1. `more` is JSON, see gorax_flush; of the children in it,
    `room` may be claimed at once.
    """

    fence: Sequence[tuple[str, str, str]]
    steps: Sequence[StepRow] = ()
    step_runs: Sequence[str] = ()
    waits: Sequence[WaitRow] = ()
    closed_waits: Sequence[UUID] = ()
    ends: Sequence[EndRow] = ()
    parks: Sequence[ParkRow] = ()
    deadlines: Sequence[tuple[UUID, Instant]] = ()
    outbox: Sequence[OutboxRow] = ()
    more: str | None = None
    room: int = 0


@dataclass(frozen=True, slots=True)
class Flushed:
    """`stale` runs are no longer this worker's (then nothing was written); `not_parked` ones were woken meanwhile.

    `children` is JSON of what became of the children that were to be started, see gorax_follow_up.
    """

    stale: Sequence[UUID]
    not_parked: Sequence[UUID]
    children: str | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did and saw: runs that must run alone (`suspects`), and when the next parked run is due."""

    timers: int
    deadlines: int
    rescued: int
    quarantined: int
    lost_workers: Sequence[str]
    suspects: bool
    next_due: Instant | None


def _step_columns(steps: Sequence[StepRow], runs: Sequence[str]) -> list[str]:
    if not steps:
        return [""] * (len(StepRow._fields) + 1)
    columns = [SEPARATOR.join(column) for column in zip(*steps, strict=True)]
    columns.insert(1, SEPARATOR.join(runs))
    return columns


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


async def start(
    session: Fetcher,
    rows: Sequence[StartRow],
    *,
    worker_id: UUID | None,
    room: int,
    ring: bool,
    links: str | None = None,
) -> list[StartVerdict]:
    """Write at least one start, all in one transaction; claim up to `room` for `worker_id`. `ring` wakes others.

    `links` is JSON of what starts have that follow from other runs, see gorax_start_executions.
    """
    columns = [SEPARATOR.join(column) for column in zip(*rows, strict=True)]
    records = await session.fetch(_SQL.start, worker_id, room, *columns, ring, links)
    return [StartVerdict(*list(record.values())[1:]) for record in records]


async def ring(session: Session) -> None:
    """Tell all workers that there may be something to claim."""
    await session.fetch(_SQL.ring)


async def claim(session: Session, worker_id: UUID, limit: int, *, suspects: bool = False) -> list[Claim]:
    """Claim up to `limit` ready runs; with `suspects`, only those that must run alone. Raises LeaseLost."""
    return [Claim(*record.values()) for record in await session.fetch(_SQL.claim, worker_id, limit, suspects)]


async def flush(session: Session, worker_id: UUID, rows: Flush) -> Flushed:
    """Write one flush behind the fence. Raises LeaseLost, RecordRejected or Unavailable (outcome unknown)."""
    ids, tenants, tokens = (SEPARATOR.join(column) for column in zip(*rows.fence, strict=True))
    closing = [end.execution_id for end in rows.ends if end.waited]
    (record,) = await session.fetch(
        _SQL.flush,
        worker_id,
        ids,
        tenants,
        tokens,
        len(rows.steps),
        *_step_columns(rows.steps, rows.step_runs),
        *_wait_columns(rows.waits),
        rows.closed_waits,
        *_columns(rows.ends, len(EndRow._fields))[:-1],
        closing,
        *_columns(rows.parks, len(ParkRow._fields)),
        *_columns(rows.deadlines, 2),
        *_columns(rows.outbox, len(OutboxRow._fields)),
        rows.more,
        rows.room,
    )
    return Flushed(record["stale"] or (), record["not_parked"] or (), record["children"])


def _wait_columns(waits: Sequence[WaitRow]) -> list[tuple[Any, ...]]:
    return _columns(waits, len(WaitRow._fields))


@dataclass(frozen=True, slots=True)
class Cancellable:
    """A live run whose queue row is locked by the caller's transaction."""

    owner: UUID | None
    token: int
    wake_seq: int
    end_requested: str | None
    workflow_id: UUID
    workflow_version: int
    trigger_type: str
    trigger_node: str | None
    trigger_data: str
    started: Instant | None
    created: Instant
    now: Instant
    origin_id: UUID | None = None


async def lock_for_cancel(connection: Fetcher, tenant_id: UUID, execution_id: UUID) -> Cancellable | None:
    """Lock a live run of the tenant for ending it; None if it has ended or is not there."""
    rows = await connection.fetch(_SQL.lock_for_cancel, execution_id, tenant_id)
    return Cancellable(*rows[0].values()) if rows else None


async def execution_status(connection: Fetcher, tenant_id: UUID, execution_id: UUID) -> str | None:
    """Return the state of a run of the tenant, None if there is no such run."""
    rows = await connection.fetch(_SQL.execution_status, execution_id, tenant_id)
    return str(rows[0]["status"]) if rows else None


async def pinned_version(connection: Fetcher, tenant_id: UUID, execution_id: UUID) -> tuple[UUID, int] | None:
    """Return the workflow and version of a live run of the tenant, None if it has ended."""
    rows = await connection.fetch(_SQL.pinned_version, execution_id, tenant_id)
    return (rows[0]["workflow_id"], rows[0]["workflow_version"]) if rows else None


async def close_running_steps(connection: Fetcher, execution_id: UUID) -> None:
    """Mark every step that runs as failed with code `cancelled`: for a run whose graph can't be read here."""
    await connection.fetch(_SQL.close_running_steps, execution_id)


async def ended(connection: Fetcher, execution_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of the runs that have ended."""
    return [row["id"] for row in await connection.fetch(_SQL.ended, execution_ids)]


async def record_steps(connection: Fetcher, tenant_id: UUID, execution_id: UUID, steps: Sequence[StepRow]) -> None:
    """Write attempts of a run whose queue row the caller's transaction has locked, or made."""
    if steps:
        columns = _step_columns(steps, ["1"] * len(steps))
        await connection.fetch(_SQL.record_steps, execution_id, tenant_id, *columns)


async def record_end(connection: Fetcher, end: EndRow) -> None:
    """End a run whose queue row the caller's transaction has locked."""
    await connection.fetch(_SQL.record_ends, *_columns((end,), len(EndRow._fields))[:-1])
    await connection.fetch(_SQL.end_waits, end.execution_id)


@dataclass(frozen=True, slots=True)
class Relatives:
    """Who waits for a run, and the runs that are cancelled with it."""

    parent_execution_id: UUID | None
    parent_step_id: UUID | None
    children: Sequence[UUID]


async def relatives(connection: Fetcher, execution_id: UUID) -> Relatives:
    """Return the runs around a run that is there."""
    (row,) = await connection.fetch(_SQL.relatives, execution_id)
    return Relatives(*row.values())


async def lock_runs(connection: Fetcher, tenant_id: UUID, execution_ids: Sequence[UUID]) -> list[UUID]:
    """Lock the queue rows of runs of a tenant, in the order in which everybody does; return those that live."""
    rows = await connection.fetch(_SQL.lock_runs, execution_ids, tenant_id)
    return [row["execution_id"] for row in rows]


async def request_cancel(connection: Fetcher, execution_ids: Sequence[UUID], reason: str) -> None:
    """Ask for the end of runs whose queue rows the caller's transaction has locked."""
    await connection.fetch(_SQL.request_cancel, execution_ids, reason)


async def signal(connection: Fetcher, steps: Sequence[UUID], resolutions: Sequence[str]) -> list[UUID]:
    """Tell waits that what they waited for has come; return those that were told now."""
    return [row["step_id"] for row in await connection.fetch(_SQL.signal, steps, resolutions)]


async def pause(connection: Fetcher, tenant_id: UUID, execution_id: UUID) -> bool:
    """Let a live run begin no further step; return whether it was one."""
    return bool(await connection.fetch(_SQL.pause, execution_id, tenant_id))


async def resume(connection: Fetcher, tenant_id: UUID, execution_id: UUID) -> bool:
    """Let a paused run go on; return whether it was one."""
    return bool(await connection.fetch(_SQL.resume, execution_id, tenant_id))


async def sweep(session: Session, limit: int) -> Swept:
    """Make due timers ready, mark passed deadlines, rescue the runs of dead workers."""
    (record,) = await session.fetch(_SQL.sweep, limit)
    return Swept(
        record["timers"],
        record["deadlines"],
        record["rescued"],
        record["quarantined"],
        record["lost_workers"] or (),
        record["suspects"],
        record["next_due_us"],
    )
