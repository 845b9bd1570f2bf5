"""One database for all tests of the engine, emptied after each: cloning takes longer than most of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import pytest

from tests.engine.harness import World

if TYPE_CHECKING:
    from gorax_engine.store.embedded import EmbeddedPostgres

RUNS = (
    "executions, step_executions, execution_queue, waits, signals, workers, start_keys, outbox, webhook_events, "
    "leaderships, events, event_deliveries, event_subscriptions, human_tasks, notifications"
)


@pytest.fixture(scope="session")
async def engine_dsns(postgres_server: EmbeddedPostgres, migrated_template: str) -> tuple[str, str]:
    name = f"engine_{secrets.token_hex(6)}"
    dsn = await postgres_server.create_database(name, template=migrated_template)
    return dsn, postgres_server.admin_dsn.removesuffix("/postgres") + f"/{name}"


@contextmanager
def unheard() -> Iterator[None]:
    """Let nobody hear of connections that were on their way back to a pool when its member crashed."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def hear(of: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError):
            return
        if before is None:
            of.default_exception_handler(context)
        else:
            before(of, context)

    loop.set_exception_handler(hear)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


@pytest.fixture
async def world(engine_dsns: tuple[str, str]) -> AsyncIterator[World]:
    dsn, admin_dsn = engine_dsns
    sql = await asyncpg.connect(admin_dsn)
    try:
        async with anyio.create_task_group() as tasks:
            world = World(dsn, sql, tasks)
            with unheard():
                try:
                    yield world
                finally:
                    await world.close()
        assert not world.failures, world.failures
        await sql.execute(f"TRUNCATE {RUNS} CASCADE")
    finally:
        await sql.close()
