"""The live view of a run as server-sent events: a snapshot first, then whatever changed, until the run has ended.

Each look is a short transaction; between looks nothing is held. A client that comes back gets a new snapshot, so there
is nothing to resume. Steps come without their data, and only the latest ones of a very large run.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import anyio
import msgspec

from gorax_engine.errors import TooManyRequests, Unavailable
from gorax_engine.store import executions, steps

if TYPE_CHECKING:
    from gorax_engine.api.dependencies import Ends
    from gorax_engine.store.database import Database

MAX_STREAMS: Final = 200
"""Streams that one process serves at a time."""
MAX_STEPS: Final = 1000
SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0
HEARTBEAT: Final = 15.0
LONGEST: Final = 900.0
"""Seconds after which a stream ends and the client is asked to come back."""

_TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})
_encode: Final = msgspec.json.Encoder().encode


class RunStreams:
    """The streams of one process."""

    def __init__(self, database: Database, ends: Ends, draining: Callable[[], bool]) -> None:
        self._database = database
        self._ends = ends
        self._draining = draining
        self._open = 0

    def check_room(self) -> None:
        """Raise TooManyRequests if this process serves as many streams as it may."""
        if self._open >= MAX_STREAMS:
            raise TooManyRequests(
                "Too many runs are watched here now; try again.", code="too_many_streams", retry_after=5
            )

    async def watch(self, tenant_id: UUID, execution_id: UUID) -> AsyncIterator[bytes]:
        """Yield the events of a run until it has ended, the daemon drains, or `LONGEST` is over."""
        self._open += 1
        try:
            async for event in self._events(tenant_id, execution_id):
                yield event
        finally:
            self._open -= 1

    async def _events(self, tenant_id: UUID, execution_id: UUID) -> AsyncIterator[bytes]:
        seen: dict[Any, Any] = {}
        pause, began = SHORTEST_PAUSE, time.monotonic()
        spoke = began
        while time.monotonic() - began < LONGEST and not self._draining():
            try:
                run, rows = await self._look(tenant_id, execution_id)
            except Unavailable:
                yield b": the database does not answer\n\n"
                await anyio.sleep(LONGEST_PAUSE)
                continue
            changed = _changes(run, rows, seen)
            for event in changed:
                yield event
            if run is not None and run["status"] in _TERMINAL:
                yield b"event: end\ndata: {}\n\n"
                return
            now = time.monotonic()
            if changed:
                pause, spoke = SHORTEST_PAUSE, now
            elif now - spoke >= HEARTBEAT:
                yield b": still here\n\n"
                spoke = now
            await self._ends.wait(execution_id, pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        yield b"retry: 1000\n\n"

    async def _look(self, tenant_id: UUID, execution_id: UUID) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        async with self._database.tenant(tenant_id) as connection:
            # The run first: when it has ended, all its steps are there to be read.
            run = await executions.get(connection, tenant_id, execution_id)
            return run, await steps.watch(connection, tenant_id, execution_id, MAX_STEPS)


def _changes(run: dict[str, Any] | None, rows: list[dict[str, Any]], seen: dict[Any, Any]) -> list[bytes]:
    """Return the events for what differs from `seen`, oldest step first, and note it there."""
    events = []
    for row in reversed(rows):
        if seen.get(row["id"]) != row["status"]:
            seen[row["id"]] = row["status"]
            events.append(_event(b"step", row))
    if run is not None:
        state = (run["status"], run["waiting_for"])
        if seen.get("run") != state:
            seen["run"] = state
            events.append(_event(b"execution", run))
    return events


def _event(name: bytes, data: Any) -> bytes:
    return b"event: " + name + b"\ndata: " + _encode(data) + b"\n\n"
