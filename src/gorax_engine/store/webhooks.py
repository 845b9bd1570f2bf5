"""Rows of webhooks: the look-up by path before the tenant is known, and their upkeep under the tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from gorax_engine.errors import Conflict
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection, Database

_SQL: Final = load("webhooks")


@dataclass(frozen=True, slots=True)
class Webhook:
    """What the ingress must know of a webhook. `live`: it is enabled, its workflow active and its tenant too."""

    id: UUID
    tenant_id: UUID
    workflow_id: UUID
    node_id: str
    auth_type: str
    methods: tuple[str, ...]
    priority: int
    live: bool


async def find(database: Database, path: str) -> Webhook | None:
    """Return the webhook at `path`, whoever's it is. Raises Unavailable."""
    async with database.anonymous() as connection:
        return _webhook(await connection.fetchrow(_SQL.find_webhook, path))


async def find_by_id(database: Database, webhook_id: UUID) -> Webhook | None:
    """Return the webhook with this id, whoever's it is. Raises Unavailable."""
    async with database.worker() as connection:
        return _webhook(await connection.fetchrow(_SQL.find_webhook_by_id, webhook_id))


async def list_of_workflow(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> list[Row]:
    """Return the webhooks of a workflow, by node."""
    return as_rows(await connection.fetch(_SQL.list_webhooks, tenant_id, workflow_id))


async def insert(
    connection: Connection,
    tenant_id: UUID,
    workflow_id: UUID,
    *,
    node_id: str,
    name: str,
    path: str,
    auth_type: str,
    methods: Sequence[str],
) -> None:
    """Store the webhook of a node. Raises Conflict if the path is taken, without saying by whom."""
    values = (tenant_id, workflow_id, node_id, name, path, auth_type, methods)
    if await connection.fetchval(_SQL.insert_webhook, *values) is None:
        raise _path_taken(path)


async def change(
    connection: Connection,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    name: str,
    path: str,
    auth_type: str,
    methods: Sequence[str],
) -> None:
    """Bring a webhook in line with its node. Raises Conflict if the path is taken, without saying by whom."""
    try:
        await connection.execute(_SQL.change_webhook, tenant_id, webhook_id, name, path, auth_type, methods)
    except asyncpg.UniqueViolationError:
        raise _path_taken(path) from None


async def delete(connection: Connection, tenant_id: UUID, webhook_ids: Sequence[UUID]) -> None:
    """Drop webhooks whose nodes are gone."""
    await connection.execute(_SQL.delete_webhooks, tenant_id, webhook_ids)


async def retire(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> None:
    """Disable the webhooks of a workflow for good and give their paths free."""
    await connection.execute(_SQL.retire_webhooks, tenant_id, workflow_id)


def _webhook(record: asyncpg.Record | None) -> Webhook | None:
    return None if record is None else Webhook(**{**dict(record), "methods": tuple(record["methods"])})


def _path_taken(path: str) -> Conflict:
    return Conflict(f"The webhook path `{path}` is taken; choose another one.", code="path_taken")
