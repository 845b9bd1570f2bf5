"""Sub-workflows: a run that starts another one, and waits for it in no worker's memory."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

import anyio
import asyncpg
import pytest

from gorax_engine.core.model import SECOND, Json
from gorax_engine.engine.execution import Execution
from gorax_engine.engine.parking import CHILD_PATIENCE, PARK_AFTER
from gorax_engine.errors import Conflict
from gorax_engine.nodes.api import Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.store import queue
from gorax_engine.store.session import Session
from tests.engine.harness import Flow, Member, World, chain, delay, fan, probe, tally, until


def sub(id_: str = "sub", workflow: str = "child", **more: Json) -> dict[str, Json]:
    policies: dict[str, Json] = {key: more.pop(key) for key in ("retry", "on_error", "when") if key in more}
    return {"id": id_, "type": "sub_workflow", "config": {"workflow_id": workflow, **more}, **policies}


def formula(id_: str, expression: str) -> dict[str, Json]:
    return {"id": id_, "type": "formula", "config": {"expression": expression}}


async def pair(world: World, parent: Json, child: Json) -> Flow:
    """Publish a workflow `child` and one that calls it; return the latter."""
    tenant = await world.tenant()
    await world.flow(child, tenant=tenant, name="child")
    return await world.flow(parent, tenant=tenant, name="parent")


async def children(world: World, parent: uuid.UUID) -> list[asyncpg.Record]:
    return list(
        await world.sql.fetch("SELECT * FROM executions WHERE parent_execution_id = $1 ORDER BY created_at, id", parent)
    )


async def child_of(world: World, parent: uuid.UUID) -> asyncpg.Record:
    """Wait for the one child of a run."""

    async def look() -> asyncpg.Record | None:
        found = await children(world, parent)
        return found[0] if found else None

    row: asyncpg.Record = await until(look, "a child")
    return row


async def output(world: World, execution_id: uuid.UUID) -> Json:
    row = await world.ended(execution_id)
    assert row["status"] == "completed", (row["error_code"], row["error_message"])
    return json.loads(row["output_data"])


async def error(world: World, execution_id: uuid.UUID) -> str:
    row = await world.ended(execution_id)
    assert row["status"] == "failed"
    return str(row["error_code"])


DOUBLE = chain(formula("twice", "trigger.body.n * 2"), output={"twice": "{{ steps.twice }}", "deep": {"n": [1, 2]}})


@pytest.mark.parametrize(
    ("mapping", "gives"),
    [
        (None, {"twice": 8, "deep": {"n": [1, 2]}}),
        ({"a": "output.deep.n[1]", "b": "output.twice"}, {"a": 2, "b": 8}),
        ({"a": "twice", "b": "steps.twice", "c": "deep.n"}, {"a": 8, "b": 8, "c": [1, 2]}),
    ],
    ids=["none", "output", "steps"],
)
async def test_a_child_is_waited_for_and_its_output_mapped(world: World, mapping: Json, gives: Json) -> None:
    member = await world.member()
    more = {} if mapping is None else {"output_mapping": mapping}
    step = sub(input_mapping={"n": "{{ trigger.body.n + 1 }}", "word": "as it is"}, **more)
    flow = await pair(world, chain(step), DOUBLE)
    started = await member.start(flow, {"n": 3})
    assert await output(world, started.execution_id) == {"sub": gives}
    (child,) = await children(world, started.execution_id)
    parent = await world.execution(started.execution_id)
    assert json.loads(child["trigger_data"]) == {"body": {"n": 4, "word": "as it is"}}
    assert (child["trigger_type"], child["execution_depth"], parent["execution_depth"]) == ("sub_workflow", 1, 0)
    assert child["tenant_id"] == flow.tenant
    assert await world.waits(started.execution_id) == []
    assert await world.sql.fetchval("SELECT count(*) FROM signals") == 0


async def test_a_mapping_to_what_is_not_there_fails_the_step(world: World) -> None:
    member = await world.member()
    flow = await pair(world, chain(sub(input={"n": 1}, output_mapping={"a": "output.none"})), DOUBLE)
    started = await member.start(flow)
    assert await error(world, started.execution_id) == "missing_path"


async def test_an_asynchronous_child_goes_its_own_way(world: World) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    flow = await pair(world, chain(sub(mode="async")), chain(probe("p")))
    started = await member.start(flow)
    gives = (await output(world, started.execution_id))["sub"]
    child = await child_of(world, started.execution_id)
    assert gives == {
        "execution_id": str(child["id"]), "workflow_id": str(child["workflow_id"]), "status": "started",
    }  # fmt: skip
    assert child["status"] == "running"
    gate.set()
    assert (await world.ended(child["id"]))["status"] == "completed"


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_workflow_that_cannot_be_started(world: World, mode: str) -> None:
    member = await world.member()
    tenant = await world.tenant()
    await world.flow(DOUBLE, tenant=tenant, name="draft", published=False)
    stranger = await world.flow(DOUBLE, name="foreign")
    codes = []
    for name in ("nowhere", "draft", "foreign", str(stranger.id), str(uuid.uuid4())):
        flow = await world.flow(chain(sub(workflow=name, mode=mode)), tenant=tenant)
        codes.append(await error(world, (await member.start(flow)).execution_id))
    assert codes == ["workflow_not_found", "not_published", *["workflow_not_found"] * 3]


async def test_a_failure_goes_along_the_error_edge(world: World) -> None:
    async def breaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Failed(StepError("boom", "It broke."))

    world.probe.acts["p"] = breaks
    member = await world.member()
    definition = chain(sub(), tally("good"))
    definition["nodes"].append(formula("bad", "steps.sub.error"))
    definition["edges"].append({"id": "x", "source": "sub", "target": "bad", "label": "error"})
    started = await member.start(await pair(world, definition, chain(probe("p"))))
    bound = (await output(world, started.execution_id))["bad"]
    child = await child_of(world, started.execution_id)
    assert (bound["code"], bound["node_id"], bound["child_execution_id"]) == ("boom", "sub", str(child["id"]))
    assert "It broke." in bound["message"]
    assert (await world.states(started.execution_id))["good"] == "skipped"


async def test_another_attempt_is_another_child(world: World) -> None:
    async def breaks_once(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(7) if world.probe.count("p") > 1 else Failed(StepError("boom", "It broke."))

    world.probe.acts["p"] = breaks_once
    member = await world.member()
    retry = {"max_attempts": 2, "initial_delay": "10ms", "strategy": "fixed"}
    started = await member.start(await pair(world, chain(sub(retry=retry)), chain(probe("p"), output="{{ steps.p }}")))
    assert await output(world, started.execution_id) == {"sub": 7}
    assert [row["status"] for row in await children(world, started.execution_id)] == ["failed", "completed"]
    assert [key for key in await world.steps(started.execution_id) if key[0] == "sub"] == [("sub", 1), ("sub", 2)]


# --- depth ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "ends"), [(10, "completed"), (11, "failed")])
async def test_ten_levels_run_and_the_eleventh_fails(world: World, levels: int, ends: str) -> None:
    member = await world.member()
    again = sub(workflow="self", input={"n": "{{ trigger.body.n - 1 }}"}, when="trigger.body.n > 0")
    flow = await world.flow(chain(again, tally("t")), name="self")
    started = await member.start(flow, {"n": levels})
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == (ends, None if ends == "completed" else "depth_exceeded")
    depths = await world.sql.fetch("SELECT execution_depth FROM executions WHERE workflow_id = $1 ORDER BY 1", flow.id)
    assert [each[0] for each in depths] == list(range(11))
    assert await world.sql.fetchval("SELECT count(*) FROM executions WHERE status = $1", ends) == 11


# --- memory and commits -----------------------------------------------------------------------------------------------


async def test_who_waits_for_a_child_is_in_no_memory(world: World) -> None:
    member = await world.member()
    started = await member.start(await pair(world, chain(sub()), chain(delay("long", "1h"), tally("t"))))
    row = await world.parked(started.execution_id)
    assert row["due_at"] is None
    assert (await world.execution(started.execution_id))["waiting_for"] == "sub_workflow"
    await member.idle()
    await world.make_due((await child_of(world, started.execution_id))["id"])
    assert await output(world, started.execution_id) == {"sub": {"t": {}}}


async def test_a_child_of_a_full_worker_is_for_another_one(world: World) -> None:
    member = await world.member(slots=1)
    flow = await pair(world, chain(sub()), chain(probe("p"), output=5))
    started = await member.start(flow)
    assert await output(world, started.execution_id) == {"sub": 5}


async def flushes(world: World, member: Member, flow: Flow, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many flushes a run takes on an idle worker."""
    count = 0
    real = queue.flush

    async def counted(session: Session, worker: uuid.UUID, rows: queue.Flush) -> queue.Flushed:
        nonlocal count
        count += 1
        return await real(session, worker, rows)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "flush", counted)
        started = await member.start(flow)
        await output(world, started.execution_id)
        await member.idle()
    return count


async def test_a_child_costs_two_commits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    member = await world.member()
    await member.settled()
    bare = await flushes(world, member, await world.flow(chain(tally("t"))), monkeypatch)
    await member.settled()
    with_child = await flushes(world, member, await pair(world, chain(sub()), chain(tally("t"))), monkeypatch)
    assert (bare, with_child) == (1, 3)


@pytest.mark.parametrize("scope", ["loop", "parallel"])
async def test_two_hundred_children(world: World, scope: str) -> None:
    """Of parents in parallel: all of them come back."""
    member = await world.member(slots=30)
    entry = {"id": "all", "type": scope, "config": {"source": 50, "max_concurrency": 50} if scope == "loop" else {}}
    definition: Json = chain(entry)
    ids = ["sub"] if scope == "loop" else [f"sub{number}" for number in range(50)]
    item = "{{ item }}" if scope == "loop" else "1"
    definition["nodes"] += [sub(each, input={"n": item}) for each in ids]
    definition["edges"] += [
        {"id": each, "source": "all", "target": each, "label": "body" if scope == "loop" else each} for each in ids
    ]
    flow = await pair(world, definition, chain(probe("p"), output="{{ trigger.body.n }}"))
    started = [await member.start(flow) for _ in range(4)]
    for each in started:
        given = (await output(world, each.execution_id))["all"]
        if scope == "loop":
            assert [one["output"] for one in given["iterations"]] == list(range(50))
        else:
            assert given["completed_branches"] == 50
        assert len(await children(world, each.execution_id)) == 50
    assert world.probe.count("p") == 200


# --- being cut off ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parked", [False, True], ids=["in memory", "parked"])
@pytest.mark.parametrize("policy", ["cancel", "abandon"])
async def test_cancelling_the_parent(world: World, policy: str, parked: bool) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    body = [delay("long", "1h")] if parked else [probe("p")]
    flow = await pair(world, chain(sub(cancel_policy=policy)), chain(*body))
    started = await member.start(flow)
    child = await child_of(world, started.execution_id)
    if parked:
        await world.parked(started.execution_id)
        await world.parked(child["id"])
    else:
        await world.probe.called("p")
    await member.engine.operations.cancel(flow.tenant, started.execution_id, "enough")
    assert (await world.ended(started.execution_id))["status"] == "cancelled"
    assert (await world.states(started.execution_id))["sub"] == "failed"
    if policy == "abandon":
        gate.set()
        if parked:
            await world.make_due(child["id"])
    assert (await world.ended(child["id"]))["status"] == ("cancelled" if policy == "cancel" else "completed")
    assert await world.sql.fetchval("SELECT count(*) FROM waits") == 0


async def test_who_waits_with_a_timeout_near_does_not_spin(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not yet near when the wait began, and is when the patience for the child is over."""
    turns = 0
    real = Execution._arrival

    async def counted(self: Execution, due: int | None) -> None:
        nonlocal turns
        turns += 1
        await real(self, due)

    monkeypatch.setattr(Execution, "_arrival", counted)
    gate = world.probe.hold("p")
    member = await world.member()
    timeout = (PARK_AFTER + CHILD_PATIENCE // 2) / SECOND
    started = await member.start(await pair(world, chain(sub(timeout=f"{timeout}s")), chain(probe("p"))))
    await world.probe.called("p")
    await anyio.sleep(CHILD_PATIENCE / SECOND + 0.3)
    assert turns < 30
    assert (await world.row(started.execution_id))["owner"] is not None  # it is in memory, and quiet
    gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_what_takes_too_long_is_cancelled(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await pair(world, chain(sub(timeout="0.2s")), chain(probe("p"))))
    assert await error(world, started.execution_id) == "timeout"
    child = await child_of(world, started.execution_id)
    assert (await world.ended(child["id"]))["status"] == "cancelled"


async def test_an_abandoned_child_outlives_the_timeout(world: World) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    flow = await pair(world, chain(sub(timeout="0.2s", cancel_policy="abandon")), chain(probe("p")))
    started = await member.start(flow)
    assert await error(world, started.execution_id) == "timeout"
    gate.set()
    child = await child_of(world, started.execution_id)
    assert (await world.ended(child["id"]))["status"] == "completed"


async def test_the_failure_of_a_sibling_cancels_the_child_and_its_children(world: World) -> None:
    world.probe.hold("p")
    gate = anyio.Event()

    async def breaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await gate.wait()
        return Failed(StepError("boom", "It broke."))

    world.probe.acts["q"] = breaks
    member = await world.member()
    tenant = await world.tenant()
    await world.flow(chain(probe("p")), tenant=tenant, name="grandchild")
    await world.flow(chain(sub(workflow="grandchild")), tenant=tenant, name="child")
    started = await member.start(await world.flow(fan(sub(), probe("q")), tenant=tenant))
    await world.probe.called("p")
    gate.set()
    assert await error(world, started.execution_id) == "boom"
    child = await child_of(world, started.execution_id)
    grandchild = await child_of(world, child["id"])
    for each in (child, grandchild):
        assert (await world.ended(each["id"]))["status"] == "cancelled"
    assert await world.sql.fetchval("SELECT count(*) FROM execution_queue") == 0


async def test_a_child_that_is_cancelled_fails_the_step(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    flow = await pair(world, chain(sub()), chain(probe("p")))
    started = await member.start(flow)
    await world.probe.called("p")
    child = await child_of(world, started.execution_id)
    await member.engine.operations.cancel(flow.tenant, child["id"], "enough")
    assert await error(world, started.execution_id) == "child_cancelled"
    with pytest.raises(Conflict):
        await member.engine.operations.cancel(flow.tenant, child["id"], "again")


async def test_a_finally_of_the_child_runs_when_the_parent_is_cancelled(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    child: Json = chain({"id": "try", "type": "try", "config": {}})
    child["nodes"] += [probe("p"), probe("last")]
    child["edges"] += [
        {"id": "a", "source": "try", "target": "p", "label": "try"},
        {"id": "b", "source": "try", "target": "last", "label": "finally"},
    ]
    flow = await pair(world, chain(sub()), child)
    started = await member.start(flow)
    await world.probe.called("p")
    await member.engine.operations.cancel(flow.tenant, started.execution_id, "enough")
    assert (await world.ended(started.execution_id))["status"] == "cancelled"
    made = await child_of(world, started.execution_id)
    assert (await world.ended(made["id"]))["status"] == "cancelled"
    assert await world.states(made["id"]) == {
        "begin": "completed", "try": "failed", "p": "failed", "last": "completed",
    }  # fmt: skip


# --- crashes ----------------------------------------------------------------------------------------------------------


async def test_the_end_of_a_child_while_nobody_has_the_parent(world: World) -> None:
    """The parent's worker is dead, and not yet found to be so, when the child ends elsewhere."""
    gate = world.probe.hold("p")
    first = await world.member("first", slots=1, poll=30.0)
    second = await world.member("second", poll=0.05)
    flow = await pair(world, chain(sub(), probe("after")), chain(probe("p"), output=5))
    # The parent stays in memory for its own probe's sake.
    held = world.probe.hold("beside")
    started = await first.start(await world.flow(fan(sub(), probe("beside")), tenant=flow.tenant))
    await world.probe.called("beside")
    child = await child_of(world, started.execution_id)
    await world.probe.called("p")
    owner = await world.sql.fetchval("SELECT owner FROM execution_queue WHERE execution_id = $1", child["id"])
    assert [owner] == await world.worker_ids("second")
    await first.crash()
    gate.set()
    await world.ended(child["id"])
    assert (await world.row(started.execution_id))["owner"] is not None
    held.set()
    await world.expire("first")
    assert (await output(world, started.execution_id))["sub"] == 5
    assert world.probe.count("p") == 1
    assert len(await children(world, started.execution_id)) == 1
    assert second.engine.in_flight() == 0


async def test_a_parent_that_is_rebuilt_goes_on_waiting_for_the_same_child(world: World) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    flow = await pair(world, chain(sub(timeout="1h")), chain(probe("p"), output=5))
    started = await member.start(flow)
    await world.probe.called("p")
    for name in ("a", "b"):
        await member.crash()
        await world.expire(member.name)
        await world.sql.execute("UPDATE execution_queue SET crashes = 0")
        member = await world.member(name)
        await world.probe.called("p", 2 if name == "a" else 3)
    gate.set()
    assert (await output(world, started.execution_id)) == {"sub": 5}
    assert len(await children(world, started.execution_id)) == 1


async def test_cancel_of_a_parent_whose_worker_died(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    acceptor = await world.member("api", roles=())
    flow = await pair(world, chain(sub()), chain(probe("p")))
    started = await member.start(flow)
    await world.probe.called("p")
    await member.crash()
    await acceptor.engine.operations.cancel(flow.tenant, started.execution_id, "enough")
    assert (await world.execution(started.execution_id))["status"] == "cancelled"
    await world.expire(member.name)
    await world.member("heir")
    child = await child_of(world, started.execution_id)
    assert (await world.ended(child["id"]))["status"] == "cancelled"
    assert world.probe.count("p") == 1
