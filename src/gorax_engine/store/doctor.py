"""What `gorax doctor` asks of one connection: facts only, the judging is done elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gorax_engine.store.migrate import check
from gorax_engine.store.operator import operator_connection
from gorax_engine.store.queries import load

_sql: Final = load("doctor")


@dataclass(frozen=True, slots=True)
class Facts:
    """One connection as it found the server.

    `unbound` names those of role and login that row-level security doesn't bind (superuser, BYPASSRLS). `pooled`: a
    transaction pooler stands between. `clock_offset` is the server's clock less ours, in seconds, known to half of
    `round_trip`. `schema_problem` is why this build can't run on the schema; without one, `months_ahead` is how many
    months have their partitions.
    """

    version: tuple[int, int]
    role: str
    login: str
    unbound: tuple[str, ...]
    standby: bool
    pooled: bool
    clock_offset: float
    round_trip: float
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    max_connections: int
    schema_version: int
    schema_problem: str | None
    months_ahead: int | None


async def examine(dsn: str, role: str | None) -> Facts:
    """Connect as the daemon would, ask, and hang up.

    Raises ConfigurationError (the server refuses the user, the database or the role, or is too old) and
    DatabaseUnreachable.
    """
    async with operator_connection(dsn, role) as connection:
        schema = await check(connection)
        before = datetime.now(UTC)
        row = await connection.fetchrow(_sql.session)
        after = datetime.now(UTC)
        assert row is not None
        version = connection.get_server_version()
        return Facts(
            # The driver calls the second part of a modern version `micro`.
            version=(version.major, version.micro),
            role=row["role"],
            login=row["login"],
            unbound=tuple(row["unbound"]),
            standby=row["standby"],
            # A pooler makes up the process id that it tells its clients.
            pooled=row["backend"] != connection.get_server_pid(),
            clock_offset=(row["clock"] - (before + (after - before) / 2)).total_seconds(),
            round_trip=(after - before).total_seconds(),
            fsync=row["fsync"],
            full_page_writes=row["full_page_writes"],
            synchronous_commit=row["synchronous_commit"],
            max_connections=row["max_connections"],
            schema_version=schema.version,
            schema_problem=schema.problem,
            months_ahead=await connection.fetchval(_sql.months_ahead) if schema.problem is None else None,
        )
