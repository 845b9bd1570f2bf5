"""What a retry takes over of the run that it retries: the ends of steps that it would come to again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gorax_engine.core.events import StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.scopes import JoinPlan
from gorax_engine.core.walk.advance import proceed
from gorax_engine.core.walk.recovery import events_of

if TYPE_CHECKING:
    from gorax_engine.core.events import RunStarted
    from gorax_engine.core.model import StepKey
    from gorax_engine.core.plan import Plan
    from gorax_engine.core.walk.recovery import StepRecord
    from gorax_engine.core.walk.state import WalkState

    Records = Mapping[tuple[StepKey, int], StepRecord]


def take_over(
    plan: Plan, state: WalkState, started: RunStarted, records: Records, from_step: str | None = None
) -> dict[tuple[StepKey, int], StepRecord]:
    """Return the records that a new run of `plan` begins with; `state` is a new one, and spent afterwards.

    The old run is walked again in the new plan. What it comes to is taken over, up to the failure that ended it: the
    step that failed begins anew, with all its attempts. With `from_step` so does that step, and all that depends on it.
    """
    left_out = frozenset() if from_step is None else _within(plan, from_step)
    taken: dict[tuple[StepKey, int], StepRecord] = {}
    proceed(plan, state, (started,))
    for event in events_of(plan, records):
        if not isinstance(event, StepSucceeded | StepFailed | StepDeclined) or event.step.node in left_out:
            proceed(plan, state, (event,))
            continue
        frame = state.frame_of(plan.nodes[event.step.node], event.step)
        attempt = None if frame is None else frame.attempts.get(plan.nodes[event.step.node].index)
        if attempt is None or (isinstance(event, StepFailed) and event.attempt != attempt):
            continue
        proceed(plan, state, (event,))
        if isinstance(event, StepFailed) and state.top.result is not None:
            return {key: record for key, record in taken.items() if key[0] != event.step}
        taken[event.step, attempt] = records[event.step, attempt]
    return taken


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
