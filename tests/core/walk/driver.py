"""Drives the walk as the engine does, in virtual time, with a script as the world; keeps what is written of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Protocol, Self, TypeAlias

from gorax_engine.core.commands import CancelStep, Command, EndRun, EndStep, FoldLoop, OpenStep, SkipStep, StartStep
from gorax_engine.core.events import (
    Event,
    RunStarted,
    StepAdmitted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
    TimePassed,
)
from gorax_engine.core.model import Classification, Instant, Json, StepError, StepKey
from gorax_engine.core.plan import Plan
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.core.states import TERMINAL_STEPS, ExecutionState, StepState
from gorax_engine.core.walk import Recovered, StepRecord, WalkState, initial, proceed, recover
from gorax_engine.core.walk.recovery import CUT, DECLINED, recorded_outcome

START = 1_000
SEED = bytes(range(16))
CANCELLED = StepError("cancelled", "It was cancelled.")

Attempt: TypeAlias = tuple[StepKey, int]
Row: TypeAlias = tuple[Attempt, StepRecord]


@dataclass(frozen=True)
class Result:
    """What an attempt comes to, `duration` µs after it was started. `declines`: its `when` is false."""

    ok: bool
    duration: int
    output: Json = None
    outcome: str | None = None
    stop: bool = False
    transient: bool = False
    declines: bool = False
    failure: StepError | None = None

    @property
    def error(self) -> StepError:
        if self.failure is not None:
            return self.failure
        kind = Classification.TRANSIENT if self.transient else Classification.PERMANENT
        return StepError("timeout" if self.transient else "broken", f"after {self.duration}", kind, {"more": 1})


class Script(Protocol):
    """The world: what an attempt will come to, whenever it is run; of a circuit breaker, whether it is let begin."""

    def result(self, run: Run, start: StartStep) -> Result:
        """Say what an attempt comes to."""


@dataclass(frozen=True)
class Batch:
    """What becomes durable in one piece: the row of an event and of all that follows from it.

    `begins`: only the row of a step that was started, which may be lost. `told`: the event came from without.
    """

    rows: tuple[Row, ...]
    begins: bool = False
    told: Event | None = None
    folds: tuple[FoldLoop, ...] = ()


@dataclass(frozen=True)
class Durable:
    """What another worker finds of a run."""

    rows: Mapping[Attempt, StepRecord] = field(default_factory=dict)
    told: tuple[Event, ...] = ()
    folds: tuple[FoldLoop, ...] = ()

    def read(self) -> tuple[dict[Attempt, StepRecord], dict[Attempt, list[Json]]]:
        """Return the rows that must be read, which are not of iterations that are folded, and what is folded."""
        folded: dict[Attempt, list[Json]] = {}
        for fold in self.folds:
            found = folded.setdefault((fold.step, fold.attempt), [])
            assert len(found) == fold.first, "a fold is missing or comes twice"
            found += fold.results
        return {attempt: row for attempt, row in self.rows.items() if not self._is_folded(attempt[0])}, folded

    def _is_folded(self, step: StepKey) -> bool:
        return any(
            step.round == fold.round
            and step.path.startswith(fold.prefix)
            and int(step.path[len(fold.prefix) :].partition("]")[0]) < fold.first + len(fold.results)
            for fold in self.folds
        )


class Run:
    """One run. `open` are the attempts that have been started and have not ended, with their start.

    `ends` are events from without, which come at their times.
    """

    def __init__(self, plan: Plan, script: Script, ends: tuple[Event, ...] = (), *, data: Json = None) -> None:
        self.plan = plan
        self.script = script
        self.ends = ends
        self.data = {"x": 1} if data is None else data
        self.state: WalkState = initial(plan, {"trigger": self.data, "vars": {}}, SEED)
        self.now: Instant = START
        self.open: dict[Attempt, Instant] = {}
        self.commands: list[Command] = []
        self.applied: list[Event] = []
        self.batches: list[Batch] = []
        self.rows: dict[Attempt, StepRecord] = {}
        self.starts: set[Attempt] = set()
        self.busiest = 0
        self._due: list[tuple[Instant, int, Attempt]] = []
        self._results: dict[Attempt, Result] = {}
        self._written: list[Row] = []
        self._folds: list[FoldLoop] = []

    @property
    def over(self) -> bool:
        return self.state.status is not ExecutionState.RUNNING

    @property
    def end(self) -> EndRun:
        end = self.commands[-1]
        assert isinstance(end, EndRun)
        return end

    def has_ended(self, attempt: Attempt) -> bool:
        """Whether the row of an attempt says that it is over."""
        return attempt in self.rows and self.rows[attempt].state in TERMINAL_STEPS

    # --- what is done -------------------------------------------------------------------------------------------------

    def begin(self, trigger: str) -> Self:
        self.feed(RunStarted(trigger, self.data, START))
        return self

    def finish(self, until: Instant | None = None) -> Self:
        """Let everything happen in its time, to the end of the run or until a moment."""
        while not self.over and self.turn(until):
            pass
        return self

    def turn(self, until: Instant | None = None) -> bool:
        """Let the next thing happen: a timer of the walk before all else of its moment, then an end from without."""
        timer = self.state.next_due()
        end = self.ends[0] if self.ends else None
        moments = [timer[0]] if timer else []
        moments += [self._due[0][0]] if self._due else []
        moments += [end.at] if end else []
        assert moments, f"nothing runs, and the run is not over: {self.state.frames}"
        at = min(moments)
        if until is not None and at > until:
            return False
        if timer and timer[0] <= at:
            self.now = max(self.now, timer[0])
            self.feed(TimePassed(self.now))
        elif end and end.at <= at:
            self.ends = self.ends[1:]
            self.feed(replace_time(end, self._tick(end.at)))
        else:
            self._happen(*heappop(self._due))
        return True

    def feed(self, event: Event) -> list[Command]:
        """Tell the walk of an event, and write its row and the consequences in one piece."""
        assert not self._written
        self.now = max(self.now, event.at)
        self.applied.append(event)
        self._write_event(event)
        commands = proceed(self.plan, self.state, (event,))
        self.take(commands)
        told = None if not hasattr(event, "force") else event
        self.batches.append(Batch(tuple(self._written), told=told, folds=tuple(self._folds)))
        self._written.clear()
        self._folds.clear()
        return commands

    def take(self, commands: list[Command]) -> None:
        for command in commands:
            assert not (self.commands and isinstance(self.commands[-1], EndRun)), "something comes after the end"
            self.commands.append(command)
            match command:
                case StartStep(step=step, attempt=attempt, at=at):
                    assert (step, attempt) not in self.starts, f"{step} {attempt} is started twice"
                    self.starts.add((step, attempt))
                    self._results[step, attempt] = self.script.result(self, command)
                    if self._is_breaker(step):
                        heappush(self._due, (at + self._results[step, attempt].duration, 1, (step, attempt)))
                    else:
                        heappush(self._due, (at, 0, (step, attempt)))
                        self.open[step, attempt] = at
                case OpenStep(step=step, attempt=attempt, at=at):
                    self._write((step, attempt), StepRecord(StepState.RUNNING, at, started=at))
                case EndStep(step=step, attempt=attempt, output=output, error=error, at=at):
                    state = StepState.COMPLETED if error is None else StepState.FAILED
                    self._write((step, attempt), StepRecord(state, at, output, None, error, self._started(command)))
                case FoldLoop():
                    self._folds.append(command)
                case SkipStep(step=step, at=at, declined=declined):
                    self._write((step, 1), StepRecord(StepState.SKIPPED, at, outcome=DECLINED if declined else None))
                case CancelStep(step=step, attempt=attempt, at=at):
                    self.open.pop((step, attempt), None)
                    if any(row == (step, attempt) for row, _ in self._written if self.has_ended(row)):
                        pass  # its end and what cut it off came together, and its end was written first
                    elif (step, attempt) in self.rows:
                        record = StepRecord(StepState.FAILED, at, None, CUT, CANCELLED, self._started(command))
                        self._write((step, attempt), record)
                    elif attempt == 1:
                        self._write((step, 1), StepRecord(StepState.SKIPPED, at))
                case EndRun():
                    pass
        self.busiest = max(self.busiest, len(self.open))

    # --- within -------------------------------------------------------------------------------------------------------

    def _tick(self, at: Instant) -> Instant:
        return max(self.now + 1, at)

    def _is_breaker(self, step: StepKey) -> bool:
        return isinstance(self.plan.nodes[step.node].scope, BreakerPlan)

    def _asks(self, step: StepKey, attempt: int) -> bool:
        """Whether a circuit breaker still waits to be let begin."""
        node = self.plan.nodes[step.node]
        frame = self.state.frame_of(node, step)
        return frame is not None and frame.attempts.get(node.index) == attempt and node.index not in frame.scopes

    def _started(self, command: EndStep | CancelStep) -> Instant | None:
        row = self.rows.get((command.step, command.attempt))
        return None if row is None else row.started

    def _happen(self, at: Instant, phase: int, attempt: Attempt) -> None:
        """An attempt begins (phase 0) or ends, unless it was cut off."""
        step, number = attempt
        result = self._results[attempt]
        if self._is_breaker(step):
            if not self._asks(step, number):
                return
            at = self._tick(at)
            self.feed(StepAdmitted(step, number, at) if result.ok else StepFailed(step, number, result.error, at))
        elif attempt not in self.open:
            pass
        elif phase == 0:
            self.now = max(self.now, at)
            if not result.declines:
                self._write(attempt, StepRecord(StepState.RUNNING, at, started=at))
                self.batches.append(Batch(tuple(self._written), begins=True))
                self._written.clear()
            heappush(self._due, (at + result.duration, 1, attempt))
        else:
            self.feed(self._answer(attempt, result, self._tick(at)))

    def _answer(self, attempt: Attempt, result: Result, at: Instant) -> Event:
        step, number = attempt
        if result.declines:
            return StepDeclined(step, at)
        if result.ok:
            return StepSucceeded(step, result.output, at, result.outcome, result.stop)
        return StepFailed(step, number, result.error, at)

    def _write_event(self, event: Event) -> None:
        match event:
            case StepSucceeded(step=step, output=output, at=at, outcome=outcome, stop=stop):
                attempt = next(number for key, number in self.open if key == step)
                del self.open[step, attempt]
                said = recorded_outcome(outcome, stop=stop)
                self._write((step, attempt), StepRecord(StepState.COMPLETED, at, output, said, None, at))
            case StepFailed(step=step, attempt=attempt, error=error, at=at):
                if not self._is_breaker(step):
                    del self.open[step, attempt]
                    self._write((step, attempt), StepRecord(StepState.FAILED, at, error=error, started=at))
                else:
                    self._write((step, attempt), StepRecord(StepState.FAILED, at, error=error))
            case StepDeclined(step=step):
                del self.open[step, 1]  # the walk says that it is skipped
            case _:
                pass

    def _write(self, attempt: Attempt, record: StepRecord) -> None:
        before = self.rows.get(attempt)
        assert before is None or before.state is StepState.RUNNING, f"{attempt} has ended, and is written again"
        self.rows[attempt] = record
        self._written.append((attempt, record))

    # --- another worker -----------------------------------------------------------------------------------------------

    def resume(self, found: Durable, trigger: str) -> Recovered:
        """Take over a run of which this is durable."""
        self.rows = dict(found.rows)
        self.ends = self.ends[len(found.told) :]
        rows, folded = found.read()
        rebuilt = recover(self.plan, self.state, RunStarted(trigger, self.data, START), rows, found.told, folded)
        self.now = rebuilt.latest
        for command in rebuilt.commands:
            if isinstance(command, StartStep | OpenStep | EndStep | CancelStep):
                assert not self.has_ended((command.step, command.attempt)), f"{command} repeats what is recorded"
            if isinstance(command, SkipStep):
                assert (command.step, 1) not in self.rows, f"{command} repeats what is recorded"
        self.take(rebuilt.commands)
        self.batches.append(Batch(tuple(self._written), folds=tuple(self._folds)))
        self._written.clear()
        self._folds.clear()
        return rebuilt


def replace_time(event: Event, at: Instant) -> Event:
    """The same event at another time."""
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**{**fields, "at": at})


def durable(run: Run, count: int, rng: Random, before: Durable = Durable()) -> Durable:
    """What had become durable when the worker died after `count` batches; `before` is what it had taken over.

    The row of a step that was started may be missing; one of a scope is there with what it follows from.
    """
    rows: dict[Attempt, StepRecord] = dict(before.rows)
    told, folds = list(before.told), list(before.folds)
    for batch in run.batches[:count]:
        if batch.begins and rng.random() < 0.3:
            continue
        rows.update(batch.rows)
        folds += batch.folds
        if batch.told is not None:
            told.append(batch.told)
    return Durable(rows, tuple(told), tuple(folds))
