"""The walk: what a graph does next, as a function from what happened to what to do.

The rules:

- An edge is undecided, then live or dead. A node is ready when every incoming edge is decided: it runs if one is live,
  and is skipped if all are dead (dead-path elimination); a skipped node's edges die. Joins have their own rule.
- On success a node's `error` edges die; on failure all others do, unless `on_error: continue` keeps them.
- A failure is retried by the node's policy, then goes to its `error` edge, then to `on_error`, then ends the body that
  the node is in: its scope decides what that means (`scopes.py`); at the top the run ends.
- Who ends a body early cuts off what runs in it; an open `finally` in it runs first.

Events are told in the order of their times, and timers that are due before an event fire before it. So the same events
always lead to the same state: a run is rebuilt by telling again what was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop
from typing import TYPE_CHECKING, Final, assert_never

from gorax_engine.core.commands import CancelStep, Command, EndRun, EndStep, SkipStep, StartStep
from gorax_engine.core.events import (
    Event,
    IterationKept,
    RunCancelled,
    RunFailed,
    RunStarted,
    StepAdmitted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
    TimePassed,
)
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.failures import is_true, step_timed_out
from gorax_engine.core.model import SECOND, OnError, StepError
from gorax_engine.core.policies import retry_delay, should_retry, step_error_json
from gorax_engine.core.scopes import BreakerPlan, JoinPlan
from gorax_engine.core.states import ExecutionState, check_execution
from gorax_engine.core.walk import scopes
from gorax_engine.core.walk.state import (
    CANCELLED,
    DECIDED,
    FAILED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    UNDECIDED,
    Cancelled,
    Failure,
    Frame,
    Result,
    ScopeRun,
    Stopped,
    Success,
    Timer,
    TryRun,
    WalkState,
    is_alive,
    scope_of,
)

if TYPE_CHECKING:
    from gorax_engine.core.expressions import Scope
    from gorax_engine.core.model import Instant, Json, Micros
    from gorax_engine.core.plan import Plan, PlanNode

PATIENCE: Final[Micros] = 60 * SECOND
"""How long what must run before a cancelled or timed out run ends may take."""

_RUNNING_RUN = ExecutionState.RUNNING


def initial(plan: Plan, roots: Mapping[str, Json], seed: bytes) -> WalkState:
    """Return the state of a run that has not begun. `roots` are the expression roots but `steps`; `seed` is its id."""
    return WalkState(plan, roots, seed)


def proceed(plan: Plan, state: WalkState, events: Iterable[Event]) -> list[Command]:
    """Tell the walk what happened: changes `state`, and returns what to do because of it, in order.

    Events for steps that don't run, and all events after the end, change nothing (terminal is final). EndRun, if it
    comes, is the last command.
    """
    walk = Walk(plan, state)
    for event in events:
        if state.status is not _RUNNING_RUN:
            break
        walk.apply(event)
    return walk.commands


class Walk:
    """One call of `proceed`: the state that it changes, and the commands so far.

    `at` is the time of what happens now. `work` is what follows from it and is still to be done, in order, rather than
    by recursion: scopes to `open`, edges of nodes that have `succeeded` or `failed`, and frames that have `ended`.
    """

    __slots__ = ("at", "commands", "limit", "plan", "state", "work")

    def __init__(self, plan: Plan, state: WalkState) -> None:
        self.plan = plan
        self.state = state
        self.at = state.at
        self.limit = plan.settings.max_concurrency
        self.commands: list[Command] = []
        self.work: list[tuple[str, Frame, int]] = []

    # --- events -------------------------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Fire the timers that come before an event, then let it happen."""
        if self.state.timers:
            self._fire_until(event.at)
            if self.state.status is not _RUNNING_RUN:
                return
        if event.at > self.state.at:
            self.at = self.state.at = event.at
        match event:
            case StepSucceeded():
                self._succeeded(event)
            case StepFailed():
                self._failed(event)
            case StepDeclined():
                self._declined(event)
            case RunStarted():
                self._started(event)
            case StepAdmitted():
                self._admitted(event)
            case IterationKept():
                self._kept(event)
            case RunCancelled():
                self._end_from_without(Cancelled(event.reason), force=event.force)
            case RunFailed():
                self._end_from_without(Failure(event.error, {}), force=event.force)
            case TimePassed():
                pass
            case _:
                assert_never(event)
        if self.work or self.limit is not None:
            self._work_off()

    def _work_off(self) -> None:
        """Do all that follows from what has happened, and last deal out the places that are free then."""
        for what, frame, index in self.work:  # grows while it is gone through
            self._work(what, frame, index)
        self.work.clear()
        if self.limit is not None:
            self._deal_places(self.limit)

    def _work(self, what: str, frame: Frame, index: int) -> None:
        match what:
            case "open":
                if frame.result is None and index in frame.attempts:
                    self.open(frame, index)
            case "ended":
                self._tell_end(frame)
            case _:
                self._decide_edges(frame, index, has_failed=what == "failed")

    def _deal_places(self, limit: int) -> None:
        """Start what waits for a place, in the order in which it came to wait."""
        state = self.state
        while state.ready and state.running < limit:
            frame, index = state.ready.popleft()
            if frame.nodes[index] == READY:  # else it was cut off meanwhile
                self._start(frame, frame.body.nodes[index])

    def _decide_edges(self, frame: Frame, index: int, *, has_failed: bool) -> None:
        if frame.result is not None:
            return
        node = frame.body.nodes[index]
        wanted = "error" if has_failed and node.has_error_edge else None
        for edge in node.out:
            self._decide(frame, edge.target, edge.label == wanted, index)
        self.settle(frame)

    def _fire_until(self, at: Instant) -> None:
        timers = self.state.timers
        while timers and timers[0][0] <= at and self.state.status is _RUNNING_RUN:
            due, _, timer = heappop(timers)
            if is_alive(timer):
                self.at = self.state.at = max(self.state.at, due)
                self._fire(timer)
                self._work_off()

    def _fire(self, timer: Timer) -> None:
        frame = timer.frame
        match timer.kind:
            case "force":
                self._force()
            case "reopen":
                self.open(frame, timer.index)
            case "join":
                self._join_late(frame, frame.body.nodes[timer.index])
            case "round":
                scopes.next_round(self, frame.scopes[timer.index])
            case _:
                run = frame.scopes[timer.index]
                self.unwind(run, self.failure(run.node, step_timed_out(run.node), run.attempt))

    def _started(self, event: RunStarted) -> None:
        """Every node without incoming edges is decided: the trigger runs, all others are skipped."""
        top = self.state.top
        trigger = self.plan.nodes[event.trigger].index
        top.opened = event.at
        self.run(top, trigger)  # whatever leads to it: the edges of the other roots will be dead
        for index in top.body.entries:
            if index != trigger:
                self._skip(top, index)

    def _succeeded(self, event: StepSucceeded) -> None:
        node = self.plan.nodes.get(event.step.node)
        frame = None if node is None else self.state.frame_of(node, event.step)
        if node is None or frame is None or node.index not in frame.attempts or node.scope is not None:
            return
        index = node.index
        frame.nodes[index] = SUCCEEDED
        del frame.attempts[index]
        frame.remaining -= 1
        self.state.running -= 1
        frame.outputs[node.id] = event.output
        if event.stop and self.state.top.result is None:
            # A type with outcomes (condition) only says that the run ends here; `stop` brings the output itself.
            self.close(self.state.top, Stopped() if node.outcomes else Stopped(event.output, True))
        if frame.result is not None:
            return  # not so in a `finally`, which goes on to its end
        outcome = event.outcome
        for edge in node.out:
            label = edge.label
            self._decide(frame, edge.target, label is None or (label == outcome and label != "error"), index)
        self.settle(frame)

    def _failed(self, event: StepFailed) -> None:
        node = self.plan.nodes.get(event.step.node)
        frame = None if node is None else self.state.frame_of(node, event.step)
        if node is None or frame is None or frame.attempts.get(node.index) != event.attempt:
            return
        if node.scope is not None and node.index in frame.scopes:
            return  # only a scope that was not let begin fails by an event
        if node.scope is None:
            self.state.running -= 1
        self.node_failed(frame, node, event.attempt, self.failure(node, event.error, event.attempt))

    def _declined(self, event: StepDeclined) -> None:
        node = self.plan.nodes.get(event.step.node)
        frame = None if node is None else self.state.frame_of(node, event.step)
        if node is None or frame is None or node.index not in frame.attempts or node.scope is not None:
            return
        self.state.running -= 1
        self.decline(frame, node)

    def decline(self, frame: Frame, node: PlanNode) -> None:
        """Skip a node whose `when` is false."""
        del frame.attempts[node.index]
        self._skip(frame, node.index, declined=True)
        self.settle(frame)

    def _admitted(self, event: StepAdmitted) -> None:
        node = self.plan.nodes.get(event.step.node)
        frame = None if node is None else self.state.frame_of(node, event.step)
        if node is None or frame is None or frame.attempts.get(node.index) != event.attempt:
            return
        if isinstance(node.scope, BreakerPlan) and node.index not in frame.scopes:
            scopes.begin(self, frame, node)

    def _kept(self, event: IterationKept) -> None:
        node = self.plan.nodes.get(event.step.node)
        frame = None if node is None else self.state.frame_of(node, event.step)
        run = None if node is None or frame is None else frame.scopes.get(node.index)
        if run is not None and run.attempt == event.attempt and run.result is None:
            scopes.iteration_kept(self, run, event.index, event.entry)

    # --- edges and nodes ----------------------------------------------------------------------------------------------

    def _decide(self, frame: Frame, target: int, alive: bool, source: int) -> None:
        """One incoming edge of `target` is decided; the last one decides the node."""
        if frame.result is not None:
            return  # all that had not begun was skipped
        if alive:
            frame.live[target] = 1
            frame.continues[source] = 1
        frame.pending[target] -= 1
        if frame.nodes[target] != UNDECIDED:
            return  # a join that has fired, or what one cut off; the trigger
        scope = frame.body.nodes[target].scope
        if scope is not None and isinstance(scope, JoinPlan):
            self._join(frame, frame.body.nodes[target], source if alive else None)
        elif frame.pending[target] == 0:
            if frame.live[target]:
                self.run(frame, target)
            else:
                self._skip(frame, target)

    def run(self, frame: Frame, index: int) -> None:
        """Run a node that is ready."""
        node = frame.body.nodes[index]
        if node.scope is not None:
            frame.nodes[index] = RUNNING
            frame.attempts[index] = 1
            self.work.append(("open", frame, index))
        elif self.limit is not None:
            frame.nodes[index] = READY
            self.state.ready.append((frame, index))
        else:
            self._start(frame, node)

    def _start(self, frame: Frame, node: PlanNode) -> None:
        frame.nodes[node.index] = RUNNING
        frame.attempts[node.index] = 1
        self.state.running += 1
        self.commands.append(StartStep(frame.key(node), 1, self.at))

    def _skip(self, frame: Frame, index: int, *, declined: bool = False) -> None:
        """Skip a node and, without recursion, all that die with it."""
        dead = [index]
        while dead:
            index = dead.pop()
            if frame.nodes[index] >= DECIDED:
                continue  # a join that can't be satisfied any more has cut it off
            frame.nodes[index] = SKIPPED
            frame.remaining -= 1
            node = frame.body.nodes[index]
            self.commands.append(SkipStep(frame.key(node), self.at, declined))
            declined = False
            for edge in node.out:
                target = edge.target
                frame.pending[target] -= 1
                if frame.nodes[target] != UNDECIDED:
                    continue
                if isinstance(frame.body.nodes[target].scope, JoinPlan):
                    self._join(frame, frame.body.nodes[target], None)
                elif frame.pending[target] == 0:
                    if frame.live[target]:
                        self.run(frame, target)
                    else:
                        dead.append(target)

    def settle(self, frame: Frame) -> None:
        """End the frame when every node of it is decided."""
        if frame.remaining == 0:
            self.work.append(("ended", frame, 0))

    def failure(self, node: PlanNode, error: StepError, attempt: int) -> Failure:
        """Return the failure of an attempt, with the error as templates see it."""
        return Failure(error, step_error_json(error, node.id, node.type, attempt, node.retry.max_attempts, self.at))

    def node_failed(self, frame: Frame, node: PlanNode, attempt: int, failure: Failure) -> None:
        """An attempt of a node has failed: again, or its error edge, or `on_error`, or the end of its body."""
        index, state = node.index, self.state
        if frame.result is None and should_retry(node.retry, failure.error, attempt):
            frame.attempts[index] = attempt + 1
            seed = b"%s:%s:%d" % (state.seed, f"{node.id}:{frame.path}:{frame.round}".encode(), attempt)
            due = self.at + retry_delay(node.retry, failure.error, attempt, seed)
            if node.scope is None:
                state.running += 1  # it keeps its place
                self.commands.append(StartStep(frame.key(node), attempt + 1, due))
            else:
                state.set_timer(due, Timer("reopen", frame, index, attempt + 1))
            return
        frame.nodes[index] = FAILED
        del frame.attempts[index]
        frame.remaining -= 1
        if frame.result is None:
            if not node.has_error_edge and node.on_error is OnError.FAIL:
                self.close(frame, failure)
                return
            frame.outputs[node.id] = {"error": dict(failure.bound)}
            self.work.append(("failed", frame, index))
        self.settle(frame)

    # --- joins --------------------------------------------------------------------------------------------------------

    def _join(self, frame: Frame, node: PlanNode, source: int | None) -> None:
        """One incoming edge of a join is decided (alive, if `source` says from where)."""
        index, plan = node.index, node.scope
        assert isinstance(plan, JoinPlan)
        arrived = frame.arrived.setdefault(index, [])
        if source is not None:
            arrived.append(source)
            if len(arrived) == 1 and plan.timeout is not None and frame.pending[index] > 0:
                self.state.set_timer(self.at + plan.timeout, Timer("join", frame, index))
        pending = frame.pending[index]
        if not arrived:
            if pending == 0:
                self._skip(frame, index)
        elif len(arrived) == plan.required or (plan.required is None and pending == 0):
            self._fire_join(frame, node, timed_out=False)
        elif plan.required is not None and len(arrived) + pending < plan.required:
            message = f"The join {node.id} needs {plan.required} arrivals, but only {len(arrived) + pending} can come."
            self._fail_join(frame, node, StepError("join_unsatisfied", message))

    def _join_late(self, frame: Frame, node: PlanNode) -> None:
        plan = node.scope
        assert isinstance(plan, JoinPlan)
        if plan.goes_on:
            self._fire_join(frame, node, timed_out=True)
            return
        came = len(frame.arrived[node.index])
        message = f"The join {node.id} waited for its timeout; {came} of its branches had arrived."
        self._fail_join(frame, node, StepError("join_timeout", message))

    def _fire_join(self, frame: Frame, node: PlanNode, *, timed_out: bool) -> None:
        index, plan = node.index, node.scope
        assert isinstance(plan, JoinPlan)
        if node.when is not None:
            try:
                wanted = is_true(node.when(self.scope(frame)), scopes.CONDITION)
            except ExpressionError as error:
                self._fail_join(frame, node, StepError(error.code, error.message))
                return
            if not wanted:
                self._skip(frame, index, declined=True)
                self.settle(frame)
                return
        names = [frame.body.nodes[source].id for source in frame.arrived[index]]
        output = {
            "completed_branches": len(names),
            "branch_outputs": {name: frame.outputs.get(name) for name in names},
            "timed_out": timed_out,
        }
        frame.nodes[index] = SUCCEEDED
        frame.remaining -= 1
        frame.outputs[node.id] = output
        self.commands.append(EndStep(frame.key(node), 1, output, None, None, self.at))
        if plan.cancels and frame.pending[index] > 0:
            self._cut_feeders(frame, node)
        self.work.append(("succeeded", frame, index))
        self.settle(frame)

    def _fail_join(self, frame: Frame, node: PlanNode, error: StepError) -> None:
        failure = self.failure(node, error, 1)
        self.commands.append(EndStep(frame.key(node), 1, None, error, failure.bound, self.at))
        plan = node.scope
        assert isinstance(plan, JoinPlan)
        frame.nodes[node.index] = FAILED
        if plan.cancels and frame.pending[node.index] > 0:
            self._cut_feeders(frame, node)
        self.node_failed_finally(frame, node, failure)

    def node_failed_finally(self, frame: Frame, node: PlanNode, failure: Failure) -> None:
        """A node that is not tried again has failed."""
        frame.attempts[node.index] = node.retry.max_attempts
        self.node_failed(frame, node, node.retry.max_attempts, failure)

    def _cut_feeders(self, frame: Frame, join: PlanNode) -> None:
        """Cut off what still leads to a join that needs it no more, and nowhere else."""
        for index in self._feeders(frame, join):
            if index in frame.attempts:
                for child in self._cut(frame, index):
                    self.close(child, CANCELLED)
            else:
                frame.nodes[index] = SKIPPED
                frame.remaining -= 1
                self.commands.append(SkipStep(frame.key(frame.body.nodes[index]), self.at))

    def _feeders(self, frame: Frame, join: PlanNode) -> list[int]:
        """Return the nodes that are not decided and all of whose ways lead to a join."""
        body = frame.body
        ways: dict[int, int] = {}  # of a node, how many lead elsewhere as far as is known
        found: list[int] = []
        pending = [join.index]
        while pending:
            for source in body.sources[pending.pop()]:
                if frame.nodes[source] >= DECIDED:
                    continue
                ways[source] = ways.get(source, len(body.nodes[source].out)) - 1
                if ways[source] == 0:
                    found.append(source)
                    pending.append(source)
        return sorted(found)

    # --- scopes -------------------------------------------------------------------------------------------------------

    def scope(self, frame: Frame) -> Scope:
        """Return what expressions see in a frame now."""
        return scope_of(self.plan, self.state, frame, self.at)

    def open(self, frame: Frame, index: int) -> None:
        """Open a scope whose time has come, unless its `when` is false or the engine has to be asked first."""
        node = frame.body.nodes[index]
        if node.when is not None and frame.attempts[index] == 1:
            try:
                if not is_true(node.when(self.scope(frame)), scopes.CONDITION):
                    self.decline(frame, node)
                    return
            except ExpressionError as error:
                scopes.refuse(self, frame, node, StepError(error.code, error.message))
                return
        if isinstance(node.scope, BreakerPlan):
            self.commands.append(StartStep(frame.key(node), frame.attempts[index], self.at))
        else:
            scopes.begin(self, frame, node)

    def open_frame(
        self,
        run: ScopeRun,
        body: int,
        place: int,
        path: str,
        outputs: Mapping[str, Json],
        names: Mapping[str, Json],
    ) -> Frame:
        """Put a body of a scope to work."""
        around = run.frame
        frame = Frame(
            self.plan.bodies[body], run, place, path, run.round, dict(outputs), {**around.roots, **names}, self.at
        )
        self.state.frames[body, path, run.round] = frame
        run.children.append(frame)
        for index in frame.body.entries:
            self.run(frame, index)
        return frame

    def close(self, frame: Frame, result: Result) -> None:
        """End a frame early: what runs is cut off, what never ran is skipped. The first reason counts.

        What is inside goes the same way, without recursion.
        """
        closing = [frame]
        while closing:
            frame = closing.pop()
            if frame.result is not None or frame.ended:
                continue
            frame.result = result
            result = CANCELLED
            for index in sorted(frame.attempts):
                closing += self._cut(frame, index)
            if frame.remaining:
                for index, node_state in enumerate(frame.nodes):
                    if node_state < RUNNING:
                        frame.nodes[index] = SKIPPED
                        frame.remaining -= 1
                        self.commands.append(SkipStep(frame.key(frame.body.nodes[index]), self.at))
            self.settle(frame)

    def _cut(self, frame: Frame, index: int) -> list[Frame]:
        """Cut off a node that runs; of a scope, return the frames that are to be closed."""
        node = frame.body.nodes[index]
        run = frame.scopes.get(index)
        if run is not None:
            return self._release(run, CANCELLED)
        attempt = frame.attempts.pop(index)
        frame.nodes[index] = FAILED
        frame.remaining -= 1
        if node.scope is None:
            self.state.running -= 1
        if node.scope is None or attempt == 1:
            self.commands.append(CancelStep(frame.key(node), attempt, self.at))
        return []

    def unwind(self, run: ScopeRun, result: Result) -> None:
        """End a scope with `result` as soon as what is in it has ended, which is cut off. The first reason counts."""
        for child in self._release(run, result):
            self.close(child, CANCELLED)

    def _release(self, run: ScopeRun, result: Result) -> list[Frame]:
        """Say how a scope is to end, and return the frames to close before; a `finally` runs to its own end."""
        if run.result is not None:
            return []
        run.result = result
        if not run.children:
            scopes.unwound(self, run)
            return []
        return [] if isinstance(run, TryRun) and run.phase == "finally" else list(run.children)

    def finish(self, run: ScopeRun, result: Result, outputs: Mapping[str, Json] | None = None) -> None:
        """A scope has ended. `outputs` are those of its steps that can be seen from now on."""
        frame, node, attempt = run.frame, run.node, run.attempt
        key = frame.key(node)
        del frame.scopes[node.index]
        if run.round > frame.round or node.retry.max_attempts > 1:
            self.state.rounds[node.id, frame.path] = run.round
        if isinstance(result, Failure):
            self.commands.append(EndStep(key, attempt, None, result.error, result.bound, self.at))
            self.node_failed(frame, node, attempt, result)
            return
        del frame.attempts[node.index]
        frame.remaining -= 1
        if isinstance(result, Success):
            self.commands.append(EndStep(key, attempt, result.output, None, None, self.at))
            frame.nodes[node.index] = SUCCEEDED
            frame.outputs[node.id] = result.output
            if outputs:
                frame.outputs.update(outputs)
            self.work.append(("succeeded", frame, node.index))
        else:
            frame.nodes[node.index] = FAILED
            self.commands.append(CancelStep(key, attempt, self.at))
        self.settle(frame)

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _tell_end(self, frame: Frame) -> None:
        """A frame has ended: tell its scope, which may end others, or end the run."""
        if frame.ended:
            return
        frame.ended = True
        run = frame.owner
        if run is None:
            self._end_run(frame)
            return
        del self.state.frames[frame.body.number, frame.path, frame.round]
        run.children.remove(frame)
        if run.result is None:
            scopes.child_ended(self, run, frame, frame.result or Success(leaf_output(frame)))
        else:
            scopes.child_cut(run, frame)
            if not run.children:
                scopes.unwound(self, run)

    def _end_from_without(self, result: Result, *, force: bool) -> None:
        """Somebody ends the run: what must run before it may take its time, unless that is over."""
        state = self.state
        self.close(state.top, result)
        if force:
            self._force()
        else:
            state.set_timer(self.at + PATIENCE, Timer("force", state.top))

    def _force(self) -> None:
        """Cut off all that still runs, even what was to run before the end."""
        self.state.forced = True
        for frame in list(self.state.frames.values()):
            self.close(frame, CANCELLED)

    def _end_run(self, top: Frame) -> None:
        match top.result:
            case None:
                self._end_with_output(top)
            case Stopped(output=output, has_output=True):
                self._say_end(ExecutionState.COMPLETED, output, None)
            case Stopped():
                self._end_with_output(top)
            case Failure(error=error):
                self._say_end(ExecutionState.FAILED, None, error)
            case Cancelled(reason=reason):
                error = StepError("cancelled", reason or "The execution was cancelled.")
                self._say_end(ExecutionState.CANCELLED, None, error)
            case Success(output=output):
                self._say_end(ExecutionState.COMPLETED, output, None)
            case _:
                assert_never(top.result)

    def _end_with_output(self, top: Frame) -> None:
        """End as completed with the run's output: the template if there is one, else the outputs of the leaves."""
        if self.plan.output is None:
            self._say_end(ExecutionState.COMPLETED, {node.id: top.outputs[node.id] for node in leaves(top)}, None)
            return
        try:
            output = self.plan.output.render(self.scope(top))
        except ExpressionError as error:
            failure = StepError(error.code, f"The workflow's output could not be made: {error.message}")
            self._say_end(ExecutionState.FAILED, None, failure)
            return
        self._say_end(ExecutionState.COMPLETED, output, None)

    def _say_end(self, status: ExecutionState, output: Json, error: StepError | None) -> None:
        self.state.status = check_execution(self.state.status, status)
        self.commands.append(EndRun(status, output, error, self.at))


def leaves(frame: Frame) -> list[PlanNode]:
    """Return the nodes that ended with no live outgoing edge."""
    return [
        node
        for node in frame.body.nodes
        if frame.nodes[node.index] in (SUCCEEDED, FAILED)
        and not frame.continues[node.index]
        and node.id in frame.outputs
    ]


def leaf_output(frame: Frame) -> Json:
    """Return what a body gives: the bare output of a single leaf, else an object of them by node id."""
    found = leaves(frame)
    if len(found) == 1:
        return frame.outputs[found[0].id]
    return {node.id: frame.outputs[node.id] for node in found}
