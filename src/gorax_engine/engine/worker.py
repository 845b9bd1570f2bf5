"""A worker's lives: register, heartbeat, claim, run, sweep; when the lease is lost, drop everything and begin anew.

One registration is one life (`Life`): its journal, its executions and its lease end together. A worker that was
stopped or cut off for longer than its lease finds out before it acts (`Lease.valid`), at its next flush (the fence) or
heartbeat; it then forgets what it held, changes nothing, and registers as a new worker.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine.core.model import SECOND
from gorax_engine.engine.breakers import Breakers
from gorax_engine.engine.clock import DatabaseClock
from gorax_engine.engine.journal import Journal
from gorax_engine.engine.life import Life
from gorax_engine.engine.plans import Plans
from gorax_engine.engine.registration import RELEASE_TIMEOUT, Registration, WorkerOptions
from gorax_engine.engine.run import Engine
from gorax_engine.errors import Unavailable
from gorax_engine.store import events, queue, workers
from gorax_engine.store.database import STATEMENT_TIMEOUT
from gorax_engine.store.session import LeaseLost, open_session
from gorax_engine.telemetry import ClaimDone, ExecutionQuarantined, ExecutionRescued, LeaseLostEvent, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from gorax_engine.core.states import ExecutionState
    from gorax_engine.engine.entries import Tell
    from gorax_engine.engine.strays import Request
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.queue import Claim
    from gorax_engine.store.session import Session
    from gorax_engine.telemetry import Telemetry
    from gorax_engine.vault.secrets import Secrets

CLAIM_BATCH: Final = 100
SUSPECT_PATIENCE: Final = 10.0
TIMEOUT_SHARE: Final = 0.6
"""The share of the lease that one statement may take."""
CLAIM_PAUSE: Final = 0.005
"""Seconds to let places come free together under load, rather than to claim one by one."""
SWEEP_BATCH: Final = 1_000
RETRY_DELAY: Final = 0.5

_log = get_logger(__name__)


class Worker:
    """Runs executions until it is told to drain. `room` and `adopt` let starts of this process be run at once."""

    def __init__(
        self,
        options: WorkerOptions,
        connect: tuple[str, str | None],
        registry: NodeRegistry,
        telemetry: Telemetry,
        on_end: Callable[[UUID, ExecutionState], None],
        secrets: Secrets | None = None,
    ) -> None:
        self._secrets = secrets
        self._breakers = Breakers()
        self._options = options
        self._connect = connect
        self._registry = registry
        self._telemetry = telemetry
        self._on_end = on_end
        self._clock = DatabaseClock()
        self._life: Life | None = None
        self._wake = anyio.Event()
        self._marks = anyio.Event()
        self._matches = anyio.Event()
        self._draining = False

    # --- for the rest of the process ----------------------------------------------------------------------------------

    def ring(self) -> None:
        """There may be something to claim."""
        self._wake.set()

    def look_at_marks(self) -> None:
        """A mark may have been set on a run that this worker holds."""
        self._marks.set()

    def drain(self) -> None:
        """Stop claiming; `run` returns when all has ended or parked, or the drain timeout is over."""
        self._draining = True
        self._wake.set()

    @property
    def in_flight(self) -> int:
        """How many executions are in memory."""
        return self._life.held if self._life else 0

    def reserve(self, most: int, request: Request = "start") -> tuple[UUID | None, int]:
        """Set places aside for starts to be written: (worker id, how many). If it is any, `adopt` must follow."""
        life = self._life
        if life is None or self._draining or life.alone or not life.lease.valid:
            return None, 0
        room = min(most, life.free)
        if room <= 0:
            return None, 0
        life.reserved += room
        life.strays.asking(request)
        return life.lease.worker_id, room

    def adopt(self, worker_id: UUID, reserved: int, claims: Sequence[Claim], request: Request = "start") -> None:
        """Run claims that a start made in this worker's name, and free the rest of what was reserved for them."""
        life = self._life
        if life is None or life.closed or life.lease.worker_id != worker_id:
            return  # that life is over; who signs it off, or rescues it, finds the rows
        life.reserved -= reserved
        life.begin_all(claims)
        life.strays.answered(request)

    def child_ended(self, tell: Tell) -> None:
        """The end of a child is durable: tell its parent, if it is in memory here."""
        execution = None if self._life is None else self._life.executions.get(tell.run)
        if execution is not None:
            execution.child_ended(tell)

    # --- lives --------------------------------------------------------------------------------------------------------

    async def run(self, *, ready: Callable[[], None]) -> None:
        """Live until drained. `ready` is called once, after the first registration."""
        async with AsyncExitStack() as stack:
            dsn, role = self._connect
            # A statement that hangs must be over before its work is somebody else's.
            timeout = min(STATEMENT_TIMEOUT, self._options.lease * TIMEOUT_SHARE)
            journal, claims, reads, beats = [
                await stack.enter_async_context(open_session(dsn, role, timeout)) for _ in range(4)
            ]
            registration = Registration(self._options, beats, self._clock)
            while not self._draining:
                try:
                    await self._live(registration, journal, claims, reads, ready)
                except* LeaseLost:
                    self._telemetry.emit(LeaseLostEvent())
                    _log.warning("lease_lost", worker=self._options.name)
                except* Unavailable:
                    await anyio.sleep(RETRY_DELAY)

    async def _live(
        self,
        registration: Registration,
        commits: Session,
        claims: Session,
        reads: Session,
        ready: Callable[[], None],
    ) -> None:
        """One life: from registration to drain. Raises LeaseLost in an exception group, and Unavailable."""
        lease = await registration.begin()
        journal = Journal(commits, lease, self._telemetry, self)
        matches: deque[UUID] = deque()
        engine = Engine(
            journal,
            lease,
            self._clock,
            self._registry,
            reads,
            self._telemetry,
            self._secrets,
            self._breakers,
            partial(self._wait_for_event, matches),
            self._is_full,
            self.look_at_marks,
        )
        drained = False
        try:
            async with anyio.create_task_group() as outer:
                outer.start_soon(registration.keep, lease, lambda: self._draining, self.look_at_marks)
                outer.start_soon(registration.watch, lease)
                outer.start_soon(journal.run)
                async with anyio.create_task_group() as tasks:
                    plans = Plans(reads, self._registry)
                    life = self._life = Life(engine, tasks, plans, self._options.slots, self.ring, self._on_end)
                    outer.start_soon(self._sweep, life, reads)
                    outer.start_soon(self._follow_marks, life, reads)
                    outer.start_soon(self._match_events, matches, reads)
                    ready()
                    try:
                        await self._claim(life, claims)
                        # Drain: what has not ended or parked in time is cut off and given back.
                        await self._until_empty(life)
                    finally:
                        life.closed = True
                    tasks.cancel_scope.cancel()
                outer.cancel_scope.cancel()
            with anyio.move_on_after(RELEASE_TIMEOUT, shield=True):
                await journal.drain()
            drained = not lease.lost
        finally:
            if self._life is not None and not drained:
                registration.forsake(lease, tuple(self._life.known))
            self._life = None
            lease.lost = True
        if drained:
            await registration.release(lease, commits)

    # --- marks --------------------------------------------------------------------------------------------------------

    async def _follow_marks(self, life: Life, session: Session) -> None:
        """Learn from the queue rows what was asked of our runs, and which are no longer ours."""
        while True:
            await self._marks.wait()
            self._marks = anyio.Event()
            before, known = dict(life.executions), set(life.known)
            try:
                held = {row.execution_id: row for row in await workers.owned(session, life.lease.worker_id)}
                strays = life.strays.look(((row.execution_id, row.token) for row in held.values()), known | life.known)
                if strays:
                    handed_back = await workers.hand_back(session, life.lease.worker_id, strays)
                    _log.warning("strays_handed_back", executions=handed_back)
            except Unavailable:
                continue
            for execution_id, execution in before.items():
                row = held.get(execution_id)
                if row is None or row.token != execution.owner.token:
                    if execution.ended is None and not execution.parked:
                        execution.abandon()
                elif row.wake_seq != execution.wake_seq:
                    execution.woken(row.wake_seq, row.end_requested, paused=row.paused)

    # --- events -------------------------------------------------------------------------------------------------------

    def _wait_for_event(self, matches: deque[UUID], step_id: UUID) -> None:
        matches.append(step_id)
        self._matches.set()

    async def _match_events(self, matches: deque[UUID], session: Session) -> None:
        """Look for events that came before the waits for them were open."""
        while True:
            await self._matches.wait()
            self._matches = anyio.Event()
            while matches:
                steps = [matches.popleft() for _ in range(min(len(matches), SWEEP_BATCH))]
                with suppress(Unavailable):  # the sweep of events finds them
                    await events.match_waits(session, steps)

    def _is_full(self) -> bool:
        return self._life is None or self._life.free <= 0

    # --- claim and run ------------------------------------------------------------------------------------------------

    async def _claim(self, life: Life, session: Session) -> None:
        """Claim up to the free places, at every ring and poll, until drained."""
        while not self._draining:
            self._wake = anyio.Event()
            wanted = min(life.free, CLAIM_BATCH)
            claimed = await self._claim_some(life, session, wanted) if wanted > 0 else 0
            # With all places filled there may be more: the end of a run rings. Else only a hint or the poll does.
            life.saturated = claimed == wanted or wanted <= 0
            if claimed and life.free > 0:
                # Filled in part it may have left some behind: other tenants' shares that they could not use.
                await anyio.sleep(0 if claimed == wanted else CLAIM_PAUSE)
                continue
            with anyio.move_on_after(self._options.poll):
                await self._wake.wait()
                if life.saturated:
                    await anyio.sleep(CLAIM_PAUSE)

    async def _claim_some(self, life: Life, session: Session, wanted: int) -> int:
        began = time.monotonic()
        try:
            claims = await self._take(life, session, wanted)
        except Unavailable:
            await anyio.sleep(RETRY_DELAY)
            return 0
        self._telemetry.emit(ClaimDone(len(claims), time.monotonic() - began))
        if life.suspects_since is None:
            return len(claims)
        # When nothing else is to be had; under steady load when they have waited long enough.
        if not claims or time.monotonic() - life.suspects_since > SUSPECT_PATIENCE:
            life.suspects_since = None
            await self._run_suspect(life, session)
        return len(claims)

    async def _take(self, life: Life, session: Session, wanted: int, *, suspects: bool = False) -> list[Claim]:
        """Claim and begin up to `wanted` runs, for which places are kept meanwhile. Raises Unavailable, LeaseLost."""
        life.reserved += wanted
        life.strays.asking("claim")
        try:
            claims = await queue.claim(session, life.lease.worker_id, wanted, suspects=suspects)
            life.begin_all(claims)
        finally:
            life.reserved -= wanted
            life.strays.answered("claim")
        return claims

    async def _run_suspect(self, life: Life, session: Session) -> None:
        """Run one execution that has lost two workers with nothing else in this process, so that only it can fall.

        If the process does not get empty in time, the suspect waits for another chance or another worker.
        """
        life.alone = True
        try:
            if not await self._until_empty(life) or self._draining:
                return
            for claim in await self._take(life, session, 1, suspects=True):
                _log.warning("suspect_runs_alone", execution_id=str(claim.execution_id))
            while not (await self._until_empty(life) or self._draining):
                pass
        except Unavailable:
            await anyio.sleep(RETRY_DELAY)
        finally:
            life.alone = False

    async def _until_empty(self, life: Life) -> bool:
        """Wait until nothing runs and all is recorded, at most for the drain timeout; return whether it is so."""
        with anyio.move_on_after(self._options.drain_timeout):
            while life.held or life.reserved or not life.engine.journal.idle:
                life.ended = anyio.Event()
                with anyio.move_on_after(self._options.poll):
                    await life.ended.wait()
            return True
        return False

    # --- sweep --------------------------------------------------------------------------------------------------------

    async def _sweep(self, life: Life, session: Session) -> None:
        """Act on due timers, passed deadlines and dead workers: at every poll, and when the next timer is due."""
        delay = 0.0
        while True:
            await anyio.sleep(delay)
            delay = self._options.poll
            try:
                swept = await queue.sweep(session, SWEEP_BATCH)
            except Unavailable:
                continue
            if not swept.suspects:
                life.suspects_since = None
            elif life.suspects_since is None:
                life.suspects_since = time.monotonic()
            if swept.rescued or swept.lost_workers:
                _log.warning("workers_rescued", workers=list(swept.lost_workers), executions=swept.rescued)
                self._telemetry.emit(ExecutionRescued(swept.rescued))
            if swept.quarantined:
                self._telemetry.emit(ExecutionQuarantined(swept.quarantined))
            if swept.timers or swept.deadlines or swept.rescued or swept.suspects:
                self._wake.set()
            if swept.timers == SWEEP_BATCH:
                delay = 0.0
            elif swept.next_due is not None:
                delay = min(delay, max(0.01, (swept.next_due - self._clock.now()) / SECOND))
