"""When a run may leave memory: nothing but waits is left of it, and none of them is over soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gorax_engine.core.model import SECOND

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant
    from gorax_engine.engine.run import Run
    from gorax_engine.engine.waiting import Waiting

PARK_AFTER: Final = 5 * SECOND
"""Waits that are due sooner than this stay in memory, with their rows written."""
CHILD_PATIENCE: Final = 1 * SECOND
"""How long a parent stays in memory for a child that may end soon, if its place isn't needed."""
PAUSED: Final = "paused"


class Parking:
    """What one run's stay in memory depends on. `idle_since` is since when it only waits, for a child among others."""

    __slots__ = ("_run", "_waiting", "idle_since")

    def __init__(self, run: Run, waiting: Waiting) -> None:
        self.idle_since: Instant | None = None
        self._run = run
        self._waiting = waiting

    def due(self) -> Instant | None:
        """When the next wait or timer is due."""
        timer = self._run.state.next_due()
        moments = [moment for moment in (self._waiting.due(), timer and timer[0]) if moment is not None]
        return min(moments, default=None)

    def may_leave(self, due: Instant | None, now: Instant) -> bool:
        """Is nothing to be expected soon of a run that has nothing to do?"""
        if not (self._waiting or due):
            return False
        if due is not None and due - now <= PARK_AFTER:
            return False
        if not any(wait.kind == "sub_workflow" for wait in self._waiting.open.values()):
            return True
        if self.idle_since is None:
            self.idle_since = now
        return now - self.idle_since >= CHILD_PATIENCE or self._run.engine.crowded()

    def look_again(self, due: Instant | None, now: Instant) -> Instant | None:
        """When to look at the run again, whatever comes.

        `now` must be the one that `may_leave` got: if patience ended between the two, nobody would look again.
        """
        if self.idle_since is None:
            return due
        patience = self.idle_since + CHILD_PATIENCE
        if patience <= now:
            return due
        return patience if due is None else min(due, patience)

    def waits_for(self) -> str:
        """Return what is to be shown as what the run waits for."""
        wait = self._waiting.oldest()
        if wait is None:
            timer = self._run.state.next_due()
            return "retry_backoff" if timer is not None and timer[1].kind in ("reopen", "round") else "timer"
        match wait.kind:
            case "timer" | "timeout":
                return "timer"
            case "in_doubt":
                return "human_task"
            case kind:
                return kind
