"""Postgres for the tests that take it away: a server of their own, driven from code that doesn't wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio.from_thread
import asyncpg

from gorax_engine.store.embedded import EmbeddedPostgres

OWNER = "gorax"


def dsn_of_dev(folder: Path, user: str = OWNER, database: str = "gorax") -> str:
    """Return the DSN of the server that `gorax dev` runs in this folder."""
    kept = folder / ".gorax" / "postgres"
    port = int((kept / "cluster" / "postmaster.pid").read_text(encoding="ascii").splitlines()[3])
    password = (kept / ("owner-password" if user == OWNER else "superuser-password")).read_text(encoding="ascii")
    return f"postgresql://{quote(user)}:{quote(password.strip())}@127.0.0.1:{port}/{database}"


class Postgres:
    """A server, and a way to ask it things."""

    def __init__(self, server: EmbeddedPostgres, portal: anyio.from_thread.BlockingPortal) -> None:
        self.server = server
        self._portal = portal

    @property
    def admin_dsn(self) -> str:
        """The superuser's DSN."""
        return self.server.admin_dsn

    def create_database(self, name: str) -> str:
        """Make an empty database and return its owner's DSN."""
        return self._portal.call(self.server.create_database, name)

    def execute(self, dsn: str, *statements: str) -> None:
        """Run statements, each of its own."""
        self._portal.call(_execute, dsn, statements)

    def fetch(self, dsn: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Ask a query."""
        return self._portal.call(_fetch, dsn, query, *arguments)

    def kill(self) -> None:
        """Let the server die at once."""
        self._portal.call(self.server.kill)

    def restart(self) -> None:
        """Bring it back."""
        self._portal.call(self.server.restart)


@contextlib.contextmanager
def run_postgres(folder: Path, *, fsync: bool = False) -> Iterator[Postgres]:
    """Run a server in a folder until the block ends."""
    with (
        anyio.from_thread.start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(EmbeddedPostgres.start(folder / "pg", fsync=fsync)) as server,
    ):
        yield Postgres(server, portal)


async def _execute(dsn: str, statements: tuple[str, ...]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch(dsn: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()
