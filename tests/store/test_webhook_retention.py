"""Webhook events are kept for as long as their tenant says: in batches, by an index, in old partitions only."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from gorax_engine.ops.duties import maintenance_duties
from gorax_engine.store import maintenance, queries
from gorax_engine.store.session import Session, open_session

if TYPE_CHECKING:
    from tests.conftest import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
async def owner(migrated_database: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(migrated_database.dsn)
    first = await connection.fetchval(
        "SELECT gorax_uuid7_floor((date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month') "
        "AT TIME ZONE 'UTC')"
    )
    await connection.execute(
        "CREATE TABLE webhook_events_old PARTITION OF webhook_events "
        f"FOR VALUES FROM ('{uuid.UUID(int=0)}') TO ('{first}')"
    )
    yield connection
    await connection.close()


@pytest.fixture
async def session(migrated_database: Database) -> AsyncIterator[Session]:
    async with open_session(migrated_database.dsn, "gorax_worker") as opened:
        yield opened


async def tenant(owner: asyncpg.Connection[Any], name: str, days: object = None) -> uuid.UUID:
    made: uuid.UUID = await owner.fetchval("SELECT tenant_id FROM gorax_create_tenant($1, $1)", name)
    if days is not None:
        settings = json.dumps({"webhook_event_retention_days": days})
        await owner.execute("UPDATE tenants SET settings = $2 WHERE id = $1", made, settings)
    return made


async def fill(owner: asyncpg.Connection[Any], tenant_id: uuid.UUID, days: float, count: int = 1) -> None:
    """Add events of that age."""
    await owner.execute(
        "INSERT INTO webhook_events (id, tenant_id, webhook_id, request_method, status, created_at) "
        "SELECT overlay(gen_random_uuid()::text PLACING left(gorax_uuid7_floor(at)::text, 15) FROM 1)::uuid, $1, "
        "gen_random_uuid(), 'POST', "
        "(ARRAY['received', 'processed', 'filtered', 'failed'])[1 + n % 4], at "
        "FROM generate_series(1, $3) n, (SELECT now() - make_interval(secs => $2::float8 * 86400) AS at) a",
        tenant_id, days, count,
    )  # fmt: skip


async def ages(owner: asyncpg.Connection[Any], tenant_id: uuid.UUID) -> list[int]:
    rows = await owner.fetch(
        "SELECT round(extract(epoch FROM now() - created_at) / 8640)::int AS age FROM webhook_events "
        "WHERE tenant_id = $1 ORDER BY 1", tenant_id,
    )  # fmt: skip
    return [row["age"] for row in rows]


@pytest.mark.parametrize(
    ("days", "kept"),
    [
        (None, [5, 20, 299]),
        (1, [5]),
        ("2", [5]),
        (365, [5, 20, 299, 301, 3640]),
        (400, [5, 20, 299, 301, 3640]),
        (0, [5]),
        ("soon", [5, 20, 299]),
        (-3, [5, 20, 299]),
        ({"a": 1}, [5, 20, 299]),
    ],
)
async def test_each_tenant_has_its_span(
    owner: asyncpg.Connection[Any], session: Session, days: object, kept: list[int]
) -> None:
    mine, other = await tenant(owner, "mine", days), await tenant(owner, "other", 365)
    for age in (0.5, 2.001, 29.9, 30.1, 364.0, 366.0):
        await fill(owner, mine, age)
    await fill(owner, other, 100.0)
    (duty,) = [each for each in maintenance_duties(session, None) if each.name == "webhook_events"]  # type: ignore[arg-type]
    await duty.run_once()
    assert await ages(owner, mine) == kept
    assert await ages(owner, other) == [1000]


async def test_it_goes_in_batches_and_leaves_young_partitions_closed(
    owner: asyncpg.Connection[Any], session: Session
) -> None:
    mine, other = await tenant(owner, "mine"), await tenant(owner, "other", 365)
    await fill(owner, other, 40.0, 5_000)
    await fill(owner, mine, 70.0, 1_500)
    await fill(owner, mine, 0.1, 500)
    await owner.execute("ANALYZE webhook_events")
    plan = "\n".join(
        row[0]
        for row in await owner.fetch(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "
            + queries.load("maintenance").expire_webhook_events.replace("$1", "100")
        )
    )
    assert "tenant_id_status_created_at_idx on webhook_events_old" in plan
    assert "Seq Scan on webhook_events" not in plan
    coming = await owner.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM')")
    # Postgres 15 names every partition as a target; what counts is that it isn't looked through.
    read = [line for line in plan.splitlines() if "Delete on" not in line and "never executed" not in line]
    assert not any(f"webhook_events_{coming} webhook_events" in line for line in read), plan
    assert await maintenance.expire_webhook_events(session, 1_000) == 1_000
    assert await maintenance.expire_webhook_events(session, 1_000) == 400
    assert await maintenance.expire_webhook_events(session, 1_000) == 0
    assert (len(await ages(owner, mine)), len(await ages(owner, other))) == (500, 5_000)
