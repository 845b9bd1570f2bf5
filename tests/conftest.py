"""Real Postgres servers for the tests, and a database of its own for each test.

`GORAX_TEST_POSTGRES` names the major version: 18 (the packaged binaries, default) or another that Debian's packages
have installed under /usr/lib/postgresql. Each process of pytest-xdist has its own server.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from gorax_engine.settings import DatabaseSettings
from gorax_engine.store.cluster import packaged_bin_dir
from gorax_engine.store.embedded import EmbeddedPostgres
from gorax_engine.store.migrate import migrate

PACKAGED_MAJOR = "18"
TEMPLATE = "gorax_template"


@dataclass(frozen=True)
class Database:
    """A database for one test: `dsn` is its owner's, `admin_dsn` the superuser's; both name this database."""

    name: str
    dsn: str
    admin_dsn: str

    @property
    def settings(self) -> DatabaseSettings:
        """The settings of a daemon that uses this database."""
        return DatabaseSettings(dsn=SecretStr(self.dsn))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, so that it can be run again on another version (`-m postgres`)."""
    for item in items:
        if "postgres_bin_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def postgres_bin_dir() -> Path:
    """The programs of the Postgres version under test."""
    major = os.environ.get("GORAX_TEST_POSTGRES", PACKAGED_MAJOR)
    if major == PACKAGED_MAJOR:
        return packaged_bin_dir()
    installed = Path(f"/usr/lib/postgresql/{major}/bin")
    if not installed.is_dir():
        pytest.skip(f"PostgreSQL {major} is not installed ({installed})")
    return installed


@pytest.fixture(scope="session")
def postgres_directory() -> Iterator[Path]:
    """A folder for servers, short and open enough for their sockets and their user, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="gorax-test-"))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
async def postgres_server(
    anyio_backend: object, postgres_bin_dir: Path, postgres_directory: Path
) -> AsyncIterator[EmbeddedPostgres]:
    """A server for many tests, quick because it would not survive a power failure. Don't stop it."""
    async with EmbeddedPostgres.start(
        postgres_directory / "shared",
        bin_dir=postgres_bin_dir,
        fsync=False,
        settings={"shared_buffers": "128MB", "full_page_writes": "off", "autovacuum": "off"},
    ) as server:
        yield server


@pytest.fixture
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A new, empty database."""
    async with _database(postgres_server, "template1") as created:
        yield created


@pytest.fixture(scope="session")
async def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with the current schema; nobody connects to it."""
    await migrate(await postgres_server.create_database(TEMPLATE))
    return TEMPLATE


@pytest.fixture
async def migrated_database(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[Database]:
    """A new database with the current schema and no rows."""
    async with _database(postgres_server, migrated_template) as created:
        yield created


@asynccontextmanager
async def _database(server: EmbeddedPostgres, template: str) -> AsyncIterator[Database]:
    name = f"test_{secrets.token_hex(6)}"
    dsn = await server.create_database(name, template=template)
    yield Database(name, dsn, server.admin_dsn.removesuffix("/postgres") + f"/{name}")
    connection = await asyncpg.connect(server.admin_dsn)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()
