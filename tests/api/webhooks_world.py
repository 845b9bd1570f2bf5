"""The application on the engine's own verbs, without a worker: starts are committed, and nothing runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import asyncpg
import httpx2
import pytest
from pydantic import SecretStr

from gorax_engine.api.app import build_api
from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.engine.operations import Operations
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.settings import DatabaseSettings
from gorax_engine.store.database import open_database
from gorax_engine.store.session import open_session
from gorax_engine.telemetry import Telemetry
from gorax_engine.triggers.events import Events
from gorax_engine.vault.local_key import LocalKey
from gorax_engine.vault.sealed_text import SealedTexts
from tests.api.conftest import MAX_BODY, Api, FakeEnds, FakeLimits, FakeVerbs, TenantHandle

if TYPE_CHECKING:
    from gorax_engine.vault.keys import KeyProvider


@dataclass
class World:
    """The application, its owner's connection, and the sealed texts of its key."""

    api: Api
    sealed: SealedTexts

    def outside(self) -> httpx2.AsyncClient:
        """A client that sends deliveries."""
        transport = httpx2.ASGITransport(app=self.api.app, client=("203.0.113.9", 5))
        return httpx2.AsyncClient(transport=transport, base_url="http://gorax/webhooks")

    async def row(self, query: str, *arguments: Any) -> Any:
        """The first row of a query, as the owner."""
        return await self.api.owner.fetchrow(query, *arguments)

    async def texts(self) -> str:
        """All text of all tables."""
        tables = await self.api.owner.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
            "AND relnamespace = 'public'::regnamespace"
        )
        found = [
            await self.api.owner.fetchval(f"SELECT string_agg(t::text, '') FROM {each['relname']} t") for each in tables
        ]
        return "".join(text for text in found if text)


@asynccontextmanager
async def open_world(dsn: str, key: KeyProvider | None = None) -> AsyncIterator[World]:
    """Open the application on a database."""
    owner = await asyncpg.connect(dsn)
    key = LocalKey(bytes(32)) if key is None else key
    sealed, telemetry, limits = SealedTexts(key), Telemetry(), FakeLimits()
    try:
        async with open_database(DatabaseSettings(dsn=SecretStr(dsn))) as database, open_session(dsn, None) as session:
            operations = Operations(session, database, cast("Any", None), telemetry, None)
            parts = ApiDependencies(
                database=database,
                verbs=operations,
                ends=FakeEnds(),
                events=Events(database),
                vault=key,
                sealed=sealed,
                admit=limits.check,
                registry=NodeRegistry(builtin_nodes()),
                telemetry=telemetry,
                max_body_bytes=MAX_BODY,
                trusted_proxies=(),
                draining=lambda: False,
            )
            api = Api(build_api(parts), FakeVerbs(), FakeEnds(), limits, database, owner)
            async with anyio.create_task_group() as background:
                background.start_soon(operations.run)
                yield World(api, sealed)
                background.cancel_scope.cancel()
    finally:
        await owner.close()


@pytest.fixture
async def world(api_dsn: str, api: Api) -> AsyncIterator[World]:
    """The engine's verbs on the database that the fixture `api` empties."""
    async with open_world(api_dsn) as opened:
        yield opened


@pytest.fixture
async def acme(world: World) -> TenantHandle:
    """A tenant that calls this application."""
    return await world.api.tenant("acme")


@pytest.fixture
async def rival(world: World) -> TenantHandle:
    """Another one."""
    return await world.api.tenant("rival")


def workflow_of(config: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A definition with one webhook node."""
    return {
        "nodes": [
            {"id": "hook", "type": "webhook_trigger", "config": config},
            {"id": "sum", "type": "formula", "config": {"expression": "1 + 1"}},
        ],
        "edges": [{"id": "e1", "source": "hook", "target": "sum"}],
        **more,
    }


async def publish(tenant: TenantHandle, config: dict[str, Any], name: str = "orders") -> dict[str, Any]:
    """Save a workflow with such a node under its name, publish it, and return it."""
    body = {"name": name, "definition": workflow_of(config)}
    found = (await tenant.client.get("/workflows", params={"name": name})).json()["data"]
    if found:
        answer = await tenant.client.put(f"/workflows/{found[0]['id']}", json=body)
    else:
        answer = await tenant.client.post("/workflows", json=body)
    assert answer.status_code in (200, 201), answer.text
    answer = await tenant.client.post(f"/workflows/{answer.json()['data']['id']}/publish")
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def call(tenant: TenantHandle, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
    """Call a route and return its data."""
    answer = await tenant.client.request(method, path, json=body, **more)
    assert answer.status_code == status, answer.text
    return answer.json()["data"]


async def refused(tenant: TenantHandle, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
    """Call a route that refuses; return status and code."""
    answer = await tenant.client.request(method, path, json=body, **more)
    assert answer.status_code >= 400, answer.text
    return answer.status_code, json.loads(answer.text)["code"]
