"""`gorax_start_workflow` and the admission of starts: what another application's transaction may begin, and whose."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import asyncpg
import pytest
from pydantic import SecretStr

from gorax_engine.engine.starting import Refusal, StartKey, StartRequest, WebhookDelivery
from gorax_engine.errors import TooManyRequests
from gorax_engine.settings import DatabaseSettings
from gorax_engine.store.database import open_database
from gorax_engine.store.operator import map_database_user
from gorax_engine.telemetry import QuotaRejected, Telemetry, TelemetryEvent
from gorax_engine.triggers.admission import Admission
from tests.engine.harness import Flow, World, chain, tally

SIMPLE = chain(tally("a"))
START = "SELECT gorax_start_workflow($1, $2, $3)"


@pytest.fixture
async def shop(world: World) -> AsyncIterator[str]:
    """A database user of another application: it has no right to any table of the engine."""
    role = f"shop_{secrets.token_hex(4)}"
    await world.sql.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    yield role
    await world.sql.execute(
        f"DELETE FROM database_users WHERE role_name = '{role}'; DROP OWNED BY {role}; DROP ROLE {role}"
    )


@asynccontextmanager
async def session(world: World, role: str) -> AsyncIterator[Any]:
    parts = urlsplit(world.dsn)
    host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    dsn = urlunsplit(parts._replace(netloc=f"{role}:x@{host}"))
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def named(world: World, flow: Flow) -> str:
    name: str = await world.sql.fetchval("SELECT name FROM workflows WHERE id = $1", flow.id)
    return name


async def test_a_run_exists_if_the_callers_transaction_commits(world: World, shop: str) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    await map_database_user(world.sql, shop, flow.tenant)
    await world.member()
    async with session(world, shop) as connection:
        await connection.execute("CREATE TEMP TABLE orders (id int)")
        transaction = connection.transaction()
        await transaction.start()
        lost = await connection.fetchval(START, name, '{"order": 1}', None)
        await transaction.rollback()
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES (2)")
            kept = await connection.fetchval(START, name, '{"order": 2}', None)
    run = await world.ended(kept)
    assert (run["status"], run["trigger_type"], run["tenant_id"]) == ("completed", "sql", flow.tenant)
    assert json.loads(run["trigger_data"]) == {"body": {"order": 2}}
    assert await world.sql.fetchval("SELECT count(*) FROM executions WHERE id = $1", lost) == 0


async def test_a_repeat_gets_its_answer_however_full_the_queue_is(world: World, shop: str) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    await map_database_user(world.sql, shop, flow.tenant)
    await world.sql.execute("UPDATE tenants SET quotas = '{\"max_queued_executions\": 1}'")
    async with session(world, shop) as connection:
        first = await connection.fetchval(START, name, "[1]", "k")
        with pytest.raises(asyncpg.ConfigurationLimitExceededError):
            await connection.fetchval(START, name, "[1]", "other")
        assert await connection.fetchval(START, name, "[1]", "k") == first


async def test_a_key_starts_once(world: World, shop: str) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    await map_database_user(world.sql, shop, flow.tenant)
    async with session(world, shop) as one, session(world, shop) as two:
        first = await one.fetchval(START, name, "[1]", "k")
        assert await two.fetchval(START, name, " [ 1 ] ", "k") == first
        with pytest.raises(asyncpg.UniqueViolationError, match="used with another"):
            await two.fetchval(START, name, "[2]", "k")
        # The second asks while the first is not committed: it waits, and gets the same.
        transaction = one.transaction()
        await transaction.start()
        held = await one.fetchval(START, name, "[1]", "held")
        answers: list[uuid.UUID] = []
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                answers.append(await two.fetchval(START, name, "[1]", "held"))

            tasks.start_soon(ask)
            await world.blocked()
            await transaction.commit()
        assert answers == [held]
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 2


async def test_a_user_starts_workflows_of_its_tenant_alone(world: World, shop: str) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    other = await world.tenant()
    async with session(world, shop) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="starts workflows of no tenant"):
            await connection.fetchval(START, name, "{}", None)
        await map_database_user(world.sql, shop, other)
        await connection.execute("SELECT set_config('app.current_tenant_id', $1::text, false)", str(flow.tenant))
        with pytest.raises(asyncpg.NoDataFoundError):
            await connection.fetchval(START, name, "{}", None)
        assert await map_database_user(world.sql, shop, flow.tenant) == other
        assert await connection.fetchval(START, name, "{}", None)
        for table in ("executions", "execution_queue", "start_keys", "database_users", "tenants"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {table}")
        # Nor does a table of its own stand in for the engine's.
        await connection.execute("CREATE TEMP TABLE database_users (role_name name, tenant_id uuid)")
        await connection.execute("INSERT INTO pg_temp.database_users VALUES (current_user, $1)", other)
        assert await connection.fetchval(START, name, "{}", None)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("UPDATE workflows SET status = 'inactive'", asyncpg.ObjectNotInPrerequisiteStateError),
        ("UPDATE workflows SET status = 'archived'", asyncpg.NoDataFoundError),
        ("UPDATE workflows SET published_version = NULL", asyncpg.ObjectNotInPrerequisiteStateError),
        ("UPDATE tenants SET status = 'suspended'", asyncpg.InsufficientPrivilegeError),
        ("UPDATE tenants SET quotas = '{\"max_queued_executions\": 0}'", asyncpg.ConfigurationLimitExceededError),
    ],
)
async def test_what_can_not_be_started_raises(world: World, shop: str, change: str, error: type[Exception]) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    await map_database_user(world.sql, shop, flow.tenant)
    await world.sql.execute(change)
    async with session(world, shop) as connection:
        with pytest.raises(error):
            await connection.fetchval(START, name, "{}", "k")
    assert await world.sql.fetchval("SELECT count(*) FROM start_keys") == 0


async def test_bad_arguments_raise(world: World, shop: str) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    await map_database_user(world.sql, shop, flow.tenant)
    async with session(world, shop) as connection:
        for arguments, error in (
            ((None, "{}", None), asyncpg.InvalidParameterValueError),
            (("x" * 256, "{}", None), asyncpg.InvalidParameterValueError),
            ((name, "{}", ""), asyncpg.InvalidParameterValueError),
            ((name, "{}", "x" * 256), asyncpg.InvalidParameterValueError),
            ((name, f'"{"x" * 1_048_576}"', None), asyncpg.ProgramLimitExceededError),
            (("nothing", "{}", None), asyncpg.NoDataFoundError),
            ((name, "[" * 65 + "]" * 65, None), asyncpg.ProgramLimitExceededError),
            ((name, '{"n": [1e70]}', None), asyncpg.NumericValueOutOfRangeError),
        ):
            with pytest.raises(error):
                await connection.fetchval(START, *arguments)
        assert await world.sql.fetchval("SELECT count(*) FROM executions") == 0
        assert await connection.fetchval(START, name, "[" * 64 + "]" * 64, None)


async def test_who_may_create_in_public_starts_nothing(world: World, shop: str) -> None:
    flow = await world.flow(SIMPLE)
    name = await named(world, flow)
    await map_database_user(world.sql, shop, flow.tenant)
    await world.sql.execute(f"GRANT CREATE ON SCHEMA public TO {shop}")
    async with session(world, shop) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="may create objects"):
            await connection.fetchval(START, name, "{}", None)


async def test_a_run_that_can_not_be_read_fails_alone(world: World) -> None:
    flow = await world.flow(SIMPLE)
    member = await world.member(roles=())
    bad = [await member.start(flow) for _ in range(2)]
    for execution, data in zip(bad, ("[" * 1500 + "]" * 1500, "1" + "0" * 5000), strict=True):
        await world.sql.execute(
            "UPDATE executions SET trigger_data = $2::text::jsonb WHERE id = $1", execution.execution_id, data
        )
    good = await member.start(flow)
    worker = await world.member("reader")
    for execution in bad:
        run = await world.ended(execution.execution_id)
        assert (run["status"], run["error_code"]) == ("failed", "internal_error")
    assert (await world.ended(good.execution_id))["status"] == "completed"
    assert not worker.gone.is_set()


async def test_a_full_queue_refuses_and_drops_nothing(world: World) -> None:
    member = await world.member(roles=())
    flow = await world.flow(SIMPLE)
    heard: list[TelemetryEvent] = []
    telemetry = Telemetry()
    telemetry.subscribe(heard.append)
    async with open_database(DatabaseSettings(dsn=SecretStr(world.dsn))) as database:

        async def check(tenant: uuid.UUID, depth: int, age: int) -> None:
            await Admission(database, telemetry, depth, age).check(tenant)

        async def reached(quota: str, depth: int, age: int) -> None:
            with pytest.raises(TooManyRequests, match=quota) as caught:
                await check(flow.tenant, depth, age)
            assert (caught.value.code, caught.value.retry_after) == ("queue_full", 5)

        for _ in range(3):
            await member.engine.operations.start(StartRequest(flow.tenant, flow.id, "api", {"body": None}))
        await check(flow.tenant, 4, 0)
        await reached("max_queued_executions", 3, 0)
        await check(flow.tenant, 0, 0)
        key = StartKey("idempotency", "k", None, timedelta(days=1))
        await member.engine.operations.start(StartRequest(flow.tenant, flow.id, "api", {}, start_key=key))
        await Admission(database, telemetry, 1, 0).check(flow.tenant, key)  # a repeat is owed its answer
        with pytest.raises(TooManyRequests):
            await Admission(database, telemetry, 1, 0).check(flow.tenant, replace(key, key="other"))
        await check(await world.tenant(), 3, 0)
        await world.sql.execute("UPDATE execution_queue SET ready_at = ready_at - interval '1 minute'")
        await reached("max_queue_age_seconds", 0, 59)
        await check(flow.tenant, 0, 120)
        quotas = "UPDATE tenants SET quotas = $2 WHERE id = $1"
        await world.sql.execute(quotas, flow.tenant, '{"max_queued_executions": 10, "max_queue_age_seconds": 300}')
        await check(flow.tenant, 1, 1)
        await world.sql.execute(quotas, flow.tenant, '{"max_queued_executions": -1, "max_queue_age_seconds": -1}')
        await check(flow.tenant, 1, 1)
        await world.sql.execute(quotas, flow.tenant, '{"max_queued_executions": "many"}')
        await reached("max_queued_executions", 3, 0)
        await world.sql.execute("UPDATE execution_queue SET paused = true")
        await check(flow.tenant, 3, 59)
    depth, age = QuotaRejected("max_queued_executions"), QuotaRejected("max_queue_age_seconds")
    assert heard == [depth, depth, age, depth]
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 4


async def test_refused_deliveries_are_rows_and_nothing_else(world: World) -> None:
    member = await world.member(roles=())
    flow = await world.flow(SIMPLE)
    hook = await world.sql.fetchval(
        "INSERT INTO webhooks (tenant_id, workflow_id, node_id, path) VALUES ($1, $2, 'h', $3) RETURNING id",
        flow.tenant, flow.id, secrets.token_hex(8),
    )  # fmt: skip

    def delivery(refusal: Refusal | None, body: Any = None) -> StartRequest:
        sent = WebhookDelivery(
            hook, "POST", "/webhooks/h", {"q": "1"}, {"a": "b"}, body, b"\xff", "2001:db8::1", 0.25, refusal
        )
        return StartRequest(flow.tenant, flow.id, "webhook", {"body": body}, delivery=sent)

    operations = member.engine.operations
    async with anyio.create_task_group() as tasks:  # one group: they are committed together
        tasks.start_soon(operations.start, delivery(None, {"n": 1}))
        tasks.start_soon(operations.record, delivery(Refusal("filtered", "no match: \x1f", 200)))
        tasks.start_soon(operations.record, delivery(Refusal("failed", "malformed_input: é", 400)))
    rows = {row["status"]: row for row in await world.sql.fetch("SELECT * FROM webhook_events")}
    assert set(rows) == {"processed", "filtered", "failed"}
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 1
    assert rows["processed"]["execution_id"] is not None
    filtered, failed = rows["filtered"], rows["failed"]
    assert (filtered["execution_id"], filtered["filtered_reason"], filtered["response_status"]) == (
        None, "no match: \x1f", 200,
    )  # fmt: skip
    assert (failed["execution_id"], failed["error_message"], failed["response_status"]) == (
        None, "malformed_input: é", 400,
    )  # fmt: skip
    for row in rows.values():
        assert str(row["source_ip"]) == "2001:db8::1"
        assert row["processing_time_ms"] >= 250
        assert row["raw_body"] == b"\xff"
    row = await world.sql.fetchrow("SELECT trigger_count, last_triggered_at FROM webhooks WHERE id = $1", hook)
    assert row is not None
    assert row["trigger_count"] == 1
    assert row["last_triggered_at"] is not None
