"""Rebuilding a run from its step rows: the same walk, fed with what was recorded instead of what happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gorax_engine.core.commands import SkipStep, StartStep
from gorax_engine.core.events import Event, RunStarted, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.model import OnError
from gorax_engine.core.policies import should_retry
from gorax_engine.core.states import StepState
from gorax_engine.core.walk.advance import proceed
from gorax_engine.core.walk.state import READY

if TYPE_CHECKING:
    from gorax_engine.core.commands import Command
    from gorax_engine.core.model import Instant, Json, StepError, StepKey
    from gorax_engine.core.plan import Plan
    from gorax_engine.core.walk.state import WalkState


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What the database holds of one attempt. `at` is its end (for a running one, its start)."""

    state: StepState
    at: Instant
    output: Json = None
    outcome: str | None = None
    error: StepError | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A rebuilt run: its state, what is still to be done, and which attempts were begun but not ended."""

    state: WalkState
    commands: list[Command]
    in_doubt: frozenset[tuple[StepKey, int]]


def recover(
    plan: Plan, state: WalkState, started: RunStarted, records: Mapping[tuple[StepKey, int], StepRecord]
) -> Recovered:
    """Feed the walk with the recorded ends until nothing recorded is left to tell.

    Exactly the commands that the records don't answer remain. Because the walk doesn't depend on the order of
    independent results, the state equals that of the lost worker at its last record; only which nodes wait for a
    place under `max_concurrency` may differ, and what has begun never does.
    """
    replay = _Replay(plan, state.copy(), records)
    replay.tell(started)
    replay.deal_places()
    replay.tell_the_end()
    return Recovered(replay.state, replay.outstanding, frozenset(replay.in_doubt))


class _Replay:
    """One call of `recover`. `ends` are failures that end the run: they are told last, or they would hide the rest."""

    def __init__(self, plan: Plan, state: WalkState, records: Mapping[tuple[StepKey, int], StepRecord]) -> None:
        self.plan = plan
        self.state = state
        self.records = records
        self.outstanding: list[Command] = []
        self.in_doubt: set[tuple[StepKey, int]] = set()
        self.ends: list[StepFailed] = []

    def tell(self, started: RunStarted) -> None:
        """Tell what is recorded, with a place for every node: what has begun must not wait for what has not."""
        plan = replace(self.plan, settings=replace(self.plan.settings, max_concurrency=None))
        events: list[Event] = [started]
        while events:
            commands = proceed(plan, self.state, events)
            events = []
            for command in commands:
                event = self._answer(command)
                if isinstance(event, StepFailed) and self._ends_run(event):
                    self.ends.append(event)
                elif event is not None:
                    events.append(event)

    def _answer(self, command: Command) -> Event | None:
        """Return what became of a command, or None, and then keep it, unless its row is there already."""
        match command:
            case StartStep(step=step, attempt=attempt) if (record := self.records.get((step, attempt))) is not None:
                event = _recorded_event(step, attempt, record)
                if event is not None:
                    return event
                self.in_doubt.add((step, attempt))
            case SkipStep(step=step) if (step, 1) in self.records:
                return None
            case _:
                pass
        self.outstanding.append(command)
        return None

    def _ends_run(self, event: StepFailed) -> bool:
        node = self.plan.nodes[self.plan.index[event.step.node]]
        handled = node.has_error_edge or node.on_error is OnError.CONTINUE
        return not handled and not should_retry(node.retry, event.error, event.attempt)

    def deal_places(self) -> None:
        """Let nodes wait that have not begun and have no place. Whoever has begun, if only to fail once, keeps his."""
        limit = self.plan.settings.max_concurrency
        if limit is None:
            return
        state, nodes = self.state, self.plan.nodes
        idle = {index for index in state.attempts if (nodes[index].key, 1) not in self.records}
        places = max(0, limit - len(state.attempts) + len(idle))
        state.ready = sorted(idle)[places:]
        for index in state.ready:
            state.nodes[index] = READY
            del state.attempts[index]
        waiting = {nodes[index].key for index in state.ready}
        self.outstanding = [
            command for command in self.outstanding if not (isinstance(command, StartStep) and command.step in waiting)
        ]

    def tell_the_end(self) -> None:
        """Tell the first failure that ends the run, if one is recorded."""
        if self.ends:
            first = min(self.ends, key=lambda event: (event.at, event.step))
            self.outstanding += proceed(self.plan, self.state, (first,))


def _recorded_event(step: StepKey, attempt: int, record: StepRecord) -> Event | None:
    match record.state:
        case StepState.COMPLETED:
            return StepSucceeded(step, record.output, record.at, record.outcome)
        case StepState.FAILED:
            if record.error is None:
                raise ValueError(f"the failed record of {step} has no error")
            return StepFailed(step, attempt, record.error, record.at)
        case StepState.SKIPPED:
            return StepDeclined(step, record.at)
        case StepState.PENDING | StepState.RUNNING:
            return None
