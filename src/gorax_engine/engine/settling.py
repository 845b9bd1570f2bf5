"""What became of attempts: recorded, and kept for the walk to be told of it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from gorax_engine.core.events import Event, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.failures import unhandled
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import Completed, Failed, NodeKind, StepError, Suspended
from gorax_engine.core.walk.recovery import recorded_outcome
from gorax_engine.engine.recorder import encode_bounded

if TYPE_CHECKING:
    from gorax_engine.core.commands import StartStep
    from gorax_engine.core.model import Instant, Outcome, StepKey
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.engine.recorder import Recorder
    from gorax_engine.engine.waiting import Waiting

IN_DOUBT: Final = StepError("worker_lost", "The worker died while this step ran, and it is not known what it did.")


class Settling:
    """Settles the attempts of one run.

    `events` are for the walk to be told. `ending` says that one of them stops the run, and is to be told before all
    that is still to be evaluated. `said` counts the records on which a step may depend.
    """

    __slots__ = ("_recorder", "_told", "_waiting", "ending", "events", "said")

    def __init__(self, recorder: Recorder, waiting: Waiting) -> None:
        self.events: deque[Event] = deque()
        self.ending = False
        self.said = 0
        self._told: list[Event] = []
        self._recorder = recorder
        self._waiting = waiting

    def take(self) -> list[Event]:
        """Return the events, which are told now."""
        self.ending = False
        events = self._told = list(self.events)
        self.events.clear()
        return events

    def just_ended(self) -> set[tuple[StepKey, int | None]]:
        """Attempts (None: whichever) whose end is recorded and reached the walk with, or after, what cut them off."""
        return {
            (event.step, event.attempt if isinstance(event, StepFailed) else None)
            for event in (*self._told, *self.events)
            if isinstance(event, (StepSucceeded, StepFailed, StepDeclined))
        }

    def settle(
        self,
        node: PlanNode,
        command: StartStep,
        outcome: Outcome,
        recorded: str,
        started: Instant | None,
        completed: Instant,
    ) -> None:
        """Record what became of an attempt and tell the walk."""
        step, attempt = command.step, command.attempt
        if node.kind is not NodeKind.TRIGGER:
            self.said += 1
        match outcome:
            case Completed(outcome=label, stop=stop):
                if label in node.unhandled:
                    failed = Failed(unhandled(node, label or "", outcome.output))
                    self.settle(node, command, failed, recorded, started, completed)
                    return
                try:
                    output = encode_bounded(outcome.output)
                except Unencodable as error:
                    failed = Failed(StepError("record_rejected", f"The step's output can't be stored: {error}."))
                    self.settle(node, command, failed, recorded, started, completed)
                    return
                known_as = recorded_outcome(label, stop=stop)
                self._recorder.completed(node, step, attempt, recorded, output, known_as, started, completed)
                self.events.append(StepSucceeded(step, outcome.output, completed, label, stop))
                self.ending = self.ending or stop
            case Failed(error=error):
                self._recorder.failed(node, step, attempt, recorded, error, started, completed)
                self.events.append(StepFailed(step, attempt, error, completed))
            case Suspended():
                if node.kind is not NodeKind.TASK:  # the start of a task is recorded before it acts
                    self._recorder.started(node, step, attempt, recorded, completed if started is None else started)
                refused = self._waiting.begin(node, step, attempt, outcome, completed)
                if refused is not None:
                    self.settle(node, command, refused, recorded, started, completed)
            case _:
                assert_never(outcome)
