"""Rebuilding a run from its step rows: the same walk, fed with what was recorded instead of what happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gorax_engine.core.commands import SkipStep, StartStep
from gorax_engine.core.events import Event, RunStarted, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.states import StepState
from gorax_engine.core.walk.advance import advance

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
    """Feed `advance` with the recorded ends until nothing recorded is left to tell.

    Exactly the commands that the records don't answer remain. Because the walk doesn't depend on the order of
    independent results, the state equals that of the lost worker at its last record.
    """
    events: list[Event] = [started]
    outstanding: list[Command] = []
    in_doubt: set[tuple[StepKey, int]] = set()
    while events:
        state, commands = advance(plan, state, events)
        events = []
        for command in commands:
            match command:
                case StartStep(step=step, attempt=attempt):
                    record = records.get((step, attempt))
                    event = _recorded_event(step, attempt, record) if record else None
                    if event is not None:
                        events.append(event)
                        continue
                    if record is not None:
                        in_doubt.add((step, attempt))
                    outstanding.append(command)
                case SkipStep(step=step) if (step, 1) in records:
                    pass
                case _:
                    outstanding.append(command)
    return Recovered(state, outstanding, frozenset(in_doubt))


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
