"""Workflows that run each other: circles, and nesting beyond the limit, found when a definition is saved or published.

Only what can be known then is looked at: sub-workflows that are named by a plain id or name, by what is published of
them. What is named by a template, or changes afterwards, meets the limit at run time (`depth_exceeded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.expressions import is_template
from gorax_engine.core.model import Json
from gorax_engine.engine.waiting import MAX_DEPTH
from gorax_engine.errors import InvalidDefinition, Problem
from gorax_engine.store import workflows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

MAX_WORKFLOWS: Final = 500
"""How many workflows are looked at for one definition."""


@dataclass(frozen=True, slots=True)
class Callee:
    """A workflow that another one runs: where the node stands, and the id or name that it gives."""

    pointer: str
    workflow: str


def callees(definition: Json) -> Iterator[Callee]:
    """Return the workflows that a canonical definition runs by a plain id or name."""
    for at, node in enumerate(definition["nodes"]):
        if node["type"] != "sub_workflow":
            continue
        key = "workflow_id" if node["config"].get("workflow_id") else "workflow_name"
        name = node["config"].get(key)
        if isinstance(name, str) and not is_template(name):
            yield Callee(f"/nodes/{at}/config/{key}", name)


async def check_nesting(
    connection: Connection, tenant_id: UUID, workflow_id: UUID | None, name: str, definition: Json
) -> None:
    """Refuse a definition that would run itself, or nest too deep. Raises InvalidDefinition with every fault.

    `workflow_id` is None for a workflow that is new.
    """
    own = {name, *(() if workflow_id is None else (str(workflow_id),))}
    problems = []
    for callee in callees(definition):
        message = await _fault(connection, tenant_id, own, name, callee.workflow)
        if message is not None:
            code, sentence = message
            problems.append(Problem(code, callee.pointer, sentence))
    if problems:
        raise InvalidDefinition(problems)


async def _fault(
    connection: Connection, tenant_id: UUID, own: set[str], name: str, first: str
) -> tuple[str, str] | None:
    """Follow what a callee runs, level by level, to this workflow or beyond the limit."""
    ways: dict[str, tuple[str, ...]] = {first: (name, first)}
    seen: set[str] = set()
    for _ in range(MAX_DEPTH):
        circle = next((way for callee, way in ways.items() if callee in own), None)
        if circle is not None:
            shown = " → ".join(f"`{each}`" for each in (*circle[:-1], name))
            return "cycle", f"These workflows run each other without end: {shown}. Take one of the calls out."
        ways = {callee: way for callee, way in ways.items() if callee not in seen}
        seen.update(ways)
        if not ways or len(seen) > MAX_WORKFLOWS:
            return None
        ways = await _next_level(connection, tenant_id, ways)
    if not ways:
        return None
    shown = " → ".join(f"`{each}`" for each in next(iter(ways.values())))
    return "depth_exceeded", f"Sub-workflows may be nested {MAX_DEPTH} deep, but these go deeper: {shown}."


async def _next_level(
    connection: Connection, tenant_id: UUID, ways: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in await workflows.published_by_name(connection, tenant_id, list(ways)):
        way = ways.get(str(row["id"])) or ways[row["name"]]
        for callee in callees(row["definition"]):
            found.setdefault(callee.workflow, (*way, callee.workflow))
    return found
