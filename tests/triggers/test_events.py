"""Events meet their waits: each wait gets one event, each event all waits that are open for it, whoever comes first."""

from __future__ import annotations

import json
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import asyncpg
import pytest

from gorax_engine.core.model import SECOND, Json
from gorax_engine.engine.starting import Started, StartRequest
from gorax_engine.errors import Conflict, MalformedInput, PayloadTooLarge, Unavailable
from gorax_engine.ops.duties import maintenance_duties
from gorax_engine.store import events
from gorax_engine.store.events import Subscription
from gorax_engine.store.session import Session, open_session
from gorax_engine.triggers.events import Events, dispatch, new_event, work_off
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import World, until

NOW = timedelta()
HOUR = 3_600 * SECOND


@dataclass
class Board:
    """A database on which runs are parked by SQL, with one session that does as the engine's role."""

    world: World
    session: Session
    tenant: uuid.UUID
    runs: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)

    async def run(self) -> uuid.UUID:
        """Park a run; return its id."""
        run: uuid.UUID = await self.world.sql.fetchval(
            "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, owner) "
            "VALUES (gorax_uuid7(), $1, $1, NULL) RETURNING execution_id",
            self.tenant,
        )
        return run

    async def wait(
        self, name: str, key: str | None = None, *, run: uuid.UUID | None = None, seek: bool = True
    ) -> uuid.UUID:
        """Open a wait; return its step."""
        run = run or await self.run()
        step = uuid.uuid4()
        await self.world.sql.execute(
            "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind, event_name, correlation_key) "
            "VALUES ($1, $2, $3, 'n', 'event', $4, $5)",
            step, self.tenant, run, name, key,
        )  # fmt: skip
        self.runs[step] = run
        if seek:
            await events.match_waits(self.session, [step])
        return step

    async def publish(
        self, name: str, key: str | None = None, body: Json = None, *, ttl: int = HOUR, match: bool = True,
        idempotency_key: str | None = None,
    ) -> uuid.UUID:  # fmt: skip
        published = await events.insert(self.session, new_event(self.tenant, name, key, body, ttl, idempotency_key))
        if match:
            while not await events.match_events(self.session, [published.id]):
                pass
        return published.id

    async def got(self, *steps: uuid.UUID) -> list[Any]:
        """Return what each wait got, None for nothing: the bodies."""
        rows = await self.world.sql.fetch("SELECT step_id, resolution FROM signals WHERE step_id = ANY($1)", steps)
        found = {row["step_id"]: json.loads(row["resolution"])["output"]["body"] for row in rows}
        return [found.get(step) for step in steps]

    async def end(self, step: uuid.UUID) -> None:
        """The run's owner takes what came: the wait is over."""
        await self.world.sql.execute("DELETE FROM waits WHERE step_id = $1", step)
        await self.world.sql.execute("DELETE FROM signals WHERE step_id = $1", step)

    async def owed(self) -> tuple[int, int, int]:
        left = await events.leftovers(self.session, 1_000, NOW)
        return len(left.events), len(left.waits), len(left.starts)


@pytest.fixture
async def board(world: World) -> AsyncIterator[Board]:  # noqa: F811
    async with open_session(world.dsn, "gorax_worker") as session:
        yield Board(world, session, await world.tenant())


class Starts:
    """A stand-in for the engine's verb: once per key, as the real one."""

    def __init__(self) -> None:
        self.requests: list[StartRequest] = []
        self.fails: dict[uuid.UUID, Exception] = {}

    async def start(self, request: StartRequest) -> Started:
        if request.workflow_id in self.fails:
            raise self.fails[request.workflow_id]
        self.requests.append(request)
        return Started(uuid.uuid4(), "pending", False, None)


# --- waits ------------------------------------------------------------------------------------------------------------


async def test_an_event_reaches_every_open_wait_of_its_name_and_key(board: Board) -> None:
    any_key, same, other, elsewhere = (
        await board.wait("paid"), await board.wait("paid", "a"), await board.wait("paid", "b"), await board.wait("sent")
    )  # fmt: skip
    await board.publish("paid", "a", 1)
    assert await board.got(any_key, same, other, elsewhere) == [1, 1, None, None]
    await board.publish("paid", None, 2)
    assert await board.got(any_key, same, other) == [1, 1, None]


async def test_what_a_wait_gets_is_the_event(board: Board) -> None:
    step = await board.wait("paid")
    event = await board.publish("paid", "a", {"total": 1.5})
    resolution = json.loads(await board.world.sql.fetchval("SELECT resolution FROM signals WHERE step_id = $1", step))
    output = resolution.pop("output")
    assert resolution == {"status": "completed"}
    assert output.pop("published_at").endswith("Z")
    assert output == {"id": str(event), "name": "paid", "correlation_key": "a", "body": {"total": 1.5}}


async def test_the_run_wakes(board: Board) -> None:
    step = await board.wait("paid")
    assert (await board.world.row(board.runs[step]))["ready_at"] is None
    await board.publish("paid")
    row = await board.world.row(board.runs[step])
    assert row["ready_at"] is not None
    assert row["wake_seq"] == 1


async def test_a_later_wait_takes_the_oldest_event_that_its_run_did_not_have(board: Board) -> None:
    for body in (1, 2, 3):
        await board.publish("paid", "a", body)
    run = await board.run()
    seen = []
    for key in ("a", None, "a", None):
        step = await board.wait("paid", key, run=run)
        seen += await board.got(step)
        await board.end(step)
    assert seen == [1, 2, 3, None]
    assert await board.got(await board.wait("paid")) == [1]


async def test_two_waits_of_a_run_that_open_together_share_an_event_only_if_it_comes_later(board: Board) -> None:
    run = await board.run()
    first, second = await board.wait("paid", run=run), await board.wait("paid", "a", run=run)
    await board.publish("paid", "a", 1)
    assert await board.got(first, second) == [1, 1]
    other = await board.run()
    late = [await board.wait("paid", run=other, seek=False) for _ in range(3)]
    await board.publish("paid", None, 2, match=False)
    await events.match_waits(board.session, late)
    assert await board.got(*late) == [1, 2, 2]


async def test_open_waits_of_a_run_share_an_event_also_over_several_batches(board: Board) -> None:
    run = await board.run()
    steps = [await board.wait("paid", run=run) for _ in range(2)]
    event = await board.publish("paid", None, 1, match=False)
    while not await events.match_events(board.session, [event], 1):
        pass
    assert await board.got(*steps) == [1, 1]


async def test_late_waits_of_one_run_in_one_call_share_nothing(board: Board) -> None:
    await board.publish("paid", None, 1)
    await board.publish("paid", None, 2)
    run = await board.run()
    late = [await board.wait("paid", run=run, seek=False) for _ in range(3)]
    assert await events.match_waits(board.session, late) == 2
    assert await board.got(*late) == [1, 2, None]


async def test_an_event_is_kept_for_its_ttl_and_for_those_who_waited_before(board: Board) -> None:
    early = await board.wait("paid", seek=False)
    await board.publish("paid", None, 1, match=False)
    await board.world.sql.execute("UPDATE events SET expires_at = clock_timestamp()")
    late = await board.wait("paid")
    assert await board.got(late) == [None]
    await work_off(board.session, Starts(), NOW)
    assert await board.got(early, late) == [1, None]


async def test_other_tenants_events_are_not_seen(board: Board, world: World) -> None:  # noqa: F811
    step = await board.wait("paid")
    stranger = Board(world, board.session, await world.tenant())
    await stranger.publish("paid")
    assert await board.got(step) == [None]
    assert await board.world.sql.fetchval("SELECT count(*) FROM signals") == 0


async def test_a_wait_that_got_something_else_gets_no_event(board: Board) -> None:
    step = await board.wait("paid")
    await board.world.sql.execute("SELECT gorax_signal($1, $2)", [step], ['{"status": "completed", "output": {}}'])
    await board.publish("paid", None, 1)
    assert await board.world.sql.fetchval("SELECT count(*) FROM event_deliveries") == 0


async def test_many_waits_are_served_in_batches(board: Board) -> None:
    steps = [await board.wait("paid", seek=False) for _ in range(7)]
    event = await board.publish("paid", None, 1, match=False)
    assert [await events.match_events(board.session, [event], 3) for _ in range(4)] == [False, False, True, True]
    assert await board.got(*steps) == [1] * 7


async def test_a_wait_of_a_run_that_is_gone_holds_nothing_up(board: Board) -> None:
    step = await board.wait("paid")
    await board.world.sql.execute("DELETE FROM execution_queue WHERE execution_id = $1", board.runs[step])
    with anyio.fail_after(10):
        await board.publish("paid", None, 1)
        await events.match_waits(board.session, [step])
    assert await board.owed() == (0, 0, 0)


async def test_the_same_key_publishes_once(board: Board) -> None:
    first = await board.publish("paid", "a", 1, idempotency_key="k")
    assert await board.publish("paid", "a", 1, idempotency_key="k") == first
    assert await board.publish("paid", "a", 1, idempotency_key="l") != first
    stranger = Board(board.world, board.session, await board.world.tenant())
    assert await stranger.publish("paid", "a", 1, idempotency_key="k") != first


@pytest.mark.parametrize("seed", range(4))
async def test_many_publishers_and_waiters_at_once(board: Board, world: World, seed: int) -> None:  # noqa: F811
    """Each wait gets exactly one event, and each event all waits that were open for it, whoever commits last."""
    chance = random.Random(seed)
    keys = ["a", "b", None]
    runs = [await board.run() for _ in range(30)]
    opened: list[tuple[uuid.UUID, uuid.UUID, str | None]] = []
    published: list[tuple[uuid.UUID, str | None]] = []

    async def publisher(session: Session) -> None:
        own = Board(world, session, board.tenant)
        for _ in range(15):
            key = chance.choice(keys)
            published.append((await own.publish("paid", key, 1), key))

    async def waiter(session: Session) -> None:
        for _ in range(10):
            wanted = [(uuid.uuid4(), chance.choice(runs), chance.choice(keys)) for _ in range(3)]
            rows = [
                f"('{s}','{board.tenant}','{r}','n','event','paid',{repr(k) if k else 'NULL'})" for s, r, k in wanted
            ]
            await session.fetch(
                "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind, event_name, correlation_key) "
                f"VALUES {', '.join(rows)}"
            )
            opened.extend(wanted)
            await events.match_waits(session, [step for step, _, _ in wanted])

    async with anyio.create_task_group() as group:
        for act in (publisher, publisher, publisher, waiter, waiter, waiter):
            group.start_soon(with_session, world, act)
    assert await board.owed() == (0, 0, 0)

    deliveries = await world.sql.fetch("SELECT * FROM event_deliveries")
    signals = await world.sql.fetch("SELECT step_id FROM signals")
    assert Counter(row["step_id"] for row in deliveries) == Counter(row["step_id"] for row in signals)
    assert max(Counter(row["step_id"] for row in deliveries).values()) == 1
    # Nobody who could have had an event is without one.
    given = {row["step_id"] for row in deliveries}
    had = {(row["execution_id"], row["event_id"]) for row in deliveries}
    times = {row["step_id"]: row["created_at"] for row in await world.sql.fetch("SELECT * FROM waits")}
    came = {row["id"]: row["published_at"] for row in await world.sql.fetch("SELECT * FROM events")}
    for step, run, key in opened:
        if step not in given:
            could = [event for event, its in published if key in (None, its)]
            assert all((run, event) in had and times[step] > came[event] for event in could), (step, key)
    # What was taken before a wait opened was not taken twice by its run.
    taken = Counter((r["execution_id"], r["event_id"]) for r in deliveries if times[r["step_id"]] > came[r["event_id"]])
    assert not taken or max(taken.values()) == 1


async def with_session(world: World, act: Any) -> None:  # noqa: F811
    async with open_session(world.dsn, "gorax_worker") as session:
        await act(session)


async def test_an_event_and_a_wait_that_miss_each_other_are_brought_together(board: Board) -> None:
    step = await board.wait("paid", seek=False)
    await board.publish("paid", None, 1, match=False)
    assert await board.owed() == (1, 1, 0)
    await work_off(board.session, Starts())
    assert await board.got(step) == [None]  # not yet: whoever made them may be about to
    await work_off(board.session, Starts(), NOW)
    assert await board.got(step) == [1]
    assert await board.owed() == (0, 0, 0)


async def test_a_locked_wait_is_not_waited_for(board: Board, world: World) -> None:  # noqa: F811
    step = await board.wait("paid", seek=False)
    async with world.sql.transaction():
        await world.sql.execute("SELECT 1 FROM waits WHERE step_id = $1 FOR UPDATE", step)
        with anyio.fail_after(4):
            await events.match_waits(board.session, [step])
        assert await board.owed() == (0, 1, 0)
    await work_off(board.session, Starts(), NOW)
    assert await board.owed() == (0, 0, 0)


async def test_runs_are_locked_in_the_order_of_their_ids(board: Board, world: World) -> None:  # noqa: F811
    runs = sorted([await board.run() for _ in range(5)])
    for run in reversed(runs):
        await board.wait("paid", run=run)
    async with anyio.create_task_group() as group, world.sql.transaction():
        await world.sql.execute("SELECT 1 FROM execution_queue WHERE execution_id = $1 FOR UPDATE", runs[0])
        group.start_soon(board.publish, "paid")
        await world.blocked()
        free = await world.apart("SELECT execution_id FROM execution_queue FOR UPDATE SKIP LOCKED")
        assert {row["execution_id"] for row in free} == set(runs[1:])


async def test_events_are_forgotten_once_nobody_can_want_them(board: Board, world: World) -> None:  # noqa: F811
    await board.wait("paid")
    for owes in ("matched", "dispatched", None):
        event = await board.publish("paid")
        if owes:
            await world.sql.execute(f"UPDATE events SET {owes} = false WHERE id = $1", event)
    await board.publish("kept")
    await world.sql.execute("UPDATE events SET delete_after = now() WHERE name = 'paid'")
    assert await events.expire(board.session, 10) == 1
    assert await world.sql.fetchval("SELECT count(*) FROM events") == 3
    await world.sql.execute("UPDATE events SET matched = true, dispatched = true")
    assert await events.expire(board.session, 10) == 2
    assert await world.sql.fetchval("SELECT count(*) FROM event_deliveries") == 0


async def test_a_key_outlives_a_short_ttl(board: Board, world: World) -> None:  # noqa: F811
    await board.publish("paid", ttl=SECOND, idempotency_key="k")
    row = await world.sql.fetchrow(
        "SELECT expires_at - published_at AS ttl, delete_after - published_at AS kept FROM events"
    )
    assert row is not None
    assert row["ttl"] == timedelta(seconds=1)
    assert row["kept"] >= timedelta(days=1)


def test_payloads_have_bounds() -> None:
    with pytest.raises(PayloadTooLarge):
        new_event(uuid.uuid4(), "paid", None, "x" * 300_000, HOUR)
    with pytest.raises(MalformedInput):
        new_event(uuid.uuid4(), "paid", None, "\x00", HOUR)


# --- starts -----------------------------------------------------------------------------------------------------------


async def listen(board: Board, *subscriptions: Subscription, status: str = "active") -> uuid.UUID:
    """Make a workflow that listens; return its id."""
    flow = await board.world.flow({"nodes": [], "edges": []}, tenant=board.tenant, status=status)
    await events.replace_subscriptions(board.world.sql, board.tenant, flow.id, subscriptions)
    return flow.id


async def test_an_event_starts_every_workflow_that_listens(board: Board) -> None:
    exact, prefix, everything = [
        await listen(board, Subscription("n", pattern, None)) for pattern in ("order.paid", "order.*", "*")
    ]
    await listen(board, Subscription("n", "order", None))
    await listen(board, Subscription("n", "order.paid.*", None))
    await listen(board, Subscription("n", "order.paid", None), status="inactive")
    event = await board.publish("order.paid", "a", {"total": 1})
    starts = Starts()
    await work_off(board.session, starts, NOW)
    assert {request.workflow_id for request in starts.requests} == {exact, prefix, everything}
    request = next(request for request in starts.requests if request.workflow_id == exact)
    assert (request.trigger_type, request.trigger_node) == ("event", "n")
    assert request.trigger_data == {"name": "order.paid", "correlation_key": "a", "body": {"total": 1}}
    assert request.start_key is not None
    assert (request.start_key.kind, request.start_key.key) == ("event", f"{event}:{exact}")
    assert await board.owed() == (0, 0, 0)
    assert (await board.publish("other")) is not None
    await board.world.sql.execute("DELETE FROM event_subscriptions WHERE pattern = '*'")
    await board.publish("other")
    assert await board.owed() == (0, 0, 1)


async def test_the_first_node_whose_filter_holds_is_the_trigger(board: Board) -> None:
    await listen(
        board,
        Subscription("much", "paid", "trigger.body.total > 100"),
        Subscription("some", "paid", "trigger.total > 10"),
        Subscription("no_boolean", "paid", "trigger.total"),
        Subscription("missing", "paid", "trigger.body.nothing.at.all > 1"),
        Subscription("broken", "paid", "((("),
    )
    starts = Starts()
    for total in (1, 50, 500):
        await board.publish("paid", None, {"total": total})
    await work_off(board.session, starts, NOW)
    assert [request.trigger_node for request in starts.requests] == ["some", "much"]


async def test_a_start_that_is_refused_is_given_up_and_one_that_fails_is_tried_again(board: Board) -> None:
    good, refused, failing = [await listen(board, Subscription("n", "paid", None)) for _ in range(3)]
    starts = Starts()
    starts.fails = {refused: Conflict("inactive"), failing: Unavailable("away")}
    event = await board.publish("paid")
    with pytest.raises(Unavailable):
        await dispatch(board.session, starts, [event])
    assert await board.owed() == (0, 0, 1)
    del starts.fails[failing]
    await work_off(board.session, starts, NOW)
    assert {request.workflow_id for request in starts.requests} == {good, failing}
    assert await board.owed() == (0, 0, 0)


async def test_the_engine_starts_once_per_event_and_workflow(board: Board, world: World) -> None:  # noqa: F811
    member = await world.member(roles=())
    definition = {
        "nodes": [{"id": "begin", "type": "event_trigger", "config": {"event": "paid"}}],
        "edges": [],
    }
    flow = await world.flow(definition, tenant=board.tenant)
    await events.replace_subscriptions(world.sql, board.tenant, flow.id, [Subscription("begin", "paid", None)])
    event = await member.engine.events.publish(str(board.tenant), "paid", "a", {"n": 1}, HOUR, "k")
    run = await until(lambda: world.sql.fetchrow("SELECT * FROM executions"))
    assert (run["workflow_id"], run["trigger_type"], run["trigger_node"]) == (flow.id, "event", "begin")
    assert json.loads(run["trigger_data"]) == {"name": "paid", "correlation_key": "a", "body": {"n": 1}}
    await until(lambda: world.sql.fetchval("SELECT dispatched FROM events"))
    await world.sql.execute("UPDATE events SET dispatched = false")
    for duty in maintenance_duties(board.session, member.engine.operations):
        if duty.name == "events":
            await world.sql.execute("UPDATE events SET published_at = published_at - interval '1 minute'")
            await duty.run_once()
    assert await board.owed() == (0, 0, 0)
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 1
    assert await member.engine.events.publish(str(board.tenant), "paid", "a", {"n": 1}, HOUR, "k") == event


async def test_what_cant_be_matched_now_is_left_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    member = await world.member(roles=())
    tenant = await world.tenant()

    async def away(*_: object) -> bool:
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(events, "match_events", away)
        await member.engine.events.publish(str(tenant), "paid", None, None, HOUR, "k")
    assert await world.sql.fetchval("SELECT matched FROM events") is False
    assert isinstance(member.engine.events, Events)


async def test_a_workflow_listens_to_what_it_was_published_with_last(board: Board, world: World) -> None:  # noqa: F811
    flow = await listen(board, Subscription("a", "x", None), Subscription("b", "y.*", "true"))
    await events.replace_subscriptions(world.sql, board.tenant, flow, [Subscription("b", "z", None)])
    rows: list[asyncpg.Record] = await world.sql.fetch("SELECT * FROM event_subscriptions")
    assert [
        (row["node_id"], row["pattern"], row["filter"], row["position"]) for row in rows if row["workflow_id"] == flow
    ] == [("b", "z", None, 1)]
