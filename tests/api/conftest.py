"""The public application on a real database, with a stand-in for the engine's verbs: what it was asked is recorded."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from gorax_engine.api.app import build_api
from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.engine.retrying import Again
from gorax_engine.engine.starting import Started, StartKey, StartRequest
from gorax_engine.errors import GoraxError
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.settings import DatabaseSettings
from gorax_engine.store.database import Database, open_database
from gorax_engine.telemetry import Telemetry
from gorax_engine.tenancy.api_keys import new_key
from gorax_engine.triggers.events import Events
from gorax_engine.vault.local_key import LocalKey
from gorax_engine.vault.sealed_text import SealedTexts

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from gorax_engine.store.embedded import EmbeddedPostgres

MAX_BODY = 100_000


def uuid7() -> uuid.UUID:
    """An id of now, as the database makes them."""
    return uuid.UUID(int=time.time_ns() // 1_000_000 << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62))


@dataclass
class FakeVerbs:
    """Starts nothing and remembers everything. `fails` is raised instead; `repeats` makes every start a duplicate."""

    requests: list[StartRequest] = field(default_factory=list)
    recorded: list[StartRequest] = field(default_factory=list)
    cancelled: list[tuple[uuid.UUID, uuid.UUID, str, bool]] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    refused: dict[uuid.UUID, GoraxError] = field(default_factory=dict)
    fails: GoraxError | None = None
    repeats: bool = False
    last: uuid.UUID | None = None
    next: uuid.UUID | None = None

    async def start(self, request: StartRequest) -> Started:
        if self.fails is not None:
            raise self.fails
        self.requests.append(request)
        event = uuid.uuid4() if request.delivery else None
        self.last = self.next or uuid7()
        return Started(self.last, "pending", self.repeats, event)

    async def record(self, request: StartRequest) -> uuid.UUID:
        if self.fails is not None:
            raise self.fails
        self.recorded.append(request)
        return uuid.uuid4()

    async def start_within(self, connection: Any, request: StartRequest, links: Any) -> Started:
        return await self.start(request)

    async def cancel(self, tenant_id: uuid.UUID, execution_id: uuid.UUID, reason: str, *, force: bool = False) -> str:
        self._refuse(execution_id)
        self.cancelled.append((tenant_id, execution_id, reason, force))
        return "cancelled" if force else "running"

    async def pause(self, tenant_id: uuid.UUID, execution_id: uuid.UUID) -> None:
        self._refuse(execution_id)
        self.asked.append(("pause", tenant_id, execution_id))

    async def resume(self, tenant_id: uuid.UUID, execution_id: uuid.UUID) -> None:
        self._refuse(execution_id)
        self.asked.append(("resume", tenant_id, execution_id))

    async def signal(self, tenant_id: uuid.UUID, execution_id: uuid.UUID, name: str, payload: Any) -> int:
        self._refuse(execution_id)
        self.asked.append(("signal", tenant_id, execution_id, name, payload))
        return 2

    async def retry(self, tenant_id: uuid.UUID, execution_id: uuid.UUID, again: Again) -> Started:
        self._refuse(execution_id)
        self.asked.append(("retry", tenant_id, execution_id, again))
        return Started(uuid.uuid4(), "pending", False, None)

    async def replay(self, tenant_id: uuid.UUID, execution_id: uuid.UUID, again: Again) -> Started:
        self._refuse(execution_id)
        self.asked.append(("replay", tenant_id, execution_id, again))
        return Started(uuid.uuid4(), "pending", False, None)

    def _refuse(self, execution_id: uuid.UUID) -> None:
        refusal = self.refused.get(execution_id) or self.fails
        if refusal is not None:
            raise refusal


class FakeLimits:
    """Lets all pass unless `fails` is set."""

    def __init__(self) -> None:
        self.fails: GoraxError | None = None

    async def check(self, tenant_id: uuid.UUID, start_key: StartKey | None = None) -> None:
        if self.fails is not None:
            raise self.fails


class FakeEnds:
    """Says at once whether a run has ended; `on_wait` happens before."""

    def __init__(self) -> None:
        self.ended = False
        self.on_wait: Callable[[], Awaitable[None]] | None = None

    async def wait(self, execution_id: uuid.UUID, timeout_s: float) -> bool:
        if self.on_wait is not None:
            await self.on_wait()
        return self.ended


@dataclass(frozen=True)
class TenantHandle:
    """A tenant, its admin's key, and a client that sends it."""

    id: uuid.UUID
    user_id: uuid.UUID
    key: str
    client: httpx2.AsyncClient


@dataclass
class Api:
    """The application and what it stands on."""

    app: ASGIApp
    verbs: FakeVerbs
    ends: FakeEnds
    limits: FakeLimits
    database: Database
    owner: asyncpg.Connection[Any]

    def client(self, key: str | None = None) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://gorax/api/v1", headers=headers)

    async def tenant(self, name: str) -> TenantHandle:
        row = await self.owner.fetchrow("SELECT * FROM gorax_create_tenant($1, $1)", name)
        assert row is not None
        key = new_key()
        await self.owner.execute(
            "INSERT INTO api_keys (tenant_id, user_id, name, prefix, key_hash, created_by) "
            "VALUES ($1, $2, 'k', $3, $4, $2)",
            row["tenant_id"], row["user_id"], key.prefix, key.hash,
        )  # fmt: skip
        return TenantHandle(row["tenant_id"], row["user_id"], key.secret, self.client(key.secret))


LEFT_BEHIND = ("executions", "step_executions", "execution_queue", "waits", "workers", "request_idempotency")


@pytest.fixture(scope="session")
async def api_dsn(postgres_server: EmbeddedPostgres, migrated_template: str) -> str:
    """One database for all tests of the API, emptied by each: cloning takes longer than most of them."""
    return await postgres_server.create_database(f"api_{secrets.token_hex(6)}", template=migrated_template)


@pytest.fixture
async def api(api_dsn: str) -> AsyncIterator[Api]:
    verbs, ends, limits = FakeVerbs(), FakeEnds(), FakeLimits()
    owner = await asyncpg.connect(api_dsn)
    try:
        async with open_database(DatabaseSettings(dsn=SecretStr(api_dsn))) as database:
            parts = ApiDependencies(
                database=database,
                verbs=verbs,
                ends=ends,
                events=Events(database),
                vault=(key := LocalKey(bytes(32))),
                sealed=SealedTexts(key),
                admit=limits.check,
                registry=NodeRegistry(builtin_nodes()),
                telemetry=Telemetry(),
                max_body_bytes=MAX_BODY,
                trusted_proxies=(ip_network("10.9.0.0/16"),),
                draining=lambda: False,
            )
            yield Api(build_api(parts), verbs, ends, limits, database, owner)
        for table in ("user_roles", "tenants", *LEFT_BEHIND):
            await owner.execute(f"DELETE FROM {table}")
    finally:
        await owner.close()


@pytest.fixture
async def acme(api: Api) -> TenantHandle:
    return await api.tenant("acme")


@pytest.fixture
async def rival(api: Api) -> TenantHandle:
    return await api.tenant("rival")


def definition(path: str | None = "orders", **more: Any) -> dict[str, Any]:
    """A small workflow that a webhook starts."""
    config = {} if path is None else {"path": path}
    return {
        "nodes": [
            {"id": "hook", "type": "webhook_trigger", "config": config},
            {"id": "sum", "type": "formula", "config": {"expression": "1 + 1"}},
        ],
        "edges": [{"id": "e1", "source": "hook", "target": "sum"}],
        **more,
    }


async def make(tenant: TenantHandle, name: str = "orders", **more: Any) -> dict[str, Any]:
    """Create a workflow and return it."""
    answer = await tenant.client.post("/workflows", json={"name": name, "definition": definition(), **more})
    assert answer.status_code == 201, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data
