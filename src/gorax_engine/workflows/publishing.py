"""Publishing: the draft becomes the next version, and webhooks and subscriptions to events follow its trigger nodes.

Publishing what is published already makes no new version: an `apply` that is repeated changes nothing but what
was set apart from a node by hand. Every function acts within the caller's transaction, which is bound to the
principal's tenant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from gorax_engine.errors import Conflict, InvalidDefinition
from gorax_engine.store import events, workflows
from gorax_engine.store.events import Subscription
from gorax_engine.workflows import drafts
from gorax_engine.workflows.documents import check_definition
from gorax_engine.workflows.nesting import check_nesting
from gorax_engine.workflows.schedule_sync import sync_schedules
from gorax_engine.workflows.webhook_sync import sync_webhooks

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row


async def publish(connection: Connection, tenant_id: UUID, user_id: UUID, current: Row, registry: NodeRegistry) -> Row:
    """Publish the draft of a locked workflow, make it active, and return it.

    Raises InvalidDefinition if the draft no longer passes (a node type may be gone), Conflict if a webhook path is
    taken.
    """
    checked = check_definition(current["definition"], registry)
    if checked.errors:
        raise InvalidDefinition(checked.errors, checked.warnings)
    published = current["published_version"]
    snapshot = None
    if published is not None:
        snapshot = await workflows.get_version(connection, tenant_id, current["id"], published)
    before = None if snapshot is None else snapshot["definition"]
    await sync_webhooks(connection, tenant_id, current["id"], checked.canonical, before)
    await sync_schedules(connection, tenant_id, user_id, current["id"], checked.canonical)
    if before == checked.canonical:
        return await drafts.change(connection, tenant_id, current, {"status": "active"})
    await check_nesting(connection, tenant_id, current["id"], current["name"], checked.canonical)
    version = (published or 0) + 1
    await workflows.insert_version(connection, tenant_id, current["id"], version, checked.canonical, user_id)
    await events.replace_subscriptions(connection, tenant_id, current["id"], event_subscriptions(checked.canonical))
    return await workflows.publish(connection, tenant_id, current["id"], version)


async def set_status(
    connection: Connection, tenant_id: UUID, user_id: UUID, current: Row, status: str, registry: NodeRegistry
) -> Row:
    """Switch a locked workflow on or off; the first time, switching on publishes.

    Raises Conflict when a workflow that was never published is to be switched off, and what `publish` raises.
    """
    if current["published_version"] is not None:
        return await drafts.change(connection, tenant_id, current, {"status": status})
    if status == "active":
        return await publish(connection, tenant_id, user_id, current, registry)
    raise Conflict("The workflow was never published, so it can't be made inactive.", code="not_published")


def event_subscriptions(definition: Json) -> list[Subscription]:
    """Return what the event nodes of a canonical definition listen to, in their order."""
    return [
        Subscription(node["id"], node["config"]["event"], node["config"].get("filter"))
        for node in definition["nodes"]
        if node["type"] == "event_trigger"
    ]
