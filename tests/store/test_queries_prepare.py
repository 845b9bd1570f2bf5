"""Every named query is valid on the schema, for the role that runs it, and is used by the code."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from gorax_engine.store import queries
from gorax_engine.store.database import session_settings
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import World

SOURCE = Path(queries.__file__).parents[1]
FILES = sorted(file.stem for file in (SOURCE / "store" / "sql").glob("*.sql"))
UTILITY = re.compile(
    r"^(?:VACUUM|ANALYZE|TRUNCATE|CREATE|ALTER|DROP|SET|GRANT|DO|LOCK|CHECKPOINT|COMMENT)\b", re.IGNORECASE
)
WORKER_FILES = ("queue", "workers", "maintenance", "scheduler")


@pytest.mark.parametrize("file", FILES)
async def test_every_query_can_be_prepared(world: World, file: str) -> None:  # noqa: F811
    refused = {}
    for name in queries.load(file):
        text = queries.load(file)[name]
        if UTILITY.match(text):
            continue  # nothing to plan
        try:
            await world.sql.prepare(text)
        except asyncpg.PostgresError as error:
            refused[name] = str(error)
    assert not refused


@pytest.mark.parametrize("file", WORKER_FILES)
async def test_what_the_engine_asks_it_may_ask(world: World, file: str) -> None:  # noqa: F811
    """Privileges are checked when a plan is executed: EXPLAIN starts it, and goes no further."""
    connection = await asyncpg.connect(world.dsn, server_settings=session_settings("gorax_worker"))
    try:
        refused = {}
        for name in queries.load(file):
            text = queries.load(file)[name]
            statement = await connection.prepare(text)
            nulls = ", ".join(f"NULL::{parameter.name}" for parameter in statement.get_parameters())
            named = f"ask_{name}"
            await connection.execute(f"PREPARE {named} AS {text}")
            try:
                await connection.execute(f"EXPLAIN EXECUTE {named}" + (f"({nulls})" if nulls else ""))
            except asyncpg.PostgresError as error:
                refused[name] = str(error)
        assert not refused
    finally:
        await connection.close()


@pytest.mark.parametrize("file", FILES)
def test_every_query_is_used(file: str) -> None:
    users = [
        text
        for path in SOURCE.rglob("*.py")
        if re.search(rf"""load\(["']{file}["']\)""", text := path.read_text(encoding="utf-8"))
    ]
    assert users, f"nobody loads {file}.sql"
    unused = {
        name
        for name in queries.load(file)
        if not any(re.search(rf"\b(?:_SQL|_sql|sql|SQL)\.{name}\b", t) for t in users)
    }
    assert not unused
