"""A worker's registration: its row, the heartbeat that keeps it, and what is made good after a lost one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn
from uuid import uuid4

import anyio

from gorax_engine.engine.lease import Lease
from gorax_engine.errors import Unavailable
from gorax_engine.store import workers
from gorax_engine.store.session import LeaseLost
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.engine.clock import DatabaseClock
    from gorax_engine.engine.strays import Holding
    from gorax_engine.store.session import Session

RELEASE_TIMEOUT: Final = 5.0
RETRY_DELAY: Final = 0.5

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How one worker runs; times in seconds."""

    name: str
    version: str
    roles: Sequence[str]
    slots: int
    lease: float
    heartbeat: float
    poll: float
    drain_timeout: float


class Registration:
    """Registers one process, again and again if need be, over a session of its own."""

    def __init__(self, options: WorkerOptions, session: Session, clock: DatabaseClock) -> None:
        self._options = options
        self._session = session
        self._clock = clock
        self._forsaken: tuple[UUID, Sequence[Holding]] | None = None

    async def begin(self) -> Lease:
        """Register as a new worker, whatever this process was before. Raises Unavailable."""
        options = self._options
        lease = Lease(uuid4(), options.lease, time.monotonic())
        asked = time.monotonic_ns()
        now = await workers.register(
            self._session,
            lease.worker_id,
            options.name,
            options.version,
            options.roles,
            options.slots,
            round(options.lease * 1000),
        )
        self._clock.synchronise(now, asked, time.monotonic_ns())
        await self._make_good()
        return lease

    async def keep(self, lease: Lease, draining: Callable[[], bool], beaten: Callable[[], None]) -> NoReturn:
        """Renew the lease until cancelled; `beaten` is called after each heartbeat. Raises LeaseLost."""
        interval = min(self._options.heartbeat, lease.length / 3)
        delay = interval
        while True:
            await anyio.sleep(delay)
            sent, asked = time.monotonic(), time.monotonic_ns()
            try:
                # One that hangs must leave time for another.
                with anyio.fail_after(max(min(lease.length / 3, lease.remaining), 0.05)):
                    now = await workers.heartbeat(self._session, lease.worker_id, draining=draining())
            except (Unavailable, TimeoutError):
                lease.check()
                delay = min(RETRY_DELAY, interval)
                continue
            delay = interval
            if now is None:
                lease.lost = True
                raise LeaseLost("this worker was taken for dead")
            self._clock.synchronise(now, asked, time.monotonic_ns())
            lease.renew(sent)
            beaten()

    @staticmethod
    async def watch(lease: Lease) -> NoReturn:
        """Raise LeaseLost the moment the lease can't be trusted any more, even if nothing else notices."""
        while True:
            lease.check()
            await anyio.sleep(max(lease.remaining, 0.01))

    def forsake(self, lease: Lease, runs: Sequence[Holding]) -> None:
        """The lease was lost while these runs were held. The process lives, so that is no crash of theirs."""
        self._forsaken = (lease.worker_id, runs)

    async def release(self, lease: Lease, session: Session) -> None:
        """Sign off after a drain: give back what is still held."""
        with anyio.move_on_after(RELEASE_TIMEOUT, shield=True):
            freed = await workers.release(session, lease.worker_id)
            _log.info("worker_released", worker=self._options.name, executions=freed)

    async def _make_good(self) -> None:
        if self._forsaken is None:
            return
        former, runs = self._forsaken
        freed = await workers.release(self._session, former)
        absolved = await workers.absolve(self._session, runs)
        self._forsaken = None
        _log.info("worker_made_good", worker=self._options.name, freed=freed, absolved=absolved)
