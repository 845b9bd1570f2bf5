"""The walk: what a graph does next, as a pure function from what happened to what to do.

The rules:

- An edge is undecided, then live or dead. A node is ready when every incoming edge is decided: it runs if one is live,
  and is skipped if all are dead (dead-path elimination); a skipped node's edges die.
- On success a node's `error` edges die; on failure all others do, unless `on_error: continue` keeps them.
- A failure is retried by the node's policy, then goes to its `error` edge, then to `on_error`, then ends the run.
- The result doesn't depend on the order in which independent results arrive: a node's time is the latest time of its
  incoming edges, and places under `max_concurrency` change only when a node runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import TYPE_CHECKING, assert_never

from gorax_engine.core.commands import CancelStep, Command, EndRun, SkipStep, StartStep
from gorax_engine.core.events import (
    Event,
    RunCancelled,
    RunFailed,
    RunStarted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
)
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.model import OnError, StepError, StepKey
from gorax_engine.core.policies import retry_delay, should_retry, step_error_json
from gorax_engine.core.states import ExecutionState, check_execution
from gorax_engine.core.walk.state import (
    DECIDED,
    FAILED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    UNDECIDED,
    WalkState,
    scope_of,
)

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json
    from gorax_engine.core.plan import Plan, PlanNode

_RUNNING_RUN = ExecutionState.RUNNING


def initial(plan: Plan, roots: Mapping[str, Json], seed: bytes) -> WalkState:
    """Return the state of a run that has not begun. `roots` are the expression roots but `steps`; `seed` is its id."""
    return WalkState(plan, roots, seed)


def advance(plan: Plan, state: WalkState, events: Iterable[Event]) -> tuple[WalkState, list[Command]]:
    """Return the state after `events` and what to do because of them, in order.

    Pure: `state` is left as it was. Events for steps that don't run, and all events after the end, change nothing
    (terminal is final). EndRun, if it comes, is the last command.
    """
    state = state.copy()
    return state, proceed(plan, state, events)


def proceed(plan: Plan, state: WalkState, events: Iterable[Event]) -> list[Command]:
    """`advance` for who alone holds `state` and has no use for the old one: changes it, and returns the commands."""
    walk = _Walk(plan, state)
    for event in events:
        if state.status is not _RUNNING_RUN:
            break
        walk.apply(event)
    return walk.commands


class _Walk:
    """One call of `proceed`: the state that it changes, and the commands so far."""

    __slots__ = ("commands", "plan", "state")

    def __init__(self, plan: Plan, state: WalkState) -> None:
        self.plan = plan
        self.state = state
        self.commands: list[Command] = []

    def apply(self, event: Event) -> None:
        match event:
            case StepSucceeded():
                self._succeeded(event)
            case StepFailed():
                self._failed(event)
            case StepDeclined():
                self._declined(event)
            case RunStarted():
                self._started(event)
            case RunCancelled():
                self._end_early(ExecutionState.CANCELLED, None, None, event.at)
            case RunFailed():
                self._end_early(ExecutionState.FAILED, None, event.error, event.at)
            case _:
                assert_never(event)

    def _started(self, event: RunStarted) -> None:
        """Every node without incoming edges is decided: the trigger runs, all others are skipped."""
        trigger = self.plan.index[event.trigger]
        skipped = [node.index for node in self.plan.nodes if node.incoming == 0 and node.index != trigger]
        self.state.latest = self.state.enabled_at[trigger] = event.at
        # It runs whatever leads to it: the edges of the other roots will be dead, and must not decide it again.
        self.state.pending[trigger] = 0
        self._run(trigger)
        for index in skipped:
            self.state.enabled_at[index] = event.at
            self._skip(index)

    def _running(self, step: StepKey) -> PlanNode | None:
        index = self.plan.index.get(step.node)
        if index is None or self.state.nodes[index] != RUNNING:
            return None
        return self.plan.nodes[index]

    def _succeeded(self, event: StepSucceeded) -> None:
        node = self._running(event.step)
        if node is None:
            return
        self._leave_running(node.index, SUCCEEDED)
        self.state.outputs[node.id] = event.output
        if event.stop:
            # A type with outcomes (condition) only says that the run ends here; `stop` brings the output itself.
            if node.outcomes:
                self._end_with_output(event.at)
            else:
                self._end_early(ExecutionState.COMPLETED, event.output, None, event.at)
            return
        outcome = event.outcome
        for edge in node.out:
            label = edge.label
            self._decide(edge.target, label is None or (label == outcome and label != "error"), event.at, node.index)
        self._settle(event.at)

    def _failed(self, event: StepFailed) -> None:
        node = self._running(event.step)
        if node is None or self.state.attempts[node.index] != event.attempt:
            return
        error, attempt = event.error, event.attempt
        if should_retry(node.retry, error, attempt):
            self.state.attempts[node.index] = attempt + 1
            seed = b"%s:%s:%d" % (self.state.seed, node.id.encode(), attempt)
            due = event.at + retry_delay(node.retry, error, attempt, seed)
            self.commands.append(StartStep(event.step, attempt + 1, due))
            return
        self._leave_running(node.index, FAILED)
        if not node.has_error_edge and node.on_error is OnError.FAIL:
            self._end_early(ExecutionState.FAILED, None, error, event.at)
            return
        bound = step_error_json(
            error,
            node_id=node.id,
            node_type=node.type,
            attempt=attempt,
            max_attempts=node.retry.max_attempts,
            at=event.at,
        )
        self.state.outputs[node.id] = {"error": bound}
        for edge in node.out:
            alive = edge.label == "error" if node.has_error_edge else edge.label is None
            self._decide(edge.target, alive, event.at, node.index)
        self._settle(event.at)

    def _declined(self, event: StepDeclined) -> None:
        node = self._running(event.step)
        if node is None:
            return
        self._leave_running(node.index, UNDECIDED)
        self.state.remaining += 1
        self.state.enabled_at[node.index] = max(self.state.enabled_at[node.index], event.at)
        self._skip(node.index)
        self._settle(event.at)

    def _decide(self, target: int, alive: bool, at: Instant, source: int) -> None:
        """One incoming edge of `target` is decided; the last one decides the node."""
        state = self.state
        if alive:
            state.live[target] = 1
            state.continues[source] = 1
        state.enabled_at[target] = max(state.enabled_at[target], at)
        state.pending[target] -= 1
        if state.pending[target] == 0:
            if state.live[target]:
                self._run(target)
            else:
                self._skip(target)

    def _run(self, index: int) -> None:
        state = self.state
        limit = self.plan.settings.max_concurrency
        if limit is not None and len(state.attempts) >= limit:
            state.nodes[index] = READY
            heappush(state.ready, index)
            return
        state.nodes[index] = RUNNING
        state.attempts[index] = 1
        self.commands.append(StartStep(self.plan.nodes[index].key, 1, state.enabled_at[index]))

    def _leave_running(self, index: int, into: int) -> None:
        state = self.state
        state.nodes[index] = into
        del state.attempts[index]
        state.remaining -= 1

    def _skip(self, index: int) -> None:
        """Skip a node and, without recursion, all that die with it."""
        state = self.state
        dead = [index]
        while dead:
            index = dead.pop()
            state.nodes[index] = SKIPPED
            state.remaining -= 1
            at = state.enabled_at[index]
            node = self.plan.nodes[index]
            self.commands.append(SkipStep(node.key, at))
            for edge in node.out:
                target = edge.target
                state.enabled_at[target] = max(state.enabled_at[target], at)
                state.pending[target] -= 1
                if state.pending[target] == 0:
                    if state.live[target]:
                        self._run(target)
                    else:
                        dead.append(target)

    def _settle(self, at: Instant) -> None:
        """Fill the free places, and end the run when every node is decided."""
        state = self.state
        state.latest = max(state.latest, at)
        limit = self.plan.settings.max_concurrency
        while state.ready and limit is not None and len(state.attempts) < limit:
            index = heappop(state.ready)
            state.nodes[index] = RUNNING
            state.attempts[index] = 1
            self.commands.append(StartStep(self.plan.nodes[index].key, 1, state.enabled_at[index]))
        if state.remaining == 0:
            self._end_with_output(at)

    def _end_with_output(self, at: Instant) -> None:
        """End as completed with the run's output: the template if there is one, else the outputs of the leaves."""
        # The latest moment of all nodes, so that the end doesn't depend on the order in which they came.
        at = max(at, self.state.latest)
        if self.plan.output is None:
            state = self.state
            leaves = {
                node.id: state.outputs[node.id]
                for node in self.plan.nodes
                if state.nodes[node.index] in (SUCCEEDED, FAILED) and not state.continues[node.index]
            }
            self._end_early(ExecutionState.COMPLETED, leaves, None, at)
            return
        try:
            output = self.plan.output.render(scope_of(self.plan, self.state, at))
        except ExpressionError as error:
            failure = StepError(error.code, f"The workflow's output could not be made: {error.message}")
            self._end_early(ExecutionState.FAILED, None, failure, at)
            return
        self._end_early(ExecutionState.COMPLETED, output, None, at)

    def _end_early(self, status: ExecutionState, output: Json, error: StepError | None, at: Instant) -> None:
        """End the run: what runs is cancelled, what never ran is skipped."""
        state = self.state
        for index, attempt in sorted(state.attempts.items()):
            self.commands.append(CancelStep(self.plan.nodes[index].key, attempt, at))
            state.nodes[index] = FAILED
        state.attempts.clear()
        state.ready.clear()
        if state.remaining:
            for index, node_state in enumerate(state.nodes):
                if node_state < DECIDED:
                    state.nodes[index] = SKIPPED
                    self.commands.append(SkipStep(self.plan.nodes[index].key, at))
            state.remaining = 0
        state.status = check_execution(state.status, status)
        self.commands.append(EndRun(status, output, error, at))
