"""What operators do to the database from the command line, as the owner of the schema: one connection, then gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from gorax_engine.errors import ConfigurationError, Conflict, DatabaseUnreachable, NotFound
from gorax_engine.store import api_keys
from gorax_engine.store.database import CONNECT_TIMEOUT, CONNECTION_ERRORS, connect, prepare_connection
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_sql: Final = load("operator")

_NOT_MIGRATED: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
)


@asynccontextmanager
async def operator_connection(dsn: str, role: str | None = None) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Connect once, as `role` if given, and hang up at the end.

    Raises ConfigurationError (the server refuses the user, the role or the statement, or the schema is missing) and
    DatabaseUnreachable.
    """
    try:
        connection = await connect(dsn, role)
    except ValueError as error:  # Before the others: the driver's error about a DSN is of both kinds.
        raise ConfigurationError(f"The DSN is not valid: {error}.") from error
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(f"The database can't be reached: {str(error) or type(error).__name__}.") from error
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"The database refused the connection: {error}.") from error
    try:
        await prepare_connection(connection)
        yield connection
    except _NOT_MIGRATED as error:
        raise ConfigurationError("The database has no schema of this version; run `gorax migrate`.") from error
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"The database refused: {error}.") from error
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(f"The connection broke: {str(error) or type(error).__name__}.") from error
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)


async def create_tenant(connection: Connection, name: str, subdomain: str, tier: str) -> tuple[UUID, UUID]:
    """Make a tenant; return its id and that of its service user. Raises Conflict if the subdomain is taken."""
    try:
        row = await connection.fetchrow(_sql.create_tenant, name, subdomain, tier)
    except asyncpg.UniqueViolationError as error:
        raise Conflict(f"The subdomain {subdomain} is taken; choose another.", code="subdomain_taken") from error
    assert row is not None
    return row["tenant_id"], row["user_id"]


async def add_key(
    connection: Connection, tenant_id: UUID, user_id: UUID, name: str, prefix: str, key_hash: bytes
) -> None:
    """Store a key of the tenant's service user that never expires."""
    await api_keys.insert(
        connection,
        tenant_id,
        user_id=user_id,
        name=name,
        prefix=prefix,
        key_hash=key_hash,
        created_by=user_id,
        lifetime=None,
    )


async def key_works(connection: Connection, key_hash: bytes) -> bool:
    """Return whether this key is known, valid and not revoked."""
    return await connection.fetchrow(load("api_keys").authenticate, key_hash) is not None


async def list_tenants(connection: Connection) -> Sequence[Row]:
    """Return all tenants, oldest first."""
    return as_rows(await connection.fetch(_sql.list_tenants))


async def find_tenant(connection: Connection, id_or_subdomain: str) -> Row | None:
    """Return a tenant by its id or its subdomain."""
    return as_row(await connection.fetchrow(_sql.find_tenant, id_or_subdomain))


async def find_service_user(connection: Connection, subdomain: str) -> tuple[UUID, UUID] | None:
    """Return the ids of a tenant and of its service user; None if there is no such tenant."""
    row = await connection.fetchrow(_sql.find_service_user, subdomain)
    return None if row is None else (row["tenant_id"], row["user_id"])


async def map_database_user(connection: Connection, role: str, tenant_id: UUID) -> UUID | None:
    """Let a database user start workflows of a tenant by SQL; return the tenant whose it was before.

    Raises NotFound if the server knows no such role.
    """
    if not await connection.fetchval(_sql.role_exists, role):
        raise NotFound(f"There is no database role {role}; create it first.", code="role_not_found")
    before: UUID | None = await connection.fetchval(_sql.map_database_user, role, tenant_id)
    return before


async def unmap_database_user(connection: Connection, role: str) -> bool:
    """Let a database user start nothing any more; return whether it could."""
    return bool(await connection.fetchval(_sql.unmap_database_user, role))


async def database_users(connection: Connection, tenant_id: UUID) -> list[str]:
    """Return the database users that start workflows of a tenant."""
    return [row["role_name"] for row in await connection.fetch(_sql.database_users, tenant_id)]
