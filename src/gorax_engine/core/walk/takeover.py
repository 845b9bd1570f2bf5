"""What a retry takes over of the run that it retries: the ends of steps that it would come to again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from gorax_engine.core.events import StepAdmitted, StepDeclined, StepFailed, StepSucceeded, TimePassed
from gorax_engine.core.instants import format_instant, parse_instant
from gorax_engine.core.scopes import JoinPlan
from gorax_engine.core.states import StepState
from gorax_engine.core.walk.advance import proceed
from gorax_engine.core.walk.recovery import DECLINED, StepRecord, beginning, events_of
from gorax_engine.core.walk.state import Failure

if TYPE_CHECKING:
    from gorax_engine.core.events import RunStarted
    from gorax_engine.core.model import StepKey
    from gorax_engine.core.plan import Plan
    from gorax_engine.core.walk.state import WalkState

    Attempt = tuple[StepKey, int]
    Records = Mapping[Attempt, StepRecord]

StepEvent: TypeAlias = StepSucceeded | StepFailed | StepDeclined | StepAdmitted
TIMEOUTS: Final = frozenset({"timeout", "join_timeout"})
"""Failures of scopes that their clocks decided, not their steps."""


def take_over(
    plan: Plan,
    begin: Callable[[], WalkState],
    started: RunStarted,
    records: Records,
    from_step: str | None = None,
) -> dict[tuple[StepKey, int], StepRecord]:
    """Return the records that a new run of `plan` begins with; `begin` returns a new state.

    The old run is walked again in the new plan, and what it comes to is taken over. If that ends in failure, the step
    that failed is left out, so that it begins anew with all its attempts, and so on until the run is to go on: what ran
    only because of the failure (a catch, a finally) is not come to then. Of a scope whose time was over, all is left
    out that happened afterwards. With `from_step` that step is left out, too, with all that is in it.
    """
    left_out = frozenset() if from_step is None else _within(plan, from_step)
    events = [
        event for event in events_of(plan, records) if isinstance(event, StepEvent) and event.step.node not in left_out
    ]
    first = beginning(started, records)
    while True:
        state = begin()
        proceed(plan, state, (first,))
        taken = _walk(plan, state, events, records)
        failure = state.top.result
        if not isinstance(failure, Failure):
            return taken
        kept = _without_cause(events, taken, failure)
        if len(kept) == len(events):
            return taken  # it fails whatever its steps do
        events = kept


def _walk(plan: Plan, state: WalkState, events: Sequence[StepEvent], records: Records) -> dict[Attempt, StepRecord]:
    """Tell `state` the events that it comes to; return their records."""
    taken: dict[Attempt, StepRecord] = {}
    for event in events:
        proceed(plan, state, (TimePassed(event.at),))  # a timer may bring the step's round about
        node = plan.nodes[event.step.node]
        frame = state.frame_of(node, event.step)
        attempt = None if frame is None else frame.attempts.get(node.index)
        if attempt is None or (isinstance(event, StepFailed | StepAdmitted) and event.attempt != attempt):
            continue
        record = records.get((event.step, attempt))
        if record is None or (isinstance(event, StepDeclined) and record.outcome != DECLINED):
            continue  # it was skipped because the run ended
        if isinstance(event, StepAdmitted):
            record = StepRecord(StepState.RUNNING, event.at, started=event.at)
        taken[event.step, attempt] = record
        proceed(plan, state, (event,))
    return taken


def _without_cause(events: Sequence[StepEvent], taken: Records, failure: Failure) -> list[StepEvent]:
    """Leave out what the failure came from."""
    node, at = failure.bound.get("node_id"), failure.bound.get("timestamp")
    failed = [
        (format_instant(record.at) == at, record.at, step)
        for (step, _), record in taken.items()
        if record.state is StepState.FAILED and step.node == node
    ]
    if failed:
        culprit = max(failed)[2]
        return [event for event in events if event.step != culprit]
    if failure.bound.get("code") in TIMEOUTS or failure.error.code in TIMEOUTS:
        return [event for event in events if event.at < parse_instant(str(at))]
    return list(events)


def _within(plan: Plan, step: str) -> frozenset[str]:
    """Return a node and, if it is a scope, all that is in it."""
    found = {step}
    pending = [step]
    while pending:
        scope = plan.nodes[pending.pop()].scope
        if scope is None or isinstance(scope, JoinPlan):
            continue
        for body in scope.bodies:
            for node in plan.bodies[body].nodes:
                found.add(node.id)
                pending.append(node.id)
    return frozenset(found)
