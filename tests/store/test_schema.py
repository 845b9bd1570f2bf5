"""The migrated database: against the schema document, against schema.sql, and against a tenant that wants too much."""

from __future__ import annotations

import os
import re
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import pytest

from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.store.migrate import functions_directory, migrations_directory, read_functions

from . import document, rows
from .structure import TABLES, describe, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gorax_engine.store.database import Connection

pytestmark = pytest.mark.anyio

HIDDEN_FROM_APP = {"outbox", "start_keys"}
"""Tables of tenants that the API may add to but not read."""
PARTITIONED = {"executions", "step_executions", "webhook_events", "audit_logs", "ai_usage_log"}


@pytest.fixture
async def connection(migrated_database: Any) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(migrated_database.dsn)
    yield opened
    await opened.close()


@asynccontextmanager
async def acting(
    connection: Connection, role: str, tenant: uuid.UUID | None = None, user: str = ""
) -> AsyncIterator[None]:
    """Run a transaction as `role`, bound to a tenant and a user, and roll it back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"SET LOCAL ROLE {role}")
        await connection.execute(
            "SELECT set_config('app.current_tenant_id', $1, true), set_config('app.current_user_id', $2, true)",
            str(tenant or ""),
            user,
        )
        yield
    finally:
        await transaction.rollback()


async def one(connection: Connection, query: str, *arguments: object) -> asyncpg.Record:
    """Return the query's row, which must be there."""
    row: asyncpg.Record | None = await connection.fetchrow(query, *arguments)
    assert row is not None
    return row


async def refused(connection: Connection, query: str, *arguments: object) -> bool:
    """Whether the server refuses the query for want of a right or by a policy; the transaction goes on."""
    try:
        async with connection.transaction():
            await connection.execute(query, *arguments)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


async def test_every_departure_from_the_document_is_listed_and_every_listed_one_is_real(connection: Connection) -> None:
    real, listed = await document.compare(connection), document.listed()
    assert real - listed.keys() == set(), "not in docs/schema-deviations.md"
    assert listed.keys() - real == set(), "listed, but not so"
    assert len(await fetch(connection, TABLES, "document")) == 27


async def test_schema_sql_is_what_the_migrations_lead_to(connection: Connection) -> None:
    repeatable = frozenset(name for file in read_functions(functions_directory()) for name in file.functions)
    path = migrations_directory() / "schema.sql"
    text = await describe(connection, repeatable)
    if os.environ.get("GORAX_WRITE_SCHEMA"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


async def test_every_table_forces_row_level_security_unless_listed(connection: Connection) -> None:
    open_tables = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT (relrowsecurity AND relforcerowsecurity)"
    )
    assert {row["relname"] for row in open_tables} == document.unsecured()


async def test_no_tenants_table_is_missing_from_the_isolation_tests(connection: Connection) -> None:
    theirs = await connection.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    )
    tested = set(rows.values(*(uuid.uuid4() for _ in range(4))))
    assert {row["relname"] for row in theirs} <= tested


@pytest.mark.parametrize("role", ["gorax_app", "gorax_readonly"])
async def test_a_tenant_sees_its_own_rows_and_no_others(connection: Connection, role: str) -> None:
    ours, theirs = await rows.fill(connection, "ours"), await rows.fill(connection, "theirs")
    unread = []
    async with acting(connection, role, ours.tenant, str(ours.user)):
        for table, row in ours.values.items():
            if "tenant_id" not in row:
                continue
            if not await connection.fetchval("SELECT has_column_privilege($1, 'tenant_id', 'SELECT')", table):
                unread.append(table)
                continue
            seen = {each["tenant_id"] for each in await connection.fetch(f"SELECT tenant_id FROM {table}")}
            assert seen == {ours.tenant}, table
        assert await connection.fetchval("SELECT array_agg(id) FROM tenants") == [ours.tenant]
    assert set(unread) == (HIDDEN_FROM_APP if role == "gorax_app" else {"outbox", "start_keys", "request_idempotency"})
    assert theirs.tenant != ours.tenant


async def test_a_tenant_writes_no_rows_of_another(connection: Connection) -> None:
    ours, theirs = await rows.fill(connection, "ours"), await rows.fill(connection, "theirs")
    async with acting(connection, "gorax_app", ours.tenant, str(ours.user)):
        for table, row in theirs.values.items():
            fresh = row | {name: uuid.uuid4() for name in ("id", "step_id") if isinstance(row.get(name), uuid.UUID)}
            marks = ", ".join(f"${number}" for number in range(1, len(fresh) + 1))
            query = f"INSERT INTO {table} ({', '.join(fresh)}) VALUES ({marks})"
            assert await refused(connection, query, *fresh.values()), f"insert into {table}"
            if "tenant_id" in row:
                assert await refused(connection, f"UPDATE {table} SET tenant_id = $1", theirs.tenant), (
                    f"update of {table}"
                )


async def test_no_tenant_no_rows_and_no_error(connection: Connection) -> None:
    await rows.fill(connection, "ours")
    async with acting(connection, "gorax_app"):
        assert await connection.fetchval("SELECT count(*) FROM workflows") == 0
    await connection.execute("SET ROLE gorax_app")
    # After a SET LOCAL has ended the setting is '', not NULL.
    assert await connection.fetchval("SELECT current_setting('app.current_tenant_id', true)") == ""
    assert await connection.fetchval("SELECT count(*) FROM executions") == 0


async def test_the_engine_sees_all_tenants(connection: Connection) -> None:
    ours, theirs = await rows.fill(connection, "ours"), await rows.fill(connection, "theirs")
    async with acting(connection, "gorax_worker"):
        for table in (
            "tenants",
            "workflows",
            "executions",
            "step_executions",
            "execution_queue",
            "waits",
            "credentials",
        ):
            key = "id" if table == "tenants" else "tenant_id"
            seen = {each[0] for each in await connection.fetch(f"SELECT {key} FROM {table}")}
            assert seen == {ours.tenant, theirs.tenant}, table


async def test_notifications_are_their_users_own(connection: Connection) -> None:
    ours = await rows.fill(connection, "ours")
    row = {**ours.values["notifications"], "user_id": "somebody else"}
    await rows.insert(connection, "notifications", row)
    async with acting(connection, "gorax_app", ours.tenant, str(ours.user)):
        assert await connection.fetch("SELECT DISTINCT user_id FROM notifications") == [(str(ours.user),)]
        assert await connection.execute("DELETE FROM notifications") == "DELETE 1"
        await rows.insert(connection, "notifications", row)  # telling a colleague is allowed
    async with acting(connection, "gorax_app", ours.tenant):
        assert await connection.fetchval("SELECT count(*) FROM notifications") == 0


async def test_public_templates_are_read_by_all_and_written_by_their_tenant(connection: Connection) -> None:
    ours, theirs = await rows.fill(connection, "ours"), await rows.fill(connection, "theirs")
    await connection.execute("UPDATE workflow_templates SET is_public = true WHERE tenant_id = $1", theirs.tenant)
    async with acting(connection, "gorax_app", ours.tenant):
        for table in ("workflow_templates", "marketplace_templates"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 2
            assert await connection.execute(f"UPDATE {table} SET description = 'mine now'") == "UPDATE 1"
            assert await connection.execute(f"DELETE FROM {table}") == "DELETE 1"
        assert await connection.fetchval("SELECT count(*) FROM marketplace_template_versions") == 1


async def test_keys_hold_a_row_inside_its_tenant(connection: Connection) -> None:
    ours, theirs = await rows.fill(connection, "ours"), await rows.fill(connection, "theirs")
    crossing = {
        "workflow_versions": {"workflow_id": theirs.values["workflows"]["id"], "version": 2},
        "webhooks": {"workflow_id": theirs.values["workflows"]["id"], "id": uuid.uuid4(), "path": "new"},
        "webhook_filters": {"webhook_id": theirs.values["webhooks"]["id"]},
        "schedules": {"workflow_id": theirs.values["workflows"]["id"], "id": uuid.uuid4()},
        "schedule_occurrences": {
            "schedule_id": theirs.values["schedules"]["id"],
            "scheduled_for": rows.EPOCH + timedelta(days=1),
        },
        "human_tasks": {"completed_by": theirs.user, "id": uuid.uuid4(), "step_id": "new"},
        "task_mails": {"task_id": theirs.values["human_tasks"]["id"]},
        "human_task_assignees": {"task_id": theirs.values["human_tasks"]["id"]},
        "user_roles": {"user_id": theirs.user},
        "role_permissions": {"role_id": theirs.values["role_permissions"]["role_id"]},
        "api_keys": {"user_id": theirs.user, "key_hash": b"new"},
        "marketplace_installations": {"workflow_id": theirs.values["workflows"]["id"]},
    }
    await connection.execute("DELETE FROM user_roles; DELETE FROM role_permissions")
    for table, changes in crossing.items():
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await rows.insert(connection, table, {**ours.values[table], **changes})


async def test_a_tenant_can_be_deleted_with_all_that_hangs_on_it(connection: Connection) -> None:
    ours, theirs = await rows.fill(connection, "ours"), await rows.fill(connection, "theirs")
    await connection.execute("DELETE FROM tenants WHERE id = $1", ours.tenant)
    for table in ("users", "workflows", "webhooks", "human_tasks", "credentials", "user_roles"):
        left = {each["tenant_id"] for each in await connection.fetch(f"SELECT tenant_id FROM {table}")}
        assert left == {theirs.tenant}, table


async def test_the_access_log_outlives_the_credential(connection: Connection) -> None:
    ours = await rows.fill(connection, "ours")
    await connection.execute("DELETE FROM credentials")
    assert await connection.fetchval("SELECT count(*) FROM credential_access_log") == 1
    async with acting(connection, "gorax_app", ours.tenant):
        for table in ("credential_access_log", "credential_rotations", "audit_logs"):
            assert await refused(connection, f"DELETE FROM {table}"), table
            assert await refused(connection, f"UPDATE {table} SET id = id"), table


@pytest.mark.parametrize("role", ["gorax_app", "gorax_worker", "gorax_readonly"])
async def test_partitions_are_reached_through_their_parent_alone(connection: Connection, role: str) -> None:
    partitions = await connection.fetch("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")
    assert len(partitions) == 5 * len(PARTITIONED)
    async with acting(connection, role):
        for row in partitions:
            assert await refused(connection, f"SELECT FROM {row['relname']}"), row["relname"]


async def test_the_check_constraints_are_the_state_tables(connection: Connection) -> None:
    for table, states in (("executions", ExecutionState), ("step_executions", StepState)):
        definition = await connection.fetchval(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1 AND conrelid = $2::regclass",
            f"chk_{table}_status",
            table,
        )
        assert set(re.findall(r"'(\w+)'", definition)) == {state.value for state in states}


async def test_ids_rise_and_carry_the_databases_time(connection: Connection) -> None:
    made = await connection.fetch(
        "SELECT id, gorax_uuid7_time(id) AS at, clock_timestamp() AS now FROM"
        " (SELECT gorax_uuid7() AS id FROM generate_series(1, 5000) OFFSET 0) AS x"
    )
    ids = [row["id"] for row in made]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
    assert all(uuid.UUID(str(each)).version == 7 and uuid.UUID(str(each)).variant == uuid.RFC_4122 for each in ids)
    assert all(timedelta(0) <= row["now"] - row["at"] < timedelta(seconds=30) for row in made)


@pytest.mark.parametrize("milliseconds", [0, 1, 1_700_000_000_123, 1_767_225_599_999, 4_102_444_800_001])
async def test_time_goes_into_an_id_and_back(connection: Connection, milliseconds: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds, microseconds=999)
    floor = await connection.fetchval("SELECT gorax_uuid7_floor($1)", at)
    assert floor.int >> 80 == milliseconds
    assert await connection.fetchval("SELECT gorax_uuid7_time($1)", floor) == at - timedelta(microseconds=999)
    assert await connection.fetchval("SELECT gorax_uuid7_time($1)", uuid.uuid4()) is None


async def test_partitions_are_made_once_however_many_ask(migrated_database: Any, connection: Connection) -> None:
    made: list[int] = []

    async def ensure() -> None:
        own = await asyncpg.connect(migrated_database.dsn, server_settings={"role": "gorax_worker"})
        made.append(await own.fetchval("SELECT gorax_ensure_partitions(6)"))
        await own.close()

    assert await connection.fetchval("SELECT gorax_partition_months_ahead()") == 3
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ensure)
    assert sorted(made) == [0, 0, 3 * len(PARTITIONED)]
    assert await connection.fetchval("SELECT gorax_partition_months_ahead()") == 6


async def test_a_months_rows_go_to_its_partition_and_look_ups_prune(connection: Connection) -> None:
    ours = await rows.fill(connection, "ours")
    placed = await one(connection, "SELECT id, tableoid::regclass::text AS place FROM executions")
    assert placed["place"] == f"executions_{datetime.now(UTC):%Y_%m}"
    plan = await connection.fetch("EXPLAIN SELECT * FROM executions WHERE id = $1", placed["id"])
    assert sum("Index Scan" in row[0] for row in plan) == 1
    with pytest.raises(asyncpg.CheckViolationError, match="no partition of relation"):
        await rows.insert(connection, "executions", {**ours.values["executions"], "id": uuid.uuid4()})


async def test_a_key_is_known_only_while_it_lives(connection: Connection) -> None:
    ours = await rows.fill(connection, "ours")
    key = ours.values["api_keys"]["key_hash"]
    who = "SELECT * FROM gorax_authenticate_api_key($1)"
    for role in ("gorax_app", "gorax_worker"):
        async with acting(connection, role):
            found = await one(connection, who, key)
            assert (found["tenant_id"], found["user_id"], found["tenant_status"]) == (ours.tenant, ours.user, "active")
            assert "workflow:execute" in found["permissions"]
            assert await connection.fetchrow(who, b"other") is None
    async with acting(connection, "gorax_readonly"):
        assert await refused(connection, who, key)
        assert await refused(connection, "SELECT secret FROM webhooks")
        assert await refused(connection, "SELECT previous_secret FROM webhooks")
    for change in (
        "UPDATE api_keys SET revoked_at = now()",
        "UPDATE api_keys SET expires_at = now()",
        "UPDATE users SET status = 'suspended'",
    ):
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(change)
        assert await connection.fetchrow(who, key) is None, change
        await transaction.rollback()


async def test_system_roles_have_their_permissions(connection: Connection) -> None:
    tenant = (await rows.fill(connection, "ours")).tenant
    granted = await connection.fetch(
        "SELECT r.name, array_agg(p.resource || ':' || p.action) AS permissions FROM roles r"
        " JOIN role_permissions rp ON rp.role_id = r.id JOIN permissions p ON p.id = rp.permission_id"
        " WHERE r.tenant_id = $1 AND r.is_system GROUP BY r.name",
        tenant,
    )
    by_role = {row["name"]: set(row["permissions"]) for row in granted}
    assert by_role["viewer"] < by_role["editor"] < by_role["admin"]
    assert len(by_role["admin"]) == await connection.fetchval("SELECT count(*) FROM permissions")
    assert all(permission.endswith(":read") for permission in by_role["viewer"])
    assert "user:create" not in by_role["editor"]


async def test_the_cost_of_small_and_of_huge_calls(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO ai_model_pricing"
        " (provider, model, input_cost_per_million, output_cost_per_million, context_window)"
        " VALUES ('openai', 'gpt-4o', 500, 1500, 128000)"
    )
    cost = "SELECT estimate_ai_cost('openai', $1, $2, $3)"
    assert await connection.fetchval(cost, "gpt-4o", 100, 10) == Decimal("0.065")
    assert await connection.fetchval(cost, "gpt-4o", 3_000_000_000, 3_000_000_000) == 6_000_000
    assert await connection.fetchval(cost, "unknown", 1, 1) is None
