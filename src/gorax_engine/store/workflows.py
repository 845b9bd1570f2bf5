"""Rows of workflows and their versions. Every function needs a connection whose transaction is bound to the tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from gorax_engine.core.model import Json
from gorax_engine.errors import Conflict
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gorax_engine.store.database import Connection

_SQL: Final = load("workflows")


async def insert(
    connection: Connection,
    tenant_id: UUID,
    user_id: UUID,
    name: str,
    description: str | None,
    definition: Json,
) -> Row:
    """Store a new draft. Raises Conflict if the tenant has a workflow of that name."""
    record = await connection.fetchrow(_SQL.insert_workflow, tenant_id, name, description, definition, user_id)
    if record is None:
        raise _name_taken(name)
    return dict(record)


async def get(connection: Connection, tenant_id: UUID, workflow_id: UUID, *, lock: bool = False) -> Row | None:
    """Return a workflow with its draft; with `lock` nobody else changes it until the transaction ends."""
    query = _SQL.lock_workflow if lock else _SQL.get_workflow
    return as_row(await connection.fetchrow(query, tenant_id, workflow_id))


async def list_page(
    connection: Connection,
    tenant_id: UUID,
    name: str | None,
    status: str | None,
    after: Place,
    limit: int,
) -> list[Row]:
    """Return up to `limit` workflows without their drafts, newest first; archived ones only if `status` says so."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_workflows, tenant_id, name, status, at, last, limit))


async def published_by_name(connection: Connection, tenant_id: UUID, names: Sequence[str]) -> list[Row]:
    """Return id, name and published definition of the workflows with these names or ids."""
    return as_rows(await connection.fetch(_SQL.published_by_name, tenant_id, names))


async def change(connection: Connection, tenant_id: UUID, row: Row) -> Row:
    """Write name, description, definition and status of a locked workflow. Raises Conflict if the name is taken."""
    try:
        record = await connection.fetchrow(
            _SQL.change_workflow,
            tenant_id,
            row["id"],
            row["name"],
            row["description"],
            row["definition"],
            row["status"],
        )
    except asyncpg.UniqueViolationError:
        raise _name_taken(row["name"]) from None
    return _found(record)


async def publish(connection: Connection, tenant_id: UUID, workflow_id: UUID, version: int) -> Row:
    """Let starts use `version`, and make the locked workflow active."""
    return _found(await connection.fetchrow(_SQL.set_published, tenant_id, workflow_id, version))


async def insert_version(
    connection: Connection,
    tenant_id: UUID,
    workflow_id: UUID,
    version: int,
    definition: Json,
    user_id: UUID,
) -> None:
    """Store a snapshot of a locked workflow."""
    await connection.execute(_SQL.insert_version, tenant_id, workflow_id, version, definition, user_id)


async def get_version(connection: Connection, tenant_id: UUID, workflow_id: UUID, version: int) -> Row | None:
    """Return a published version."""
    return as_row(await connection.fetchrow(_SQL.get_version, tenant_id, workflow_id, version))


async def list_versions(
    connection: Connection, tenant_id: UUID, workflow_id: UUID, after: Place, limit: int
) -> list[Row]:
    """Return up to `limit` published versions without their definitions, newest first."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_versions, tenant_id, workflow_id, at, last, limit))


def _found(record: asyncpg.Record | None) -> Row:
    if record is None:
        raise RuntimeError("a workflow that is locked has gone")
    return dict(record)


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"There is a workflow with the name `{name}` already; choose another one.",
        code="name_taken",
    )
