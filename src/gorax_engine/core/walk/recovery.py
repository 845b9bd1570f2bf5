"""Rebuilding a run from its step rows: the walk is told again what was recorded, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gorax_engine.core.commands import CancelStep, EndStep, OpenStep, SkipStep, StartStep
from gorax_engine.core.events import (
    Event,
    IterationKept,
    RunStarted,
    StepAdmitted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
    TimePassed,
)
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.core.states import TERMINAL_STEPS, StepState
from gorax_engine.core.walk.advance import proceed

if TYPE_CHECKING:
    from gorax_engine.core.commands import Command
    from gorax_engine.core.model import Instant, Json, StepError, StepKey
    from gorax_engine.core.plan import Plan
    from gorax_engine.core.walk.state import WalkState

CANCELLED_CODE: Final = "cancelled"
STOP: Final = "stop"
"""The outcome that is recorded of a step that stops the run; its own outcome, if it has one, follows after a colon."""
DECLINED: Final = "declined"
"""The outcome that is recorded of a step that is skipped because its `when` is false."""
CUT: Final = "cancelled"
"""The outcome that is recorded of a step that was cut off: it follows from what happened elsewhere."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What the database holds of one attempt. `at` is its end (for a running one, its start)."""

    state: StepState
    at: Instant
    output: Json = None
    outcome: str | None = None
    error: StepError | None = None
    started: Instant | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A rebuilt run: what is still to be done, and which attempts were begun but not ended.

    `latest` is the time of the last thing that is recorded: all that happens from now on comes after it.
    """

    commands: list[Command]
    in_doubt: frozenset[tuple[StepKey, int]]
    latest: Instant


def recover(
    plan: Plan,
    state: WalkState,
    started: RunStarted,
    records: Mapping[tuple[StepKey, int], StepRecord],
    ends: Iterable[Event] = (),
    folded: Mapping[tuple[StepKey, int], list[Json]] | None = None,
) -> Recovered:
    """Tell `state`, which is new, what is recorded; exactly the commands that the records don't answer remain.

    `ends` are events from without that were told before, at their times. `folded` is what is recorded together of the
    first iterations of loops, by the loops' attempts; the records of their steps are not needed then.
    """
    state.folded.update((loop, len(kept)) for loop, kept in (folded or {}).items())
    told = [beginning(started, records), *events_of(plan, records, ends, folded)]
    latest = max([told[-1].at, *(record.at for record in records.values())])
    # What a timer did is recorded without an event: the timers of that time have fired.
    commands = proceed(plan, state, [*told, TimePassed(latest)])
    return Recovered(list(_unanswered(commands, records)), _in_doubt(plan, records), latest)


def beginning(started: RunStarted, records: Mapping[tuple[StepKey, int], StepRecord]) -> RunStarted:
    """Return the start as the walk is told it: of a run that has taken steps over, before the first of them."""
    first = min((record.at for record in records.values()), default=started.at)
    return started if started.at <= first else RunStarted(started.trigger, started.output, first)


def events_of(
    plan: Plan,
    records: Mapping[tuple[StepKey, int], StepRecord],
    ends: Iterable[Event] = (),
    folded: Mapping[tuple[StepKey, int], list[Json]] | None = None,
) -> list[Event]:
    """Return what is recorded, and `ends`, as events in the order in which they happened."""
    events = [*_events(plan, records), *_kept(folded or {}), *((end.at, 0, end) for end in ends)]
    events.sort(key=lambda entry: entry[:2])
    return [event for _, _, event in events]


def _events(plan: Plan, records: Mapping[tuple[StepKey, int], StepRecord]) -> Iterable[tuple[Instant, int, Event]]:
    """Return what happened, by time; of one moment the cause comes before what may have followed from it.

    Rows of older releases don't say which of them were causes: a step that failed as cancelled, and one that was
    skipped though it has a `when`, may be either, so they are told last and change nothing if the walk has come to the
    same already.
    """
    for (step, attempt), record in records.items():
        node = plan.nodes.get(step.node)
        if node is None:
            continue
        if isinstance(node.scope, BreakerPlan) and record.started is not None:
            yield record.started, 1, StepAdmitted(step, attempt, record.started)
        if node.scope is not None and not (isinstance(node.scope, BreakerPlan) and record.started is None):
            continue  # what the walk did itself, it does again
        match record.state:
            case StepState.COMPLETED:
                outcome, stop = _read_outcome(record.outcome, node.outcomes)
                yield record.at, 1, StepSucceeded(step, record.output, record.at, outcome, stop)
            case StepState.FAILED if record.outcome == CUT:
                pass
            case StepState.FAILED:
                if record.error is None:
                    raise ValueError(f"the failed record of {step} has no error")
                last = 3 if record.error.code == CANCELLED_CODE else 1
                yield record.at, last, StepFailed(step, attempt, record.error, record.at)
            case StepState.SKIPPED if record.outcome == DECLINED or node.when is not None:
                yield record.at, 1 if record.outcome == DECLINED else 3, StepDeclined(step, record.at)
            case StepState.SKIPPED | StepState.PENDING | StepState.RUNNING:
                pass


def _kept(folded: Mapping[tuple[StepKey, int], list[Json]]) -> Iterable[tuple[Instant, int, Event]]:
    for (step, attempt), kept in folded.items():
        for index, (at, entry) in enumerate(kept):
            yield at, 2, IterationKept(step, attempt, index, entry, at)


def _unanswered(commands: Iterable[Command], records: Mapping[tuple[StepKey, int], StepRecord]) -> Iterable[Command]:
    """Leave out what is recorded, and the starts of what was cut off again."""
    kept: list[Command | None] = []
    starts: dict[tuple[StepKey, int], int] = {}
    for command in commands:
        keep = True
        match command:
            case StartStep(step=step, attempt=attempt):
                keep = not _has_ended(records, step, attempt)
                starts[step, attempt] = len(kept)
            case OpenStep(step=step, attempt=attempt):
                keep = (step, attempt) not in records
                if (asked := starts.get((step, attempt))) is not None:
                    kept[asked] = None  # a circuit breaker that was let begin
            case EndStep(step=step, attempt=attempt):
                keep = not _has_ended(records, step, attempt)
            case CancelStep(step=step, attempt=attempt):
                keep = not _has_ended(records, step, attempt)
                if keep and (begun := starts.get((step, attempt))) is not None:
                    kept[begun] = None
            case SkipStep(step=step):
                keep = (step, 1) not in records
            case _:
                pass
        kept.append(command if keep else None)
    return (command for command in kept if command is not None)


def recorded_outcome(outcome: str | None, *, stop: bool) -> str | None:
    """Return the outcome that is recorded of a step that ended well."""
    if not stop:
        return outcome
    return STOP if outcome is None else f"{STOP}:{outcome}"


def _read_outcome(recorded: str | None, outcomes: Collection[str]) -> tuple[str | None, bool]:
    """Return the outcome of a step and whether it stops the run, from what is recorded."""
    if recorded is None or recorded in outcomes:
        return recorded, False
    word, _, outcome = recorded.partition(":")
    return (outcome or None, True) if word == STOP else (recorded, False)


def _has_ended(records: Mapping[tuple[StepKey, int], StepRecord], step: StepKey, attempt: int) -> bool:
    record = records.get((step, attempt))
    return record is not None and record.state in TERMINAL_STEPS


def _in_doubt(plan: Plan, records: Mapping[tuple[StepKey, int], StepRecord]) -> frozenset[tuple[StepKey, int]]:
    return frozenset(
        key
        for key, record in records.items()
        if record.state is StepState.RUNNING
        and (node := plan.nodes.get(key[0].node)) is not None
        and node.scope is None
    )
