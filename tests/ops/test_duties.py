"""The duties of the maintenance role: safe to repeat, and each entry of the outbox starts one run."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator

import anyio
import pytest

from gorax_engine.ops import duties as duties_module
from gorax_engine.ops.duties import maintenance_duties
from gorax_engine.store import maintenance
from gorax_engine.store.session import Session, open_session
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import Flow, Member, World, chain, tally

EVENT = {
    "nodes": [
        {"id": "begin", "type": "event_trigger", "config": {"event": "gorax.execution_failed"}},
        {"id": "a", "type": "tally", "config": {}},
    ],
    "edges": [{"id": "e", "source": "begin", "target": "a"}],
}


@pytest.fixture
async def session(world: World) -> AsyncIterator[Session]:  # noqa: F811
    async with open_session(world.dsn, "gorax_worker") as session:
        yield session


async def carry_out(member: Member, session: Session, name: str) -> None:
    for duty in maintenance_duties(session, member.engine.operations):
        if duty.name == name:
            await duty.run_once()


async def leave_word(world: World, flow: Flow, name: str, failed: uuid.UUID) -> None:  # noqa: F811
    payload = {"error_workflow": name, "execution_id": str(failed), "workflow_id": str(flow.id), "error": {"code": "x"}}
    await world.sql.execute(
        "INSERT INTO outbox (tenant_id, kind, payload) VALUES ($1, 'error_workflow', $2)",
        flow.tenant,
        json.dumps(payload),
    )


async def test_a_failure_starts_the_error_workflow_once_however_often_the_entry_is_worked_off(
    world: World,  # noqa: F811
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member = await world.member(roles=())
    alert = await world.flow(EVENT, name="alert")
    failed = uuid.uuid4()
    await leave_word(world, alert, "alert", failed)

    async def crash(*_: object) -> None:
        raise RuntimeError("it dies between the start and the deletion of the entry")

    with monkeypatch.context() as patch:
        patch.setattr(duties_module.maintenance, "outbox_done", crash)  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError):
            await carry_out(member, session, "outbox")
    await carry_out(member, session, "outbox")
    (run,) = await world.sql.fetch("SELECT * FROM executions")
    assert (run["workflow_id"], run["trigger_type"]) == (alert.id, "event")
    data = json.loads(run["trigger_data"])
    assert (data["name"], data["correlation_key"]) == ("gorax.execution_failed", str(failed))
    assert data["body"]["error"] == {"code": "x"}
    assert "error_workflow" not in data["body"]
    assert await world.sql.fetchval("SELECT count(*) FROM outbox") == 0


async def test_two_leaders_at_once_start_one_run(world: World, session: Session) -> None:  # noqa: F811
    members = [await world.member(name, roles=()) for name in "ab"]
    alert = await world.flow(EVENT, name="alert")
    for _ in range(5):
        await leave_word(world, alert, "alert", uuid.uuid4())
    async with open_session(world.dsn, "gorax_worker") as other, anyio.create_task_group() as tasks:
        tasks.start_soon(carry_out, members[0], session, "outbox")
        tasks.start_soon(carry_out, members[1], other, "outbox")
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 5


async def test_an_error_workflow_that_cant_be_started_is_given_up(world: World, session: Session) -> None:  # noqa: F811
    member = await world.member(roles=())
    off = await world.flow(EVENT, name="off", status="inactive")
    elsewhere = await world.flow(EVENT, name="elsewhere")
    for name in ("off", "elsewhere", str(elsewhere.id), "nothing"):
        await leave_word(world, off, name, uuid.uuid4())
    await carry_out(member, session, "outbox")
    assert await world.sql.fetchval("SELECT count(*) FROM outbox") == 0
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 0


async def test_an_error_workflow_may_be_named_by_its_id(world: World, session: Session) -> None:  # noqa: F811
    alert = await world.flow(EVENT, name="alert")
    assert await maintenance.find_workflow(session, alert.tenant, str(alert.id)) == alert.id
    assert await maintenance.find_workflow(session, alert.tenant, "alert") == alert.id
    assert await maintenance.find_workflow(session, await world.tenant(), "alert") is None


async def test_partitions_ahead_can_be_made_again(world: World, session: Session) -> None:  # noqa: F811
    member = await world.member(roles=())
    for _ in range(2):
        await carry_out(member, session, "partitions")
    ahead = await world.sql.fetchval(
        "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^executions_[0-9]{4}_[0-9]{2}$'"
    )
    assert ahead >= 4


async def test_keys_that_are_over_go_and_others_stay(
    world: World,  # noqa: F811
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duties_module, "BATCH", 2)
    member = await world.member(roles=())
    flow = await world.flow(chain(tally("a")))
    for number in range(6):
        await member.start(flow, key=f"k{number}", hash_=b"h")
    await world.sql.execute("UPDATE start_keys SET expires_at = clock_timestamp() WHERE key <> 'k0'")
    for _ in range(2):
        await carry_out(member, session, "start_keys")
    assert [row["key"] for row in await world.sql.fetch("SELECT key FROM start_keys")] == ["k0"]


async def test_answers_that_are_over_go_and_others_stay(
    world: World,  # noqa: F811
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duties_module, "BATCH", 2)
    member = await world.member(roles=())
    tenant = await world.tenant()
    for number in range(6):
        await world.sql.execute(
            "INSERT INTO request_idempotency (tenant_id, principal_id, key, method, path, body_hash, expires_at) "
            "VALUES ($1, $1, $2, 'POST', '/', '', now() + make_interval(hours => $3))",
            tenant,
            f"k{number}",
            1 if number == 0 else -1,
        )
    for _ in range(2):
        await carry_out(member, session, "answers")
    rows = await world.sql.fetch("DELETE FROM request_idempotency RETURNING key")
    assert [row["key"] for row in rows] == ["k0"]


async def test_a_flush_opens_many_tasks_without_looking_for_who_is_asked(
    world: World,  # noqa: F811
    session: Session,
) -> None:
    """A role may have many members, and a flush may open many tasks: people are told by the duty."""
    tenant, members, count = await world.tenant(), 200, 120
    await world.sql.execute(
        "WITH made AS (INSERT INTO users (tenant_id, email, kratos_identity_id) "
        "SELECT $1::uuid, 'u' || n || '@example.com', $1::uuid || '-' || n FROM generate_series(1, $2) n RETURNING id) "
        "INSERT INTO user_roles (tenant_id, user_id, role_id) SELECT $1::uuid, made.id, r.id FROM made, roles r "
        "WHERE r.tenant_id = $1::uuid AND r.name = 'viewer'",
        tenant, members,
    )  # fmt: skip
    tasks = [
        {
            "tenant_id": str(tenant), "execution_id": str(uuid.uuid4()), "workflow_id": str(uuid.uuid4()),
            "step_id": str(uuid.uuid4()), "node_id": "n", "iteration_path": "", "opened_at": "2026-01-01T00:00:00Z",
            "content": {"task_type": "approval", "title": "Well?", "assignees": [{"type": "role", "name": "viewer"}]},
        }
        for _ in range(count)
    ]  # fmt: skip
    touched = (
        "SELECT coalesce(sum(seq_scan + idx_scan + n_tup_ins), 0)::bigint FROM pg_stat_xact_user_tables "
        "WHERE relname IN ('user_roles', 'notifications')"
    )
    async with world.sql.transaction():
        before = await world.sql.fetchval(touched)
        opened = await world.sql.fetchval("SELECT gorax_open_tasks($1::text::jsonb)", json.dumps(tasks))
        assert (opened, await world.sql.fetchval(touched) - before) == (count, 0)
    member = await world.member(roles=())
    await carry_out(member, session, "outbox")
    assert await world.sql.fetchval("SELECT count(*) FROM outbox") == 0
    told = "SELECT count(*) FROM (SELECT 1 FROM notifications GROUP BY metadata ->> 'task_id' HAVING count(*) = $1) t"
    assert await world.sql.fetchval(told, members) == count
