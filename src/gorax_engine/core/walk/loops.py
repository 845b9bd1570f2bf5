"""The rules of loops: how their iterations follow each other, when they end, and what is recorded of the first ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gorax_engine.core.commands import FoldLoop
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.failures import is_true
from gorax_engine.core.model import StepError
from gorax_engine.core.scopes import LOOP_STEP, LoopPlan
from gorax_engine.core.walk.state import Failure, Frame, LoopRun, Result, ScopeRun, Success

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.core.walk.walk import Walk

FOLD: Final = 200
"""How many iterations are recorded together."""


def begin(walk: Walk, run: LoopRun, plan: LoopPlan, config: Mapping[str, Json]) -> None:
    """Begin a loop's first iterations."""
    if plan.condition is None:
        source = config.get("source")
        match source:
            case bool() | None | str() | float():
                message = f"The `source` of the loop {run.node.id} must be a list, an object or a whole number."
                _fail(walk, run, StepError("type_error", message))
                return
            case dict():
                run.keys = sorted(source)
                run.items = [source[key] for key in run.keys]
            case int():
                if source < 0:
                    _fail(walk, run, StepError("type_error", f"The loop {run.node.id} can't run {source} times."))
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
            _fail(walk, run, StepError("max_iterations", message))
            return
    run.kept = run.whole = run.folded = walk.state.folded.pop((run.frame.key(run.node), run.attempt), 0)
    _more_iterations(walk, run, plan)


def _fail(walk: Walk, run: LoopRun, error: StepError) -> None:
    """A loop fails by itself."""
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
        holds = is_true(plan.condition(_condition_scope(walk, run, plan)))
    except ExpressionError as error:
        _fail(walk, run, StepError(error.code, f"`while` of {run.node.id}: {error.message}"))
        return False
    if holds and run.next >= plan.max_iterations:
        message = (
            f"`while` of {run.node.id} still holds after {plan.max_iterations} iterations: "
            "raise `max_iterations`, or let it end."
        )
        _fail(walk, run, StepError("max_iterations", message))
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


def ended(walk: Walk, run: LoopRun, plan: LoopPlan, child: Frame, result: Result) -> None:
    """An iteration has ended: keep what it gave, and go on."""
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
    # Once the end of the run is decided (a `finally` still runs), the row that decided it must be read: it may be here.
    if plan.folds and run.result is None and not run.broken and walk.state.top.result is None:
        _fold(walk, run, plan)
    _more_iterations(walk, run, plan)


def kept(walk: Walk, run: ScopeRun, index: int, entry: Json) -> None:
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
            if any(is_true(condition(walk.scope(child))) for condition in plan.breaks):
                run.over = run.broken = True
        except ExpressionError as error:
            message = f"A break condition of {run.node.id}: {error.message}"
            _fail(walk, run, StepError(error.code, message))
            return
