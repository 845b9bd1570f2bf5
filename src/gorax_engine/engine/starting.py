"""Starting runs: every way into the engine ends here.

Starts that arrive together share one transaction and one commit. A start returns only after its commit: what was
answered is never lost. In a process that also works, new runs are claimed by the same statement if there is room.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine.core.json_edge import Unencodable, encode
from gorax_engine.core.model import Json
from gorax_engine.core.states import ExecutionState
from gorax_engine.errors import Conflict, Forbidden, IdempotencyMismatch, MalformedInput, NotFound, Unavailable
from gorax_engine.store import queue
from gorax_engine.store.queue import Claim, StartRow, StartVerdict
from gorax_engine.store.session import LeaseLost, RecordRejected
from gorax_engine.telemetry import ExecutionStarted, Telemetry, get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from gorax_engine.engine.worker import Worker
    from gorax_engine.store.session import Session

MAX_GROUP: Final = 200
MAX_GROUP_CHARACTERS: Final = 8 * 1024 * 1024
"""What the rows of a group hold together, unless it is a single one: a group is one statement, in memory twice."""
RING_INTERVAL: Final = 0.01
"""Seconds between two notifications of this process: a NOTIFY takes a lock that all commits share."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StartKey:
    """What makes a start unique: the same key of the same kind starts once, until `ttl` is over.

    `kind`: idempotency, delivery, occurrence, event or error_workflow. A repeat with another `body_hash` is refused.
    """

    kind: str
    key: str
    body_hash: bytes | None
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a delivery starts nothing: `filtered` or `failed`, with the reason and the HTTP status of its answer."""

    status: str
    reason: str
    response: int


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """A delivery that starts a run, unless it is refused; it becomes a row of `webhook_events` in the same transaction.

    `elapsed` is how long it has taken so far, in seconds; `address` the IP address that it came from.
    """

    webhook_id: UUID
    method: str
    path: str
    query: dict[str, Json]
    headers: dict[str, Json]
    body: Json
    raw_body: bytes
    address: str | None = None
    elapsed: float = 0.0
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A start that was authorised. The version is chosen when it is written: the latest published one."""

    tenant_id: UUID
    workflow_id: UUID
    trigger_type: str
    trigger_data: dict[str, Json]
    trigger_node: str | None = None
    priority: int = 1
    start_key: StartKey | None = None
    started_by: UUID | None = None
    delivery: WebhookDelivery | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A committed start. For a duplicate the ids are those of the first."""

    execution_id: UUID
    status: str
    duplicate: bool
    event_id: UUID | None


class _Pending:
    """One caller of `start` that waits for the commit."""

    __slots__ = ("failure", "group", "request", "row", "verdict")

    def __init__(self, request: StartRequest, row: StartRow, group: _Group) -> None:
        self.request = request
        self.row = row
        self.group = group
        self.verdict: StartVerdict | None = None
        self.failure: Exception | None = None


class _Group:
    """Starts that are committed together, each key once: a second start with one key must find the first."""

    __slots__ = ("characters", "done", "keys", "members")

    def __init__(self) -> None:
        self.members: list[_Pending] = []
        self.characters = 0
        self.keys: set[tuple[str, str, str]] = set()
        self.done = anyio.Event()

    def add(self, request: StartRequest, row: StartRow) -> _Pending | None:
        """Take one more start, unless the group is full or has its key already."""
        if len(self.members) >= MAX_GROUP:
            return None
        characters = sum(map(len, row))
        if self.members and self.characters + characters > MAX_GROUP_CHARACTERS:
            return None
        if row.key:
            key = (row.tenant_id, row.key_kind, row.key)
            if key in self.keys:
                return None
            self.keys.add(key)
        self.characters += characters
        pending = _Pending(request, row, self)
        self.members.append(pending)
        return pending


class Starts:
    """Starts runs. `run` commits them in groups until cancelled; `start` may be called by any task meanwhile."""

    def __init__(self, session: Session, telemetry: Telemetry, worker: Worker | None) -> None:
        self._session = session
        self._telemetry = telemetry
        self._worker = worker
        self._groups: deque[_Group] = deque()
        self._arrived = anyio.Event()
        self._rang_at = 0.0
        self._owes_ring = False

    async def start(self, request: StartRequest) -> Started:
        """Start a run; return after its commit.

        Raises NotFound (workflow_not_found, webhook_not_found), Conflict (not_published, workflow_inactive,
        workflow_archived), Forbidden
        (tenant_suspended), IdempotencyMismatch, MalformedInput (data that can't be stored), and Unavailable, after
        which it is not known whether the run was started: the same key tells.
        """
        verdict = await self._written(request)
        return self.answer(request, verdict)

    async def record(self, request: StartRequest) -> UUID:
        """Write down a delivery that is refused; return the id of its event, after the commit.

        Raises MalformedInput and Unavailable.
        """
        verdict = await self._written(request)
        assert verdict.event_id is not None
        return verdict.event_id

    async def _written(self, request: StartRequest) -> StartVerdict:
        row = row_of(request)
        pending = self._groups[-1].add(request, row) if self._groups else None
        if pending is None:
            group = _Group()
            self._groups.append(group)
            self._arrived.set()
            pending = group.add(request, row)
            assert pending is not None
        await pending.group.done.wait()
        if pending.failure is not None:
            raise pending.failure
        assert pending.verdict is not None
        return pending.verdict

    def answer(self, request: StartRequest, verdict: StartVerdict) -> Started:
        """Return what a verdict means to who asked for the start, or raise it."""
        match verdict.verdict:
            case "started" | "duplicate":
                duplicate = verdict.verdict == "duplicate"
                if not duplicate:
                    self._telemetry.emit(ExecutionStarted(request.trigger_type))
                status = verdict.status or ExecutionState.COMPLETED.value  # gone by retention: it was over
                return Started(verdict.execution_id, status, duplicate, verdict.event_id)
            case "mismatch":
                raise IdempotencyMismatch("This idempotency key was used before with another body; use a new key.")
            case "tenant_suspended":
                raise Forbidden("The tenant is suspended; nothing can be started.", code="tenant_suspended")
            case "not_published":
                raise Conflict("The workflow has no published version; publish it first.", code="not_published")
            case "workflow_inactive":
                raise Conflict("The workflow is inactive; activate it first.", code="workflow_inactive")
            case "workflow_archived":
                raise Conflict("The workflow is archived; create a new one.", code="workflow_archived")
            case code:
                raise NotFound(
                    "There is no such workflow." if code == "workflow_not_found" else "Not found.", code=code
                )

    async def run(self) -> None:
        """Commit group after group until cancelled. While one is on its way, the next fills."""
        while True:
            if not self._groups:
                self._arrived = anyio.Event()
                await self._wait_or_ring()
                continue
            group = self._groups.popleft()
            try:
                await self._commit(group.members)
            finally:
                for pending in group.members:
                    if pending.verdict is None and pending.failure is None:
                        pending.failure = Unavailable("The daemon is stopping; try again.", code="stopping")
                group.done.set()

    async def _wait_or_ring(self) -> None:
        """Wait for a start; meanwhile ring for those that were queued too soon after the last notification."""
        if self._owes_ring:
            with anyio.move_on_after(max(0.0, self._rang_at + RING_INTERVAL - time.monotonic())):
                await self._arrived.wait()
                return
            self._owes_ring = False
            self._rang_at = time.monotonic()
            # Lost with its connection it costs latency only: the workers poll.
            with contextlib.suppress(Unavailable):
                await queue.ring(self._session)
        else:
            await self._arrived.wait()

    async def _commit(self, members: Sequence[_Pending]) -> None:
        """Write a group; if Postgres refuses its data, each start alone, so that only the guilty one fails."""
        try:
            try:
                await self._write(members)
            except LeaseLost:
                # This process's worker was taken for dead: others may run what is accepted here.
                await self._write(members, claim=False)
        except RecordRejected as refusal:
            if len(members) > 1:
                for pending in members:
                    await self._commit([pending])
                return
            _log.warning("start_rejected", sqlstate=refusal.sqlstate)
            members[0].failure = MalformedInput("Postgres refused to store this input; it holds what JSONB can't.")
        except Unavailable:
            for pending in members:
                pending.failure = Unavailable("The database can't be reached now; try again.")

    async def _write(self, group: Sequence[_Pending], *, claim: bool = True) -> None:
        now = time.monotonic()
        ring = now - self._rang_at >= RING_INTERVAL
        worker_id, room = self._worker.reserve(len(group)) if self._worker is not None and claim else (None, 0)
        verdicts: Sequence[StartVerdict] = ()
        try:
            verdicts = await queue.start(
                self._session, [pending.row for pending in group], worker_id=worker_id, room=room, ring=ring
            )
        finally:
            if self._worker is not None and worker_id is not None:
                self._worker.adopt(
                    worker_id,
                    room,
                    [_claim(p.request, p.row, v) for p, v in zip(group, verdicts, strict=False) if v.claimed],
                )
        queued = False
        for pending, verdict in zip(group, verdicts, strict=True):
            pending.verdict = verdict
            queued = queued or (verdict.verdict == "started" and not verdict.claimed)
        if queued:
            self._owes_ring = not ring
            if ring:
                self._rang_at = now
            if self._worker is not None:
                self._worker.ring()


_NO_KEY: Final = ("", "", "", "")
_NO_DELIVERY: Final = ("", "", "", "", "", "", "", "", "", "")


def row_of(request: StartRequest) -> StartRow:
    """Return a start as the store takes it. Raises MalformedInput for data that can't be stored."""
    key, delivery = request.start_key, request.delivery
    try:
        return StartRow(
            str(request.tenant_id),
            str(request.workflow_id),
            request.trigger_type,
            encode(request.trigger_data),
            request.trigger_node or "",
            str(request.priority),
            "" if request.started_by is None else str(request.started_by),
            *(_NO_KEY if key is None else _key_columns(key)),
            *(_NO_DELIVERY if delivery is None else _delivery_columns(delivery)),
        )
    except Unencodable as error:
        raise MalformedInput(f"The input can't be stored: {error}.") from None


def _key_columns(key: StartKey) -> tuple[str, str, str, str]:
    body_hash = "" if key.body_hash is None else "\\x" + key.body_hash.hex()
    return key.kind, encode(key.key), body_hash, str(round(key.ttl.total_seconds()))


def _delivery_columns(delivery: WebhookDelivery) -> tuple[str, str, str, str, str, str, str, str, str, str]:
    refusal = delivery.refusal
    return (
        str(delivery.webhook_id),
        delivery.method,
        encode(delivery.path),
        encode(delivery.query),
        encode(delivery.headers),
        encode(delivery.body),
        "\\x" + delivery.raw_body.hex(),
        delivery.address or "",
        str(round(delivery.elapsed * 1000)),
        ""
        if refusal is None
        else encode({"status": refusal.status, "reason": refusal.reason, "response": refusal.response}),
    )


def _claim(request: StartRequest, row: StartRow, verdict: StartVerdict) -> Claim:
    """The claim that came with the start: the first of the run, so its token is 1."""
    return Claim(
        verdict.execution_id,
        request.tenant_id,
        1,
        0,
        None,
        False,
        request.workflow_id,
        verdict.workflow_version,
        request.trigger_type,
        request.trigger_node,
        row.trigger_data,
        verdict.vars,
        verdict.started,
        verdict.started,
    )
