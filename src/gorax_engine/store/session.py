"""One dedicated connection that heals: for loops that own a connection for life (journal, claims, heartbeats)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import asyncpg

from gorax_engine.errors import Unavailable
from gorax_engine.store.database import COMMAND_TIMEOUT, CONNECTION_ERRORS, STATEMENT_TIMEOUT, connect

if TYPE_CHECKING:
    from collections.abc import Sequence


class LeaseLost(Exception):
    """The worker's row is gone: it was taken for dead, and others may hold its runs. Everything it does now is void."""


class RecordRejected(Exception):
    """Postgres (SQLSTATE classes 22, 23 and 54) or the driver refused the data itself: sending it again can't help."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class StatementFailed(Unavailable):
    """The server is there and gave up on this very statement (too slow, an internal fault): it may do so every time."""


class Fetcher(Protocol):
    """What runs a statement and returns its rows: a Session, or a connection inside a transaction."""

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        """Run one statement and return its rows."""


class Session:
    """A connection that is opened when needed and opened again after it broke. One user at a time."""

    def __init__(self, dsn: str, role: str | None, statement_timeout: float = STATEMENT_TIMEOUT) -> None:
        self._dsn = dsn
        self._role = role
        self._statement_timeout = statement_timeout
        self._connection: asyncpg.Connection[Any] | None = None
        self._lock = anyio.Lock()

    async def fetch(self, query: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Run one statement in its own transaction and return its rows.

        Raises Unavailable when the connection breaks or the server can't serve (the outcome is then unknown),
        LeaseLost, or RecordRejected. A deadlock or serialisation failure is Unavailable too: sending again is right.
        """
        async with self._lock:
            try:
                connection = self._connection
                if connection is None or connection.is_closed():
                    connection = self._connection = await connect(self._dsn, self._role, self._statement_timeout)
                return await connection.fetch(query, *arguments, timeout=COMMAND_TIMEOUT)
            except asyncpg.PostgresError as error:
                raise _translated(error) from error
            except CONNECTION_ERRORS as error:
                if isinstance(error, ValueError):
                    raise RecordRejected(str(error), "22000") from error  # the driver can't encode an argument
                await self._drop()
                raise Unavailable(f"The database can't be reached now ({type(error).__name__}); try again.") from error
            except BaseException:
                # Cancelled in the middle: what the server does with the statement is unknown, so start afresh.
                await self._drop()
                raise

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close the connection; it opens again if it is used again."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with anyio.move_on_after(1, shield=True):
                await connection.close(timeout=1)


def _translated(error: asyncpg.PostgresError) -> Exception:
    sqlstate = getattr(error, "sqlstate", None) or ""
    if sqlstate == "GX001":
        return LeaseLost(str(error))
    if sqlstate == "57014" or sqlstate[:2] == "XX":
        return StatementFailed(f"The database gave up on a statement ({type(error).__name__}); try again.")
    if sqlstate == "23514" and "no partition" in str(error):
        return Unavailable("The partition of this month is missing; it is made by a daemon with the role maintenance.")
    if sqlstate[:2] in ("22", "23", "54"):
        return RecordRejected(str(error), sqlstate)
    if sqlstate[:2] in ("08", "40", "53", "55", "57", "58", "25"):
        return Unavailable(f"The database can't serve now ({type(error).__name__}); try again.")
    return error


@asynccontextmanager
async def open_session(
    dsn: str, role: str | None, statement_timeout: float = STATEMENT_TIMEOUT
) -> AsyncIterator[Session]:
    """Give a Session and close it at the end. The server gives up on a statement after `statement_timeout` seconds."""
    session = Session(dsn, role, statement_timeout)
    try:
        yield session
    finally:
        await session.close()
