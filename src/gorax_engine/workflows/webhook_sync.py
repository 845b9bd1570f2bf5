"""Bringing the webhooks of a workflow in step with the webhook nodes of what it publishes.

Path, methods, auth_type and signature_scheme are always the node's; of the rest it sets what it names, so that what was
changed by hand stays. Its secret is set when the node has another one than it had when it was published last: one that
was rotated by hand meanwhile isn't undone. Webhooks that were made by hand are left alone.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never
from uuid import UUID

from gorax_engine.core.ip_ranges import normal_range
from gorax_engine.errors import InvalidDefinition, Problem
from gorax_engine.store import webhook_filters, webhook_upkeep
from gorax_engine.store.webhook_filters import FilterValues
from gorax_engine.store.webhook_upkeep import WebhookValues
from gorax_engine.vault.sealed_text import is_sealed
from gorax_engine.workflows.webhook_nodes import (
    ChangeWebhook,
    CreateWebhook,
    DropWebhook,
    ExistingWebhook,
    VacatePath,
    WebhookAction,
    WebhookNode,
    plan_webhooks,
    webhook_nodes,
)

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row

ROTATION_GRACE: Final = timedelta(hours=24)
"""For how long the secret before is accepted when a node brings another one."""

_PATH_BYTES: Final = 24
"""Entropy of a path that is made up: it is all that protects a webhook without a proof."""


async def sync_webhooks(
    connection: Connection, tenant_id: UUID, workflow_id: UUID, definition: Json, previous: Json
) -> None:
    """Give each webhook node of a canonical definition its webhook; `previous` is what was published before, or None.

    Raises Conflict if a path is taken, InvalidDefinition if a secret stands in the definition as it is.
    """
    nodes = list(webhook_nodes(definition))
    _require_sealed(nodes)
    rows = {row["id"]: row for row in await webhook_upkeep.lock_managed(connection, tenant_id, workflow_id)}
    existing = [ExistingWebhook(row["id"], row["node_id"], row["path"]) for row in rows.values()]
    before = {} if previous is None else {node.node_id: node.secret for _, node in webhook_nodes(previous)}
    work = _Sync(connection, tenant_id, workflow_id, rows, before)
    for action in plan_webhooks([node for _, node in nodes], existing):
        await work.carry_out(action)


class _Sync:
    """One pass over the webhooks of one workflow; `rows` are those that it has, `before` the secrets of its nodes."""

    def __init__(
        self,
        connection: Connection,
        tenant_id: UUID,
        workflow_id: UUID,
        rows: dict[UUID, Row],
        before: dict[str, str | None],
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._workflow_id = workflow_id
        self._rows = rows
        self._before = before

    async def carry_out(self, action: WebhookAction) -> None:
        match action:
            case DropWebhook(webhook_id):
                await webhook_upkeep.delete(self._connection, self._tenant_id, [webhook_id])
            case VacatePath(webhook_id):
                await webhook_upkeep.vacate(self._connection, self._tenant_id, webhook_id)
                self._rows[webhook_id]["path"] = None
            case ChangeWebhook(webhook_id, path, node):
                await self._change(self._rows[webhook_id], path or _random_path(), node)
            case CreateWebhook(node):
                await self._create(node)
            case _:
                assert_never(action)

    async def _create(self, node: WebhookNode) -> None:
        start = WebhookValues(node_id=node.node_id, path="")
        values = _valued(start, node.path or _random_path(), node)
        webhook_id = await webhook_upkeep.insert(
            self._connection, self._tenant_id, self._workflow_id, values, node.secret, managed=True
        )
        if node.filters:
            await webhook_filters.insert(self._connection, self._tenant_id, webhook_id, _filters_of(node))

    async def _change(self, row: Row, path: str, node: WebhookNode) -> None:
        values = _valued(WebhookValues.of(row), path, node)
        if values != WebhookValues.of(row):
            await webhook_upkeep.change(self._connection, self._tenant_id, row["id"], values)
        await self._change_secret(row, node)
        if node.filters is not None:
            await self._change_filters(row["id"], node)

    async def _change_secret(self, row: Row, node: WebhookNode) -> None:
        """Set the node's secret where it is another one; what proved another kind of caller proves nobody now."""
        other_kind = node.auth_type != row["auth_type"]
        news = node.secret is not None and (not row["has_secret"] or node.secret != self._before.get(node.node_id))
        if news or other_kind:
            grace = timedelta() if other_kind else ROTATION_GRACE
            await webhook_upkeep.set_secret(self._connection, self._tenant_id, row["id"], node.secret, grace)

    async def _change_filters(self, webhook_id: UUID, node: WebhookNode) -> None:
        rows = await webhook_filters.list_all(self._connection, self._tenant_id, webhook_id)
        wanted = _filters_of(node)
        in_order = sorted(wanted, key=lambda each: each.logic_group)
        if [FilterValues.of(row) for row in rows] != in_order:
            await webhook_filters.delete_all(self._connection, self._tenant_id, webhook_id)
            await webhook_filters.insert(self._connection, self._tenant_id, webhook_id, wanted)


def _require_sealed(nodes: list[tuple[int, WebhookNode]]) -> None:
    """Refuse to publish what only a detour around the API can have stored."""
    problems = [
        Problem(
            "invalid_config",
            f"/nodes/{place}/config/secret",
            "The secret is not sealed; save the workflow again first.",
        )
        for place, node in nodes
        if node.secret is not None and not is_sealed(node.secret)
    ]
    if problems:
        raise InvalidDefinition(problems)


def _valued(values: WebhookValues, path: str, node: WebhookNode) -> WebhookValues:
    settings = dict(node.settings)
    if "allowed_ips" in settings:
        settings["allowed_ips"] = tuple(normal_range(text) for text in settings["allowed_ips"])
    return replace(
        values,
        name=node.name[:255],
        path=path,
        methods=node.methods,
        auth_type=node.auth_type,
        signature_scheme=node.signature_scheme,
        **settings,
    )


def _filters_of(node: WebhookNode) -> list[FilterValues]:
    return [
        FilterValues(each["field_path"], each["operator"], each.get("value"), each.get("logic_group", 0))
        for each in node.filters or ()
    ]


def _random_path() -> str:
    return secrets.token_urlsafe(_PATH_BYTES)
