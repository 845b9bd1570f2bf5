"""What happens to a run, and what each event changes: `proceed` is the walk as a function from events to commands.

Events are told in the order of their times, and timers that are due before an event fire before it. So the same events
always lead to the same state: a run is rebuilt by telling again what was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop
from typing import TYPE_CHECKING, Final, assert_never

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
from gorax_engine.core.failures import step_timed_out
from gorax_engine.core.model import SECOND
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.core.states import ExecutionState
from gorax_engine.core.walk import joins, loops, scopes
from gorax_engine.core.walk.state import (
    CANCELLED,
    SUCCEEDED,
    Cancelled,
    Failure,
    Result,
    Stopped,
    Timer,
    WalkState,
    is_alive,
)
from gorax_engine.core.walk.walk import Walk

if TYPE_CHECKING:
    from gorax_engine.core.commands import Command
    from gorax_engine.core.model import Instant, Json, Micros
    from gorax_engine.core.plan import Plan

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
        _apply(walk, event)
    return walk.commands


def _apply(walk: Walk, event: Event) -> None:
    """Fire the timers that come before an event, then let it happen."""
    if walk.state.timers:
        _fire_until(walk, event.at)
        if walk.state.status is not _RUNNING_RUN:
            return
    if event.at > walk.state.at:
        walk.at = walk.state.at = event.at
    match event:
        case StepSucceeded():
            _succeeded(walk, event)
        case StepFailed():
            _failed(walk, event)
        case StepDeclined():
            _declined(walk, event)
        case RunStarted():
            _started(walk, event)
        case StepAdmitted():
            _admitted(walk, event)
        case IterationKept():
            _kept(walk, event)
        case RunCancelled():
            _end_from_without(walk, Cancelled(event.reason), force=event.force)
        case RunFailed():
            _end_from_without(walk, Failure(event.error, {}), force=event.force)
        case TimePassed():
            pass
        case _:
            assert_never(event)
    if walk.work or walk.limit is not None:
        walk.work_off()


def _fire_until(walk: Walk, at: Instant) -> None:
    timers = walk.state.timers
    while timers and timers[0][0] <= at and walk.state.status is _RUNNING_RUN:
        due, _, timer = heappop(timers)
        if is_alive(timer):
            walk.at = walk.state.at = max(walk.state.at, due)
            _fire(walk, timer)
            walk.work_off()


def _fire(walk: Walk, timer: Timer) -> None:
    frame = timer.frame
    match timer.kind:
        case "force":
            _force(walk)
        case "reopen":
            scopes.open_scope(walk, frame, timer.index)
        case "join":
            joins.late(walk, frame, frame.body.nodes[timer.index])
        case "round":
            scopes.next_round(walk, frame.scopes[timer.index])
        case _:
            run = frame.scopes[timer.index]
            walk.unwind(run, walk.failure(run.node, step_timed_out(run.node), run.attempt))


def _started(walk: Walk, event: RunStarted) -> None:
    """Every node without incoming edges is decided: the trigger runs, all others are skipped."""
    top = walk.state.top
    trigger = walk.plan.nodes[event.trigger].index
    top.opened = event.at
    walk.run(top, trigger)  # whatever leads to it: the edges of the other roots will be dead
    for index in top.body.entries:
        if index != trigger:
            walk.skip(top, index)


def _succeeded(walk: Walk, event: StepSucceeded) -> None:
    node = walk.plan.nodes.get(event.step.node)
    frame = None if node is None else walk.state.frame_of(node, event.step)
    if node is None or frame is None or node.index not in frame.attempts or node.scope is not None:
        return
    index = node.index
    frame.nodes[index] = SUCCEEDED
    del frame.attempts[index]
    frame.remaining -= 1
    walk.state.running -= 1
    frame.outputs[node.id] = event.output
    if event.stop and walk.state.top.result is None:
        # A type with outcomes (condition) only says that the run ends here; `stop` brings the output itself.
        walk.close(walk.state.top, Stopped() if node.outcomes else Stopped(event.output, True))
    if frame.result is not None:
        return  # not so in a `finally`, which goes on to its end
    outcome = event.outcome
    for edge in node.out:
        label = edge.label
        walk.decide(frame, edge.target, label is None or (label == outcome and label != "error"), index)
    walk.settle(frame)


def _failed(walk: Walk, event: StepFailed) -> None:
    node = walk.plan.nodes.get(event.step.node)
    frame = None if node is None else walk.state.frame_of(node, event.step)
    if node is None or frame is None or frame.attempts.get(node.index) != event.attempt:
        return
    if node.scope is not None and node.index in frame.scopes:
        return  # only a scope that was not let begin fails by an event
    if node.scope is None:
        walk.state.running -= 1
    walk.node_failed(frame, node, event.attempt, walk.failure(node, event.error, event.attempt))


def _declined(walk: Walk, event: StepDeclined) -> None:
    node = walk.plan.nodes.get(event.step.node)
    frame = None if node is None else walk.state.frame_of(node, event.step)
    if node is None or frame is None or node.index not in frame.attempts or node.scope is not None:
        return
    walk.state.running -= 1
    walk.decline(frame, node)


def _admitted(walk: Walk, event: StepAdmitted) -> None:
    node = walk.plan.nodes.get(event.step.node)
    frame = None if node is None else walk.state.frame_of(node, event.step)
    if node is None or frame is None or frame.attempts.get(node.index) != event.attempt:
        return
    if isinstance(node.scope, BreakerPlan) and node.index not in frame.scopes:
        scopes.begin(walk, frame, node)


def _kept(walk: Walk, event: IterationKept) -> None:
    node = walk.plan.nodes.get(event.step.node)
    frame = None if node is None else walk.state.frame_of(node, event.step)
    run = None if node is None or frame is None else frame.scopes.get(node.index)
    if run is not None and run.attempt == event.attempt and run.result is None:
        loops.kept(walk, run, event.index, event.entry)


def _end_from_without(walk: Walk, result: Result, *, force: bool) -> None:
    """Somebody ends the run: what must run before it may take its time, unless that is over."""
    state = walk.state
    walk.close(state.top, result)
    if force:
        _force(walk)
    else:
        state.set_timer(walk.at + PATIENCE, Timer("force", state.top))


def _force(walk: Walk) -> None:
    """Cut off all that still runs, even what was to run before the end."""
    walk.state.forced = True
    for frame in list(walk.state.frames.values()):
        walk.close(frame, CANCELLED)
