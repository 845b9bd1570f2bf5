"""What the directed tests of chaos share: a database with the witness, a sink, and daemons that start when told to."""

from __future__ import annotations

import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from gorax_engine.cli.onboarding import create_tenant
from tests.chaos.checker import Breach, check, install_witness, record_workflows
from tests.chaos.fleet import Daemon, fleet
from tests.chaos.sink import Sink
from tests.chaos.workload import Clients, Expected, Start, Workflow, gated
from tests.conftest import Database

PATIENCE = 30.0


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A witness."""
    with Sink() as running:
        yield running


@dataclass
class Stage:
    """A database, two daemons that are not started, and the means to look."""

    admin: asyncpg.Connection[Any]
    dsn: str
    api_key: str
    daemons: list[Daemon]
    sink: Sink

    async def start_gated(self, count: int) -> list[Start]:
        """Start runs that call `/gate/first` of the sink (on the first daemon, which must be ready)."""
        urls = [self.daemons[0].url]
        starts = []
        async with Clients(urls, self.api_key, random.Random(0)) as clients:
            workflow = await clients.add("gated", gated(self.sink.url))
            await record_workflows(self.admin, [workflow])
            for number in range(count):
                start = Start(f"gated-{number}", "gated", number, Expected("completed", number + 1), by_webhook=False)
                await clients.run(start)
                starts.append(start)
        return starts

    async def until(self, what: str, holds: Callable[[], Any]) -> None:
        """Wait until `holds()` (which may be awaitable) is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = holds()
            if hasattr(found, "__await__"):
                found = await found
            if found:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not come to pass that {what}")
            await anyio.sleep(0.02)

    async def value(self, query: str, *arguments: Any) -> Any:
        """Ask the database as superuser."""
        return await self.admin.fetchval(query, *arguments)

    async def broken(self, starts: list[Start]) -> list[Breach]:
        """Ask the checker."""
        return await check(self.admin, starts, self.sink.calls)


@pytest.fixture
async def stage(migrated_database: Database, sink: Sink) -> AsyncIterator[Stage]:
    """Two daemons over one database, with the witness in place."""
    async with _stage(migrated_database, sink) as made:
        yield made


@asynccontextmanager
async def _stage(database: Database, sink: Sink) -> AsyncIterator[Stage]:
    where = urlsplit(database.admin_dsn)
    tenant = await create_tenant(database.dsn, "Chaos", f"chaos-{uuid.uuid4().hex[:8]}", "free", "chaos")
    admin = await asyncpg.connect(database.admin_dsn)
    try:
        await install_witness(admin)
        with tempfile.TemporaryDirectory(prefix="gorax-chaos-") as folder:
            target = (str(where.hostname), int(where.port or 5432))
            async with fleet(2, database.dsn, lambda: target, Path(folder)) as daemons:
                yield Stage(admin, database.dsn, tenant.api_key, daemons, sink)
    finally:
        await admin.close()


__all__ = ["Stage", "Workflow"]
