"""Keeping credentials: create, show, change and delete them, and the log of it all. Values go in and never come out.

Encrypting may ask a key service, so it comes before the transaction that stores its result (`seal`, then `create` or
`change`); the version for which a value was sealed says whether somebody else was quicker.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gorax_engine.errors import GoraxError, InvalidInput, NotFound, Problem
from gorax_engine.store import credentials
from gorax_engine.store.credentials import Access, EncryptedValue
from gorax_engine.telemetry import TelemetryEvent, VaultOperation
from gorax_engine.vault.envelope import seal
from gorax_engine.vault.keys import EncryptionContext, KeyProvider
from gorax_engine.vault.types import NAME, check_value

if TYPE_CHECKING:
    from datetime import datetime

    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.rows import Place, Row

CHANGEABLE: Final = ("description", "status", "expires_at")

_MAX_USER_AGENT: Final = 500


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf a credential is touched, and from where."""

    tenant_id: UUID
    user_id: UUID
    ip_address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that was checked and sealed, ready to be stored."""

    id: UUID
    name: str
    type: str
    description: str | None
    expires_at: datetime | None
    value: EncryptedValue


class Credentials:
    """The credentials of tenants. Methods with a `connection` act in the caller's transaction, bound to the tenant."""

    def __init__(
        self,
        database: Database,
        provider: KeyProvider,
        emit: Callable[[TelemetryEvent], None] = lambda _event: None,
    ) -> None:
        self._database = database
        self._provider = provider
        self._emit = emit

    async def seal_new(
        self,
        tenant_id: UUID,
        name: str,
        type: str,
        value: dict[str, Json],
        description: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewCredential:
        """Check and encrypt a credential. Raises InvalidInput, Unavailable (vault_unavailable)."""
        check_name(name)
        check_value(type, value)
        credential_id = uuid.uuid4()
        context = EncryptionContext(tenant_id, credential_id, 1)
        sealed = await self._seal("create", context, value)
        return NewCredential(credential_id, name, type, description, expires_at, sealed)

    async def seal_next(self, actor: Actor, credential_id: UUID, value: dict[str, Json]) -> EncryptedValue | None:
        """Check and encrypt the next value of a credential; None if there is no such credential.

        Raises InvalidInput, Unavailable (vault_unavailable); that it failed for want of the key is logged.
        """
        async with self._database.tenant(actor.tenant_id) as connection:
            row = await credentials.get(connection, actor.tenant_id, credential_id)
        if row is None:
            return None
        check_value(row["type"], value)
        context = EncryptionContext(actor.tenant_id, credential_id, row["version"] + 1)
        try:
            return await self._seal("update", context, value)
        except GoraxError as error:
            async with self._database.tenant(actor.tenant_id) as connection:
                await credentials.log(connection, _access(actor, row, "update", error.message))
            raise

    async def create(self, connection: Connection, actor: Actor, new: NewCredential) -> Row:
        """Store a sealed credential. Raises Conflict if its name is taken."""
        row = await credentials.insert(
            connection,
            actor.tenant_id,
            actor.user_id,
            new.id,
            new.name,
            new.type,
            new.description,
            new.expires_at,
            new.value,
        )
        await self._done(connection, actor, row, "create")
        return row

    async def find(self, connection: Connection, tenant_id: UUID, credential_id: UUID, *, lock: bool = False) -> Row:
        """Return what may be shown of a credential; with `lock` nobody else changes it. Raises NotFound."""
        row = await credentials.get(connection, tenant_id, credential_id, lock=lock)
        if row is None:
            raise _not_found(credential_id)
        return row

    async def list_page(
        self,
        connection: Connection,
        tenant_id: UUID,
        *,
        name: str | None = None,
        type: str | None = None,
        status: str | None = None,
        after: Place = None,
        limit: int,
    ) -> list[Row]:
        """Return what may be shown of up to `limit` credentials, newest first."""
        return await credentials.list_page(connection, tenant_id, name, type, status, after, limit)

    async def change(
        self,
        connection: Connection,
        actor: Actor,
        current: Row,
        changes: Mapping[str, Any],
        value: EncryptedValue | None = None,
    ) -> Row:
        """Write `changes` (of description, status, expires_at) and a sealed value to a locked credential.

        What changes nothing is not written and keeps the revision. Raises Conflict if somebody else has changed the
        value since it was sealed.
        """
        wanted = {field: changes.get(field, current[field]) for field in CHANGEABLE}
        if value is None and all(wanted[field] == current[field] for field in CHANGEABLE):
            return current
        row = await credentials.change(connection, actor.tenant_id, {**current, **wanted}, value)
        await self._done(connection, actor, row, "update")
        return row

    async def delete(self, connection: Connection, actor: Actor, current: Row) -> None:
        """Delete a locked credential for good; the log of its use stays."""
        await credentials.delete(connection, actor.tenant_id, current["id"])
        await self._done(connection, actor, current, "delete")

    async def access_log(
        self, connection: Connection, tenant_id: UUID, credential_id: UUID, *, after: Place = None, limit: int
    ) -> list[Row]:
        """Return up to `limit` rows of a credential's log, newest first, also after it was deleted.

        Raises NotFound if there never was such a credential.
        """
        rows = await credentials.log_page(connection, tenant_id, credential_id, after, limit)
        if not rows and after is None:
            await self.find(connection, tenant_id, credential_id)
        return rows

    async def _seal(self, operation: str, context: EncryptionContext, value: dict[str, Json]) -> EncryptedValue:
        try:
            return await seal(self._provider, context, value)
        except GoraxError as error:
            self._emit(VaultOperation(operation, error.code))
            raise

    async def _done(self, connection: Connection, actor: Actor, row: Row, operation: str) -> None:
        await credentials.log(connection, _access(actor, row, operation))
        self._emit(VaultOperation(operation, "ok"))


def check_name(name: str) -> None:
    """Refuse what can't be named in an expression. Raises InvalidInput."""
    if not NAME.fullmatch(name):
        message = "A credential's name has 1 to 255 letters, digits, `_` and `-`."
        raise InvalidInput("The credential's name is wrong.", problems=[Problem("invalid_name", "/name", message)])


def _access(actor: Actor, row: Row, operation: str, error: str | None = None) -> Access:
    agent = None if actor.user_agent is None else actor.user_agent[:_MAX_USER_AGENT]
    return Access(actor.tenant_id, row["id"], row["name"], actor.user_id, operation, error, actor.ip_address, agent)


def _not_found(credential_id: UUID) -> NotFound:
    return NotFound(f"There is no credential {credential_id}.", code="credential_not_found")
