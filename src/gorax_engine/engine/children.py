"""The end of a sub-workflow, as the outcome of the step that waited for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from gorax_engine.core.config_template import compile_path
from gorax_engine.core.expressions import ExpressionError, ExpressionSyntaxError
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.model import Classification, Completed, Failed, StepError
from gorax_engine.store import runs

if TYPE_CHECKING:
    from gorax_engine.core.expressions import Expression
    from gorax_engine.core.model import Json, Outcome
    from gorax_engine.store.runs import ChildEnd, OpenWait
    from gorax_engine.store.session import Fetcher


async def child_outcome(session: Fetcher, wait: OpenWait, resolution: Mapping[str, Json]) -> Outcome:
    """Return what the end of a child means: its output, through the mapping if there is one, or its failure."""
    mapping = (wait.detail or {}).get("output_mapping")
    try:
        paths = {target: compile_path(source) for target, source in (mapping or {}).items()}
    except ExpressionSyntaxError as error:
        return Failed(StepError("invalid_expression", f"`output_mapping` can't be read: {error.message}"))
    end = await runs.child_end(session, UUID(resolution["execution_id"]), sorted(_steps(paths)))
    if end is None:
        return Failed(StepError("child_gone", "The run that was waited for is no longer there: it was deleted."))
    if end.status != "completed":
        return Failed(_failure(end, resolution))
    if not mapping:
        return Completed(end.output)
    return _mapped(paths, end)


def _steps(paths: Mapping[str, Expression]) -> set[str]:
    """Return the node ids that paths may begin with."""
    names: set[str] = set()
    for path in paths.values():
        for reference in path.references:
            names.add(reference.root)
            if reference.root == "steps" and reference.path and isinstance(reference.path[0], str):
                names.add(reference.path[0])
    return names


def _mapped(paths: Mapping[str, Expression], end: ChildEnd) -> Outcome:
    """Look up each path: in `output`, in the steps by node id (bare, or after `steps.`), or in the output itself."""
    fields = end.output if isinstance(end.output, dict) else {}
    roots = {**fields, **end.steps, "steps": dict(end.steps), "output": end.output}
    try:
        return Completed({target: path(Scope(roots, 0)) for target, path in paths.items()})
    except ExpressionError as error:
        return Failed(StepError(error.code, f"`output_mapping`: {error.message}"))


def _failure(end: ChildEnd, resolution: Mapping[str, Json]) -> StepError:
    code = end.error_code or ("cancelled" if end.status == "cancelled" else "failed")
    if code == "cancelled":
        code = "child_cancelled"
    return StepError(
        code,
        f"The sub-workflow {end.status}: {end.error_message or code}",
        Classification.PERMANENT,
        {"child_execution_id": resolution["execution_id"], "child_status": end.status},
    )
