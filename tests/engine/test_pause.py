"""Pause and resume: no further step begins, what is at work ends, and nothing is lost however long it takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.errors import Conflict, NotFound
from gorax_engine.nodes.api import Failed, NodeContext, Outcome, StepError
from gorax_engine.store import queue
from gorax_engine.store.session import open_session
from tests.engine.harness import Flow, Member, World, chain, delay, fan, probe, tally, until


async def pause(member: Member, flow: Flow, execution_id: uuid.UUID) -> None:
    await member.engine.operations.pause(flow.tenant, execution_id)


async def resume(member: Member, flow: Flow, execution_id: uuid.UUID) -> None:
    await member.engine.operations.resume(flow.tenant, execution_id)


async def test_running_steps_end_and_no_further_one_begins(world: World) -> None:
    member = await world.member()
    gate = world.probe.hold("p")
    flow = await world.flow(chain(probe("p"), tally("a"), probe("q")))
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("p")
    await pause(member, flow, id_)
    await member.heard_of_pause(id_)
    assert (await world.row(id_))["owner"] is not None
    gate.set()
    await world.resting(id_)
    assert await world.states(id_) == {"begin": "completed", "p": "completed"}
    assert (await world.execution(id_))["waiting_for"] == "paused"
    await member.idle()
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"
    assert (world.probe.count("p"), world.tally.calls, world.probe.count("q")) == (1, ["a"], 1)


async def test_siblings_at_work_all_end(world: World) -> None:
    member = await world.member()
    gates = [world.probe.hold(node) for node in "pq"]
    nodes = fan(probe("p"), probe("q"))
    nodes["nodes"] += [probe("r"), probe("s")]
    nodes["edges"] += [{"source": "p", "target": "r"}, {"source": "q", "target": "s"}]
    flow = await world.flow(nodes)
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("q")
    await pause(member, flow, id_)
    await member.heard_of_pause(id_)
    for gate in gates:
        gate.set()
    await world.resting(id_)
    assert await world.states(id_) == {"begin": "completed", "p": "completed", "q": "completed"}
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"
    assert [world.probe.count(node) for node in "pqrs"] == [1, 1, 1, 1]


async def test_a_failure_while_paused_ends_the_run(world: World) -> None:
    """What has happened is acted on: only that no step begins."""
    member = await world.member()
    gate = anyio.Event()

    async def breaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await gate.wait()
        return Failed(StepError("broken", "It broke."))

    world.probe.acts["p"] = breaks
    world.probe.hold("q")
    first = world.probe.hold("r")
    nodes = fan(probe("p"), probe("q"), probe("r"))
    nodes["nodes"] += [tally("t")]
    nodes["edges"] += [{"source": "r", "target": "t"}]
    flow = await world.flow(nodes)
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("r")
    await pause(member, flow, id_)
    await member.heard_of_pause(id_)
    first.set()

    async def ended() -> bool:
        return (await world.states(id_)).get("r") == "completed"

    await until(ended)
    gate.set()
    row = await world.ended(id_)
    assert (row["status"], row["error_code"]) == ("failed", "broken")
    assert (world.probe.cancelled, world.tally.calls) == (["q"], [])


async def test_a_loop_stops_between_iterations(world: World) -> None:
    member = await world.member()
    gate = world.probe.hold("p")
    nodes = chain({"id": "each", "type": "loop", "config": {"source": 3}})
    nodes["nodes"] += [probe("p")]
    nodes["edges"] += [{"source": "each", "target": "p", "label": "body"}]
    flow = await world.flow(nodes)
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("p")
    await pause(member, flow, id_)
    await member.heard_of_pause(id_)
    gate.set()
    await world.resting(id_)
    assert world.probe.count("p") == 1
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"
    assert world.probe.count("p") == 3


async def test_pure_steps_stop_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of pure steps alone hears it at the next turn, and goes on where it was."""
    member = await world.member()
    counted = world.tally.evaluate

    def slow(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        time.sleep(0.002)
        return counted(config, context)

    monkeypatch.setattr(world.tally, "evaluate", slow)
    nodes = chain({"id": "each", "type": "loop", "config": {"source": 2_000, "max_iterations": 2_000}})
    nodes["nodes"] += [tally("t")]
    nodes["edges"] += [{"source": "each", "target": "t", "label": "body"}]
    flow = await world.flow(nodes)
    id_ = (await member.start(flow)).execution_id
    await until(lambda: world.sql.fetchval("SELECT count(*) > 0 FROM step_executions WHERE node_id = 't'"))
    await pause(member, flow, id_)
    await world.resting(id_)
    begun = len(world.tally.calls)
    assert begun < 2_000
    monkeypatch.setattr(world.tally, "evaluate", counted)
    await member.idle()
    assert len(world.tally.calls) == begun
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"
    assert len(world.tally.calls) == 2_000
    assert await world.sql.fetchval("SELECT count(*) FROM step_executions WHERE node_id = 't'") == 2_000


async def test_a_pause_survives_a_restart(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    flow = await world.flow(chain(probe("p"), probe("q")))
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("p")
    await pause(member, flow, id_)
    await member.crash()
    await world.expire("w")
    heir = await world.member("heir")
    await world.resting(id_)
    del world.probe.acts["p"]
    other = await heir.start(flow)  # who finds this one would find the other, were it to be found
    await world.ended(other.execution_id)
    assert (await world.row(id_))["owner"] is None
    await resume(heir, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"
    assert [run for run, node, _ in world.probe.calls if node == "q"] == [str(other.execution_id), str(id_)]


async def test_a_drain_leaves_a_paused_run_paused(world: World) -> None:
    member = await world.member(drain_timeout=0.1)
    world.probe.hold("p")
    flow = await world.flow(chain(probe("p")))
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("p")
    await pause(member, flow, id_)
    await member.drain()
    row = await world.row(id_)
    assert (row["owner"], row["paused"], row["crashes"]) == (None, True, 0)


async def test_a_run_that_has_not_begun_waits_for_the_resume(world: World) -> None:
    api = await world.member("api", roles=())
    flow = await world.flow(chain(probe("p")))
    id_ = (await api.start(flow)).execution_id
    await pause(api, flow, id_)
    assert (await world.execution(id_))["waiting_for"] == "paused"
    worker = await world.member()
    other = await worker.start(flow)
    await world.ended(other.execution_id)
    assert (await world.execution(id_))["status"] == "pending"
    await resume(api, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"


async def test_timers_that_fall_due_wait_for_the_resume(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(delay("nap", "1h"), probe("p")))
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    await pause(member, flow, id_)
    await world.make_due(id_)
    async with open_session(world.dsn, "gorax_worker") as session:
        swept = await queue.sweep(session, 10)
    assert (swept.timers, swept.next_due) == (0, None)
    assert (await world.states(id_))["nap"] == "running"
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"
    assert world.probe.count("p") == 1


async def test_a_short_timer_in_memory_waits_too_and_costs_nothing(world: World) -> None:
    """The run stays in memory for the step at work, and looks at nothing until that has ended."""
    member = await world.member()
    gate = world.probe.hold("p")
    flow = await world.flow(fan(delay("nap", "1s"), probe("p")))
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("p")
    await until(lambda: world.waits(id_))
    await pause(member, flow, id_)
    await member.heard_of_pause(id_)
    life = member.worker._life
    assert life is not None
    execution = life.executions[id_]
    turns = 0
    take_turns = execution._take_turns

    async def counted() -> None:
        nonlocal turns
        turns += 1
        await take_turns()

    execution._take_turns = counted  # type: ignore[method-assign]
    due = (await world.waits(id_))[0]["due_at"]
    await until(lambda: world.sql.fetchval("SELECT clock_timestamp() > $1::timestamptz + interval '0.2 s'", due))
    assert turns <= 2
    assert (await world.states(id_))["nap"] == "running"
    gate.set()
    await world.resting(id_)
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"


async def test_a_signal_that_comes_during_a_pause_is_kept(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain({"id": "hear", "type": "wait_for_event", "config": {"event": "paid"}}, probe("p")))
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    await pause(member, flow, id_)
    assert await member.engine.operations.signal(flow.tenant, id_, "paid", {"by": "card"}) == 1
    await member.settled()
    assert world.probe.count("p") == 0
    await resume(member, flow, id_)
    assert (await world.ended(id_))["status"] == "completed"


async def test_the_timeout_of_the_run_ends_a_paused_one(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(delay("nap", "2h"), probe("p"), settings={"timeout": "1h"}))
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    await pause(member, flow, id_)
    await world.sql.execute("UPDATE execution_queue SET deadline_at = clock_timestamp()")
    row = await world.ended(id_)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert world.probe.count("p") == 0


@pytest.mark.parametrize("force", [False, True])
async def test_a_cancel_ends_a_paused_run(world: World, force: bool) -> None:
    member = await world.member()
    flow = await world.flow(chain(delay("nap", "2h"), probe("p")))
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    await pause(member, flow, id_)
    assert await member.engine.operations.cancel(flow.tenant, id_, "enough", force=force) == "cancelled"
    row = await world.execution(id_)
    assert (row["status"], row["waiting_for"]) == ("cancelled", None)
    assert await world.queued(id_) is None


GUARDED = {
    "nodes": [
        {"id": "begin", "type": "manual_trigger", "config": {}},
        {"id": "guard", "type": "try", "config": {}},
        delay("nap", "2h"),
        probe("undo"),
    ],
    "edges": [
        {"source": "begin", "target": "guard"},
        {"source": "guard", "target": "nap", "label": "try"},
        {"source": "guard", "target": "undo", "label": "finally"},
    ],
}


async def test_a_cancel_of_a_paused_run_runs_its_finally(world: World) -> None:
    member = await world.member()
    flow = await world.flow(GUARDED)
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    await pause(member, flow, id_)
    assert await member.engine.operations.cancel(flow.tenant, id_, "enough") == "running"
    row = await world.ended(id_)
    assert (row["status"], row["error_message"], world.probe.count("undo")) == ("cancelled", "enough", 1)


async def test_with_force_the_finally_is_left_out(world: World) -> None:
    member = await world.member()
    flow = await world.flow(GUARDED)
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    assert await member.engine.operations.cancel(flow.tenant, id_, "enough", force=True) == "cancelled"
    assert (await world.execution(id_))["status"] == "cancelled"
    await member.idle()
    assert world.probe.count("undo") == 0


async def test_pausing_twice_is_once_and_a_resume_too_many_is_refused(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(delay("nap", "1h")))
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    await pause(member, flow, id_)
    await pause(member, flow, id_)
    await resume(member, flow, id_)
    with pytest.raises(Conflict) as refused:
        await resume(member, flow, id_)
    assert refused.value.code == "not_paused"


async def test_what_has_ended_or_is_another_s_is_not_paused(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(tally("a")))
    id_ = (await member.start(flow)).execution_id
    await world.ended(id_)
    for verb in (pause, resume):
        with pytest.raises(Conflict) as refused:
            await verb(member, flow, id_)
        assert refused.value.code == "already_ended"
        with pytest.raises(NotFound) as absent:
            await verb(member, Flow(await world.tenant(), flow.id), id_)
        assert absent.value.code == "execution_not_found"


async def test_signals_for_nobody_are_refused(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(delay("nap", "1h")))
    id_ = (await member.start(flow)).execution_id
    await world.parked(id_)
    with pytest.raises(Conflict) as refused:
        await member.engine.operations.signal(flow.tenant, id_, "paid", None)
    assert refused.value.code == "no_matching_wait"
