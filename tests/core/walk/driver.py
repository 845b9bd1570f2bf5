"""Drives the walk as the engine does, with the script of a graph as the world, and keeps what it said."""

from __future__ import annotations

from random import Random

from gorax_engine.core.commands import CancelStep, Command, EndRun, SkipStep, StartStep
from gorax_engine.core.events import Event, RunStarted, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.model import StepKey
from gorax_engine.core.plan import Plan
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.core.walk import StepRecord, WalkState, advance, initial
from tests.core.walk.graphs import SEED, START, Graph

Attempt = tuple[StepKey, int]


class Run:
    """One run of a graph. `open` are the attempts that were started and have not ended, with their start.

    `records` are the writes of step rows in their order: the ends of attempts, starts, skips.
    Those from `before_end` on are written together with the run's end.
    """

    def __init__(self, graph: Graph, plan: Plan | None = None) -> None:
        self.graph = graph
        self.plan = plan or graph.plan()
        self.started = RunStarted(graph.trigger, {"x": 1}, START)
        self.state: WalkState = initial(self.plan, {"trigger": {"x": 1}}, SEED)
        self.open: dict[Attempt, int] = {}
        self.commands: list[Command] = []
        self.applied: list[Event] = []
        self.records: list[tuple[Attempt, StepRecord]] = []
        self.busiest = 0
        self.before_end = 0

    def over(self) -> bool:
        return self.state.status is not ExecutionState.RUNNING

    @property
    def end(self) -> EndRun:
        end = self.commands[-1]
        assert isinstance(end, EndRun)
        return end

    def begin(self) -> None:
        self.feed(self.started)

    def feed(self, *events: Event) -> list[Command]:
        """Tell the walk, and check that it answers by value alone."""
        before = self.state.copy()
        twin, again = advance(self.plan, self.state, events)
        assert self.state == before, "the given state was changed"
        state, commands = advance(self.plan, self.state, events)
        assert (state, commands) == (twin, again), "the same input gave another result"
        for event in events:
            self._record_event(event)
        self.state = state
        self.take(commands)
        return commands

    def take(self, commands: list[Command]) -> None:
        if commands and isinstance(commands[-1], EndRun):
            self.before_end = len(self.records)
        for command in commands:
            self.commands.append(command)
            match command:
                case StartStep(step=step, attempt=attempt, at=at):
                    self.open[step, attempt] = at
                    self.records.append(((step, attempt), StepRecord(StepState.RUNNING, at)))
                case CancelStep(step=step, attempt=attempt):
                    del self.open[step, attempt]
                case SkipStep(step=step, at=at):
                    self.records.append(((step, 1), StepRecord(StepState.SKIPPED, at)))
                case EndRun():
                    pass
        self.busiest = max(self.busiest, len(self.open))

    def _record_event(self, event: Event) -> None:
        self.applied.append(event)
        match event:
            case StepSucceeded(step=step, output=output, at=at, outcome=outcome):
                attempt = next(number for key, number in self.open if key == step)
                del self.open[step, attempt]
                self.records.append(((step, attempt), StepRecord(StepState.COMPLETED, at, output, outcome)))
            case StepFailed(step=step, attempt=attempt, error=error, at=at):
                del self.open[step, attempt]
                self.records.append(((step, attempt), StepRecord(StepState.FAILED, at, error=error)))
            case StepDeclined(step=step, at=at):
                del self.open[step, 1]
                self.records.append(((step, 1), StepRecord(StepState.SKIPPED, at)))
            case _:
                pass

    def answer(self, attempt: Attempt) -> Event:
        """What the script says of an attempt that is open."""
        step, number = attempt
        node = self.graph.node(step.node)
        result = node.results[number - 1]
        at = self.open[attempt] + result.duration
        if node.declines:
            return StepDeclined(step, at)
        if result.ok:
            return StepSucceeded(step, result.output, at, result.outcome, result.stop)
        return StepFailed(step, number, result.error, at)

    def finish(self, rng: Random, turns: int | None = None) -> None:
        """Let open attempts end in any order, sometimes one by one, until the run is over (or for `turns` turns)."""
        while not self.over() and (turns is None or turns > 0):
            assert self.open, f"nothing runs, and the run is not over: {self.state.nodes!r}"
            chosen = rng.sample(sorted(self.open), rng.randint(1, min(3, len(self.open))))
            for batch in [chosen] if rng.random() < 0.5 else [[one] for one in chosen]:
                if self.over():
                    break
                self._end(batch)
            turns = None if turns is None else turns - 1

    def _end(self, batch: list[Attempt]) -> None:
        """Let attempts end together. What comes after an end that ends the run goes unheard."""
        events = []
        for attempt in batch:
            event = self.answer(attempt)
            events.append(event)
            if self.graph.ends_the_run(self.graph.node(attempt[0].node)) and not _retried(self.graph, attempt):
                break
        self.feed(*events)


def _retried(graph: Graph, attempt: Attempt) -> bool:
    return attempt[1] < len(graph.node(attempt[0].node).used)


def run_of(graph: Graph, rng: Random) -> Run:
    """Drive a graph from its start to its end."""
    run = Run(graph)
    run.begin()
    run.finish(rng)
    return run
