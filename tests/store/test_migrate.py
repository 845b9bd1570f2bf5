"""The migration runner, on a real server and mostly with migrations of its own."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import asyncpg
import pytest

from gorax_engine.errors import ConfigurationError, DatabaseUnreachable
from gorax_engine.store.migrate import (
    AppliedMigration,
    SchemaStatus,
    check,
    functions_directory,
    migrate,
    migrations_directory,
    read_functions,
    read_migrations,
    require_supported,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gorax_engine.store.database import Connection

pytestmark = pytest.mark.anyio


@dataclass
class Build:
    """A build of gorax with migrations that the test writes, and a database to migrate."""

    dsn: str
    migrations: Path
    functions: Path

    def write(self, file: str, text: str, phase: str = "pre") -> None:
        (self.migrations / file).write_bytes(f"-- {file}\n-- phase: {phase}\n{text}".encode())

    def write_function(self, file: str, text: str) -> None:
        (self.functions / file).write_text(text)

    async def migrate(self, *, to: int | None = None, dry_run: bool = False) -> list[str]:
        done = await migrate(
            self.dsn,
            to=to,
            dry_run=dry_run,
            migrations=self.migrations,
            functions=self.functions,
        )
        return [each.name for each in done]


@pytest.fixture
def build(database: Any, tmp_path: Path) -> Build:
    made = Build(database.dsn, tmp_path / "migrations", tmp_path / "functions")
    made.migrations.mkdir()
    made.functions.mkdir()
    made.write("001_a.sql", "CREATE TABLE a (id int);\nINSERT INTO a VALUES (1);\n")
    return made


@pytest.fixture
async def connection(build: Build) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(build.dsn)
    yield opened
    await opened.close()


async def test_files_are_applied_in_order_and_once(build: Build, connection: Connection) -> None:
    build.write("002_b.sql", "INSERT INTO a VALUES (2);\n")
    assert await build.migrate() == ["a", "b"]
    assert await build.migrate() == []
    assert await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM a") == [
        1,
        2,
    ]
    assert [tuple(row) for row in await connection.fetch("SELECT version, name FROM schema_migrations")] == [
        (1, "a"),
        (2, "b"),
    ]


async def test_to_stops_early_and_leaves_functions_out(build: Build) -> None:
    build.write("002_b.sql", "SELECT 1;\n")
    build.write_function(
        "f.sql",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    )
    assert await build.migrate(to=1) == ["a"]
    assert await build.migrate() == ["b", "f"]


async def test_a_dry_run_changes_nothing(build: Build, connection: Connection) -> None:
    assert await build.migrate(dry_run=True) == ["a"]
    assert await connection.fetchval("SELECT to_regclass('schema_migrations')") is None


async def test_four_starters_at_once_apply_everything_once(database: Any) -> None:
    results: list[list[AppliedMigration]] = []

    async def start() -> None:
        results.append(await migrate(database.dsn))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(start)
    applied = [each.version for result in results for each in result if each.version is not None]
    assert sorted(applied) == [each.version for each in read_migrations(migrations_directory())]


async def test_an_edited_file_is_refused(build: Build) -> None:
    await build.migrate()
    build.write("001_a.sql", "CREATE TABLE other (id int);\n")
    with pytest.raises(ConfigurationError, match="001_a was changed after it was applied"):
        await build.migrate()


async def test_line_ends_are_no_edit(build: Build) -> None:
    await build.migrate()
    path = build.migrations / "001_a.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert await build.migrate() == []


async def test_a_newer_schema_is_refused(build: Build) -> None:
    build.write("002_b.sql", "SELECT 1;\n")
    await build.migrate()
    (build.migrations / "002_b.sql").unlink()
    with pytest.raises(ConfigurationError, match="schema 2, newer than this version"):
        await build.migrate()


async def test_a_failing_file_leaves_nothing_of_itself(build: Build, connection: Connection) -> None:
    build.write("002_b.sql", "INSERT INTO a VALUES (2);\nSELECT 1/0;\n")
    with pytest.raises(ConfigurationError, match="002_b failed: division by zero"):
        await build.migrate()
    assert await connection.fetchval("SELECT array_agg(id) FROM a") == [1]
    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == 1


async def test_a_file_without_transaction_runs_statement_by_statement(build: Build, connection: Connection) -> None:
    await build.migrate()
    text = (
        "-- no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS a_id;\nCREATE INDEX CONCURRENTLY a_id\n    ON a (id); \n"
    )
    (build.migrations / "002_b.sql").write_text(f"-- phase: pre\n{text}")
    # A second starter polls meanwhile; were it to wait in the lock, the index could not be built.
    async with anyio.create_task_group() as group:
        group.start_soon(build.migrate)
        group.start_soon(build.migrate)
    assert await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'a_id'::regclass")


async def test_a_connection_that_breaks_on_the_way_is_no_fault_of_the_file(build: Build) -> None:
    build.write("002_b.sql", "SELECT pg_terminate_backend(pg_backend_pid());\n")
    with pytest.raises(DatabaseUnreachable, match="lost on the way"):
        await build.migrate()


async def test_a_role_that_may_not_create_tables_is_told_so(build: Build, connection: Connection) -> None:
    await connection.execute("REVOKE CREATE ON SCHEMA public FROM pg_database_owner")
    with pytest.raises(ConfigurationError, match="may not create tables"):
        await build.migrate()


async def test_a_locked_table_is_waited_for_in_short_turns(build: Build, connection: Connection) -> None:
    await build.migrate()
    build.write("002_b.sql", "ALTER TABLE a ADD COLUMN b int;\n")
    holding = connection.transaction()
    await holding.start()
    await connection.execute("LOCK TABLE a")
    async with anyio.create_task_group() as group:
        group.start_soon(build.migrate)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'a'::regclass"
        with anyio.fail_after(10):
            while not await connection.fetchval(waiting):
                await anyio.sleep(0.01)
        await holding.rollback()
    assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == 2


async def test_functions_are_installed_again_when_they_change(build: Build, connection: Connection) -> None:
    build.write_function(
        "f.sql",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    )
    assert await build.migrate() == ["a", "f"]
    assert await build.migrate() == []
    build.write_function(
        "f.sql",
        "CREATE OR REPLACE FUNCTION f(x int) RETURNS text LANGUAGE sql AS 'SELECT ''two''';",
    )
    assert await build.migrate() == ["f"]
    assert await connection.fetch("SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'f'") == [
        ("f(integer)",)
    ]


async def test_this_builds_functions_are_known_by_name() -> None:
    for each in read_functions(functions_directory()):
        assert each.functions, each.name


async def test_a_migrated_database_passes_the_check_under_every_role(
    migrated_database: Any,
) -> None:
    for role in ("gorax_app", "gorax_worker", "gorax_readonly"):
        connection = await asyncpg.connect(migrated_database.dsn, server_settings={"role": role})
        status = await check(connection)
        await connection.close()
        assert (status.problem, status.pending, status.newer, status.edited) == (
            None,
            (),
            (),
            (),
        )


async def test_an_empty_database_fails_the_check(connection: Connection) -> None:
    status = await check(connection)
    assert status.version == 0
    assert status.problem == "The database lacks 001_roles; run `gorax migrate`."


async def test_an_old_server_is_refused() -> None:
    old = SimpleNamespace(get_server_version=lambda: SimpleNamespace(major=14, minor=9))
    with pytest.raises(ConfigurationError, match=r"needs Postgres 15 or later; this server is 14\.9\."):
        require_supported(cast("Connection", old))


async def test_an_unreachable_server_and_an_unknown_database_are_told_apart(
    database: Any,
) -> None:
    with pytest.raises(DatabaseUnreachable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(ConfigurationError, match="refused the connection"):
        await migrate(database.dsn.rsplit("/", 1)[0] + "/no_such_database")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("002_b.sql", "SELECT 1;", "doesn't say `-- phase"),
        ("003_b.sql", "-- phase: pre\nSELECT 1;", "should have number 002"),
        ("002_B.sql", "-- phase: pre\nSELECT 1;", "not named NNN_snake_case"),
    ],
)
async def test_a_badly_made_file_is_refused(build: Build, file: str, text: str, message: str) -> None:
    (build.migrations / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_migrations(build.migrations)


async def test_only_a_pending_pre_migration_stops_the_daemon(build: Build) -> None:
    build.write("002_b.sql", "SELECT 1;\n", phase="post")
    first, second = read_migrations(build.migrations)
    assert SchemaStatus(1, (second,), (), (), ()).problem is None
    assert SchemaStatus(0, (first, second), (), (), ()).problem == "The database lacks 001_a; run `gorax migrate`."
    assert SchemaStatus(2, (), (), (), ("f",)).problem == "The database lacks function f; run `gorax migrate`."
