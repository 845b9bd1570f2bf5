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


async def child_ends(session: Fetcher, waits: Mapping[UUID, OpenWait]) -> dict[UUID, ChildEnd]:
    """Return how children ended, by their ids, for the waits of their parent; read from their rows.

    Raises Unavailable.
    """
    steps = sorted({name for wait in waits.values() for name in _roots(_mapping(wait))})
    return await runs.child_ends(session, list(waits), steps) if waits else {}


def needs_steps(wait: OpenWait) -> bool:
    """Say whether the output of the step is made of the child's steps, rather than of its output alone."""
    return bool(_roots(_mapping(wait)) - {"output"})


def outcome_of_end(wait: OpenWait, end: ChildEnd | None) -> Outcome:
    """Return what the end of a child means: its output, through the mapping if there is one, or its failure.

    `end` is None for a child that is no longer there.
    """
    if end is None:
        return Failed(StepError("child_gone", "The run that was waited for is no longer there: it was deleted."))
    if end.status != "completed":
        return Failed(_failure(end))
    return mapped_output(_mapping(wait), end.output, end.steps or {})


def mapped_output(mapping: Mapping[str, str] | None, output: Json, steps: Mapping[str, Json]) -> Completed | Failed:
    """Return what a child's output makes of the step that waited for it; it is the output itself without a mapping.

    Each path is looked up in `output`, in the steps by node id (bare, or after `steps.`), or in the output itself.
    """
    if not mapping:
        return Completed(output)
    fields = output if isinstance(output, dict) else {}
    roots = {**fields, **steps, "steps": dict(steps), "output": output}
    try:
        return Completed({target: compile_path(source)(Scope(roots, 0)) for target, source in mapping.items()})
    except (ExpressionError, ExpressionSyntaxError) as error:
        code = error.code if isinstance(error, ExpressionError) else "invalid_expression"
        return Failed(StepError(code, f"`output_mapping`: {error.message}"))


def _mapping(wait: OpenWait) -> Mapping[str, str]:
    return (wait.detail or {}).get("output_mapping") or {}


def _roots(mapping: Mapping[str, str]) -> set[str]:
    """Return what paths may begin with: node ids, and `output`."""
    names: set[str] = set()
    for source in mapping.values():
        try:
            path: Expression = compile_path(source)
        except ExpressionSyntaxError:
            continue  # told when the output is made
        for reference in path.references:
            names.add(reference.root)
            if reference.root == "steps" and reference.path and isinstance(reference.path[0], str):
                names.add(reference.path[0])
    return names


def _failure(end: ChildEnd) -> StepError:
    code = end.error_code or "failed"
    return StepError(
        "child_cancelled" if code == "cancelled" else code,
        f"The sub-workflow was {end.status}: {end.error_message or code}"
        if end.status == "cancelled"
        else f"The sub-workflow {end.status}: {end.error_message or code}",
        Classification.PERMANENT,
        {"child_execution_id": str(end.execution_id), "child_status": end.status},
    )
