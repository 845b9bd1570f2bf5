"""Group commit: what all executions of a worker have to say goes to Postgres in one transaction after another.

While one flush is on its way the next one fills. Entries of one execution stay in order and are never split: what is
recorded together is committed together. A flush that Postgres refuses for its data is divided until the guilty
execution stands alone; that one fails, the others go on.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import anyio
import msgspec

from gorax_engine.core.states import StepState, check_step
from gorax_engine.engine.entries import Batch, Entry, StartedChild, children_of, first_claim, rows_of
from gorax_engine.errors import Unavailable
from gorax_engine.store import queue
from gorax_engine.store.session import LeaseLost, RecordRejected, StatementFailed
from gorax_engine.telemetry import FlushDone, Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gorax_engine.engine.entries import ChildStart, Owner, Tell
    from gorax_engine.engine.lease import Lease
    from gorax_engine.engine.strays import Request
    from gorax_engine.store.queue import Claim, StepRow
    from gorax_engine.store.session import Session

LINGER: Final = 0.02
"""Seconds that rows may wait for company when nobody waits for them (starts of steps)."""
RETRY_DELAY: Final = 0.1
MAX_FAILURES: Final = 3
"""How often one flush may fail by itself, with the database there, before it is divided like one that is refused."""


class Adopter(Protocol):
    """Who runs children that a flush claims (the worker)."""

    def reserve(self, most: int, request: Request) -> tuple[UUID | None, int]:
        """Set places aside: (worker id, how many). If it is any, `adopt` must follow."""

    def adopt(self, worker_id: UUID, reserved: int, claims: Sequence[Claim], request: Request) -> None:
        """Run what was claimed, and free the rest of what was reserved."""

    def child_ended(self, tell: Tell) -> None:
        """The end of a child is durable: tell its parent, if it is in this worker's memory."""


class Journal:
    """The one writer of a worker. `run` flushes until cancelled; the rest is called by executions, without waiting."""

    def __init__(self, session: Session, lease: Lease, telemetry: Telemetry, adopter: Adopter) -> None:
        self._session = session
        self._adopter = adopter
        self._lease = lease
        self._telemetry = telemetry
        self._filling = Batch()
        self._sealed: deque[Batch] = deque()
        self._some = anyio.Event()
        self._urgent = anyio.Event()

    def entry(self, owner: Owner) -> Entry:
        """Return the execution's entry in the batch that fills now."""
        batch = self._filling
        entry = batch.entries.get(owner.execution_id)
        if entry is None:
            if batch.full:
                self._sealed.append(batch)
                batch = self._filling = Batch()
            entry = batch.entries[owner.execution_id] = Entry(owner)
            owner.batch = batch
            if len(batch.entries) == 1:
                self._some.set()
        return entry

    def step(self, owner: Owner, row: StepRow) -> None:
        """Record an attempt. The end of one whose start is not yet on its way replaces it: they become one row."""
        steps = self.entry(owner).steps
        begun = steps.get(row.id)
        if begun is not None:
            check_step(StepState(begun.status), StepState(row.status))
        if begun is not None and not row.started:
            # The end of a timer, or of a step that is cancelled, knows neither.
            row = row._replace(started=begun.started, input=begun.input)
        steps[row.id] = row
        batch = self._filling
        batch.rows += 1
        batch.bytes += len(row.input or "") + len(row.output or "")

    def weigh(self, rows: int, size: int) -> None:
        """What was just added to an entry besides steps counts as so many rows, and bytes."""
        self._filling.rows += rows
        self._filling.bytes += size

    def hurry(self) -> None:
        """Somebody waits: flush as soon as the flush before is done."""
        self._urgent.set()

    async def durable(self, owner: Owner) -> None:
        """Wait until all that the execution has recorded is committed; then look at `owner.lost` and the like."""
        batch = owner.batch
        if batch is not None and not batch.done.is_set():
            self._urgent.set()
            await batch.done.wait()

    @property
    def crowded(self) -> bool:
        """Is so much waiting to be written that who has more to say should wait for `room`?"""
        return self._filling.crowded

    async def room(self) -> None:
        """Wait, while it is crowded, until what fills now is written: a flush must fit into memory and its time."""
        if self.crowded:
            batch = self._filling
            self._urgent.set()
            await batch.done.wait()

    def when_durable(self, owner: Owner, call: Callable[[], None]) -> None:
        """Call `call` once all that the execution has recorded is committed or refused; not if the lease is lost."""
        batch = owner.batch
        if batch is None or batch.done.is_set():
            call()
        else:
            self._urgent.set()
            batch.then.append(call)

    @property
    def idle(self) -> bool:
        """Is nothing recorded that is not yet durable?"""
        return not self._filling.entries and not self._sealed

    async def run(self) -> None:
        """Flush until cancelled. Raises LeaseLost when the worker must stop."""
        while True:
            await self._some.wait()
            if not self._sealed and not self._urgent.is_set():
                with anyio.move_on_after(LINGER):
                    await self._urgent.wait()
            batch = self._next()
            if batch is not None:
                # To its end, for as long as the lease allows: what comes after it must not be committed without it.
                with anyio.CancelScope(shield=True):
                    await self._commit(batch)

    async def drain(self) -> None:
        """Flush all that is recorded. For the end of a worker, after `run` is cancelled."""
        while (batch := self._next()) is not None:
            await self._commit(batch)

    def _next(self) -> Batch | None:
        if self._sealed:
            return self._sealed.popleft()
        batch = self._filling
        self._filling = Batch()
        self._some = anyio.Event()
        self._urgent = anyio.Event()
        return batch if batch.entries else None

    async def _commit(self, batch: Batch) -> None:
        try:
            await self._write(list(batch.entries.values()))
            for call in batch.then:
                call()
        except BaseException as failure:
            # Nobody who waits may go on as if it were durable, not even for the moment until we all are cancelled.
            self._lease.lost = self._lease.lost or isinstance(failure, LeaseLost)
            for entry in batch.entries.values():
                entry.owner.lost = True
            raise
        finally:
            batch.done.set()
            batch.entries = {}
            batch.then = []

    async def _write(self, entries: list[Entry]) -> None:
        """Write entries, without those that turn out stale; divide them when the data is refused."""
        while entries:
            try:
                flushed = await self._send(entries)
            except RecordRejected as refusal:
                if len(entries) == 1:
                    entries[0].owner.rejected = str(refusal)
                    entries[0].owner.on_void()
                    return
                middle = len(entries) // 2
                await self._write(entries[:middle])
                entries = entries[middle:]
                continue
            if not flushed.stale:
                self._tell_parents(entries)
                woken = set(flushed.not_parked)
                for entry in entries:
                    if entry.park is not None and entry.owner.execution_id in woken:
                        entry.owner.woken = True
                return
            stale = set(flushed.stale)
            for entry in entries:
                if entry.owner.execution_id in stale:
                    entry.owner.lost = True
                    entry.owner.on_void()
            entries = [entry for entry in entries if not entry.owner.lost]

    def _tell_parents(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.follow is not None:
                for tell in entry.follow.tells:
                    self._adopter.child_ended(tell)

    async def _send(self, entries: Sequence[Entry]) -> queue.Flushed:
        """Send one flush, again and again while the database is away, until the lease is over."""
        try:
            rows = rows_of(entries)
        except (UnicodeError, TypeError, ValueError, msgspec.MsgspecError) as fault:
            # Whatever a node has smuggled past the checks: it must not end the worker.
            raise RecordRejected(f"a record can't be written as text: {fault}", "22000") from fault
        children = children_of(entries)
        failures = 0
        while True:
            self._lease.check()
            began = time.monotonic()
            try:
                with anyio.fail_after(max(self._lease.remaining, 0.05)):
                    if children:
                        flushed = await self._flush_with_children(rows, children)
                    else:
                        flushed = await queue.flush(self._session, self._lease.worker_id, rows)
            except StatementFailed as failure:
                failures += 1
                if failures >= MAX_FAILURES:
                    raise RecordRejected(str(failure), "57014") from failure
                await anyio.sleep(RETRY_DELAY)
                continue
            except (Unavailable, TimeoutError):
                await anyio.sleep(RETRY_DELAY)
                continue
            self._telemetry.emit(FlushDone(len(rows.steps) + len(rows.ends), time.monotonic() - began))
            return flushed

    async def _flush_with_children(
        self, rows: queue.Flush, children: Mapping[UUID, tuple[Owner, ChildStart]]
    ) -> queue.Flushed:
        """Send a flush that starts children; this worker runs at once those that it has room for."""
        worker_id, room = self._adopter.reserve(len(children), "child")
        claims: list[Claim] = []
        try:
            flushed = await queue.flush(self._session, self._lease.worker_id, replace(rows, room=room))
            for row in msgspec.json.decode(flushed.children) if flushed.children else ():
                owner, child = children[UUID(row["step"])]
                started = row["verdict"] in ("started", "duplicate")
                owner.on_child(StartedChild(child.step_id, UUID(row["execution_id"]) if started else None))
                if row["claimed"]:
                    claims.append(first_claim(child, row))
        finally:
            if worker_id is not None:
                self._adopter.adopt(worker_id, room, claims, "child")
        return flushed
