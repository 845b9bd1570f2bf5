"""The rules of the scopes: how each begins, and what the end of one of its bodies means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

from gorax_engine.core.commands import EndStep, OpenStep, StartStep
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.failures import is_true
from gorax_engine.core.model import SECOND, StepError
from gorax_engine.core.policies import catches_error, retry_delay, should_retry
from gorax_engine.core.scopes import (
    BreakerPlan,
    CatchPlan,
    JoinPlan,
    LoopPlan,
    ParallelPlan,
    RetryPlan,
    TryPlan,
)
from gorax_engine.core.walk import loops
from gorax_engine.core.walk.state import (
    BreakerRun,
    Failure,
    Frame,
    LoopRun,
    ParallelRun,
    Result,
    RetryRun,
    ScopeRun,
    Success,
    Timer,
    TryRun,
)

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.core.walk.walk import Walk


def open_scope(walk: Walk, frame: Frame, index: int) -> None:
    """Open a scope whose time has come, unless its `when` is false or the engine has to be asked first."""
    node = frame.body.nodes[index]
    if node.when is not None and frame.attempts[index] == 1:
        try:
            if not is_true(node.when(walk.scope(frame))):
                walk.decline(frame, node)
                return
        except ExpressionError as error:
            refuse(walk, frame, node, StepError(error.code, error.message))
            return
    if isinstance(node.scope, BreakerPlan):
        walk.commands.append(StartStep(frame.key(node), frame.attempts[index], walk.at))
    else:
        begin(walk, frame, node)


def begin(walk: Walk, frame: Frame, node: PlanNode) -> None:
    """Open a scope: read its config, record that it runs, put its first bodies to work."""
    attempt = frame.attempts[node.index]
    try:
        config = node.config.render(walk.scope(frame))
    except ExpressionError as error:
        refuse(walk, frame, node, StepError(error.code, error.message))
        return
    walk.commands.append(OpenStep(frame.key(node), attempt, node.config.record(config), walk.at))
    last = walk.state.rounds.get((node.id, frame.path))
    round_number = frame.round if last is None else max(frame.round, last + 1)
    base = (frame, node.index, attempt, walk.at, round_number)
    if node.timeout is not None:
        walk.state.set_timer(walk.at + node.timeout, Timer("timeout", frame, node.index, attempt))
    run: ScopeRun
    match node.scope:
        case LoopPlan():
            run = frame.scopes[node.index] = LoopRun(*base)
            loops.begin(walk, run, node.scope, config)
        case ParallelPlan():
            run = frame.scopes[node.index] = ParallelRun(*base)
            _more_branches(walk, run, node.scope)
        case TryPlan():
            run = frame.scopes[node.index] = TryRun(*base)
            walk.open_frame(run, node.scope.body, 0, frame.path, frame.outputs, {})
        case RetryPlan():
            run = frame.scopes[node.index] = RetryRun(*base)
            walk.open_frame(run, node.scope.body, 0, frame.path, frame.outputs, {})
        case BreakerPlan():
            run = frame.scopes[node.index] = BreakerRun(*base)
            walk.open_frame(run, node.scope.body, 0, frame.path, frame.outputs, {})
        case JoinPlan() | None:
            raise ValueError(f"{node.id} is no scope")
        case _:
            assert_never(node.scope)


def refuse(walk: Walk, frame: Frame, node: PlanNode, error: StepError) -> None:
    """A scope fails before it has begun."""
    attempt = frame.attempts[node.index]
    failure = walk.failure(node, error, attempt)
    walk.commands.append(EndStep(frame.key(node), attempt, None, error, failure.bound, walk.at))
    walk.node_failed(frame, node, attempt, failure)


def child_ended(walk: Walk, run: ScopeRun, child: Frame, result: Result) -> None:
    """A body of a scope has ended, and the scope goes on from there."""
    plan = run.node.scope
    if isinstance(run, LoopRun) and isinstance(plan, LoopPlan):
        loops.ended(walk, run, plan, child, result)
    elif isinstance(run, ParallelRun) and isinstance(plan, ParallelPlan):
        _branch_ended(walk, run, plan, child, result)
    elif isinstance(run, TryRun) and isinstance(plan, TryPlan):
        _try_body_ended(walk, run, plan, child, result)
    elif isinstance(run, RetryRun) and isinstance(plan, RetryPlan):
        _round_ended(walk, run, plan, child, result)
    elif isinstance(plan, BreakerPlan):
        if isinstance(result, Success):
            output = {"circuit_breaker": plan.name, "state": "closed", "output": result.output}
            walk.finish(run, Success(output), _seen(run, child))
        else:
            walk.finish(run, result)


def child_cut(run: ScopeRun, child: Frame) -> None:
    """A body of a scope that is being cut off has ended: a `finally` still sees what its steps gave."""
    if isinstance(run, TryRun):
        run.outputs.update(_seen(run, child))


def unwound(walk: Walk, run: ScopeRun) -> None:
    """All that was cut off in a scope has ended: it ends too, with what it was cut off for."""
    result = run.result
    assert result is not None
    if isinstance(run, TryRun) and run.phase != "finally" and not walk.state.forced:
        plan = run.node.scope
        assert isinstance(plan, TryPlan)
        if plan.final is not None:
            _run_final(walk, run, plan.final, {**run.frame.outputs, **run.outputs})
            return
    walk.finish(run, result, run.outputs if isinstance(run, ParallelRun) else None)


def _seen(run: ScopeRun, child: Frame) -> dict[str, Json]:
    """Return the outputs of a body's steps, which can be seen after a scope that runs them once."""
    around = run.frame.outputs
    return {name: output for name, output in child.outputs.items() if name not in around}


# --- parallel ---------------------------------------------------------------------------------------------------------


def _more_branches(walk: Walk, run: ParallelRun, plan: ParallelPlan) -> None:
    most = plan.max_concurrency or len(plan.branches)
    while run.result is None and run.next < len(plan.branches) and len(run.children) < most:
        number = run.next
        name, body = plan.branches[number]
        run.next += 1
        frame = run.frame
        path = f"{frame.path}.{run.node.id}.{name}" if frame.path else f"{run.node.id}.{name}"
        walk.open_frame(run, body, number, path, frame.outputs, {})
    if run.result is None and not run.children:
        _end_parallel(walk, run, plan)


def _branch_ended(walk: Walk, run: ParallelRun, plan: ParallelPlan, child: Frame, result: Result) -> None:
    name = plan.branches[child.place][0]
    entry: dict[str, Json] = {"branch_name": name, "output": None, "error": None}
    entry["duration_ms"] = (walk.at - child.opened) * 1_000 // SECOND
    if isinstance(result, Success):
        entry["output"] = result.output
        if plan.wants_first:
            run.outputs = _seen(run, child)
            walk.unwind(run, Success({"first_completed": name, "result": result.output}))
            return
        run.outputs.update(_seen(run, child))
    elif isinstance(result, Failure):
        entry["error"] = dict(result.bound)
        run.failure = result
        if plan.stops and not plan.wants_first:
            walk.unwind(run, result)
            return
    run.results[child.place] = entry
    _more_branches(walk, run, plan)


def _end_parallel(walk: Walk, run: ParallelRun, plan: ParallelPlan) -> None:
    if plan.wants_first and run.failure is not None:
        walk.finish(run, run.failure)
        return
    branches = [run.results[number] for number in sorted(run.results)]
    completed = sum(branch["error"] is None for branch in branches)
    output = {"branches": branches, "total_branches": len(plan.branches), "completed_branches": completed}
    walk.finish(run, Success(output), run.outputs)


# --- try --------------------------------------------------------------------------------------------------------------


def _try_body_ended(walk: Walk, run: TryRun, plan: TryPlan, child: Frame, result: Result) -> None:
    if run.phase == "finally":
        _finally_ended(walk, run, child, result)
        return
    run.outputs.update(_seen(run, child))
    if isinstance(result, Success):
        if run.phase == "try":
            run.output = {"try_output": result.output, "success": True, "error_handled": False}
            run.ahead = Success(None)
        else:
            run.output["catch_output"] = result.output
            run.ahead = run.ahead or Success(None)
    elif run.phase == "try" and isinstance(result, Failure):
        handler = next((catch for catch in plan.catches if _takes(catch, result.error)), None)
        if handler is not None:
            _run_catch(walk, run, handler, result, child)
            return
        run.ahead = result
    else:
        run.ahead = result  # the handler itself has failed
    if plan.final is None:
        _end_try(walk, run)
    else:
        _run_final(walk, run, plan.final, child.outputs)


def _takes(catch: CatchPlan, error: StepError) -> bool:
    return catches_error(catch.types, catch.patterns, error)


def _run_catch(walk: Walk, run: TryRun, catch: CatchPlan, failure: Failure, child: Frame) -> None:
    run.phase = "catch"
    run.output = {"try_error": dict(failure.bound), "success": False, "error_handled": True}
    if catch.propagate_as is not None:
        error = StepError(
            catch.propagate_as, failure.error.message, failure.error.classification, failure.error.details
        )
        bound = {**failure.bound, "code": catch.propagate_as, "error_type": catch.propagate_as}
        run.ahead = Failure(error, {**bound, "original_code": failure.error.code})
    names = {catch.binding: dict(failure.bound)}
    walk.open_frame(run, catch.body, 0, run.frame.path, child.outputs, names)


def _run_final(walk: Walk, run: TryRun, body: int, outputs: Mapping[str, Json]) -> None:
    run.phase = "finally"
    walk.open_frame(run, body, 0, run.frame.path, outputs, {})


def _finally_ended(walk: Walk, run: TryRun, child: Frame, result: Result) -> None:
    run.outputs.update(_seen(run, child))
    if isinstance(result, Success):
        run.output["finally_output"] = result.output
    elif isinstance(run.ahead, Success):
        run.ahead = result  # what went wrong first is worth more, but nothing had
    _end_try(walk, run)


def _end_try(walk: Walk, run: TryRun) -> None:
    assert run.ahead is not None
    if isinstance(run.ahead, Success):
        walk.finish(run, Success({"finally_output": None, **run.output}), run.outputs)
    else:
        walk.finish(run, run.ahead)


# --- retry ------------------------------------------------------------------------------------------------------------


def _round_ended(walk: Walk, run: RetryRun, plan: RetryPlan, child: Frame, result: Result) -> None:
    attempt = len(run.attempts) + 1
    if isinstance(result, Success):
        run.attempts.append({"attempt": attempt, "success": True})
        output = {"output": result.output, "attempts": run.attempts, "success": True, "retries": attempt - 1}
        walk.finish(run, Success(output), _seen(run, child))
        return
    if not isinstance(result, Failure) or not should_retry(plan.policy, result.error, attempt):
        walk.finish(run, result)
        return
    run.attempts.append({"attempt": attempt, "success": False, "error": dict(result.bound)})
    frame = run.frame
    seed = b"%s:%s:round:%d" % (walk.state.seed, f"{run.node.id}:{frame.path}:{frame.round}".encode(), attempt)
    due = walk.at + retry_delay(plan.policy, result.error, attempt, seed)
    walk.state.set_timer(due, Timer("round", frame, run.index, run.attempt))


def next_round(walk: Walk, run: ScopeRun) -> None:
    """Run the body of a retry scope again."""
    plan = run.node.scope
    assert isinstance(plan, RetryPlan)
    run.round += 1
    walk.open_frame(run, plan.body, 0, run.frame.path, run.frame.outputs, {})
