"""Rows of webhooks: the look-up by path before the tenant is known, and what their workflow does with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_rows

if TYPE_CHECKING:
    import asyncpg

    from gorax_engine.store.database import Connection, Database

_SQL: Final = load("webhooks")


@dataclass(frozen=True, slots=True)
class Webhook:
    """What the ingress must know of a webhook.

    `secret` and `previous_secret` are sealed; the latter is there only while it is accepted. `refusal` says why nothing
    can be started now (webhook_disabled, workflow_archived, workflow_inactive, tenant_suspended), None if it can.
    `filters` are the enabled ones as JSON. Rates are deliveries a minute.
    """

    id: UUID
    tenant_id: UUID
    workflow_id: UUID
    node_id: str
    path: str
    auth_type: str
    methods: tuple[str, ...]
    priority: int
    signature_scheme: str
    timestamp_tolerance: int
    secret: str | None = field(repr=False)
    previous_secret: str | None = field(repr=False)
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]
    max_body_bytes: int | None
    rate_limit: int | None
    dedupe_header: str | None
    dedupe_path: str | None
    response_mode: str
    refusal: str | None
    tenant_rate_limit: int | None
    filters: str | None


async def find(database: Database, path: str) -> Webhook | None:
    """Return the webhook at `path`, whoever's it is. Raises Unavailable."""
    async with database.worker() as connection:
        return _webhook(await connection.fetchrow(_SQL.find_webhook, path))


async def find_by_id(database: Database, webhook_id: UUID) -> Webhook | None:
    """Return the webhook with this id, whoever's it is. Raises Unavailable."""
    async with database.worker() as connection:
        return _webhook(await connection.fetchrow(_SQL.find_webhook_by_id, webhook_id))


async def list_of_workflow(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> list[Row]:
    """Return the webhooks of a workflow, by node."""
    return as_rows(await connection.fetch(_SQL.list_webhooks, tenant_id, workflow_id))


async def retire(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> None:
    """Disable the webhooks of a workflow for good and give their paths free."""
    await connection.execute(_SQL.retire_webhooks, tenant_id, workflow_id)


def _webhook(record: asyncpg.Record | None) -> Webhook | None:
    if record is None:
        return None
    limit = record["tenant_rate_limit"]
    values = {
        **record,
        "methods": tuple(record["methods"]),
        "allowed_ips": tuple(record["allowed_ips"]),
        "tenant_rate_limit": int(limit) if limit is not None and limit.isdecimal() and int(limit) > 0 else None,
    }
    return Webhook(**values)
