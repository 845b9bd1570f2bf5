"""A database with one tenant, and the connections that the product has to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from gorax_engine.store.database import Database, open_database
from gorax_engine.store.session import Session, open_session

from .office import Office, make_office

if TYPE_CHECKING:
    from tests.conftest import Database as TestDatabase


@pytest.fixture
async def owner(migrated_database: TestDatabase) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(migrated_database.dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def office(owner: asyncpg.Connection[Any]) -> Office:
    """ann holds `approvers`, bob too; carl holds nothing; dora holds `ops`."""
    made = await make_office(owner, "acme")
    await made.user("ann", "approvers")
    await made.user("bob", "approvers")
    await made.user("carl")
    await made.user("dora", "ops")
    return made


@pytest.fixture
async def pools(migrated_database: TestDatabase) -> AsyncIterator[Database]:
    async with open_database(migrated_database.settings) as database:
        yield database


@pytest.fixture
async def session(migrated_database: TestDatabase) -> AsyncIterator[Session]:
    async with open_session(*migrated_database.settings.for_worker()) as opened:
        yield opened
