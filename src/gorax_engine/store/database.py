"""Connections: a pool per role, transactions bound to a tenant, and one translation of driver errors.

`app` connections run as `gorax_app` and see nothing until a tenant is set for the transaction; `worker` connections run
as `gorax_worker`. Every session has statement, lock and idle timeouts that are shorter than a worker's lease, so that
a session that hangs is gone before its work is handed to somebody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg
import msgspec

from gorax_engine.errors import Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from gorax_engine.settings import DatabaseSettings

    Connection = asyncpg.Connection[Any] | PoolConnectionProxy[Any]

CONNECT_TIMEOUT: Final = 5.0
STATEMENT_TIMEOUT: Final = 8.0
COMMAND_TIMEOUT: Final = 10.0
ACQUIRE_TIMEOUT: Final = 5.0
IDLE_CONNECTION_LIFETIME: Final = 300.0

_SESSION: Final = {
    "application_name": "gorax",
    "lock_timeout": "5000",
    "timezone": "UTC",
    "jit": "off",
    "client_connection_check_interval": "2000",
}

CONNECTION_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The server has said good-bye, and its connection is used before the end of the stream is seen.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""What says that the database, not the statement, is at fault: gone, restarting, full, or too slow."""

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


@contextmanager
def unavailable_on_connection_errors() -> Iterator[None]:
    """Turn what a repetition may mend into `Unavailable`: a broken connection, a time-out, a deadlock, a standby."""
    try:
        yield
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError) as error:
        raise Unavailable("The database did not answer in time; try again.") from error
    except (asyncpg.TransactionRollbackError, asyncpg.ReadOnlySQLTransactionError) as error:
        raise Unavailable("The database could not carry this out now; try again.") from error
    except CONNECTION_ERRORS as error:
        if isinstance(error, ValueError):
            raise  # the driver can't encode an argument: no repetition mends that
        raise Unavailable("The database can't be reached now; try again.") from error


def session_settings(role: str | None, statement_timeout: float = STATEMENT_TIMEOUT) -> dict[str, str]:
    """Return the startup options of a session that runs as `role` (None: as the login role)."""
    milliseconds = str(round(statement_timeout * 1000))
    timeouts = {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds}
    return {**_SESSION, **timeouts, **({"role": role} if role else {})}


async def prepare_connection(connection: asyncpg.Connection[Any]) -> None:
    """Make jsonb columns come and go as Python values."""
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda value: _encode_json(value).decode(),
        decoder=_decode_json,
        schema="pg_catalog",
    )


async def connect(dsn: str, role: str | None, statement_timeout: float = STATEMENT_TIMEOUT) -> asyncpg.Connection[Any]:
    """Open one dedicated connection as `role`; the caller closes it. Times in seconds.

    Raises the driver's connection errors (`CONNECTION_ERRORS`) as they are: loops that own a connection wait and retry.
    """
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=session_settings(role, statement_timeout),
    )


class Database:
    """The pools of one process. Use `open_database`; both pools reconnect by themselves."""

    def __init__(self, app: asyncpg.Pool[Any], worker: asyncpg.Pool[Any]) -> None:
        self._app = app
        self._worker = worker

    @asynccontextmanager
    async def tenant(self, tenant_id: UUID, user_id: UUID | None = None) -> AsyncIterator[Connection]:
        """Run a transaction as `gorax_app` that sees only `tenant_id` (and notifications of `user_id`).

        The setting is local to the transaction, so it can't leak through the pool. Raises Unavailable.
        """
        with unavailable_on_connection_errors():
            async with self._app.acquire(timeout=ACQUIRE_TIMEOUT) as connection, connection.transaction():
                await connection.execute(
                    "SELECT set_config('app.current_tenant_id', $1, true), set_config('app.current_user_id', $2, true)",
                    str(tenant_id),
                    str(user_id) if user_id else "",
                )
                yield connection

    @asynccontextmanager
    async def anonymous(self) -> AsyncIterator[Connection]:
        """A connection as `gorax_app` with no tenant: for the look-ups that find out the tenant. Raises Unavailable."""
        with unavailable_on_connection_errors():
            async with self._app.acquire(timeout=ACQUIRE_TIMEOUT) as connection:
                yield connection

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Connection]:
        """A connection as `gorax_worker`, in autocommit. Raises Unavailable."""
        with unavailable_on_connection_errors():
            async with self._worker.acquire(timeout=ACQUIRE_TIMEOUT) as connection:
                yield connection

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return (connections, idle connections) per pool, for the metrics."""
        return {
            "app": (self._app.get_size(), self._app.get_idle_size()),
            "worker": (self._worker.get_size(), self._worker.get_idle_size()),
        }


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """Open the pools (connections are made when first needed) and close them at the end."""
    async with AsyncExitStack() as stack:
        pools: list[asyncpg.Pool[Any]] = []
        for dsn, role in (settings.for_app(), settings.for_worker()):
            pool = asyncpg.create_pool(
                dsn,
                min_size=0,
                max_size=settings.pool_size,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                max_inactive_connection_lifetime=IDLE_CONNECTION_LIFETIME,
                init=prepare_connection,
                server_settings=session_settings(role),
            )
            pools.append(await stack.enter_async_context(pool))
        yield Database(*pools)
