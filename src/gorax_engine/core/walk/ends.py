"""How runs end, and what a body gives when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from gorax_engine.core.commands import EndRun
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.model import StepError
from gorax_engine.core.states import ExecutionState, check_execution
from gorax_engine.core.walk.state import FAILED, SUCCEEDED, Cancelled, Failure, Frame, Stopped, Success

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.core.walk.walk import Walk


def end_run(walk: Walk, top: Frame) -> None:
    """The top has ended, and the run with it."""
    match top.result:
        case None:
            _end_with_output(walk, top)
        case Stopped(output=output, has_output=True):
            _say_end(walk, ExecutionState.COMPLETED, output, None)
        case Stopped():
            _end_with_output(walk, top)
        case Failure(error=error):
            _say_end(walk, ExecutionState.FAILED, None, error)
        case Cancelled(reason=reason):
            error = StepError("cancelled", reason or "The execution was cancelled.")
            _say_end(walk, ExecutionState.CANCELLED, None, error)
        case Success(output=output):
            _say_end(walk, ExecutionState.COMPLETED, output, None)
        case _:
            assert_never(top.result)


def _end_with_output(walk: Walk, top: Frame) -> None:
    """End as completed with the run's output: the template if there is one, else the outputs of the leaves."""
    if walk.plan.output is None:
        _say_end(walk, ExecutionState.COMPLETED, {node.id: top.outputs[node.id] for node in leaves(top)}, None)
        return
    try:
        output = walk.plan.output.render(walk.scope(top))
    except ExpressionError as error:
        failure = StepError(error.code, f"The workflow's output could not be made: {error.message}")
        _say_end(walk, ExecutionState.FAILED, None, failure)
        return
    _say_end(walk, ExecutionState.COMPLETED, output, None)


def _say_end(walk: Walk, status: ExecutionState, output: Json, error: StepError | None) -> None:
    walk.state.status = check_execution(walk.state.status, status)
    walk.commands.append(EndRun(status, output, error, walk.at))


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
