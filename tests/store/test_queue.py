"""The queue's functions one by one: accept, claim, flush, sweep and the rows of workers, each on a real server.

Where two sessions must overlap, one holds its transaction open while the other tries; nothing depends on luck.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg
import pytest

from gorax_engine.core.model import StepKey
from gorax_engine.core.step_ids import step_id
from gorax_engine.engine.entries import Owner
from gorax_engine.engine.starting import StartKey, StartRequest, WebhookDelivery, row_of
from gorax_engine.store import queue, runs, workers
from gorax_engine.store.database import session_settings
from gorax_engine.store.queue import Claim, EndRow, Flush, OutboxRow, ParkRow, StartRow, StepRow, WaitRow
from gorax_engine.store.session import LeaseLost, RecordRejected, Session, open_session
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import Flow, World, chain, tally, until

if TYPE_CHECKING:
    from gorax_engine.store.queue import StartVerdict

NOW = 1_800_000_000_000_000
SIMPLE = chain(tally("a"))


@dataclass
class Bench:
    """A database, a session as the worker's role, and one registered worker."""

    world: World
    session: Session
    worker: uuid.UUID
    flow: Flow

    async def register(self, lease_ms: int = 600_000) -> uuid.UUID:
        worker = uuid.uuid4()
        await workers.register(self.session, worker, worker.hex, "0", ["worker"], 10, lease_ms)
        return worker

    async def start(
        self, *flows: Flow, worker: uuid.UUID | None = None, room: int = 0, ring: bool = False, **more: Any
    ) -> list[StartVerdict]:
        rows = [start_row(flow, **more) for flow in flows or (self.flow,)]
        return await queue.start(self.session, rows, worker_id=worker, room=room, ring=ring)

    async def backlog(self, flow: Flow, count: int, **columns: Any) -> list[uuid.UUID]:
        ids = [verdict.execution_id for verdict in await self.start(*[flow] * count)]
        for column, value in columns.items():
            await self.world.sql.execute(
                f"UPDATE execution_queue SET {column} = $2 WHERE execution_id = ANY ($1)", ids, value
            )
        return ids

    async def claim(self, limit: int = 10, worker: uuid.UUID | None = None, *, suspects: bool = False) -> list[Claim]:
        return await queue.claim(self.session, worker or self.worker, limit, suspects=suspects)

    async def running(self, flow: Flow | None = None) -> Claim:
        """A run that the worker holds."""
        await self.start(flow or self.flow)
        (claim,) = await self.claim(1)
        return claim

    async def flush(self, *claims: Claim, **rows: Any) -> queue.Flushed:
        return await queue.flush(self.session, self.worker, flush_of(claims, **rows))

    async def owned(self) -> dict[uuid.UUID, uuid.UUID | None]:
        rows = await self.world.sql.fetch("SELECT execution_id, owner FROM execution_queue")
        return {row["execution_id"]: row["owner"] for row in rows}

    async def mark_dead(self, worker: uuid.UUID) -> None:
        await self.world.sql.execute(
            "UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 day' WHERE id = $1", worker
        )

    @asynccontextmanager
    async def other(self) -> AsyncIterator[Any]:
        """Another session of the worker's role in an open transaction, which commits at the end."""
        connection = await asyncpg.connect(self.world.dsn, server_settings=session_settings("gorax_worker"))
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()


@pytest.fixture
async def bench(world: World) -> AsyncIterator[Bench]:  # noqa: F811
    async with open_session(world.dsn, "gorax_worker") as session:
        bench = Bench(world, session, uuid.uuid4(), await world.flow(SIMPLE))
        bench.worker = await bench.register()
        yield bench


def start_row(
    flow: Flow, *, key: str | None = None, hash_: bytes | None = None, ttl: int = 60, kind: str = "idempotency",
    trigger_type: str = "api", **more: Any,
) -> StartRow:  # fmt: skip
    """A start as the engine sends it."""
    start_key = None if key is None else StartKey(kind, key, hash_, timedelta(seconds=ttl))
    return row_of(StartRequest(flow.tenant, flow.id, trigger_type, {}, start_key=start_key, **more))


def step(
    claim: Claim, node: str = "a", status: str = "completed", *, attempt: int = 1, started: int | None = NOW,
    completed: int | None = NOW + 5_000, input_: str = "", output: str = "", more: str = "",
) -> StepRow:  # fmt: skip
    id_ = step_id(claim.execution_id.int, StepKey(node), attempt)
    times = ("" if started is None else str(started), "" if completed is None else str(completed))
    return StepRow(id_, node, "tally", status, input_, output, more, *times)


def wait_row(claim: Claim, node: str = "a", due: int = NOW) -> WaitRow:
    id_ = uuid.UUID(step_id(claim.execution_id.int, StepKey(node), 1))
    return WaitRow(id_, claim.execution_id, claim.tenant_id, node, "", 0, 1, "timer", due, "null")


def end_row(claim: Claim, status: str = "completed", output: str | None = "{}", *, waited: bool = False) -> EndRow:
    return EndRow(claim.execution_id, status, output, None, None, NOW, waited)


def flush_of(
    claims: Sequence[Claim], *, steps: Sequence[StepRow] = (), runs_: Sequence[str] = (), **more: Any
) -> Flush:
    fence = [Owner(claim.execution_id, claim.tenant_id, claim.token, lambda: None).fence for claim in claims]
    return Flush(fence=fence, steps=steps, step_runs=runs_ or ["1"] * len(steps), **more)


# --- accept -----------------------------------------------------------------------------------------------------------


async def test_accept_writes_the_run_its_queue_row_and_its_key_together(bench: Bench) -> None:
    (verdict,) = await bench.start(key="k", hash_=b"h", trigger_node="begin", priority=7)
    run = await bench.world.execution(verdict.execution_id)
    queued = await bench.world.queued(verdict.execution_id)
    assert (verdict.verdict, verdict.claimed, verdict.workflow_version) == ("started", False, 1)
    assert (run["status"], run["trigger_node"], run["priority"], run["started_at"]) == ("pending", "begin", 7, None)
    assert queued is not None
    assert (queued["owner"], queued["token"], queued["priority"], queued["tenant_id"]) == (
        None,
        0,
        7,
        bench.flow.tenant,
    )
    assert queued["ready_at"] is not None
    key = await bench.world.sql.fetchrow("SELECT * FROM start_keys")
    assert key is not None
    assert (key["execution_id"], key["body_hash"]) == (verdict.execution_id, b"h")


async def test_accept_freezes_the_tenants_vars(bench: Bench) -> None:
    tenant = await bench.world.tenant(settings={"vars": {"region": "eu"}})
    (verdict,) = await bench.start(await bench.world.flow(SIMPLE, tenant=tenant))
    await bench.world.sql.execute("UPDATE tenants SET settings = '{}'")
    assert (await bench.world.execution(verdict.execution_id))["vars"] == '{"region": "eu"}'
    assert verdict.vars == '{"region": "eu"}'
    claims = await bench.claim()
    assert [claim.vars for claim in claims] == ['{"region": "eu"}']


async def test_accept_judges_each_start_by_itself(bench: Bench) -> None:
    suspended = await bench.world.tenant(status="suspended")
    flows = [
        bench.flow,
        Flow(bench.flow.tenant, uuid.uuid4()),
        Flow(await bench.world.tenant(), bench.flow.id),
        await bench.world.flow(SIMPLE, status="archived"),
        await bench.world.flow(SIMPLE, tenant=suspended),
        await bench.world.flow(SIMPLE, published=False),
        await bench.world.flow(SIMPLE, status="inactive"),
    ]
    verdicts = [verdict.verdict for verdict in await bench.start(*flows)]
    assert verdicts == [
        "started", "workflow_not_found", "workflow_not_found", "workflow_archived", "tenant_suspended",
        "not_published", "workflow_inactive",
    ]  # fmt: skip
    assert await bench.world.sql.fetchval("SELECT count(*) FROM executions") == 1
    assert await bench.world.sql.fetchval("SELECT count(*) FROM execution_queue") == 1


async def test_accept_a_refused_start_leaves_its_key_free(bench: Bench) -> None:
    off = await bench.world.flow(SIMPLE, status="inactive")
    assert [v.verdict for v in await bench.start(off, key="k")] == ["workflow_inactive"]
    await bench.world.sql.execute("UPDATE workflows SET status = 'active'")
    assert [v.verdict for v in await bench.start(off, key="k")] == ["started"]


async def test_accept_one_key_starts_once(bench: Bench) -> None:
    (first,) = await bench.start(key="k", hash_=b"h")
    (again,) = await bench.start(key="k", hash_=b"h", worker=bench.worker, room=5)
    assert (again.verdict, again.execution_id, again.claimed) == ("duplicate", first.execution_id, False)
    (other,) = await bench.start(key="k", hash_=b"x")
    assert (other.verdict, other.execution_id) == ("mismatch", first.execution_id)
    assert await bench.world.sql.fetchval("SELECT count(*) FROM executions") == 1
    assert await bench.world.sql.fetchval("SELECT count(*) FROM execution_queue") == 1


async def test_accept_keys_are_per_tenant_and_kind(bench: Bench) -> None:
    elsewhere = await bench.world.flow(SIMPLE)
    await bench.start(key="k")
    assert [v.verdict for v in await bench.start(elsewhere, key="k")] == ["started"]
    row = start_row(bench.flow, key="k", kind="occurrence")
    assert [v.verdict for v in await queue.start(bench.session, [row], worker_id=None, room=0, ring=False)] == [
        "started"
    ]


async def test_accept_an_expired_key_starts_anew(bench: Bench) -> None:
    (first,) = await bench.start(key="k", hash_=b"h", ttl=60)
    await bench.world.sql.execute("UPDATE start_keys SET expires_at = clock_timestamp() - interval '1 second'")
    (second,) = await bench.start(key="k", hash_=b"x", ttl=60)
    assert second.verdict == "started"
    assert second.execution_id != first.execution_id
    key = await bench.world.sql.fetchrow("SELECT *, expires_at > clock_timestamp() AS valid FROM start_keys")
    assert key is not None
    assert (key["execution_id"], key["body_hash"], key["valid"]) == (second.execution_id, b"x", True)


async def test_accept_two_transactions_with_one_key_wait_for_each_other(bench: Bench) -> None:
    row = start_row(bench.flow, key="k")
    verdicts: list[StartVerdict] = []

    async def second() -> None:
        verdicts.extend(await bench.start(key="k"))

    async with anyio.create_task_group() as tasks, bench.other() as other:
        (first,) = await queue.start(other, [row], worker_id=None, room=0, ring=False)
        tasks.start_soon(second)
        await bench.world.blocked()
        assert not verdicts
    assert [(v.verdict, v.execution_id) for v in verdicts] == [("duplicate", first.execution_id)]


async def test_accept_claims_what_it_writes(bench: Bench) -> None:
    (verdict,) = await bench.start(worker=bench.worker, room=1)
    run = await bench.world.execution(verdict.execution_id)
    queued = await bench.world.queued(verdict.execution_id)
    assert verdict.claimed
    assert (run["status"], run["started_at"]) == ("running", run["created_at"])
    assert queued is not None
    assert (queued["owner"], queued["token"]) == (bench.worker, 1)
    assert queued["ready_at"] is not None  # so that a rescue finds it ready


async def test_accept_claims_no_more_than_there_is_room_for_and_by_priority(bench: Bench) -> None:
    rows = [start_row(bench.flow, priority=priority) for priority in (1, 9, 5)]
    verdicts = await queue.start(bench.session, rows, worker_id=bench.worker, room=2, ring=False)
    assert [verdict.claimed for verdict in verdicts] == [False, True, True]


async def test_accept_does_not_overtake_what_the_tenant_has_queued(bench: Bench) -> None:
    await bench.start()
    elsewhere = await bench.world.flow(SIMPLE)
    verdicts = await bench.start(bench.flow, elsewhere, worker=bench.worker, room=5)
    assert [verdict.claimed for verdict in verdicts] == [False, True]


async def test_accept_is_not_held_up_by_what_is_parked_or_runs(bench: Bench) -> None:
    claim = await bench.running()
    assert (await bench.flush(claim, parks=[ParkRow(claim.execution_id, NOW, 0, "timer")])).not_parked == ()
    await bench.running()
    assert [v.claimed for v in await bench.start(worker=bench.worker, room=5)] == [True]


async def test_accept_leaves_limited_tenants_to_the_claim(bench: Bench) -> None:
    tenant = await bench.world.tenant(quotas={"max_concurrent_executions": 100})
    verdicts = await bench.start(await bench.world.flow(SIMPLE, tenant=tenant), worker=bench.worker, room=5)
    assert [verdict.claimed for verdict in verdicts] == [False]
    unlimited = await bench.world.tenant(quotas={"max_concurrent_executions": -1})
    verdicts = await bench.start(await bench.world.flow(SIMPLE, tenant=unlimited), worker=bench.worker, room=5)
    assert [verdict.claimed for verdict in verdicts] == [True]


async def test_accept_in_the_name_of_a_lost_worker_writes_nothing(bench: Bench) -> None:
    with pytest.raises(LeaseLost):
        await bench.start(worker=uuid.uuid4(), room=5, key="k")
    assert await bench.world.sql.fetchval("SELECT count(*) FROM executions") == 0
    assert await bench.world.sql.fetchval("SELECT count(*) FROM start_keys") == 0


async def test_accept_rings_only_for_what_it_did_not_claim(bench: Bench) -> None:
    rung: list[str] = []
    await bench.world.sql.add_listener("gorax_ready", lambda *_: rung.append("ready"))
    await bench.start(worker=bench.worker, room=1, ring=True)
    await bench.start(ring=False)
    await bench.world.sql.fetchval("SELECT 1")
    assert rung == []
    await bench.start(ring=True)

    async def heard() -> bool:
        await bench.world.sql.fetchval("SELECT 1")
        return bool(rung)

    await until(heard)
    assert rung == ["ready"]
    await bench.world.sql.reset(timeout=5)


async def test_accept_writes_a_delivery_with_its_run(bench: Bench) -> None:
    webhook = uuid.uuid4()
    await bench.world.sql.execute(
        "INSERT INTO webhooks (id, tenant_id, workflow_id, node_id, name, path, auth_type) "
        "VALUES ($1, $2, $3, 'begin', 'h', $4, 'none')",
        webhook, bench.flow.tenant, bench.flow.id, webhook.hex,
    )  # fmt: skip
    made = WebhookDelivery(webhook, "POST", "/x", {}, {"a": "b"}, {"n": 1}, b'{"n":1}')
    delivery: dict[str, Any] = {"delivery": made, "trigger_type": "webhook"}
    (first,) = await bench.start(key="d", **delivery)
    (again,) = await bench.start(key="d", **delivery)
    assert (again.verdict, again.event_id) == ("duplicate", first.event_id)
    events = await bench.world.sql.fetch("SELECT * FROM webhook_events ORDER BY created_at, id")
    assert [(e["status"], e["response_status"], e["execution_id"]) for e in events] == [
        ("processed", 202, first.execution_id), ("filtered", 200, first.execution_id),
    ]  # fmt: skip
    assert events[0]["id"] == first.event_id
    assert (events[0]["raw_body"], events[1]["filtered_reason"]) == (b'{"n":1}', "duplicate")
    await bench.world.sql.execute("UPDATE webhooks SET enabled = false")
    assert [v.verdict for v in await bench.start(**delivery)] == ["webhook_not_found"]


# --- claim ------------------------------------------------------------------------------------------------------------


async def test_claim_is_fair_between_tenants(bench: Bench) -> None:
    few = await bench.world.flow(SIMPLE)
    await bench.backlog(bench.flow, 1000)
    five = set(await bench.backlog(few, 5))
    assert five <= {claim.execution_id for claim in await bench.claim(10)}


async def test_claim_least_in_flight_first(bench: Bench) -> None:
    busy = bench.flow
    await bench.backlog(busy, 20)
    await bench.claim(10)
    idle = await bench.world.flow(SIMPLE)
    await bench.backlog(idle, 8)
    assert {claim.tenant_id for claim in await bench.claim(4)} == {idle.tenant}


async def test_claim_parked_runs_are_not_in_flight(bench: Bench) -> None:
    held = await bench.backlog(bench.flow, 20)
    await bench.claim(10)
    await bench.world.sql.execute(
        "UPDATE execution_queue SET owner = NULL, ready_at = NULL, due_at = 'infinity' WHERE owner IS NOT NULL"
    )
    other = await bench.world.flow(SIMPLE)
    await bench.backlog(other, 8)
    claims = await bench.claim(4)
    assert sum(claim.tenant_id == other.tenant for claim in claims) == 2
    assert len(held) == 20


async def test_claim_by_priority_then_by_age(bench: Bench) -> None:
    low, high, late = [await bench.start(priority=priority) for priority in (1, 9, 9)]
    order = [(await bench.claim(1))[0].execution_id for _ in range(3)]
    assert order == [high[0].execution_id, late[0].execution_id, low[0].execution_id]


async def test_claim_keeps_a_tenants_limit_between_two_claimers(bench: Bench) -> None:
    tenant = await bench.world.tenant(quotas={"max_concurrent_executions": 3})
    await bench.backlog(await bench.world.flow(SIMPLE, tenant=tenant), 20)
    second = await bench.register()
    async with bench.other() as other:
        assert len(await queue.claim(other, bench.worker, 10)) == 3
        # The first has not committed: whoever counts now would count none.
        assert await bench.claim(10, second) == []
    assert await bench.claim(10, second) == []
    (row, *_) = [owner for owner in (await bench.owned()).values() if owner]
    assert row == bench.worker


async def test_claim_a_limit_of_one_tenant_does_not_hold_up_others(bench: Bench) -> None:
    tenant = await bench.world.tenant(quotas={"max_concurrent_executions": 0})
    await bench.backlog(await bench.world.flow(SIMPLE, tenant=tenant), 5)
    await bench.backlog(bench.flow, 2)
    assert {claim.tenant_id for claim in await bench.claim(10)} == {bench.flow.tenant}


async def test_claim_skips_what_another_claims(bench: Bench) -> None:
    ids = set(await bench.backlog(bench.flow, 10))
    second = await bench.register()
    async with bench.other() as other:
        first = {claim.execution_id for claim in await queue.claim(other, bench.worker, 5)}
        rest = {claim.execution_id for claim in await bench.claim(10, second)}
    assert first | rest == ids
    assert not first & rest


async def test_claim_raises_the_token(bench: Bench) -> None:
    first = await bench.running()
    assert (first.token, first.recovered) == (1, False)
    await workers.hand_back(bench.session, bench.worker, [(first.execution_id, 1)])
    (second,) = await bench.claim()
    assert (second.token, second.recovered, second.started) == (2, True, first.started)


async def test_claim_begins_pending_runs(bench: Bench) -> None:
    claim = await bench.running()
    run = await bench.world.execution(claim.execution_id)
    assert run["status"] == "running"
    assert run["started_at"] >= run["created_at"]


async def test_claim_clears_what_a_run_waited_for(bench: Bench) -> None:
    claim = await bench.running()
    await bench.flush(claim, parks=[ParkRow(claim.execution_id, NOW, 0, "timer")])
    assert (await bench.world.execution(claim.execution_id))["waiting_for"] == "timer"
    assert await bench.claim() == []
    await bench.world.make_due(claim.execution_id)
    assert (await queue.sweep(bench.session, 10)).timers == 1
    (again,) = await bench.claim()
    assert again.execution_id == claim.execution_id
    assert (await bench.world.execution(claim.execution_id))["waiting_for"] is None
    assert (await bench.world.row(claim.execution_id))["due_at"] is None


async def test_claim_leaves_suspended_tenants_alone(bench: Bench) -> None:
    await bench.start()
    await bench.world.sql.execute("UPDATE tenants SET status = 'suspended'")
    assert await bench.claim() == []
    await bench.world.sql.execute("UPDATE tenants SET status = 'active'")
    assert len(await bench.claim()) == 1


async def test_claim_suspects_only_when_asked(bench: Bench) -> None:
    (suspect,) = await bench.backlog(bench.flow, 1, crashes=2)
    (ending,) = await bench.backlog(bench.flow, 1, crashes=3, end_requested='{"kind": "worker_lost"}')
    (once,) = await bench.backlog(bench.flow, 1, crashes=1)
    assert {claim.execution_id for claim in await bench.claim()} == {ending, once}
    assert [claim.execution_id for claim in await bench.claim(suspects=True)] == [suspect]


async def test_claim_by_a_worker_that_was_taken_for_dead_gives_nothing(bench: Bench) -> None:
    await bench.start()
    with pytest.raises(LeaseLost):
        await bench.claim(worker=uuid.uuid4())
    assert list((await bench.owned()).values()) == [None]


async def test_claim_no_more_than_asked_for(bench: Bench) -> None:
    for _ in range(3):
        await bench.backlog(await bench.world.flow(SIMPLE), 5)
    assert len(await bench.claim(7)) == 7


# --- flush ------------------------------------------------------------------------------------------------------------


async def test_fence_a_stale_token_stops_the_flush_and_is_named(bench: Bench) -> None:
    mine, lost = await bench.running(), await bench.running()
    await bench.world.sql.execute("UPDATE execution_queue SET token = 2 WHERE execution_id = $1", lost.execution_id)
    rows = {"steps": [step(mine), step(lost)], "runs_": ["1", "2"], "ends": [end_row(mine), end_row(lost)]}
    flushed = await bench.flush(mine, lost, **rows)
    assert list(flushed.stale) == [lost.execution_id]
    assert await bench.world.sql.fetchval("SELECT count(*) FROM step_executions") == 0
    assert (await bench.world.execution(mine.execution_id))["status"] == "running"


async def test_fence_a_run_of_another_worker_is_stale(bench: Bench) -> None:
    claim = await bench.running()
    second = await bench.register()
    await bench.world.sql.execute("UPDATE execution_queue SET owner = $1", second)
    flushed = await bench.flush(claim, ends=[end_row(claim)])
    assert list(flushed.stale) == [claim.execution_id]
    assert (await bench.world.execution(claim.execution_id))["status"] == "running"


async def test_fence_without_its_row_a_worker_writes_nothing(bench: Bench) -> None:
    claim = await bench.running()
    await bench.world.sql.execute("DELETE FROM workers")
    with pytest.raises(LeaseLost):
        await bench.flush(claim, steps=[step(claim)], ends=[end_row(claim)])
    assert await bench.world.sql.fetchval("SELECT count(*) FROM step_executions") == 0
    assert (await bench.world.execution(claim.execution_id))["status"] == "running"


async def test_fence_a_rescuer_leaves_a_worker_whose_flush_is_in_flight(bench: Bench) -> None:
    claim = await bench.running()
    await bench.mark_dead(bench.worker)
    async with bench.other() as other:
        await queue.flush(other, bench.worker, flush_of([claim], steps=[step(claim)]))
        swept = await queue.sweep(bench.session, 10)
        assert (swept.rescued, list(swept.lost_workers)) == (0, [])
    swept = await queue.sweep(bench.session, 10)
    assert (swept.rescued, len(swept.lost_workers)) == (1, 1)


async def test_fence_heartbeats_go_on_during_a_flush(bench: Bench) -> None:
    claim = await bench.running()
    async with bench.other() as other:
        await queue.flush(other, bench.worker, flush_of([claim], steps=[step(claim)]))
        with anyio.fail_after(3):
            assert await workers.heartbeat(bench.session, bench.worker, draining=False) is not None


async def test_fence_a_flush_waits_for_a_rescue_and_then_fails(bench: Bench) -> None:
    claim = await bench.running()
    await bench.mark_dead(bench.worker)
    outcome: list[Exception] = []

    async def late() -> None:
        try:
            await bench.flush(claim, steps=[step(claim)], ends=[end_row(claim)])
        except LeaseLost as error:
            outcome.append(error)

    async with anyio.create_task_group() as tasks, bench.other() as other:
        assert (await queue.sweep(other, 10)).rescued == 1
        tasks.start_soon(late)
        await bench.world.blocked()
    assert len(outcome) == 1
    assert await bench.world.sql.fetchval("SELECT count(*) FROM step_executions") == 0


async def test_fence_a_flush_locks_the_queue_rows_before_it_writes(bench: Bench) -> None:
    claim = await bench.running()
    async with bench.other() as other:
        await queue.flush(other, bench.worker, flush_of([claim], steps=[step(claim)]))
        with pytest.raises(asyncpg.LockNotAvailableError):
            await bench.world.sql.execute("SELECT 1 FROM execution_queue FOR UPDATE NOWAIT")


async def test_record_a_flush_that_is_sent_again_changes_nothing(bench: Bench) -> None:
    claim = await bench.running()
    rows = {"steps": [step(claim, output='{"n": 1}')], "waits": [wait_row(claim, "b")]}
    await bench.flush(claim, **rows)
    before = await bench.world.sql.fetch("SELECT xmin, * FROM step_executions")
    assert (await bench.flush(claim, **rows)).stale == ()
    assert len(await bench.world.waits(claim.execution_id)) == 1
    after = await bench.world.sql.fetch("SELECT xmin, * FROM step_executions")
    assert [row["xmin"] for row in after] == [row["xmin"] for row in before]


async def test_record_an_ended_run_comes_back_as_stale(bench: Bench) -> None:
    claim = await bench.running()
    rows = {
        "steps": [step(claim)],
        "ends": [end_row(claim, output='"first"')],
        "outbox": [OutboxRow(claim.tenant_id, "x", "{}")],
    }
    assert (await bench.flush(claim, **rows)).stale == ()
    assert list((await bench.flush(claim, **rows)).stale) == [claim.execution_id]
    assert await bench.world.sql.fetchval("SELECT count(*) FROM outbox") == 1


async def test_record_the_end_of_a_step_keeps_what_its_start_said(bench: Bench) -> None:
    claim = await bench.running()
    await bench.flush(claim, steps=[step(claim, status="running", completed=None, input_='{"x": 1}')])
    ended = step(claim, started=None, completed=NOW + 7_000, output='{"y": 2}', more='{"outcome": "true"}')
    await bench.flush(claim, steps=[ended])
    (row,) = (await bench.world.steps(claim.execution_id)).values()
    assert (row["status"], row["outcome"], row["duration_ms"]) == ("completed", "true", 7)
    assert (row["input_data"], row["output_data"]) == ('{"x": 1}', '{"y": 2}')
    assert row["started_at"] is not None


async def test_record_a_step_that_has_ended_is_final(bench: Bench) -> None:
    claim = await bench.running()
    await bench.flush(claim, steps=[step(claim, output='"first"')])
    await bench.flush(claim, steps=[step(claim, status="running", completed=None)])
    await bench.flush(
        claim, steps=[step(claim, status="failed", output='"second"', more='{"error": "e", "code": "c"}')]
    )
    (row,) = (await bench.world.steps(claim.execution_id)).values()
    assert (row["status"], row["output_data"], row["error_code"]) == ("completed", '"first"', None)


async def test_record_steps_are_stored_with_their_own_run(bench: Bench) -> None:
    first, second = await bench.running(), await bench.running(await bench.world.flow(SIMPLE))
    more = '{"retry": 1, "error": "e", "code": "c", "path": "items[1]", "round": 2}'
    steps = [step(first), step(second, "b", "failed", attempt=2, more=more), step(first, "c", "skipped", started=None)]
    await bench.flush(first, second, steps=steps, runs_=["1", "2", "1"])
    assert set(await bench.world.steps(first.execution_id)) == {("a", 1), ("c", 1)}
    (row,) = (await bench.world.steps(second.execution_id)).values()
    assert (row["tenant_id"], row["node_id"], row["retry_count"]) == (second.tenant_id, "b", 1)
    assert (row["error_message"], row["error_code"], row["iteration_path"], row["round"]) == ("e", "c", "items[1]", 2)
    records = await runs.recorded_steps(bench.session, second.execution_id)
    assert set(records) == {(StepKey("b", "items[1]", 2), 2)}


async def test_record_refused_data_is_told_apart(bench: Bench) -> None:
    claim = await bench.running()
    with pytest.raises(RecordRejected):
        await bench.flush(claim, steps=[step(claim, output='"\\u0000"')])
    with pytest.raises(RecordRejected):
        await bench.flush(claim, steps=[step(claim, status="strange")])
    assert await bench.world.sql.fetchval("SELECT count(*) FROM step_executions") == 0


async def test_wait_parks_only_at_the_wake_that_was_seen(bench: Bench) -> None:
    seen, woken = await bench.running(), await bench.running()
    await bench.world.sql.execute(
        "UPDATE execution_queue SET wake_seq = wake_seq + 1 WHERE execution_id = $1", woken.execution_id
    )
    parks = [ParkRow(claim.execution_id, NOW, 0, "timer") for claim in (seen, woken)]
    flushed = await bench.flush(seen, woken, steps=[step(seen), step(woken)], runs_=["1", "2"], parks=parks)
    assert list(flushed.not_parked) == [woken.execution_id]
    parked, still = await bench.world.row(seen.execution_id), await bench.world.row(woken.execution_id)
    assert (parked["owner"], parked["ready_at"], int(parked["due_at"].timestamp() * 1e6)) == (None, None, NOW)
    assert (still["owner"], still["due_at"]) == (bench.worker, None)
    assert (await bench.world.execution(seen.execution_id))["waiting_for"] == "timer"
    assert (await bench.world.execution(woken.execution_id))["waiting_for"] is None
    assert len(await bench.world.steps(woken.execution_id)) == 1


async def test_wait_rows_come_and_go_with_their_flush(bench: Bench) -> None:
    claim = await bench.running()
    wait = wait_row(claim, "b", NOW)
    await bench.flush(claim, waits=[wait])
    waits = await runs.open_waits(bench.session, claim.execution_id)
    assert {(key[0].node, key[1]): wait.due for key, wait in waits.items()} == {("b", 1): NOW}
    await bench.flush(claim, closed_waits=[wait.step_id])
    assert await bench.world.waits(claim.execution_id) == []


async def test_end_is_one_transaction(bench: Bench) -> None:
    claim, other = await bench.running(), await bench.running()
    await bench.flush(claim, other, waits=[wait_row(claim, "b"), wait_row(other, "b")])
    outbox = [OutboxRow(claim.tenant_id, "error_workflow", '{"a": 1}')]
    end = EndRow(claim.execution_id, "failed", None, "why", "code", NOW, waited=True)
    await bench.flush(claim, steps=[step(claim)], ends=[end], outbox=outbox)
    run = await bench.world.execution(claim.execution_id)
    assert (run["status"], run["error_message"], run["error_code"]) == ("failed", "why", "code")
    assert int(run["completed_at"].timestamp() * 1e6) == NOW
    assert await bench.world.queued(claim.execution_id) is None
    assert await bench.world.waits(claim.execution_id) == []
    assert len(await bench.world.waits(other.execution_id)) == 1
    made = await bench.world.sql.fetchrow("SELECT kind, payload FROM outbox")
    assert made is not None
    assert tuple(made) == ("error_workflow", '{"a": 1}')
    writers = {run["xmin"] for run in await bench.world.sql.fetch("SELECT xmin FROM step_executions")}
    writers |= {run["xmin"] for run in await bench.world.sql.fetch("SELECT xmin FROM outbox")}
    writers.add(await bench.world.sql.fetchval("SELECT xmin FROM executions WHERE id = $1", claim.execution_id))
    assert len(writers) == 1


async def test_end_terminal_is_final(bench: Bench) -> None:
    claim = await bench.running()
    await bench.flush(claim, ends=[end_row(claim, "cancelled", None)])
    await bench.world.sql.execute(
        "SELECT gorax_record_ends(ARRAY[$1::uuid], '{completed}', '{1}', ARRAY[NULL], ARRAY[NULL], '{1}')",
        claim.execution_id,
    )
    run = await bench.world.execution(claim.execution_id)
    assert (run["status"], run["output_data"]) == ("cancelled", None)


async def test_deadline_is_a_column_of_the_queue(bench: Bench) -> None:
    claim, other = await bench.running(), await bench.running()
    await bench.flush(claim, other, deadlines=[(claim.execution_id, NOW)])
    mine, theirs = await bench.world.row(claim.execution_id), await bench.world.row(other.execution_id)
    assert int(mine["deadline_at"].timestamp() * 1e6) == NOW
    assert theirs["deadline_at"] is None


@pytest.mark.parametrize(
    ("status", "mark", "crashes"),
    [
        ("completed", None, 0),
        ("running", None, 2),
        ("completed", '{"kind": "timeout"}', 0),  # what must run before the end makes progress like all else
        ("completed", '{"kind": "worker_lost"}', 2),
    ],
)
async def test_crash_count_is_reset_by_an_ended_attempt_alone(
    bench: Bench, status: str, mark: str | None, crashes: int
) -> None:
    claim, other = await bench.running(), await bench.running()
    await bench.world.sql.execute("UPDATE execution_queue SET crashes = 2, end_requested = $1", mark)
    await bench.flush(claim, other, steps=[step(claim, status=status)])
    mine, theirs = await bench.world.row(claim.execution_id), await bench.world.row(other.execution_id)
    assert (mine["crashes"], theirs["crashes"]) == (crashes, 2)


# --- sweep ------------------------------------------------------------------------------------------------------------


async def test_sweep_wakes_what_is_due_and_nothing_else(bench: Bench) -> None:
    due, later, held = [await bench.running() for _ in range(3)]
    far = int((await bench.world.sql.fetchval("SELECT extract(epoch FROM now()) + 3600")) * 1_000_000)
    parks = [ParkRow(due.execution_id, NOW - 10**15, 0, "timer"), ParkRow(later.execution_id, far, 0, "timer")]
    await bench.flush(due, later, parks=parks)
    swept = await queue.sweep(bench.session, 10)
    assert (swept.timers, swept.next_due) == (1, far)
    assert [claim.execution_id for claim in await bench.claim()] == [due.execution_id]
    assert (await bench.owned())[held.execution_id] == bench.worker


async def test_sweep_marks_runs_that_are_past_their_deadline(bench: Bench) -> None:
    held = await bench.running()
    parked = await bench.running()
    await bench.flush(held, parked, parks=[ParkRow(parked.execution_id, NOW * 2, 0, "timer")])
    (pending,) = await bench.backlog(bench.flow, 1)
    (marked,) = await bench.backlog(bench.flow, 1, end_requested='{"kind": "worker_lost"}')
    (on_time,) = await bench.backlog(bench.flow, 1)
    await bench.world.sql.execute(
        "UPDATE execution_queue SET deadline_at = clock_timestamp() - interval '1 s' WHERE execution_id <> $1", on_time
    )
    assert (await queue.sweep(bench.session, 10)).deadlines == 3
    rows = {row["execution_id"]: row for row in await bench.world.sql.fetch("SELECT * FROM execution_queue")}
    assert rows[held.execution_id]["owner"] == bench.worker
    for one in (held.execution_id, parked.execution_id, pending):
        assert (rows[one]["end_requested"], rows[one]["wake_seq"]) == ('{"kind": "timeout"}', 1)
        assert rows[one]["ready_at"] is not None
    assert rows[marked]["end_requested"] == '{"kind": "worker_lost"}'
    assert (rows[on_time]["end_requested"], rows[on_time]["wake_seq"]) == (None, 0)
    assert (await queue.sweep(bench.session, 10)).deadlines == 0


async def test_crash_a_rescue_frees_counts_and_wakes(bench: Bench) -> None:
    claim = await bench.running()
    await bench.mark_dead(bench.worker)
    swept = await queue.sweep(bench.session, 10)
    assert (swept.rescued, swept.quarantined, list(swept.lost_workers)) == (1, 0, [bench.worker.hex])
    row = await bench.world.row(claim.execution_id)
    assert (row["owner"], row["crashes"], row["wake_seq"], row["token"]) == (None, 1, 1, 1)
    assert row["ready_at"] is not None
    assert await bench.world.sql.fetchval("SELECT count(*) FROM workers") == 0
    assert (await queue.sweep(bench.session, 10)).rescued == 0


async def test_crash_a_heartbeat_that_came_first_saves_its_worker(bench: Bench) -> None:
    await bench.running()
    await bench.mark_dead(bench.worker)
    await workers.heartbeat(bench.session, bench.worker, draining=False)
    assert (await queue.sweep(bench.session, 10)).rescued == 0


async def test_crash_each_worker_has_its_own_lease(bench: Bench) -> None:
    short = await bench.register(lease_ms=1_000)
    await bench.world.sql.execute("UPDATE workers SET heartbeat_at = heartbeat_at - interval '10 seconds'")
    assert list((await queue.sweep(bench.session, 10)).lost_workers) == [short.hex]


async def test_crash_two_make_a_suspect_and_the_third_ends_the_run(bench: Bench) -> None:
    claim = await bench.running()
    seen = []
    for _ in range(3):
        await bench.mark_dead(bench.worker)
        swept = await queue.sweep(bench.session, 10)
        row = await bench.world.row(claim.execution_id)
        seen.append((row["crashes"], swept.quarantined, swept.suspects, row["end_requested"]))
        bench.worker = await bench.register()
        (claim,) = await bench.claim(1, suspects=swept.suspects)
    assert claim.end_requested == '{"kind": "worker_lost"}'
    assert seen == [(1, 0, False, None), (2, 0, True, None), (3, 1, False, '{"kind": "worker_lost"}')]


async def test_a_third_crash_gives_a_run_up_and_keeps_the_mark_that_was_set_before(bench: Bench) -> None:
    claim = await bench.running()
    await bench.world.sql.execute('UPDATE execution_queue SET crashes = 2, end_requested = \'{"kind": "timeout"}\'')
    await bench.mark_dead(bench.worker)
    assert (await queue.sweep(bench.session, 10)).quarantined == 1
    row = await bench.world.row(claim.execution_id)
    assert json.loads(row["end_requested"]) == {"kind": "worker_lost", "was": {"kind": "timeout"}}


# --- workers ----------------------------------------------------------------------------------------------------------


async def test_drain_gives_back_all_and_counts_no_crash(bench: Bench) -> None:
    first, second = await bench.running(), await bench.running()
    assert await workers.release(bench.session, bench.worker) == 2
    for claim in (first, second):
        row = await bench.world.row(claim.execution_id)
        assert (row["owner"], row["crashes"], row["ready_at"] is not None) == (None, 0, True)
    assert await bench.world.sql.fetchval("SELECT count(*) FROM workers") == 0


async def test_drain_of_a_rescued_worker_frees_nothing(bench: Bench) -> None:
    claim = await bench.running()
    await bench.world.sql.execute("DELETE FROM workers")
    assert await workers.release(bench.session, bench.worker) == 0
    assert (await bench.owned())[claim.execution_id] == bench.worker


async def test_strays_are_handed_back_under_the_token_that_was_seen(bench: Bench) -> None:
    first, second = await bench.running(), await bench.running()
    await bench.world.sql.execute("UPDATE execution_queue SET token = 5 WHERE execution_id = $1", second.execution_id)
    pairs = [(first.execution_id, first.token), (second.execution_id, second.token)]
    assert await workers.hand_back(bench.session, bench.worker, pairs) == 1
    assert await bench.owned() == {first.execution_id: None, second.execution_id: bench.worker}


async def test_owned_tells_tokens_and_marks(bench: Bench) -> None:
    claim = await bench.running()
    await bench.world.sql.execute('UPDATE execution_queue SET wake_seq = 3, end_requested = \'{"kind": "timeout"}\'')
    assert await workers.owned(bench.session, bench.worker) == [
        workers.Owned(claim.execution_id, 1, 3, '{"kind": "timeout"}', paused=False)
    ]
    assert await workers.owned(bench.session, uuid.uuid4()) == []


async def test_a_heartbeat_of_a_worker_that_is_gone_says_so(bench: Bench) -> None:
    assert await workers.heartbeat(bench.session, bench.worker, draining=True) is not None
    assert await bench.world.sql.fetchval("SELECT draining FROM workers")
    await bench.world.sql.execute("DELETE FROM workers")
    assert await workers.heartbeat(bench.session, bench.worker, draining=False) is None
