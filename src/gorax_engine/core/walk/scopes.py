"""The rules of the scopes: how each begins, and what the end of one of its bodies means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, assert_never

from gorax_engine.core.commands import EndStep, FoldLoop, OpenStep
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.failures import is_true
from gorax_engine.core.model import SECOND, StepError
from gorax_engine.core.policies import catches_error, retry_delay, should_retry
from gorax_engine.core.scopes import (
    LOOP_STEP,
    BreakerPlan,
    CatchPlan,
    JoinPlan,
    LoopPlan,
    ParallelPlan,
    RetryPlan,
    TryPlan,
)
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
    from gorax_engine.core.walk.advance import Walk

FOLD: Final = 200
"""How many iterations are recorded together."""
CONDITION: Final = "A condition"


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
            _begin_loop(walk, run, node.scope, config)
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
        _iteration_ended(walk, run, plan, child, result)
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


# --- loop -------------------------------------------------------------------------------------------------------------


def _begin_loop(walk: Walk, run: LoopRun, plan: LoopPlan, config: Mapping[str, Json]) -> None:
    if plan.condition is None:
        source = config.get("source")
        match source:
            case bool() | None | str() | float():
                message = f"The `source` of the loop {run.node.id} must be a list, an object or a whole number."
                fail_scope(walk, run, StepError("type_error", message))
                return
            case dict():
                run.keys = sorted(source)
                run.items = [source[key] for key in run.keys]
            case int():
                if source < 0:
                    fail_scope(walk, run, StepError("type_error", f"The loop {run.node.id} can't run {source} times."))
                    return
                if source <= plan.max_iterations:
                    run.items = list(range(source))
            case _:
                run.items = source
        count = source if isinstance(source, int) else len(source)
        if count > plan.max_iterations:
            message = (
                f"The loop {run.node.id} has {count} items, but `max_iterations` allows {plan.max_iterations}: "
                "raise it, or split the list."
            )
            fail_scope(walk, run, StepError("max_iterations", message))
            return
    run.kept = run.whole = run.folded = walk.state.folded.pop((run.frame.key(run.node), run.attempt), 0)
    _more_iterations(walk, run, plan)


def fail_scope(walk: Walk, run: ScopeRun, error: StepError) -> None:
    """A scope fails by itself."""
    walk.unwind(run, walk.failure(run.node, error, run.attempt))


def _more_iterations(walk: Walk, run: LoopRun, plan: LoopPlan) -> None:
    """Begin iterations up to the limit; end the loop when none is left."""
    while run.result is None and not run.over and len(run.children) + run.absent < plan.max_concurrency:
        if not _has_next(walk, run, plan):
            run.over = True
            break
        _begin_iteration(walk, run, plan)
    if run.result is None and run.over and not (run.children or run.absent):
        ordered = [run.results[index] for index in sorted(run.results)]
        walk.finish(run, Success({"iteration_count": len(ordered), "iterations": ordered}))


def _has_next(walk: Walk, run: LoopRun, plan: LoopPlan) -> bool:
    if run.items is not None:
        return run.next < len(run.items)
    if plan.condition is None:
        return False
    try:
        holds = is_true(plan.condition(_condition_scope(walk, run, plan)), CONDITION)
    except ExpressionError as error:
        fail_scope(walk, run, StepError(error.code, f"`while` of {run.node.id}: {error.message}"))
        return False
    if holds and run.next >= plan.max_iterations:
        message = (
            f"`while` of {run.node.id} still holds after {plan.max_iterations} iterations: "
            "raise `max_iterations`, or let it end."
        )
        fail_scope(walk, run, StepError("max_iterations", message))
        return False
    return holds


def _condition_scope(walk: Walk, run: LoopRun, plan: LoopPlan) -> Json:
    """`while` sees the steps of the iteration before."""
    scope = walk.scope(run.last or run.frame)
    return scope.child(_names(run, plan, run.next))


def _names(run: LoopRun, plan: LoopPlan, index: int) -> dict[str, Json]:
    """Return the names that an iteration's expressions have besides those around it."""
    items, keys = run.items, run.keys
    item = index if items is None else items[index]
    total = None if items is None else len(items)
    loop = {
        "index": index,
        "item": item,
        "key": None if keys is None else keys[index],
        "total": total,
        "is_first": index == 0,
        "is_last": total is not None and index == total - 1,
    }
    names = {plan.item: item, "loop": loop}
    if plan.index is not None:
        names[plan.index] = index
    if plan.key is not None:
        names[plan.key] = loop["key"]
    return names


def _begin_iteration(walk: Walk, run: LoopRun, plan: LoopPlan) -> None:
    frame, index = run.frame, run.next
    run.next += 1
    if index < run.kept:
        run.absent += index not in run.results
        return  # what it gave is told at its time
    path = f"{_prefix(run)}{index}]"
    names, outputs = _names(run, plan, index), frame.outputs
    if plan.as_steps:
        loop = {**names["loop"], "total_items": names["loop"]["total"]}
        outputs = {**outputs, **{name: loop if name == LOOP_STEP else names[name] for name in plan.as_steps}}
    walk.open_frame(run, plan.body, index, path, outputs, names)


def _iteration_ended(walk: Walk, run: LoopRun, plan: LoopPlan, child: Frame, result: Result) -> None:
    index = child.place
    entry: dict[str, Json] = {"index": index, "item": index if run.items is None else run.items[index]}
    if run.keys is not None:
        entry["key"] = run.keys[index]
    if isinstance(result, Success):
        entry["output"] = result.output
    elif isinstance(result, Failure):
        if plan.stops:
            walk.unwind(run, result)
            return
        entry["output"] = None
        entry["error"] = dict(result.bound)
    run.results[index] = entry
    if plan.folds:
        run.ended[index] = walk.at
    if plan.condition is not None:
        run.last = child
    if plan.breaks:
        run.waiting[index] = child
        _judge_breaks(walk, run, plan)
    if plan.folds and run.result is None and not run.broken:
        _fold(walk, run, plan)
    _more_iterations(walk, run, plan)


def iteration_kept(walk: Walk, run: ScopeRun, index: int, entry: Json) -> None:
    """An iteration has ended of which only the end is known."""
    plan = run.node.scope
    assert isinstance(run, LoopRun)
    assert isinstance(plan, LoopPlan)
    run.results[index] = entry
    if index < run.next:
        run.absent -= 1
    if plan.breaks:
        _judge_breaks(walk, run, plan)
    _more_iterations(walk, run, plan)


def _fold(walk: Walk, run: LoopRun, plan: LoopPlan) -> None:
    """Record what the first iterations gave, once enough of them have ended without a gap."""
    while run.whole in run.results and (not plan.breaks or run.whole < run.judged):
        run.whole += 1
    if run.whole - run.folded >= FOLD:
        frame = run.frame
        results = [[run.ended.pop(index), run.results[index]] for index in range(run.folded, run.whole)]
        prefix = _prefix(run)
        walk.commands.append(FoldLoop(frame.key(run.node), run.attempt, run.folded, results, prefix, run.round))
        run.folded = run.whole


def _prefix(run: ScopeRun) -> str:
    """Return what the paths of a loop's iterations begin with."""
    frame = run.frame
    return f"{frame.path}.{run.node.id}[" if frame.path else f"{run.node.id}["


def _judge_breaks(walk: Walk, run: LoopRun, plan: LoopPlan) -> None:
    """Judge the iterations that have ended, in the order of their indexes."""
    while not run.broken and (run.judged in run.waiting or (run.judged < run.kept and run.judged in run.results)):
        child = run.waiting.pop(run.judged, None)
        run.judged += 1
        if child is None:
            continue  # it was judged before it was recorded
        try:
            if any(is_true(condition(walk.scope(child)), CONDITION) for condition in plan.breaks):
                run.over = run.broken = True
        except ExpressionError as error:
            message = f"A break condition of {run.node.id}: {error.message}"
            fail_scope(walk, run, StepError(error.code, message))
            return


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
