"""Waiting for the end of a run: told at once by this process's worker, found by polling when another one ran it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Final, NoReturn

import anyio

from gorax_engine.errors import Unavailable
from gorax_engine.store import queue

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.states import ExecutionState
    from gorax_engine.store.database import Database

POLL: Final = 0.25
"""Seconds between two looks at the runs that are waited for: one statement for all of them."""
POLL_BATCH: Final = 1_000
REMEMBERED: Final = 10_000
"""How many ends of this process are remembered, for who begins to wait a moment too late."""


class Completions:
    """Who waits for which run. `run` polls until cancelled; `ended` is called by the worker, after the commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[UUID, list[anyio.Event]] = defaultdict(list)
        self._recent: OrderedDict[UUID, None] = OrderedDict()
        self._some = anyio.Event()

    def ended(self, execution_id: UUID, _status: ExecutionState) -> None:
        """Wake all who wait for this run."""
        self._recent[execution_id] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        self._wake(execution_id)

    async def wait(self, execution_id: UUID, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for the end of a run that exists; return whether it has ended."""
        if execution_id in self._recent:
            return True
        event = anyio.Event()
        self._waiting[execution_id].append(event)
        self._some.set()
        try:
            with anyio.move_on_after(timeout_s):
                await event.wait()
            return event.is_set()
        finally:
            waiting = self._waiting.get(execution_id)
            if waiting is not None:
                waiting.remove(event)
                if not waiting:
                    del self._waiting[execution_id]

    async def run(self) -> NoReturn:
        """Look after the runs that are waited for, as long as there are any."""
        while True:
            if not self._waiting:
                self._some = anyio.Event()
                await self._some.wait()
            await anyio.sleep(POLL)
            ids = list(self._waiting)
            for first in range(0, len(ids), POLL_BATCH):
                try:
                    async with self._database.worker() as connection:
                        ended = await queue.ended(connection, ids[first : first + POLL_BATCH])
                except Unavailable:
                    break  # the next round asks again
                for execution_id in ended:
                    self._wake(execution_id)

    def _wake(self, execution_id: UUID) -> None:
        for event in self._waiting.pop(execution_id, ()):
            event.set()
