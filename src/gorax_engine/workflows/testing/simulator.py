"""Running a case: the engine's own walk, in virtual time; mocks stand in for everything outside.

Pure and control nodes are evaluated, `code` runs in the sandbox unless it is mocked, and every other node that acts on
the outside or waits for it answers from the case's mocks. Time stands still but for delays, pauses between attempts,
timeouts and the `after` of mocks, which pass at once: so `now()` is the same in every run of a case.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, TypeAlias, assert_never

from gorax_engine.core.breaker import Breaker, BreakerPolicy
from gorax_engine.core.commands import CancelStep, Command, EndRun, EndStep, FoldLoop, OpenStep, SkipStep, StartStep
from gorax_engine.core.durations import LONGEST
from gorax_engine.core.events import (
    Event,
    RunCancelled,
    RunFailed,
    RunStarted,
    StepAdmitted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
    TimePassed,
)
from gorax_engine.core.failures import run_timed_out, unhandled
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import Completed, Failed, StepError, StepKey, Suspended
from gorax_engine.core.plan import trigger_of
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.core.states import TERMINAL_STEPS, StepState
from gorax_engine.core.walk import initial, proceed, scope_of
from gorax_engine.engine.attempts import circuit_open
from gorax_engine.engine.recorder import CANCELLED, encode_bounded
from gorax_engine.workflows.testing.answering import Ending
from gorax_engine.workflows.testing.stage import EXECUTION, Stage, Stuck, Surroundings
from gorax_engine.workflows.testing.trace import Attempt, Trace, place_of

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Micros, Outcome
    from gorax_engine.core.plan import Plan, PlanNode
    from gorax_engine.workflows.testing.cases import Case

MAX_STEPS: Final = 100_000
"""How many attempts a case may make."""

_Attempt: TypeAlias = tuple[StepKey, int]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of a case's run. `end` is None if it could not be run to its end: `stuck` says why, `place` where."""

    trace: Trace
    started: Instant
    ended: Instant
    end: EndRun | None
    stuck: str | None = None
    place: str | None = None

    @property
    def duration(self) -> Micros:
        """How long it took, in its own time."""
        return self.ended - self.started


async def simulate(plan: Plan, case: Case, surroundings: Surroundings) -> Simulated:
    """Run a case. The same case always comes to the same result, scripts that ask for the time or for chance apart."""
    simulation = _Simulation(plan, case, surroundings)
    stuck: Stuck | None = None
    try:
        await simulation.run()
    except Stuck as reason:
        stuck = reason
    return Simulated(
        simulation.trace,
        case.now,
        simulation.now,
        simulation.end,
        None if stuck is None else stuck.message,
        None if stuck is None else stuck.place,
    )


@dataclass(slots=True)
class _Due:
    """What happens later: an attempt begins (`ending` is None), or ends."""

    command: StartStep
    ending: Ending | None


class _Simulation:
    """One run. Steps that are ready are evaluated in order, then the walk is told, as the engine does it."""

    def __init__(self, plan: Plan, case: Case, surroundings: Surroundings) -> None:
        self.trace = Trace()
        self.now = case.now
        self.end: EndRun | None = None
        self._plan = plan
        self._case = case
        self._stage = Stage(case, surroundings)
        self._state = initial(plan, self._stage.roots(), EXECUTION.bytes)
        self._ready: deque[StartStep] = deque()
        self._events: list[Event] = []
        self._ending = False
        self._later: list[tuple[Instant, int, _Due | Event]] = []
        self._numbered = 0
        self._open: dict[_Attempt, _Due] = {}
        self._breakers: dict[tuple[str, BreakerPolicy], Breaker] = {}
        self._admitted: set[_Attempt] = set()

    async def run(self) -> None:
        """Run to the end. Raises Stuck."""
        case, timeout = self._case, self._plan.settings.timeout
        trigger = trigger_of(self._plan, case.trigger_node, case.trigger_type)
        if timeout is not None:
            self._push(case.now + timeout, RunFailed(run_timed_out(), case.now + timeout))
        if case.cancel_after is not None:
            at = case.now + case.cancel_after
            self._push(at, RunCancelled(at))
        self._tell([RunStarted(trigger, case.trigger, case.now)])
        while self.end is None:
            if self._ready and not self._ending:
                await self._begin(self._ready.popleft())
            elif self._events:
                told, self._events, self._ending = self._events, [], False
                self._tell(told)
            else:
                await self._pass_time()

    # --- time ---------------------------------------------------------------------------------------------------------

    def _push(self, at: Instant, what: _Due | Event) -> None:
        self._numbered += 1
        heappush(self._later, (at, self._numbered, what))

    def _add(self, at: Instant | None, due: _Due) -> None:
        self._open[due.command.step, due.command.attempt] = due
        if at is not None:
            self._push(at, due)

    async def _pass_time(self) -> None:
        """Go to the next moment at which something happens. Raises Stuck if there is none."""
        while self._later and isinstance(due := self._later[0][2], _Due) and not self._is_open(due):
            heappop(self._later)
        timer = self._state.next_due()
        if not self._later and timer is None:
            raise self._stuck_for_ever()
        if timer is not None and (not self._later or timer[0] <= self._later[0][0]):
            self._set_clock(timer[0])
            self._tell([TimePassed(self.now)])
            return
        at, _, what = heappop(self._later)
        self._set_clock(at)
        if not isinstance(what, _Due):
            self._tell([what])
            return
        del self._open[what.command.step, what.command.attempt]
        if what.ending is None:
            self._ready.append(what.command)
        else:
            self._settle(what.command, what.ending.outcome, self.now)

    def _set_clock(self, at: Instant) -> None:
        self.now = max(self.now, at)
        if self.now - self._case.now > LONGEST:
            raise Stuck("The run goes on for more than 100 years of its own time: let it end.")

    def _is_open(self, due: _Due) -> bool:
        return self._open.get((due.command.step, due.command.attempt)) is due

    def _stuck_for_ever(self) -> Stuck:
        waiting = [attempt.place for attempt in self.trace.attempts.values() if attempt.state is StepState.RUNNING]
        place = waiting[-1] if waiting else None
        named = ", ".join(f"`{each}`" for each in waiting) or "nothing that is known"
        return Stuck(
            f"The run waits for ever, for {named}: let a mock answer, or give the step, its scope or the workflow "
            "a timeout.",
            place,
        )

    # --- the walk -----------------------------------------------------------------------------------------------------

    def _tell(self, events: list[Event]) -> None:
        for command in proceed(self._plan, self._state, events):
            self._do(command)

    def _do(self, command: Command) -> None:
        match command:
            case StartStep():
                self._start(command)
            case OpenStep(step=step, attempt=number, given=given, at=at):
                self._record(step, number, StepState.RUNNING, given=given, started=at)
            case EndStep(step=step, attempt=number, output=output, error=error, at=at):
                state = StepState.COMPLETED if error is None else StepState.FAILED
                self._record(step, number, state, output=output, error=error, ended=at)
                plan = self._plan.nodes[step.node].scope
                if isinstance(plan, BreakerPlan):
                    self._tell_breaker(plan.name, plan.policy, failed=error is not None)
            case FoldLoop():
                pass  # for who rebuilds a run
            case SkipStep(step=step, at=at):
                self._record(step, 1, StepState.SKIPPED, ended=at)
            case CancelStep():
                self._cancel(command)
            case EndRun():
                self.end = command
            case _:
                assert_never(command)

    def _start(self, command: StartStep) -> None:
        plan = self._plan.nodes[command.step.node].scope
        if command.attempt > 1 and command.at > self.now:
            self._add(command.at, _Due(command, None))
        elif not isinstance(plan, BreakerPlan):
            self._ready.append(command)
        elif self._breaker(plan.name, plan.policy).admit(self.now):
            self._events.append(StepAdmitted(command.step, command.attempt, self.now))
        else:
            self._settle(command, circuit_open(plan.name), self.now)

    def _cancel(self, command: CancelStep) -> None:
        key, node = (command.step, command.attempt), self._plan.nodes[command.step.node]
        recorded = self.trace.attempts.get(key)
        if recorded is not None and recorded.state in TERMINAL_STEPS:
            return  # it ended together with what cut it off
        if isinstance(node.scope, BreakerPlan):
            self._breaker(node.scope.name, node.scope.policy).abandoned()
        due = self._open.pop(key, None)
        self._ready = deque(start for start in self._ready if start.step != command.step)
        begun = (due is not None and due.ending is not None) or node.scope is not None
        if begun:
            if node.breaker is not None and key in self._admitted:
                self._breaker(*node.breaker).abandoned()
            self._record(*key, StepState.FAILED, error=CANCELLED, ended=command.at)
        elif command.attempt == 1:
            self._record(*key, StepState.SKIPPED, ended=command.at)

    def _breaker(self, name: str, policy: BreakerPolicy) -> Breaker:
        """Return a circuit breaker; all are closed when the case begins."""
        return self._breakers.setdefault((name, policy), Breaker(policy))

    def _tell_breaker(self, name: str, policy: BreakerPolicy, *, failed: bool) -> None:
        breaker = self._breaker(name, policy)
        if failed:
            breaker.failed(self.now)
        else:
            breaker.succeeded()

    # --- attempts -----------------------------------------------------------------------------------------------------

    async def _begin(self, command: StartStep) -> None:
        """Begin one attempt: evaluate it, or see what its mock says and when."""
        step, number, node = command.step, command.attempt, self._plan.nodes[command.step.node]
        frame = self._state.frame_of(node, step)
        if frame is None:
            return
        scope = scope_of(self._plan, self._state, frame, command.at)
        prepared = self._stage.prepare(node, command, scope)
        if prepared is None:
            self._events.append(StepDeclined(step, self.now))
            return
        if isinstance(prepared, Failed):
            self._settle(command, prepared, self.now)
            return
        attempt = self._record(step, number, StepState.RUNNING, given=prepared.given, started=self.now)
        if not self._admit(node, command):
            return
        answer = self._stage.answer(node, command)
        attempt.mocked = answer is not None
        ending = await self._stage.ending(node, command, prepared, answer, scope, self.now)
        if ending.at is not None and ending.at <= self.now:
            self._settle(command, ending.outcome, self.now)
        else:
            self._add(ending.at, _Due(command, ending))

    def _admit(self, node: PlanNode, command: StartStep) -> bool:
        """Ask the circuit breaker around a step's attempts, if there is one."""
        if node.breaker is None:
            return True
        if not self._breaker(*node.breaker).admit(self.now):
            self._settle(command, circuit_open(node.breaker[0]), self.now)
            return False
        self._admitted.add((command.step, command.attempt))
        return True

    # --- records ------------------------------------------------------------------------------------------------------

    def _settle(self, command: StartStep, outcome: Outcome, at: Instant) -> None:
        """Record how an attempt ended, for the walk to be told."""
        step, number, node = command.step, command.attempt, self._plan.nodes[command.step.node]
        if node.breaker is not None and (step, number) in self._admitted:
            self._admitted.remove((step, number))
            self._tell_breaker(*node.breaker, failed=isinstance(outcome, Failed))
        match outcome:
            case Completed(outcome=label) if label in node.unhandled:
                self._settle(command, Failed(unhandled(node, label or "", outcome.output)), at)
            case Completed(output=output, outcome=label, stop=stop):
                try:
                    encode_bounded(output)
                except Unencodable as error:
                    failed = StepError("record_rejected", f"The step's output can't be stored: {error}.")
                    self._settle(command, Failed(failed), at)
                    return
                self._record(step, number, StepState.COMPLETED, output=output, outcome=label, ended=at)
                self._events.append(StepSucceeded(step, output, at, label, stop))
                self._ending = self._ending or stop
            case Failed(error=error):
                self._record(step, number, StepState.FAILED, error=error, ended=at)
                self._events.append(StepFailed(step, number, error, at))
            case Suspended():
                raise ValueError(f"{node.id} waits, and nobody watches")
            case _:
                assert_never(outcome)

    def _record(self, step: StepKey, number: int, state: StepState, **known: Any) -> Attempt:
        attempt = self.trace.attempts.get((step, number))
        if attempt is None:
            if len(self.trace.attempts) >= MAX_STEPS:
                raise Stuck(
                    f"The run makes more than {MAX_STEPS:,} steps: it may never end; look at its loops.",
                    place_of(step),
                )
            attempt = Attempt(step, number, self._plan.nodes[step.node].type, state)
            self.trace.attempts[step, number] = attempt
        attempt.state = state
        for name, value in known.items():
            setattr(attempt, name, value)
        return attempt
