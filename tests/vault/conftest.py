"""A vault on a real database: two tenants, the service that keeps credentials, and what opens them for the engine."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from pydantic import SecretStr

from gorax_engine.settings import DatabaseSettings
from gorax_engine.store.database import Database, open_database
from gorax_engine.store.session import open_session
from gorax_engine.telemetry import TelemetryEvent
from gorax_engine.vault.credentials import Actor, Credentials
from gorax_engine.vault.keys import EncryptionContext
from gorax_engine.vault.local_key import LocalKey
from gorax_engine.vault.secrets import Secrets

if TYPE_CHECKING:
    from gorax_engine.store.embedded import EmbeddedPostgres

KEY = bytes(range(32))


class CountingKey(LocalKey):
    """The local key, which counts what it is asked."""

    def __init__(self, key: bytes = KEY) -> None:
        super().__init__(key)
        self.unwrapped: list[EncryptionContext] = []

    async def decrypt(self, encrypted: bytes, key_id: str, context: EncryptionContext) -> bytes:
        self.unwrapped.append(context)
        return await super().decrypt(encrypted, key_id, context)


@dataclass
class Vault:
    """The parts, and what they told the metrics."""

    database: Database
    credentials: Credentials
    secrets: Secrets
    provider: CountingKey
    owner: asyncpg.Connection[Any]
    acme: Actor
    rival: Actor
    events: list[TelemetryEvent] = field(default_factory=list)
    now: float = 0.0

    async def store(
        self, name: str, value: dict[str, Any], type: str = "custom", actor: Actor | None = None, **more: Any
    ) -> uuid.UUID:
        """Store a credential and return its id."""
        actor = actor or self.acme
        new = await self.credentials.seal_new(actor.tenant_id, name, type, value, **more)
        async with self.database.tenant(actor.tenant_id) as connection:
            row = await self.credentials.create(connection, actor, new)
        found: uuid.UUID = row["id"]
        return found

    async def log(self, credential_id: uuid.UUID) -> list[Any]:
        """Return the log of a credential, oldest first."""
        return await self.owner.fetch(
            "SELECT * FROM credential_access_log WHERE credential_id = $1 ORDER BY accessed_at", credential_id
        )


@pytest.fixture(scope="session")
async def vault_dsn(postgres_server: EmbeddedPostgres, migrated_template: str) -> str:
    """One database for all tests of the vault, emptied by each: cloning takes longer than most of them."""
    return await postgres_server.create_database(f"vault_{secrets.token_hex(6)}", template=migrated_template)


@pytest.fixture
async def vault(vault_dsn: str) -> AsyncIterator[Vault]:
    owner = await asyncpg.connect(vault_dsn)
    actors = []
    for name in ("acme", "rival"):
        row = await owner.fetchrow("SELECT * FROM gorax_create_tenant($1, $1)", name)
        assert row is not None
        actors.append(Actor(row["tenant_id"], row["user_id"], "192.0.2.7", "curl/8"))
    settings, provider = DatabaseSettings(dsn=SecretStr(vault_dsn)), CountingKey()
    events: list[TelemetryEvent] = []
    try:
        async with open_database(settings) as database, open_session(*settings.for_worker()) as session:
            made = Vault(
                database,
                Credentials(database, provider, events.append),
                Secrets(session, provider, events.append, clock=lambda: made.now),
                provider,
                owner,
                actors[0],
                actors[1],
                events,
            )
            yield made
        for table in ("user_roles", "tenants"):
            await owner.execute(f"DELETE FROM {table}")
    finally:
        await owner.close()
