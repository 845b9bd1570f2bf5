"""The life of an execution, 2: claim, as a worker does it. The query itself is tested in tests/store/test_queue.py."""

from __future__ import annotations

import pytest

from tests.engine.harness import World, chain, deafen, probe, tally, until


async def test_polling_finds_work_without_any_notification(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    deafen(monkeypatch)
    member = await world.member(poll=0.1)
    acceptor = await world.member("api", roles=())
    flow = await world.flow(chain(tally("a")))
    await member.settled()
    started = await acceptor.start(flow)
    assert (await world.ended(started.execution_id))["status"] == "completed"
    # Also what is asked of a run that goes on: by the heartbeat.
    world.probe.hold("p")
    held = await member.start(await world.flow(chain(probe("p")), tenant=flow.tenant))
    await world.probe.called("p")
    await acceptor.engine.operations.cancel(flow.tenant, held.execution_id, "no longer wanted")
    await member.idle()
    assert world.probe.cancelled == ["p"]


async def test_two_workers_share_a_backlog_and_run_each_once(world: World) -> None:
    acceptor = await world.member("api", roles=())
    flow = await world.flow(chain(probe("p")))
    started = [await acceptor.start(flow) for _ in range(60)]
    await world.member("w1", slots=7)
    await world.member("w2", slots=7)
    for each in started:
        await world.ended(each.execution_id)
    assert len(world.probe.calls) == len({execution for execution, _, _ in world.probe.calls}) == 60


async def test_a_backlog_is_worked_off_without_waiting_for_the_poll(world: World) -> None:
    """A claim that is filled in part may have left some behind: other tenants' places that they could not use."""
    busy = await world.flow(chain(tally("a")))
    full = await world.flow(chain(tally("a")), tenant=await world.tenant(quotas={"max_concurrent_executions": 0}))
    for flow, count in ((busy, 400), (full, 1)):
        await world.sql.execute(
            "WITH made AS (INSERT INTO executions (tenant_id, workflow_id, workflow_version, status, trigger_type) "
            "SELECT $1, $2, 1, 'pending', 'api' FROM generate_series(1, $3::integer) RETURNING id) "
            "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, ready_at) "
            "SELECT id, $1, $2, clock_timestamp() FROM made",
            flow.tenant, flow.id, count,
        )  # fmt: skip
    await world.member(poll=60.0, slots=200)

    async def all_done() -> bool:
        return bool(await world.sql.fetchval("SELECT count(*) = 1 FROM execution_queue"))

    await until(all_done)


async def test_a_tenants_limit_holds_across_workers(world: World) -> None:
    tenant = await world.tenant(quotas={"max_concurrent_executions": 3})
    flow = await world.flow(chain(probe("p")), tenant=tenant)
    gate = world.probe.hold("p")
    members = [await world.member(name) for name in ("w1", "w2")]
    started = [await members[n % 2].start(flow) for n in range(8)]
    await world.probe.called("p", 3)
    for member in members:
        member.worker.ring()
    free = await world.flow(chain(tally("a")))
    await world.ended((await members[0].start(free)).execution_id)
    await world.ended((await members[1].start(free)).execution_id)
    assert await world.sql.fetchval("SELECT count(*) FROM execution_queue WHERE owner IS NOT NULL") == 3
    assert world.probe.count("p") == 3
    gate.set()
    for each in started:
        await world.ended(each.execution_id)


async def test_a_suspended_tenant_waits_and_goes_on(world: World) -> None:
    acceptor = await world.member("api", roles=())
    flow, other = await world.flow(chain(tally("a"))), await world.flow(chain(tally("b")))
    started = await acceptor.start(flow)
    await world.sql.execute("UPDATE tenants SET status = 'suspended' WHERE id = $1", flow.tenant)
    await world.member()
    await world.ended((await acceptor.start(other)).execution_id)
    assert (await world.execution(started.execution_id))["status"] == "pending"
    await world.sql.execute("UPDATE tenants SET status = 'active' WHERE id = $1", flow.tenant)
    await world.ended(started.execution_id)


async def test_a_version_that_this_worker_cant_read_is_parked_for_others(world: World) -> None:
    definition = chain({"id": "x", "type": "not_installed_here", "config": {}})
    acceptor = await world.member("api", roles=())
    started = await acceptor.start(await world.flow(definition))
    member = await world.member()
    row = await world.parked(started.execution_id)
    assert row["due_at"] is not None
    assert (await world.execution(started.execution_id))["waiting_for"] == "version_unsupported"
    await member.idle()


async def test_a_claim_whose_answer_was_lost_is_handed_back(world: World) -> None:
    """The worker owns a run by the database that it never heard of; nobody would ever rescue it."""
    member = await world.member()
    await member.settled()
    (worker_id,) = await world.worker_ids("w")
    flow = await world.flow(chain(tally("a")))
    execution_id = await world.sql.fetchval("SELECT gorax_uuid7()")
    await world.sql.execute(
        "INSERT INTO executions (id, tenant_id, workflow_id, workflow_version, status, trigger_type, started_at) "
        "VALUES ($1, $2, $3, 1, 'running', 'api', now())", execution_id, flow.tenant, flow.id,
    )  # fmt: skip
    await world.sql.execute(
        "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, ready_at, owner, token) "
        "VALUES ($1, $2, $3, now(), $4, 1)", execution_id, flow.tenant, flow.id, worker_id,
    )  # fmt: skip
    assert (await world.ended(execution_id))["status"] == "completed"


async def test_a_mistyped_limit_is_none_and_stops_nobody(world: World) -> None:
    """A quota is an operator's JSON; what can't be read in it must not fail the claim that serves all tenants."""
    member = await world.member(slots=5)
    for limit in ("many", 1.5, [1], 10**12):
        tenant = await world.tenant(quotas={"max_concurrent_executions": limit})
        started = await member.start(await world.flow(chain(tally("a")), tenant=tenant))
        assert (await world.ended(started.execution_id))["status"] == "completed"
        queued = await world.member("api", roles=("api",))
        started = await queued.start(await world.flow(chain(tally("a")), tenant=tenant))
        assert (await world.ended(started.execution_id))["status"] == "completed"
