"""What is asked of the log of deliveries is answered by its index, however much others have in it."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import asyncpg
import pytest

from gorax_engine.store import queries

if TYPE_CHECKING:
    from tests.conftest import Database

pytestmark = pytest.mark.anyio

LOG = queries.load("webhook_events")
NO_TIME = "NULL::timestamptz"
QUESTIONS = {
    "list_events": ("'{tenant}'", "'{hook}'", "NULL", NO_TIME, NO_TIME, NO_TIME, "NULL", "51"),
    "replayable_events": ("'{tenant}'", "'{hook}'", "'failed'", "(now() - interval '2 hours')", NO_TIME, "100"),
    "webhook_health": ("'{tenant}'", "'{hook}'", "10000"),
}


async def test_the_log_is_read_by_its_index(migrated_database: Database) -> None:
    connection = await asyncpg.connect(migrated_database.dsn)
    try:
        tenant = await connection.fetchval("SELECT tenant_id FROM gorax_create_tenant('a', 'a')")
        hook = uuid.uuid4()
        await connection.execute(
            "INSERT INTO webhook_events (tenant_id, webhook_id, request_method, status, created_at, "
            "processing_time_ms) SELECT $1, CASE WHEN n % 100 = 0 THEN $2 ELSE gen_random_uuid() END, 'POST', "
            "(ARRAY['processed', 'filtered', 'failed'])[1 + n % 3], now() - n * interval '1 second', n % 50 "
            "FROM generate_series(1, 30000) n",
            tenant, hook,
        )  # fmt: skip
        await connection.execute("ANALYZE webhook_events")
        for name, arguments in QUESTIONS.items():
            text = LOG[name]
            for number, argument in reversed(list(enumerate(arguments, 1))):
                text = text.replace(f"${number}", argument.format(tenant=tenant, hook=hook))
            plan = "\n".join(
                row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}")
            )
            assert re.search(r"Index Scan (?:using|on) \w+_webhook_id_", plan), (name, plan)
            read = re.findall(r"(?:Index Scan using|Heap Scan on|Seq Scan on) .*?actual rows=([\d.]+)", plan)
            assert max(float(rows) for rows in read) <= 300, (name, plan)
    finally:
        await connection.close()
