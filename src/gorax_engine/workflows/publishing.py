"""Publishing: the draft becomes the next version, and webhooks and subscriptions to events follow its trigger nodes.

Publishing what is published already makes no new version: an `apply` that is repeated changes nothing. Every function
acts within the caller's transaction, which is bound to the principal's tenant.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, assert_never
from uuid import UUID

from gorax_engine.errors import Conflict, InvalidDefinition
from gorax_engine.store import events, webhooks, workflows
from gorax_engine.store.events import Subscription
from gorax_engine.workflows import drafts
from gorax_engine.workflows.documents import check_definition
from gorax_engine.workflows.nesting import check_nesting
from gorax_engine.workflows.webhook_nodes import (
    ChangeWebhook,
    CreateWebhook,
    DropWebhook,
    ExistingWebhook,
    WebhookAction,
    plan_webhooks,
    webhook_nodes,
)

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row

_PATH_BYTES: Final = 24
"""Entropy of a path that is made up: it is all that protects a webhook without a proof."""


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
    if snapshot is not None and snapshot["definition"] == checked.canonical:
        return await drafts.change(connection, tenant_id, current, {"status": "active"})
    await check_nesting(connection, tenant_id, current["id"], current["name"], checked.canonical)
    version = (published or 0) + 1
    await workflows.insert_version(connection, tenant_id, current["id"], version, checked.canonical, user_id)
    await _sync_webhooks(connection, tenant_id, current["id"], checked.canonical)
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


async def _sync_webhooks(connection: Connection, tenant_id: UUID, workflow_id: UUID, definition: Json) -> None:
    existing = [
        ExistingWebhook(row["id"], row["node_id"], row["path"])
        for row in await webhooks.list_of_workflow(connection, tenant_id, workflow_id)
    ]
    nodes = [node for _, node in webhook_nodes(definition)]
    for action in plan_webhooks(nodes, existing):
        await _carry_out(connection, tenant_id, workflow_id, action)


async def _carry_out(connection: Connection, tenant_id: UUID, workflow_id: UUID, action: WebhookAction) -> None:
    match action:
        case DropWebhook(webhook_id):
            await webhooks.delete(connection, tenant_id, [webhook_id])
        case ChangeWebhook(webhook_id, path, node):
            await webhooks.change(
                connection,
                tenant_id,
                webhook_id,
                name=node.name,
                path=path,
                auth_type=node.auth_type,
                methods=node.methods,
            )
        case CreateWebhook(node):
            await webhooks.insert(
                connection,
                tenant_id,
                workflow_id,
                node_id=node.node_id,
                name=node.name,
                path=node.path or secrets.token_urlsafe(_PATH_BYTES),
                auth_type=node.auth_type,
                methods=node.methods,
            )
        case _:
            assert_never(action)
