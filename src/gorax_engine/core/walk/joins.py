"""The rules of joins: when enough has arrived, when not enough can come any more, and what is cut off then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gorax_engine.core.commands import EndStep, SkipStep
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.failures import is_true
from gorax_engine.core.model import StepError
from gorax_engine.core.scopes import JoinPlan
from gorax_engine.core.walk.state import CANCELLED, DECIDED, FAILED, SKIPPED, SUCCEEDED, Failure, Frame, Timer

if TYPE_CHECKING:
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.core.walk.walk import Walk


def arrive(walk: Walk, frame: Frame, node: PlanNode, source: int | None) -> None:
    """One incoming edge of a join is decided (alive, if `source` says from where)."""
    index, plan = node.index, node.scope
    assert isinstance(plan, JoinPlan)
    arrived = frame.arrived.setdefault(index, [])
    if source is not None:
        arrived.append(source)
        if len(arrived) == 1 and plan.timeout is not None and frame.pending[index] > 0:
            walk.state.set_timer(walk.at + plan.timeout, Timer("join", frame, index))
    pending = frame.pending[index]
    if not arrived:
        if pending == 0:
            walk.skip(frame, index)
    elif len(arrived) == plan.required or (plan.required is None and pending == 0):
        _fire(walk, frame, node, timed_out=False)
    elif plan.required is not None and len(arrived) + pending < plan.required:
        message = f"The join {node.id} needs {plan.required} arrivals, but only {len(arrived) + pending} can come."
        _fail(walk, frame, node, StepError("join_unsatisfied", message))


def late(walk: Walk, frame: Frame, node: PlanNode) -> None:
    """A join's timeout has come: it goes on with what has arrived, or fails."""
    plan = node.scope
    assert isinstance(plan, JoinPlan)
    if plan.goes_on:
        _fire(walk, frame, node, timed_out=True)
        return
    came = len(frame.arrived[node.index])
    message = f"The join {node.id} waited for its timeout; {came} of its branches had arrived."
    _fail(walk, frame, node, StepError("join_timeout", message))


def _fire(walk: Walk, frame: Frame, node: PlanNode, *, timed_out: bool) -> None:
    index, plan = node.index, node.scope
    assert isinstance(plan, JoinPlan)
    if node.when is not None:
        try:
            wanted = is_true(node.when(walk.scope(frame)))
        except ExpressionError as error:
            _fail(walk, frame, node, StepError(error.code, error.message))
            return
        if not wanted:
            walk.skip(frame, index, declined=True)
            walk.settle(frame)
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
    walk.commands.append(EndStep(frame.key(node), 1, output, None, None, walk.at))
    if plan.cancels and frame.pending[index] > 0:
        _cut_feeders(walk, frame, node)
    walk.work.append(("succeeded", frame, index))
    walk.settle(frame)


def _fail(walk: Walk, frame: Frame, node: PlanNode, error: StepError) -> None:
    failure = walk.failure(node, error, 1)
    walk.commands.append(EndStep(frame.key(node), 1, None, error, failure.bound, walk.at))
    plan = node.scope
    assert isinstance(plan, JoinPlan)
    frame.nodes[node.index] = FAILED
    if plan.cancels and frame.pending[node.index] > 0:
        _cut_feeders(walk, frame, node)
    _failed_finally(walk, frame, node, failure)


def _failed_finally(walk: Walk, frame: Frame, node: PlanNode, failure: Failure) -> None:
    """A node that is not tried again has failed."""
    frame.attempts[node.index] = node.retry.max_attempts
    walk.node_failed(frame, node, node.retry.max_attempts, failure)


def _cut_feeders(walk: Walk, frame: Frame, join: PlanNode) -> None:
    """Cut off what still leads to a join that needs it no more, and nowhere else."""
    for index in _feeders(frame, join):
        if index in frame.attempts:
            for child in walk.cut(frame, index):
                walk.close(child, CANCELLED)
        else:
            frame.nodes[index] = SKIPPED
            frame.remaining -= 1
            walk.commands.append(SkipStep(frame.key(frame.body.nodes[index]), walk.at))


def _feeders(frame: Frame, join: PlanNode) -> list[int]:
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
