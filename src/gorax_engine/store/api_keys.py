"""Rows of API keys and of the service users that they act for. Keys come and go as hashes here, never as themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection, Database

_SQL: Final = load("api_keys")


async def authenticate(database: Database, key_hash: bytes) -> Row | None:
    """Return who holds a key: api_key_id, tenant_id, user_id, tenant_status, permissions. Raises Unavailable."""
    async with database.anonymous() as connection:
        return as_row(await connection.fetchrow(_SQL.authenticate, key_hash))


async def touch(connection: Connection, tenant_id: UUID, api_key_id: UUID) -> None:
    """Note that a key was used, to the minute."""
    await connection.execute(_SQL.touch_api_key, tenant_id, api_key_id)


async def insert(
    connection: Connection,
    tenant_id: UUID,
    *,
    user_id: UUID,
    name: str,
    prefix: str,
    key_hash: bytes,
    created_by: UUID,
    lifetime: timedelta | None,
) -> UUID:
    """Store a key that acts for `user_id`; without a lifetime it never expires."""
    values = (tenant_id, user_id, name, prefix, key_hash, created_by, lifetime)
    key_id: UUID = await connection.fetchval(_SQL.insert_api_key, *values)
    return key_id


async def list_page(connection: Connection, tenant_id: UUID, after: Place, limit: int) -> list[Row]:
    """Return up to `limit` keys, newest first."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_api_keys, tenant_id, at, last, limit))


async def get(connection: Connection, tenant_id: UUID, api_key_id: UUID) -> Row | None:
    """Return a key."""
    return as_row(await connection.fetchrow(_SQL.get_api_key, tenant_id, api_key_id))


async def revoke(connection: Connection, tenant_id: UUID, api_key_id: UUID) -> bytes | None:
    """End a key for good and return its hash; None if there is no such key."""
    record = await connection.fetchrow(_SQL.revoke_api_key, tenant_id, api_key_id)
    return None if record is None else bytes(record["key_hash"])


async def role_permissions(connection: Connection, tenant_id: UUID, role: str) -> tuple[UUID, frozenset[str]] | None:
    """Return the id of a role and what it permits; None if the tenant has no such role."""
    record = await connection.fetchrow(_SQL.role_permissions, tenant_id, role)
    return None if record is None else (record["id"], frozenset(record["permissions"]))


async def service_user(connection: Connection, tenant_id: UUID, role: str, role_id: UUID, granted_by: UUID) -> UUID:
    """Return the user for which keys of `role` act, making it if it isn't there."""
    user_id: UUID = await connection.fetchval(_SQL.ensure_service_user, tenant_id, role)
    await connection.execute(_SQL.grant_role, tenant_id, user_id, role_id, granted_by)
    return user_id


async def permissions(connection: Connection) -> list[str]:
    """Return all that can be permitted, as `resource:action`."""
    return [record["permission"] for record in await connection.fetch(_SQL.list_permissions)]
