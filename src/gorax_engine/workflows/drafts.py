"""Saving workflows: drafts, their changes, and the way to the archive.

Every function acts within the caller's transaction, which is bound to the principal's tenant. Definitions come here
canonical and checked (`documents.canonical_definition`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gorax_engine.errors import Conflict, NotFound
from gorax_engine.store import events, schedules, webhooks, workflows
from gorax_engine.workflows.nesting import check_nesting

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row

CHANGEABLE: Final = ("name", "description", "definition", "status")

_MAX_NAME: Final = 255


async def create(
    connection: Connection, tenant_id: UUID, user_id: UUID, name: str, description: str | None, definition: Json
) -> Row:
    """Store a new draft. Raises Conflict if the name is taken, InvalidDefinition if it would run itself."""
    await check_nesting(connection, tenant_id, None, name, definition)
    return await workflows.insert(connection, tenant_id, user_id, name, description, definition)


async def find(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> Row:
    """Return a workflow. Raises NotFound."""
    row = await workflows.get(connection, tenant_id, workflow_id)
    if row is None:
        raise _not_found(workflow_id)
    return row


async def find_for_change(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> Row:
    """Return a workflow and keep others from changing it meanwhile. Raises NotFound, Conflict if it is archived."""
    row = await workflows.get(connection, tenant_id, workflow_id, lock=True)
    if row is None:
        raise _not_found(workflow_id)
    if row["status"] == "archived":
        raise Conflict("The workflow is archived and can't be changed; create a new one.", code="workflow_archived")
    return row


async def change(connection: Connection, tenant_id: UUID, current: Row, changes: dict[str, Any]) -> Row:
    """Write `changes` (of name, description, definition, status) to a locked workflow and return it.

    What changes nothing is not written and keeps the revision. Raises Conflict if the name is taken, InvalidDefinition
    if it would run itself.
    """
    wanted = {field: changes.get(field, current[field]) for field in CHANGEABLE}
    if all(wanted[field] == current[field] for field in CHANGEABLE):
        return current
    if wanted["definition"] != current["definition"]:
        name = str(wanted["name"])
        await check_nesting(connection, tenant_id, current["id"], name, wanted["definition"])
    return await workflows.change(connection, tenant_id, {**current, **wanted})


async def archive(connection: Connection, tenant_id: UUID, current: Row) -> Row:
    """Archive a locked workflow: nothing starts it any more, and its name and webhook paths are free."""
    await webhooks.retire(connection, tenant_id, current["id"])
    await schedules.retire(connection, tenant_id, current["id"])
    await events.replace_subscriptions(connection, tenant_id, current["id"], ())
    suffix = f" (archived {current['id']})"
    name = current["name"][: _MAX_NAME - len(suffix)] + suffix
    return await change(connection, tenant_id, current, {"name": name, "status": "archived"})


def _not_found(workflow_id: UUID) -> NotFound:
    return NotFound(f"There is no workflow {workflow_id}.", code="workflow_not_found")
