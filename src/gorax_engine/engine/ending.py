"""The marks on a queue row that ask for the end of a run, as events for the walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gorax_engine.core.events import Event, RunCancelled, RunFailed
from gorax_engine.core.failures import run_timed_out
from gorax_engine.core.model import StepError
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """What is asked of a run. `at` is when that was told to the walk by a former owner, if it was.

    `was` is what had been asked before the run was given up.
    """

    kind: str
    reason: str
    at: Instant | None
    was: Mark | None = None

    @property
    def force(self) -> bool:
        """Is nothing more to be run, not even a `finally`?"""
        return self.kind == "worker_lost"

    def told(self) -> list[Event]:
        """Return what the walk was told of it by a former owner."""
        if self.at is not None:
            return [self.event(self.at)]
        return [] if self.was is None else self.was.told()

    def event(self, at: Instant) -> RunCancelled | RunFailed:
        """Return what the walk is told."""
        match self.kind:
            case "cancel":
                return RunCancelled(at, self.reason)
            case "timeout":
                return RunFailed(run_timed_out(), at)
            case _:
                message = "Three workers died while they ran this execution, without progress; it is given up."
                return RunFailed(StepError("worker_lost", message), at, force=True)


def read_mark(mark: Mapping[str, Json]) -> Mark | None:
    """Read a mark; None for one of a later version, which the log tells."""
    kind = mark.get("kind")
    if kind not in ("cancel", "timeout", "worker_lost"):
        _log.error("unknown_mark", kind=kind)
        return None
    was = mark.get("was")
    return Mark(kind, str(mark.get("reason") or ""), mark.get("at"), None if was is None else read_mark(was))
