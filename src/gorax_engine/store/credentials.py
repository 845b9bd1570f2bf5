"""Rows of credentials and of the log of their use.

All but `use` and `log_failure_of_use` need a connection whose transaction is bound to the tenant; those two are the
engine's, for all tenants at once. No function returns an encrypted value but `use`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.errors import Conflict
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection
    from gorax_engine.store.session import Fetcher

_SQL: Final = load("credentials")


@dataclass(frozen=True, slots=True)
class EncryptedValue:
    """The columns that hold a value; `version` counts the values of a credential from 1."""

    encrypted_dek: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    auth_tag: bytes = field(repr=False)
    kms_key_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Access:
    """A row of the log: who did what to which credential, from where, and why it failed if it did."""

    tenant_id: UUID
    credential_id: UUID
    credential_name: str
    accessed_by: UUID
    access_type: str
    error_message: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    execution_id: UUID | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """One credential that somebody asks for; a step does so as its node of its execution."""

    tenant_id: UUID
    name: str
    accessed_by: UUID
    execution_id: UUID | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class UsedCredential:
    """A credential as it is stored; `state` is active, inactive, revoked or expired by the database's clock."""

    id: UUID
    tenant_id: UUID
    name: str
    type: str
    state: str
    value: EncryptedValue


async def insert(
    connection: Connection,
    tenant_id: UUID,
    user_id: UUID,
    credential_id: UUID,
    name: str,
    type: str,
    description: str | None,
    expires_at: datetime | None,
    value: EncryptedValue,
) -> Row:
    """Store a new credential. Raises Conflict if the tenant has one of that name."""
    record = await connection.fetchrow(
        _SQL.insert_credential,
        credential_id,
        tenant_id,
        name,
        type,
        description,
        expires_at,
        user_id,
        value.version,
        value.encrypted_dek,
        value.ciphertext,
        value.nonce,
        value.auth_tag,
        value.kms_key_id,
    )
    if record is None:
        raise Conflict(f"There is a credential with the name `{name}` already; choose another one.", code="name_taken")
    return dict(record)


async def get(connection: Connection, tenant_id: UUID, credential_id: UUID, *, lock: bool = False) -> Row | None:
    """Return what may be shown of a credential; with `lock` nobody else changes it until the transaction ends."""
    query = _SQL.lock_credential if lock else _SQL.get_credential
    return as_row(await connection.fetchrow(query, tenant_id, credential_id))


async def list_page(
    connection: Connection,
    tenant_id: UUID,
    name: str | None,
    type: str | None,
    status: str | None,
    after: Place,
    limit: int,
) -> list[Row]:
    """Return what may be shown of up to `limit` credentials, newest first."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_credentials, tenant_id, name, type, status, at, last, limit))


async def change(connection: Connection, tenant_id: UUID, row: Row, value: EncryptedValue | None) -> Row:
    """Write description, status, expires_at and, if given, the value of a locked credential.

    Raises Conflict if the value was encrypted for another version than the next.
    """
    if value is not None:
        written = await connection.fetchval(
            _SQL.change_value,
            tenant_id,
            row["id"],
            value.version,
            value.encrypted_dek,
            value.ciphertext,
            value.nonce,
            value.auth_tag,
            value.kms_key_id,
        )
        if written is None:
            raise Conflict("Somebody else has changed the credential's value just now; try again.")
    record = await connection.fetchrow(
        _SQL.change_credential, tenant_id, row["id"], row["description"], row["status"], row["expires_at"]
    )
    if record is None:
        raise RuntimeError("a credential that is locked has gone")
    return dict(record)


async def delete(connection: Connection, tenant_id: UUID, credential_id: UUID) -> None:
    """Delete a credential."""
    await connection.execute(_SQL.delete_credential, tenant_id, credential_id)


async def log(connection: Connection, access: Access) -> None:
    """Add a row to the log."""
    await connection.execute(_SQL.log_access, *_columns(access))


async def log_page(connection: Connection, tenant_id: UUID, credential_id: UUID, after: Place, limit: int) -> list[Row]:
    """Return up to `limit` rows of a credential's log, newest first; also of one that is gone."""
    at, last = after or (None, None)
    return as_rows(await connection.fetch(_SQL.list_accesses, tenant_id, credential_id, at, last, limit))


async def use(session: Fetcher, uses: Sequence[Use]) -> dict[tuple[UUID, str], UsedCredential]:
    """Return the credentials that exist of those asked for, by tenant and name; each use is in the log afterwards.

    Raises what `session` raises.
    """
    records = await session.fetch(
        _SQL.use_credentials,
        [use.tenant_id for use in uses],
        [use.name for use in uses],
        [use.accessed_by for use in uses],
        [use.execution_id for use in uses],
        [use.node_id for use in uses],
    )
    found = {}
    for record in records:
        value = EncryptedValue(
            record["encrypted_dek"],
            record["ciphertext"],
            record["nonce"],
            record["auth_tag"],
            record["kms_key_id"],
            record["version"],
        )
        key = record["tenant_id"], record["name"]
        found[key] = UsedCredential(record["id"], *key, record["type"], record["state"], value)
    return found


async def log_failure_of_use(session: Fetcher, access: Access) -> None:
    """Add a row to the log about a credential that was found and could not be opened. Raises what `session` raises."""
    await session.fetch(_SQL.log_access, *_columns(access))


def _columns(access: Access) -> tuple[object, ...]:
    return (
        access.credential_id,
        access.tenant_id,
        access.credential_name,
        access.accessed_by,
        access.access_type,
        access.ip_address,
        access.user_agent,
        access.error_message is None,
        access.error_message,
        access.execution_id,
        access.node_id,
    )
