"""Rows of webhooks as their owners see and change them, under the tenant. No row holds a secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from gorax_engine.errors import Conflict
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("webhook_upkeep")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookValues:
    """All that may be set of a webhook beside its secret; ranges in CIDR notation, rates a minute, times in seconds."""

    node_id: str
    name: str | None = None
    description: str | None = None
    path: str
    methods: tuple[str, ...] = ("POST",)
    auth_type: str = "none"
    signature_scheme: str = "gorax"
    timestamp_tolerance: int = 300
    allowed_ips: tuple[str, ...] = ()
    max_body_bytes: int | None = None
    rate_limit: int | None = None
    dedupe_header: str | None = None
    dedupe_path: str | None = None
    response_mode: str = "accepted"
    priority: int = 1
    enabled: bool = True

    @classmethod
    def of(cls, row: Row) -> WebhookValues:
        """Return what a row says."""
        values = {each.name: row[each.name] for each in fields(cls)}
        return cls(**{**values, "methods": tuple(row["methods"]), "allowed_ips": tuple(row["allowed_ips"])})


async def owner(connection: Connection, tenant_id: UUID, workflow: str) -> Row | None:
    """Return id, name, published_version and definition of a workflow by id or name; meanwhile nobody archives it."""
    return as_row(await connection.fetchrow(_SQL.webhook_owner, tenant_id, workflow))


async def insert(
    connection: Connection,
    tenant_id: UUID,
    workflow_id: UUID,
    values: WebhookValues,
    secret: str | None,
    *,
    managed: bool,
) -> UUID:
    """Store a webhook with its sealed secret. Raises Conflict if the path is taken, without saying by whom."""
    made: UUID | None = await connection.fetchval(
        _SQL.insert_webhook, tenant_id, workflow_id, managed, *astuple(values), secret
    )
    if made is None:
        raise _path_taken(values.path)
    return made


async def get(connection: Connection, tenant_id: UUID, webhook_id: UUID, *, lock: bool = False) -> Row | None:
    """Return what may be shown of a webhook; with `lock` nobody else changes it until the transaction ends."""
    return as_row(await connection.fetchrow(_SQL.lock_webhook if lock else _SQL.get_webhook, tenant_id, webhook_id))


async def lock_managed(connection: Connection, tenant_id: UUID, workflow_id: UUID) -> list[Row]:
    """Return the webhooks of a workflow that follow its nodes; nobody else changes them until the transaction ends."""
    return as_rows(await connection.fetch(_SQL.lock_managed_webhooks, tenant_id, workflow_id))


async def list_page(
    connection: Connection, tenant_id: UUID, workflow_id: UUID | None, enabled: bool | None, after: Place, limit: int
) -> list[Row]:
    """Return up to `limit` webhooks, newest first."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_webhook_page, tenant_id, workflow_id, enabled, at, last, limit))


async def change(connection: Connection, tenant_id: UUID, webhook_id: UUID, values: WebhookValues) -> None:
    """Write what is set of a locked webhook. Raises Conflict if the path is taken, without saying by whom."""
    try:
        await connection.execute(_SQL.change_webhook, tenant_id, webhook_id, *astuple(values))
    except asyncpg.UniqueViolationError:
        raise _path_taken(values.path) from None


async def vacate(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> None:
    """Take the path from a locked webhook that gets another one in the same transaction."""
    await connection.execute(_SQL.vacate_path, tenant_id, webhook_id)


async def set_secret(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, sealed: str | None, grace: timedelta
) -> None:
    """Give a locked webhook another secret, or none; the one before is accepted for `grace` longer."""
    await connection.execute(_SQL.set_secret, tenant_id, webhook_id, sealed, grace.total_seconds())


async def sealed_secret(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> str | None:
    """Return the sealed secret of a webhook, None without one."""
    sealed: str | None = await connection.fetchval(_SQL.sealed_secret, tenant_id, webhook_id)
    return sealed


async def delete(connection: Connection, tenant_id: UUID, webhook_ids: Sequence[UUID]) -> None:
    """Drop webhooks with their filters; their events stay."""
    await connection.execute(_SQL.delete_webhooks, tenant_id, webhook_ids)


async def workflow_of(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Row | None:
    """Return id, name, status and published_version of a webhook's workflow, and tenant_status."""
    return as_row(await connection.fetchrow(_SQL.workflow_of_webhook, tenant_id, webhook_id))


def _path_taken(path: str) -> Conflict:
    return Conflict(f"The webhook path `{path}` is taken; choose another one.", code="path_taken")
