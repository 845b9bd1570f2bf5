"""A Session heals, and tells apart what went wrong: with the connection, with the data, with the lease."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import asyncpg
import pytest

from gorax_engine.errors import Unavailable
from gorax_engine.store import session as session_module
from gorax_engine.store.session import LeaseLost, RecordRejected, Session, open_session
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import World, until

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{}'; END $$"


@pytest.fixture
async def session(world: World) -> AsyncIterator[Session]:  # noqa: F811
    async with open_session(world.dsn, "gorax_worker") as session:
        yield session


async def pid(session: Session) -> int:
    return int((await session.fetch("SELECT pg_backend_pid() AS pid"))[0]["pid"])


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("GX001", LeaseLost),
        ("22P05", RecordRejected), ("23514", RecordRejected), ("54000", RecordRejected),
        ("40P01", Unavailable), ("40001", Unavailable), ("55P03", Unavailable), ("57014", Unavailable),
        ("53100", Unavailable), ("57P01", Unavailable), ("08006", Unavailable), ("XX000", Unavailable),
        ("25006", Unavailable),
        ("42P01", asyncpg.UndefinedTableError), ("42501", asyncpg.InsufficientPrivilegeError),
    ],
)  # fmt: skip
async def test_errors_are_told_apart(session: Session, sqlstate: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        await session.fetch(RAISE.format(sqlstate))
    if isinstance(raised.value, RecordRejected):
        assert raised.value.sqlstate == sqlstate
    assert (await session.fetch("SELECT 1 AS one"))[0]["one"] == 1


async def test_it_runs_as_its_role_with_short_timeouts(session: Session) -> None:
    (row,) = await session.fetch(
        "SELECT current_user AS role, current_setting('statement_timeout') AS statement, "
        "current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('lock_timeout') AS lock"
    )
    assert tuple(row) == ("gorax_worker", "8s", "8s", "5s")  # below the lease of 15 s


async def test_a_killed_connection_is_unavailable_once_and_then_opened_again(session: Session, world: World) -> None:  # noqa: F811
    first = await pid(session)
    await world.sql.execute("SELECT pg_terminate_backend($1)", first)
    await until(lambda: _gone(world, first))
    again = None
    for _ in range(2):
        try:
            again = await pid(session)
            break
        except Unavailable:
            continue
    assert again not in (None, first)


async def _gone(world: World, pid: int) -> bool:  # noqa: F811
    return not await world.sql.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)


async def test_a_statement_that_is_cancelled_drops_its_connection(session: Session, world: World) -> None:  # noqa: F811
    """What the server does with it is unknown; its answer must not be taken for that of the next statement."""
    first = await pid(session)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.fetch, "SELECT pg_sleep(5)")
        await until(lambda: world.sql.fetchval("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"))
        tasks.cancel_scope.cancel()
    assert (await session.fetch("SELECT 7 AS seven"))[0]["seven"] == 7
    assert await pid(session) != first


async def test_a_statement_that_takes_too_long_is_unavailable(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "COMMAND_TIMEOUT", 0.05)
    with pytest.raises(Unavailable):
        await session.fetch("SELECT pg_sleep(5)")
    monkeypatch.undo()
    assert (await session.fetch("SELECT 7 AS seven"))[0]["seven"] == 7


async def test_users_take_turns(session: Session) -> None:
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append((await session.fetch("SELECT $1::int AS n", number))[0]["n"])

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(ask, number)
    assert sorted(answers) == list(range(10))


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with open_session("postgresql://gorax@127.0.0.1:1/none", None) as session:
        with pytest.raises(Unavailable):
            await session.fetch("SELECT 1")


async def test_it_can_be_used_again_after_it_was_closed(session: Session) -> None:
    first = await pid(session)
    await session.close()
    assert await pid(session) != first


async def test_what_the_driver_can_not_send_is_rejected_and_not_sent_again(session: Session) -> None:
    """It would be refused for ever, and a journal that tries it again would never write anything else."""
    with pytest.raises(RecordRejected):
        await session.fetch("SELECT $1::text", "\ud800")
    with pytest.raises(RecordRejected):
        await session.fetch("SELECT $1::bigint", 1 << 64)
