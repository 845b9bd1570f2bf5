"""What comes to a run while it is in memory: reports of its own tasks, what is asked of it, ends of its children."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio

from gorax_engine.engine.ending import Mark
from gorax_engine.engine.entries import Tell

if TYPE_CHECKING:
    from gorax_engine.core.commands import StartStep
    from gorax_engine.core.model import Instant
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.engine.attempts import Attempted


@dataclass(frozen=True, slots=True)
class Ended:
    """A task's report: what became of an attempt, to be recorded and walked by the execution's own turn."""

    node: PlanNode
    command: StartStep
    attempted: Attempted
    started: Instant
    completed: Instant


Item: TypeAlias = Ended | Mark | Tell


class Inbox:
    """What has arrived, in its order; one reads it, and may wait for more."""

    __slots__ = ("_arrived", "_items")

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._arrived: anyio.Event | None = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def post(self, item: Item) -> None:
        """Add what has come, and wake who waits."""
        self._items.append(item)
        self.ring()

    def ring(self) -> None:
        """Wake who waits: something has changed."""
        if self._arrived is not None:
            self._arrived.set()

    def take(self) -> Item:
        """Remove what has come first, and return it. Raises IndexError if there is nothing."""
        return self._items.popleft()

    async def wait(self, seconds: float | None) -> None:
        """Wait for the next post or ring, at most so long."""
        self._arrived = arrived = anyio.Event()
        if seconds is None:
            await arrived.wait()
        else:
            with anyio.move_on_after(seconds):
                await arrived.wait()
        self._arrived = None
