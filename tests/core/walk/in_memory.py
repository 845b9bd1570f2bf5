"""Runs a definition as it stands, with the real node types, in virtual time and in memory.

What a node asks of the world (tasks, people, events, other runs) is answered by a script: a list of outcomes by node
id, of which the last one is given again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final

from gorax_engine.core.breaker import Breaker
from gorax_engine.core.commands import CancelStep, Command, EndRun, EndStep, OpenStep, SkipStep, StartStep
from gorax_engine.core.events import (
    Event,
    RunStarted,
    StepAdmitted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
    TimePassed,
)
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.model import (
    SECOND,
    Completed,
    Failed,
    Instant,
    Json,
    NodeKind,
    Outcome,
    StepError,
    StepKey,
    Suspended,
)
from gorax_engine.core.plan import Plan, compile_plan, trigger_of
from gorax_engine.core.policies import classify
from gorax_engine.core.reading import read
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.core.states import ExecutionState
from gorax_engine.core.walk import initial, proceed, scope_of
from gorax_engine.nodes.api import NodeContext
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes

START: Final[Instant] = 1_800_000_000 * SECOND
SEED: Final = bytes(range(16))
UNHANDLED: Final = "no edge is there for it"

Answers = Mapping[str, Sequence[Outcome]]


def place(step: StepKey) -> str:
    """A step as text: `items[1].pay`, with `#1` behind it in the second round."""
    where = f"{step.path}.{step.node}" if step.path else step.node
    return f"{where}#{step.round}" if step.round else where


@dataclass
class Finished:
    """What became of a run. `steps` has what was recorded last of each step, `attempts` how often each was begun."""

    status: ExecutionState = ExecutionState.RUNNING
    output: Json = None
    error: StepError | None = None
    seconds: float = 0.0
    steps: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Json] = field(default_factory=dict)
    errors: dict[str, StepError] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    most: int = 0

    @property
    def ran(self) -> list[str]:
        """The steps that ended well, in no order that matters."""
        return sorted(name for name, state in self.steps.items() if state == "completed")

    @property
    def skipped(self) -> list[str]:
        return sorted(name for name, state in self.steps.items() if state == "skipped")


class InMemory:
    """One run of one definition. `ends` come from without, at their times after the start in seconds."""

    def __init__(self, plan: Plan, registry: NodeRegistry, answers: Answers, ends: Iterable[Event] = ()) -> None:
        self.plan = plan
        self.registry = registry
        self.answers = {name: list(outcomes) for name, outcomes in answers.items()}
        self.told = Finished()
        self.now = START
        self.breakers: dict[str, Breaker] = {}
        self._queue: list[tuple[Instant, int, StartStep | Event]] = []
        self._number = 0
        self._open: dict[tuple[StepKey, int], None] = {}
        for end in ends:
            self._push(end.at, end)

    def run(self, data: Json) -> Finished:
        self.state = initial(self.plan, {"trigger": data, "vars": {}}, SEED)
        self._tell(RunStarted(trigger_of(self.plan, None, "api"), data, START))
        while self.told.status is ExecutionState.RUNNING:
            timer = self.state.next_due()
            if timer is not None and (not self._queue or timer[0] <= self._queue[0][0]):
                self.now = max(self.now, timer[0])
                self._tell(TimePassed(self.now))
                continue
            assert self._queue, f"nothing is left to happen: {self.state.frames}"
            at, _, item = heappop(self._queue)
            self.now = max(self.now, at)
            if isinstance(item, StartStep):
                self._begin(item)
            else:
                self._end(item)
        self.told.seconds = (self.now - START) / SECOND
        return self.told

    def _push(self, at: Instant, item: StartStep | Event) -> None:
        self._number += 1
        heappush(self._queue, (at, self._number, item))

    def _tell(self, event: Event) -> None:
        for command in proceed(self.plan, self.state, (event,)):
            self._do(command)

    def _do(self, command: Command) -> None:
        told = self.told
        match command:
            case StartStep(step=step, attempt=attempt, at=at):
                self._open[step, attempt] = None
                told.most = max(told.most, len(self._open))
                self._push(at, command)
            case OpenStep(step=step, attempt=attempt):
                self._open.pop((step, attempt), None)
                told.steps[place(step)] = "running"
                told.attempts[place(step)] = attempt
            case EndStep(step=step, output=output, error=error):
                told.steps[place(step)] = "completed" if error is None else "failed"
                if error is None:
                    told.outputs[place(step)] = output
                else:
                    told.errors[place(step)] = error
                self._tell_breaker(command)
            case SkipStep(step=step):
                told.steps[place(step)] = "skipped"
            case CancelStep(step=step, attempt=attempt):
                self._open.pop((step, attempt), None)
                begun = place(step) in told.attempts
                told.steps[place(step)] = "cancelled" if begun else "skipped"
            case EndRun(status=status, output=output, error=error):
                told.status, told.output, told.error = status, output, error
            case _:
                pass  # what only helps to rebuild a run

    def _breaker(self, plan: BreakerPlan) -> Breaker:
        return self.breakers.setdefault(plan.name, Breaker(plan.policy))

    def _tell_breaker(self, command: EndStep) -> None:
        plan = self.plan.nodes[command.step.node].scope
        if not isinstance(plan, BreakerPlan):
            return
        if command.error is None:
            self._breaker(plan).succeeded()
        elif command.error.code != "circuit_open":
            self._breaker(plan).failed(command.at)

    def _begin(self, start: StartStep) -> None:
        step, attempt, node = start.step, start.attempt, self.plan.nodes[start.step.node]
        if (step, attempt) not in self._open:
            return
        self.told.begun.append(place(step))
        self.told.attempts[place(step)] = attempt
        if isinstance(node.scope, BreakerPlan):
            error = StepError("circuit_open", "It is open.", classify("timeout"))
            admitted = self._breaker(node.scope).admit(self.now)
            self._push(
                self.now + 1, StepAdmitted(step, attempt, 0) if admitted else StepFailed(step, attempt, error, 0)
            )
            return
        frame = self.state.frame_of(node, step)
        assert frame is not None
        scope = scope_of(self.plan, self.state, frame, self.now)
        try:
            if node.when is not None and attempt == 1 and not node.when(scope):
                self._push(self.now + 1, StepDeclined(step, 0))
                return
            config = node.config.render(scope)
            key = f"execution:{step.node}:{step.path}"
            context = NodeContext(
                "execution", "tenant", "workflow", step.node, step.path, attempt, self.now, key, SEED, {}, frame.roots
            )  # fmt: skip
            self.told.keys[place(step)] = key
            if node.kind is NodeKind.TASK:
                self._settle(start, self._answer(step.node), self.now + 1)
                return
            outcome: Outcome = self.registry.pure(node.type).evaluate(config, context)
        except ExpressionError as error:
            outcome = Failed(StepError(error.code, error.message))
        if isinstance(outcome, Suspended):
            due = outcome.due_at
            if outcome.wait is None:
                outcome, due = Completed(outcome.output), due or self.now
            else:
                outcome, due = self._answer(step.node), self.now + 1
            if node.timeout is not None and due > self.now + node.timeout:
                outcome, due = Failed(StepError("timeout", "Too late.", classify("timeout"))), self.now + node.timeout
            self._settle(start, outcome, due)
        else:
            self._settle(start, outcome, self.now + 1)

    def _answer(self, node: str) -> Outcome:
        answers = self.answers[node]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _settle(self, start: StartStep, outcome: Outcome, at: Instant) -> None:
        node = self.plan.nodes[start.step.node]
        match outcome:
            case Completed(output=output, outcome=label, stop=stop):
                if label in node.unhandled:
                    error = StepError(node.unhandled[label or ""], UNHANDLED)
                    self._push(at, StepFailed(start.step, start.attempt, error, 0))
                else:
                    self._push(at, StepSucceeded(start.step, output, 0, label, stop))
            case Failed(error=error):
                self._push(at, StepFailed(start.step, start.attempt, error, 0))
            case Suspended(due_at=due):
                assert due is not None
                self._settle(start, Completed(outcome.output), due)

    def _end(self, event: Event) -> None:
        told = self.told
        match event:
            case StepSucceeded(step=step, output=output):
                if not self._close(step):
                    return
                told.steps[place(step)], told.outputs[place(step)] = "completed", output
            case StepFailed(step=step, error=error):
                if not self._close(step):
                    return
                told.steps[place(step)], told.errors[place(step)] = "failed", error
            case StepDeclined(step=step) | StepAdmitted(step=step):
                if not self._close(step):
                    return
            case _:
                pass
        self._tell(_at(event, self.now))

    def _close(self, step: StepKey) -> bool:
        found = next((attempt for attempt in self._open if attempt[0] == step), None)
        if found is not None:
            del self._open[found]
        return found is not None


def _at(event: Event, now: Instant) -> Event:
    """The same event at the moment at which it happens."""
    fields: dict[str, Any] = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**{**fields, "at": now})


REGISTRY: Final = NodeRegistry(builtin_nodes())


def run_definition(
    definition: Json,
    body: Json = None,
    answers: Answers | None = None,
    *,
    ends: Iterable[Event] = (),
    registry: NodeRegistry = REGISTRY,
) -> Finished:
    """Read, compile and run a definition; it must be free of errors."""
    reading = read(definition, registry)
    assert reading.problems == (), reading.problems
    assert reading.definition is not None
    plan = compile_plan(reading.definition, registry.specs)
    return InMemory(plan, registry, answers or {}, ends).run({"body": body})
