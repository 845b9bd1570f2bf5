"""The steps of a run as a tree: scopes hold the steps of their iterations, branches and rounds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gorax_engine.core.plan import Plan, compile_plan
from gorax_engine.core.reading import load
from gorax_engine.errors import InvalidDefinition

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.rows import Row


def owners_of(definition: Json, registry: NodeRegistry) -> dict[str, str]:
    """Return the scope that each node is in; nothing for a definition that can't be read here."""
    try:
        plan = compile_plan(load(definition, registry), registry.specs)
    except InvalidDefinition:
        return {}
    return _owners(plan)


def _owners(plan: Plan) -> dict[str, str]:
    scope_of_body = {
        body: node.id for node in plan.nodes.values() for body in getattr(node.scope, "bodies", ()) if node.scope
    }
    return {node.id: scope_of_body[node.body] for node in plan.nodes.values() if node.body in scope_of_body}


def nest(steps: Sequence[Row], children: Sequence[Row], owners: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the steps of the top with all others below them, in their order; `children` stand at their steps.

    A step whose scope is not among the steps stands at the top, with its whole path.
    """
    shown = [{**_step(row), "bodies": [], "children": []} for row in steps]
    by_id = {step["id"]: step for step in shown}
    for child in children:
        parent = by_id.get(child["parent_step_id"])
        if parent is not None:
            parent["children"].append({name: value for name, value in child.items() if name != "parent_step_id"})
    scopes = {(step["node_id"], step["iteration_path"]): step for step in shown}
    bodies: dict[tuple[Any, str, int], dict[str, Any]] = {}
    top = []
    for step in shown:
        scope = _scope(step, owners, scopes)
        if scope is None:
            top.append(step)
            continue
        key = (scope["id"], step["iteration_path"], step["round"])
        if key not in bodies:
            bodies[key] = {"path": step["iteration_path"], "round": step["round"], "steps": []}
            scope["bodies"].append(bodies[key])
        bodies[key]["steps"].append(step)
    return top


def _scope(
    step: Mapping[str, Any], owners: Mapping[str, str], scopes: Mapping[tuple[str, str], dict[str, Any]]
) -> dict[str, Any] | None:
    """Return the scope that a step is in. Loops and parallels add to the path of what is in them, others don't."""
    owner, path = owners.get(step["node_id"]), step["iteration_path"]
    if owner is None:
        return None
    for mark in (f".{owner}[", f".{owner}."):
        around, found, place = f".{path}".rpartition(mark)
        if found and (mark[-1] == "." or place[:-1].isdigit()):
            scope = scopes.get((owner, around.removeprefix(".")))
            if scope is not None:
                return scope
    return scopes.get((owner, path))


def _step(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "began_at"}
