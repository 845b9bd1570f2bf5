"""The life of an execution, 5: the fence, as a worker meets it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine.lease import Lease
from gorax_engine.errors import Unavailable
from gorax_engine.nodes.api import Completed, NodeContext, Outcome
from gorax_engine.store import queue, workers
from gorax_engine.store.session import LeaseLost, Session, open_session
from gorax_engine.telemetry import LeaseLostEvent
from tests.engine.harness import Member, World, chain, probe, tally, until


async def _running(world: World, node: str) -> bool:
    query = "SELECT count(*) = 1 FROM step_executions WHERE node_id = $1 AND status = 'running'"
    return bool(await world.sql.fetchval(query, node))


async def steal(world: World, execution_id: object) -> None:
    """As if another worker had rescued and claimed the run."""
    await world.sql.execute(
        "UPDATE execution_queue SET token = token + 1, owner = gen_random_uuid() WHERE execution_id = $1", execution_id
    )


async def test_a_stale_token_drops_that_execution_only(world: World) -> None:
    member = await world.member(heartbeat=20.0)
    gates = [world.probe.hold(node) for node in ("p", "q")]
    stolen = await member.start(await world.flow(chain(probe("p"), probe("after"))))
    kept = await member.start(await world.flow(chain(probe("q"), tally("a"))))
    await world.probe.called("p")
    await world.probe.called("q")

    async def both_run() -> bool:
        query = "SELECT count(*) = 2 FROM step_executions WHERE status = 'running'"
        return bool(await world.sql.fetchval(query))

    await until(both_run)
    await steal(world, stolen.execution_id)
    for gate in gates:
        gate.set()
    assert (await world.ended(kept.execution_id))["status"] == "completed"
    await member.idle()
    assert (await world.execution(stolen.execution_id))["status"] == "running"
    assert (await world.states(stolen.execution_id))["p"] == "running"
    assert world.probe.count("after") == 0


async def test_a_run_that_was_taken_is_abandoned_at_the_next_heartbeat(world: World) -> None:
    member = await world.member(heartbeat=0.1)
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    await steal(world, started.execution_id)
    await member.idle()
    assert world.probe.cancelled == ["p"]
    assert (await world.execution(started.execution_id))["status"] == "running"


def losses(member: Member) -> list[LeaseLostEvent]:
    """The losses of its lease that a member tells from now on."""
    told: list[LeaseLostEvent] = []
    member.telemetry.subscribe(lambda event: told.append(event) if isinstance(event, LeaseLostEvent) else None)
    return told


async def test_a_worker_that_was_taken_for_dead_writes_nothing_and_begins_anew(world: World) -> None:
    member = await world.member(heartbeat=20.0)
    told = losses(member)
    gate = world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"), tally("a"))))
    await world.probe.called("p")
    await until(lambda: _running(world, "p"))
    (before,) = await world.worker_ids("w")
    await world.sql.execute("UPDATE execution_queue SET owner = gen_random_uuid(), token = 7")
    await world.sql.execute("DELETE FROM workers")
    gate.set()

    async def reborn() -> bool:
        return await world.worker_ids("w") not in ([], [before])

    await until(reborn)
    assert len(told) == 1
    assert (await world.states(started.execution_id)) == {"begin": "completed", "p": "running"}
    assert (await world.row(started.execution_id))["token"] == 7
    fresh = await member.start(await world.flow(chain(tally("b"))))
    assert (await world.ended(fresh.execution_id))["status"] == "completed"


async def test_a_heartbeat_that_finds_no_row_ends_the_life_and_its_tasks(world: World) -> None:
    member = await world.member(heartbeat=0.1)
    told = losses(member)
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    heir_gate = world.probe.hold("p")
    await world.rescue("w")
    await world.probe.called("p", 2)  # by whoever claims it
    await until(lambda: _some(told))
    assert world.probe.cancelled == ["p"]
    assert len(told) == 1
    heir_gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_an_effect_does_not_start_once_the_lease_is_over_by_the_monotonic_clock(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says alive and the token is right, but the worker was stopped: it must not act."""
    member = await world.member(heartbeat=20.0)
    told = losses(member)
    gate = world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"), probe("q"))))
    await world.probe.called("p")
    assert member.worker._life is not None
    lease = member.worker._life.lease
    real = queue.flush

    async def stopped(*arguments: Any) -> queue.Flushed:
        flushed = await real(*arguments)
        lease._expires = time.monotonic()  # as after a SIGSTOP that began right after the commit
        return flushed

    monkeypatch.setattr(queue, "flush", stopped)
    gate.set()
    await until(lambda: _some(told))
    monkeypatch.setattr(queue, "flush", real)
    assert world.probe.count("q") == 0
    await world.expire("w")  # both lives have the name; the second is told by its next heartbeat or flush
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.probe.count("q") == 1
    assert world.probe.count("p") == 1


async def _some(things: list[Any]) -> bool:
    return bool(things)


async def test_the_lease_counts_from_before_the_heartbeat_was_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[tuple[float, float]] = []
    real_beat, real_renew = workers.heartbeat, Lease.renew

    async def slow(*arguments: Any, **more: Any) -> Any:
        before = time.monotonic()
        answer = await real_beat(*arguments, **more)
        await anyio.sleep(0.2)
        renewed.append((before, 0.0))
        return answer

    def renew(self: Lease, sent_at: float) -> None:
        renewed[-1] = (renewed[-1][0], sent_at)
        real_renew(self, sent_at)

    monkeypatch.setattr(workers, "heartbeat", slow)
    monkeypatch.setattr(Lease, "renew", renew)
    await world.member(heartbeat=0.05)
    await until(lambda: _some([pair for pair in renewed if pair[1]]))
    before, sent = next(pair for pair in renewed if pair[1])
    assert sent <= before


def test_a_lease_ends_before_the_database_takes_it_back() -> None:
    now = time.monotonic()
    lease = Lease(uuid.uuid4(), 15.0, now)
    assert lease.valid
    assert lease.remaining <= 14.0
    over = Lease(uuid.uuid4(), 15.0, now - 14.01)
    assert not over.valid
    with pytest.raises(LeaseLost):
        over.check()
    over.renew(time.monotonic())
    assert not over.valid  # what was lost once stays lost
    renewed = Lease(uuid.uuid4(), 15.0, now - 13.0)
    renewed.renew(now)
    assert renewed.valid
    assert renewed.remaining > 13.0


async def test_postgres_gone_for_longer_than_the_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything fails until the lease is over: the worker drops what it has, and goes on by itself afterwards."""
    member = await world.member(lease=1.0, heartbeat=0.3)
    told = losses(member)
    gate = world.probe.hold("p")
    flow = await world.flow(chain(tally("a"), probe("p"), tally("b")))
    started = await member.start(flow)
    await world.probe.called("p")
    down = True
    real = Session.fetch

    async def fetch(self: Session, query: str, *arguments: Any) -> Any:
        if down:
            raise Unavailable("the database is away")
        return await real(self, query, *arguments)

    monkeypatch.setattr(Session, "fetch", fetch)
    await until(lambda: _some(told))
    gate.set()
    assert world.probe.cancelled == ["p"]
    with pytest.raises(Unavailable):
        await member.start(flow)
    down = False
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.tally.calls == ["a", "b"]
    again = await member.start(flow)
    assert (await world.ended(again.execution_id))["status"] == "completed"


async def test_postgres_gone_for_less_than_the_lease(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections die at once, some in the middle of a statement: the run goes on in the same life."""
    member = await world.member(heartbeat=0.2)
    told = losses(member)
    (before,) = await world.worker_ids("w")
    gate = world.probe.hold("p")
    started = await member.start(await world.flow(chain(tally("a"), probe("p"), tally("b"))))
    await world.probe.called("p")
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert await world.sql.fetchval(kill) >= 3
    gate.set()
    assert await world.sql.fetchval(kill) >= 0
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.probe.count("p") == 1
    assert told == []
    assert await world.worker_ids("w") == [before]


async def test_a_zombie_that_wakes_after_its_heir_is_done_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush of the first worker is held back until another has rescued and finished the run."""
    held, gate = anyio.Event(), anyio.Event()
    first: list[uuid.UUID] = []
    real = queue.flush

    async def flush(session: Any, worker_id: Any, rows: queue.Flush) -> queue.Flushed:
        if (not first or worker_id == first[0]) and any(row.node_id == "p" for row in rows.steps):
            first.append(worker_id)
            held.set()
            await gate.wait()
        return await real(session, worker_id, rows)

    async def speaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed({"call": world.probe.count("p")})

    monkeypatch.setattr(queue, "flush", flush)
    world.probe.acts["p"] = speaks
    zombie = await world.member("zombie", heartbeat=20.0)
    told = losses(zombie)
    started = await zombie.start(await world.flow(chain(probe("p"), tally("a"))))
    with anyio.fail_after(10):
        await held.wait()
    await world.expire("zombie")
    await world.member("heir")
    row = await world.ended(started.execution_id)
    steps = await world.steps(started.execution_id)
    assert steps["p", 1]["output_data"] == '{"call": 2}'
    gate.set()
    await until(lambda: _some(told))
    assert await world.execution(started.execution_id) == row
    assert await world.steps(started.execution_id) == steps


async def test_a_claim_under_way_is_not_left_to_a_worker_that_signs_off(world: World) -> None:
    """A row whose owner is gone is found by no rescue: the sign-off waits for the claim, and frees what it took."""
    worker, execution = uuid.uuid4(), uuid.uuid4()
    async with open_session(world.dsn, "gorax_worker") as session:
        await workers.register(session, worker, "w", "1", ["worker"], 1, 15_000)
        async with anyio.create_task_group() as tasks, world.sql.transaction():
            await world.sql.execute("SELECT 1 FROM workers WHERE id = $1 FOR KEY SHARE", worker)
            await world.sql.execute(
                "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, owner, token) "
                "VALUES ($1, $1, $1, $2, 1)",
                execution, worker,
            )  # fmt: skip
            tasks.start_soon(workers.release, session, worker)
            await world.blocked()
    row = await world.row(execution)
    assert (row["owner"], row["ready_at"] is not None) == (None, True)
