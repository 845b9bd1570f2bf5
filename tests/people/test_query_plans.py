"""Lists of tasks and the watch over them go by indexes, under row-level security too, however many tasks there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from gorax_engine.people import decisions
from gorax_engine.store import human_tasks, notifications, queries
from gorax_engine.store.human_tasks import TaskFilter

from .office import Office, make_office

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection, Database

pytestmark = pytest.mark.anyio

MANY = 6_000
TABLES = ("human_tasks", "human_task_assignees", "notifications", "task_mails")
SCANS = """
    SELECT relname, coalesce(seq_scan, 0) AS seq_scan, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows
      FROM pg_stat_xact_user_tables WHERE relname = ANY ($1)
"""
FILL = """
    WITH made AS (
        INSERT INTO human_tasks (id, tenant_id, execution_id, step_id, task_type, title, assignees, status)
        SELECT gorax_uuid7(), $1, gen_random_uuid(), gen_random_uuid()::text, 'approval', 't', '[]',
               CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'approved' END
          FROM generate_series(1, $2) n
        RETURNING id, status
    )
    INSERT INTO human_task_assignees (tenant_id, task_id, kind, assignee, is_open)
    SELECT $1, id, 'role', $3, status = 'pending' FROM made
"""


@pytest.fixture
async def full(owner: asyncpg.Connection[Any], office: Office) -> Office:
    """6,000 tasks of the tenant for a role that ann lacks, 1,000 decided ones of hers, as many of another tenant."""
    other = await make_office(owner, "other")
    for tenant, role, count in ((other.tenant, "approvers", 1_000), (office.tenant, "crowd", MANY),
                                (office.tenant, "approvers", 1_000)):  # fmt: skip
        await owner.execute(FILL, tenant, count, role)
    await owner.execute(
        "UPDATE human_task_assignees SET is_open = false WHERE tenant_id = $1 AND assignee = 'approvers'", office.tenant
    )
    await owner.execute(
        "INSERT INTO notifications (tenant_id, user_id, title, message, type)"
        " SELECT $1, (ARRAY[$2, 'somebody'])[1 + n % 2], 't', 'm', 'info' FROM generate_series(1, $3) n",
        office.tenant, str(office.users["ann"]), MANY,
    )  # fmt: skip
    await owner.execute("VACUUM ANALYZE human_tasks, human_task_assignees, notifications")
    return office


@asynccontextmanager
async def reading(connection: Connection, rows: int) -> AsyncIterator[None]:
    """The body reads no table through, and of each at most so many rows."""
    before = {row["relname"]: row for row in await connection.fetch(SCANS, list(TABLES))}
    yield
    for row in await connection.fetch(SCANS, list(TABLES)):
        old = before[row["relname"]]
        read = row["rows"] - old["rows"]
        assert read <= rows, row["relname"]
        assert row["seq_scan"] == old["seq_scan"] or not read, row["relname"]


async def test_lists(pools: Database, full: Office) -> None:
    task = await full.open("ann", due_date="2001-01-01T00:00:00Z")
    ann = full.principal("ann")
    async with pools.tenant(ann.tenant_id, ann.user_id) as connection:
        asked = await decisions.assignees_of(connection, ann.tenant_id, ann.user_id)
        for status, overdue, count, rows in (
            ("pending", None, 1, 2), ("approved", None, 51, 70), (None, None, 51, 70), (None, True, 1, 2),
        ):  # fmt: skip
            async with reading(connection, rows):
                wanted = TaskFilter(status, overdue, None, asked)
                found = await human_tasks.list_page(connection, ann.tenant_id, wanted, None, 51)
            assert len(found) == count
            assert (found[0]["id"] == task.id) is (status != "approved")
        for wanted in (TaskFilter(), TaskFilter("pending")):
            async with reading(connection, 110):
                first = await human_tasks.list_page(connection, full.tenant, wanted, None, 50)
                second = await human_tasks.list_page(connection, full.tenant, wanted, first[-1]["id"], 50)
            assert len(second) == 50
        async with reading(connection, 2):
            wanted = TaskFilter(execution_id=task.execution_id)
            assert len(await human_tasks.list_page(connection, full.tenant, wanted, None, 50)) == 1
        for unread in (None, True):
            async with reading(connection, 60):
                told = await notifications.list_page(
                    connection, ann.tenant_id, ann.user_id, unread=unread, after=None, limit=50
                )
            assert len(told) == 50


async def test_what_the_clock_and_the_engine_ask(full: Office, owner: asyncpg.Connection[Any]) -> None:
    task = await full.open("ann", limit_at="2001-01-01T00:00:00Z")
    for _ in range(7):  # a cached plan is no worse than the first
        async with owner.transaction():
            await owner.execute("SET LOCAL ROLE gorax_worker")
            async with reading(owner, 3):
                assert len(await owner.fetch(queries.load("task_deadlines").due_tasks, 500)) == 1
                await owner.execute("SELECT gorax_close_tasks(ARRAY[gen_random_uuid(), gen_random_uuid()])")
    assert await full.close(task.step_id) == 1
