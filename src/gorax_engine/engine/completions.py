"""Waiting for the end of a run: told at once by this process's worker, found by polling when another one ran it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine.core.states import TERMINAL_EXECUTIONS
from gorax_engine.errors import NotFound
from gorax_engine.store import queue

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.states import ExecutionState
    from gorax_engine.store.database import Database

FIRST_POLL: Final = 0.1
LAST_POLL: Final = 1.0
REMEMBERED: Final = 10_000
"""How many ends of this process are remembered, for who begins to wait a moment too late."""


class Completions:
    """Who waits for which run. `ended` is called by the worker, after the end is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: defaultdict[UUID, list[anyio.Event]] = defaultdict(list)
        self._recent: OrderedDict[UUID, None] = OrderedDict()

    def ended(self, execution_id: UUID, _status: ExecutionState) -> None:
        """Wake all who wait for this run."""
        self._recent[execution_id] = None
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        for event in self._waiting.pop(execution_id, ()):
            event.set()

    async def wait(self, tenant_id: UUID, execution_id: UUID, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds; return whether the run has ended. Raises NotFound and Unavailable."""
        if execution_id in self._recent:
            return True
        event = anyio.Event()
        self._waiting[execution_id].append(event)
        try:
            with anyio.move_on_after(timeout_s):
                poll = FIRST_POLL
                while True:
                    with anyio.move_on_after(poll):
                        await event.wait()
                        return True
                    if await self._has_ended(tenant_id, execution_id):
                        return True
                    poll = min(poll * 2, LAST_POLL)
            return event.is_set()
        finally:
            waiting = self._waiting.get(execution_id)
            if waiting is not None:
                waiting.remove(event)
                if not waiting:
                    del self._waiting[execution_id]

    async def _has_ended(self, tenant_id: UUID, execution_id: UUID) -> bool:
        async with self._database.worker() as connection:
            status = await queue.execution_status(connection, tenant_id, execution_id)
        if status is None:
            raise NotFound("There is no such execution.", code="execution_not_found")
        return status in TERMINAL_EXECUTIONS
