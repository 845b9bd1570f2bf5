"""The life of an execution, 1: accept."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from typing import Any

import anyio
import pytest

from gorax_engine.engine.starting import MAX_GROUP_CHARACTERS, Started, StartKey, StartRequest
from gorax_engine.errors import Conflict, Forbidden, IdempotencyMismatch, MalformedInput, NotFound, Unavailable
from gorax_engine.store import queue
from tests.engine.harness import Flow, Member, World, chain, deafen, probe, tally, until

SIMPLE = chain(tally("a"))


async def together(member: Member, requests: list[StartRequest]) -> list[Started | Exception]:
    """Start all at once; return the answers in order."""
    answers: dict[int, Started | Exception] = {}

    async def one(place: int, request: StartRequest) -> None:
        try:
            answers[place] = await member.engine.operations.start(request)
        except (MalformedInput, IdempotencyMismatch, NotFound, Unavailable) as error:
            answers[place] = error

    async with anyio.create_task_group() as tasks:
        for place, request in enumerate(requests):
            tasks.start_soon(one, place, request)
    return [answers[place] for place in range(len(requests))]


def request(flow: Flow, body: Any = None, *, key: str | None = None, **more: Any) -> StartRequest:
    start_key = None if key is None else StartKey("idempotency", key, _hash(body), timedelta(days=1))
    trigger_type = more.pop("trigger_type", "api")
    return StartRequest(flow.tenant, flow.id, trigger_type, {"body": body}, start_key=start_key, **more)


def _hash(body: Any) -> bytes:
    return hashlib.sha256(repr(body).encode()).digest()


async def test_starts_that_arrive_together_share_a_commit(world: World) -> None:
    member = await world.member(roles=())
    flows = [await world.flow(SIMPLE) for _ in range(3)]
    answers = await together(member, [request(flows[n % 3], n) for n in range(60)])
    assert all(isinstance(answer, Started) for answer in answers)
    rows = await world.sql.fetch("SELECT xmin::text, count(*) AS runs FROM executions GROUP BY 1")
    assert sum(row["runs"] for row in rows) == 60
    assert len(rows) <= 2
    assert {row["xmin"] for row in rows} == {
        row["xmin"] for row in await world.sql.fetch("SELECT DISTINCT xmin::text FROM execution_queue")
    }


async def test_while_one_group_is_on_its_way_the_next_fills(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    member = await world.member(roles=())
    flow = await world.flow(SIMPLE)
    gate = anyio.Event()
    sizes: list[int] = []
    real = queue.start

    async def slow(session: Any, rows: Any, **more: Any) -> Any:
        sizes.append(len(rows))
        if len(sizes) == 1:
            await gate.wait()
        return await real(session, rows, **more)

    monkeypatch.setattr(queue, "start", slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(member.start, flow)
        await until(lambda: _true(bool(sizes)))
        for _ in range(20):
            tasks.start_soon(member.start, flow)
        await until(lambda: _true(sum(len(group.members) for group in member.engine.operations._starts._groups) == 20))
        gate.set()
    assert sizes == [1, 20]


async def _true(value: bool) -> bool:
    return value


async def test_a_start_is_answered_after_its_commit(world: World) -> None:
    member = await world.member(roles=())
    started = await member.start(await world.flow(SIMPLE), {"n": 1})
    row = await world.execution(started.execution_id)  # another session
    assert (row["status"], started.status, started.duplicate) == ("pending", "pending", False)
    assert row["trigger_data"] == '{"body": {"n": 1}}'


async def test_one_key_starts_one_run(world: World) -> None:
    member = await world.member()
    flow = await world.flow(SIMPLE)
    first = await member.start(flow, key="k", hash_=b"h")
    await world.ended(first.execution_id)
    again = await member.start(flow, key="k", hash_=b"h")
    assert (again.execution_id, again.duplicate) == (first.execution_id, True)
    with pytest.raises(IdempotencyMismatch):
        await member.start(flow, key="k", hash_=b"other")
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 1


async def test_one_key_twice_in_one_breath(world: World) -> None:
    member = await world.member(roles=())
    flow = await world.flow(SIMPLE)
    answers = await together(member, [request(flow, n % 2, key="k") for n in range(4)])
    started = [answer for answer in answers if isinstance(answer, Started)]
    assert len({answer.execution_id for answer in started}) == 1
    assert sorted(answer.duplicate for answer in started) == [False, True]
    assert sum(isinstance(answer, IdempotencyMismatch) for answer in answers) == 2
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 1


async def test_one_key_in_two_processes(world: World) -> None:
    members = [await world.member(name, roles=()) for name in "ab"]
    flow = await world.flow(SIMPLE)
    answers: list[Started | Exception] = []

    async def start(member: Member, keys: list[str]) -> None:
        answers.extend(await together(member, [request(flow, key=key) for key in keys]))

    keys = [f"k{n}" for n in range(20)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start, members[0], keys)
        tasks.start_soon(start, members[1], keys[::-1])  # in the other order, so that a bad lock order would show
    started = [answer for answer in answers if isinstance(answer, Started)]
    assert len(started) == 40
    assert sum(answer.duplicate for answer in started) == 20
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 20


async def test_every_refusal_has_its_error(world: World) -> None:
    member = await world.member(roles=())
    tenant = await world.tenant()
    for flow, error, code in (
        (Flow(tenant, uuid.uuid4()), NotFound, "workflow_not_found"),
        (await world.flow(SIMPLE, published=False), Conflict, "not_published"),
        (await world.flow(SIMPLE, status="inactive"), Conflict, "workflow_inactive"),
        (await world.flow(SIMPLE, tenant=await world.tenant(status="suspended")), Forbidden, "tenant_suspended"),
    ):
        with pytest.raises(error) as raised:
            await member.start(flow)
        assert raised.value.code == code
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 0


async def test_a_poisoned_start_fails_alone(world: World) -> None:
    member = await world.member()
    flow = await world.flow(SIMPLE)
    requests = [request(flow, n) for n in range(10)]
    requests[4] = request(flow, 4, trigger_type="strange")
    answers = await together(member, requests)
    assert isinstance(answers[4], MalformedInput)
    started = [answer for answer in answers if isinstance(answer, Started)]
    assert len(started) == 9
    for answer in started:
        assert (await world.ended(answer.execution_id))["status"] == "completed"


async def test_a_working_process_claims_what_it_accepts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    deafen(monkeypatch)
    member = await world.member(poll=30.0)
    gate = world.probe.hold("p")
    flow = await world.flow(chain(probe("p")))
    await member.settled()
    started = await member.start(flow)
    row = await world.row(started.execution_id)
    assert started.status == "running"
    assert ([row["owner"]], row["token"]) == (await world.worker_ids("w"), 1)
    await world.probe.called("p")
    gate.set()
    await world.ended(started.execution_id)


async def test_a_full_worker_leaves_a_start_to_others_and_comes_for_it_when_it_has_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deafen(monkeypatch)
    member = await world.member(slots=1, poll=30.0)
    gate = world.probe.hold("p")
    flow = await world.flow(chain(probe("p")))
    await member.settled()
    first = await member.start(flow)
    second = await member.start(flow)
    assert (first.status, second.status) == ("running", "pending")
    gate.set()
    for started in (first, second):
        assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_another_process_is_rung(world: World) -> None:
    acceptor = await world.member("api", roles=())
    await world.member("w", poll=30.0)
    started = await acceptor.start(await world.flow(SIMPLE))
    assert started.status == "pending"
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_a_start_in_the_name_of_a_lost_worker_is_accepted_without_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, gate, held = queue.claim, anyio.Event(), anyio.Event()

    async def held_back(session: Any, *arguments: Any, **more: Any) -> Any:
        held.set()
        await gate.wait()
        return await real(session, *arguments, **more)

    monkeypatch.setattr(queue, "claim", held_back)
    member = await world.member(heartbeat=20.0, slots=200)
    flow = await world.flow(SIMPLE)
    await held.wait()
    await world.sql.execute("DELETE FROM workers")
    started = await member.start(flow, key="k", hash_=b"h")
    assert (started.status, started.duplicate) == ("pending", False)
    assert (await world.row(started.execution_id))["owner"] is None
    # The loss is found at the next chance, and the worker begins anew.
    gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_a_start_whose_answer_was_lost_is_told_by_its_key_and_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = await world.member()
    flow = await world.flow(SIMPLE)
    real = queue.start
    lost: list[Any] = []

    async def cut(session: Any, rows: Any, **more: Any) -> Any:
        answer = await real(session, rows, **more)
        if not lost:
            lost.extend(answer)
            raise Unavailable("the connection broke after the commit")
        return answer

    monkeypatch.setattr(queue, "start", cut)
    with pytest.raises(Unavailable):
        await member.start(flow, key="k", hash_=b"h")
    assert lost[0].claimed
    again = await member.start(flow, key="k", hash_=b"h")
    assert (again.execution_id, again.duplicate) == (lost[0].execution_id, True)
    # It was claimed in the name of a worker that never heard of it: that worker hands it back, with no crash counted.
    assert (await world.ended(again.execution_id))["status"] == "completed"


async def test_a_stopping_process_refuses_who_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    member = await world.member(roles=())
    flow = await world.flow(SIMPLE)
    sent = anyio.Event()

    async def hang(session: Any, rows: Any, **more: Any) -> Any:
        sent.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(queue, "start", hang)
    refused: list[str] = []

    async def start() -> None:
        try:
            await member.start(flow)
        except Unavailable as error:
            refused.append(error.code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await sent.wait()
        await member.crash()
    assert refused == ["stopping"]


async def test_vars_and_the_version_are_frozen_at_the_start(world: World) -> None:
    tenant = await world.tenant(settings={"vars": {"region": "eu"}})
    flow = await world.flow(chain(probe("p", config={"region": "{{ vars.region }}"})), tenant=tenant)
    gate = world.probe.hold("p")
    member = await world.member()
    started = await member.start(flow)
    await world.probe.called("p")
    await world.sql.execute('UPDATE tenants SET settings = \'{"vars": {"region": "us"}}\'')
    await world.sql.execute("UPDATE workflows SET published_version = 2")
    await member.crash()
    await world.expire("w")
    gate.set()
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert (row["status"], row["workflow_version"], row["vars"]) == ("completed", 1, '{"region": "eu"}')
    assert (await world.steps(started.execution_id))["p", 1]["input_data"] == '{"region": "eu"}'


async def test_large_starts_do_not_share_one_statement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred bodies of a megabyte in one statement would be a gigabyte in memory, and too slow for its time."""
    sizes: list[int] = []
    start = queue.start

    async def spying(session: Any, rows: Any, **options: Any) -> Any:
        sizes.append(sum(len(text) for row in rows for text in row))
        return await start(session, rows, **options)

    monkeypatch.setattr(queue, "start", spying)
    member = await world.member(roles=("api",))
    flow = await world.flow(chain(tally("a")))
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(member.start, flow, "x" * 1_000_000)
    assert len(sizes) > 2
    assert max(sizes) <= MAX_GROUP_CHARACTERS
