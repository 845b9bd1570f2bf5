"""The life of an execution, 7 and 8: cancel, deadlines, end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.errors import Conflict, NotFound
from gorax_engine.nodes.api import Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.store import queue
from gorax_engine.store.session import open_session
from tests.engine.harness import Member, World, chain, delay, fan, probe, tally, until


async def cancel(member: Member, tenant: uuid.UUID, execution_id: uuid.UUID) -> str:
    return await member.engine.operations.cancel(tenant, execution_id, "no longer wanted")


async def closed(world: World, execution_id: uuid.UUID) -> None:
    """Nothing of the run is left but its history."""
    assert await world.queued(execution_id) is None
    assert await world.waits(execution_id) == []
    open_ = "SELECT count(*) FROM step_executions WHERE execution_id = $1 AND status IN ('pending', 'running')"
    assert await world.sql.fetchval(open_, execution_id) == 0


async def test_cancel_of_an_owned_run_cancels_its_task_promptly(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    flow = await world.flow(chain(tally("a"), probe("p"), probe("q")))
    started = await member.start(flow)
    await world.probe.called("p")
    await until(lambda: _running(world, started.execution_id))
    assert await cancel(member, flow.tenant, started.execution_id) == "cancelled"
    row = await world.execution(started.execution_id)
    assert (row["status"], row["error_code"], row["error_message"]) == ("cancelled", "cancelled", "no longer wanted")
    await member.idle()
    assert world.probe.cancelled == ["p"]
    assert await world.states(started.execution_id) == {
        "begin": "completed", "a": "completed", "p": "failed", "q": "skipped",
    }  # fmt: skip
    step = (await world.steps(started.execution_id))["p", 1]
    assert (step["error_code"], step["input_data"]) == ("cancelled", "{}")
    assert step["completed_at"] == row["completed_at"]
    await closed(world, started.execution_id)


async def _running(world: World, execution_id: uuid.UUID, node: str = "p") -> bool:
    return (await world.states(execution_id)).get(node) == "running"


async def test_cancel_from_another_process(world: World) -> None:
    member = await world.member()
    other = await world.member("api", roles=())
    world.probe.hold("p")
    flow = await world.flow(chain(probe("p")))
    started = await member.start(flow)
    await world.probe.called("p")
    await cancel(other, flow.tenant, started.execution_id)
    await member.idle()
    assert world.probe.cancelled == ["p"]
    assert (await world.execution(started.execution_id))["status"] == "cancelled"
    await closed(world, started.execution_id)


async def test_cancel_of_a_parked_run(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(delay("pause", "1h"), probe("p")))
    started = await member.start(flow)
    await world.parked(started.execution_id)
    await cancel(member, flow.tenant, started.execution_id)
    row = await world.execution(started.execution_id)
    assert (row["status"], row["waiting_for"]) == ("cancelled", None)
    assert await world.states(started.execution_id) == {"begin": "completed", "pause": "failed", "p": "skipped"}
    await closed(world, started.execution_id)


async def test_cancel_of_a_run_that_backs_off(world: World) -> None:
    async def busy(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Failed(StepError("busy", "It is busy."))

    world.probe.acts["p"] = busy
    retry = {"max_attempts": 3, "initial_delay": "1h", "max_delay": "1h", "strategy": "fixed", "retry_on": ["busy"]}
    member = await world.member()
    flow = await world.flow(chain(probe("p", retry=retry), probe("q")))
    started = await member.start(flow)
    await world.parked(started.execution_id)
    await cancel(member, flow.tenant, started.execution_id)
    steps = await world.steps(started.execution_id)
    assert {key: row["status"] for key, row in steps.items()} == {
        ("begin", 1): "completed", ("p", 1): "failed", ("q", 1): "skipped",
    }  # fmt: skip
    assert steps["p", 1]["error_code"] == "busy"
    await closed(world, started.execution_id)


async def test_cancel_of_a_pending_run(world: World) -> None:
    member = await world.member("api", roles=())
    flow = await world.flow(chain(probe("p")))
    started = await member.start(flow)
    await cancel(member, flow.tenant, started.execution_id)
    row = await world.execution(started.execution_id)
    assert (row["status"], row["started_at"]) == ("cancelled", None)
    assert await world.states(started.execution_id) == {"begin": "skipped", "p": "skipped"}
    await closed(world, started.execution_id)


async def test_cancel_of_a_run_whose_graph_cant_be_read_here(world: World) -> None:
    member = await world.member("api", roles=())
    flow = await world.flow(chain({"id": "x", "type": "not_installed_here", "config": {}}))
    started = await member.start(flow)
    await world.sql.execute(
        "INSERT INTO step_executions (id, execution_id, tenant_id, node_id, node_type, status) "
        "VALUES ($1, $1, $2, 'x', 'x', 'running')", started.execution_id, flow.tenant,
    )  # fmt: skip
    await cancel(member, flow.tenant, started.execution_id)
    assert await world.states(started.execution_id) == {"x": "failed"}
    assert (await world.execution(started.execution_id))["status"] == "cancelled"
    await closed(world, started.execution_id)


async def test_cancel_of_a_finished_run_is_a_conflict(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(tally("a")))
    started = await member.start(flow)
    before = await world.ended(started.execution_id)
    with pytest.raises(Conflict) as raised:
        await cancel(member, flow.tenant, started.execution_id)
    assert raised.value.code == "already_ended"
    assert await world.execution(started.execution_id) == before


async def test_cancel_twice_and_at_once(world: World) -> None:
    members = [await world.member(name, roles=()) for name in "ab"]
    flow = await world.flow(chain(probe("p")))
    started = await members[0].start(flow)
    answers: list[str] = []

    async def one(member: Member) -> None:
        try:
            answers.append(await cancel(member, flow.tenant, started.execution_id))
        except Conflict as error:
            answers.append(error.code)

    async with anyio.create_task_group() as tasks:
        for member in members:
            tasks.start_soon(one, member)
    assert sorted(answers) == ["already_ended", "cancelled"]


async def test_cancel_is_bound_to_the_tenant(world: World) -> None:
    member = await world.member("api", roles=())
    flow = await world.flow(chain(probe("p")))
    started = await member.start(flow)
    with pytest.raises(NotFound):
        await cancel(member, await world.tenant(), started.execution_id)
    assert (await world.execution(started.execution_id))["status"] == "pending"


async def test_cancel_waits_for_a_flush_in_flight_and_the_end_wins(world: World) -> None:
    """The queue row is the mutex: a cancel that comes while the end is being written finds the run ended."""
    member = await world.member("api", roles=())
    flow = await world.flow(chain(tally("a")))
    started = await member.start(flow)
    answers: list[str] = []

    async def late() -> None:
        try:
            answers.append(await cancel(member, flow.tenant, started.execution_id))
        except Conflict as error:
            answers.append(error.code)

    async with anyio.create_task_group() as tasks, world.sql.transaction():
        await world.sql.execute("SELECT 1 FROM execution_queue FOR UPDATE")
        await world.sql.execute("UPDATE executions SET status = 'running', started_at = now()")
        await world.sql.execute(
            "SELECT gorax_record_ends(ARRAY[$1::uuid], '{completed}', '{1}', ARRAY[NULL], ARRAY[NULL], '{1}')",
            started.execution_id,
        )
        tasks.start_soon(late)
        await world.blocked()
    assert answers == ["already_ended"]
    assert (await world.execution(started.execution_id))["status"] == "completed"


async def test_a_late_result_of_a_cancelled_run_changes_nothing(world: World) -> None:
    """The step ends at the very moment: its record is refused by the fence, for the queue row is gone."""
    member = await world.member(heartbeat=20.0)
    gate = world.probe.hold("p")
    flow = await world.flow(chain(probe("p"), probe("q")))
    started = await member.start(flow)
    await world.probe.called("p")
    await until(lambda: _running(world, started.execution_id))
    # As a cancel whose NOTIFY is lost.
    await world.sql.execute(
        "SELECT gorax_record_ends(ARRAY[$1::uuid], '{cancelled}', ARRAY[NULL], ARRAY[NULL], ARRAY[NULL], '{1}')",
        started.execution_id,
    )
    before = await world.execution(started.execution_id)
    gate.set()
    await member.idle()
    assert await world.execution(started.execution_id) == before
    assert world.probe.count("q") == 0
    assert (await world.states(started.execution_id))["p"] == "running"


# --- deadlines --------------------------------------------------------------------------------------------------------


async def pass_deadline(world: World) -> None:
    assert await world.sql.fetchval("SELECT bool_and(deadline_at > now() + interval '50 min') FROM execution_queue")
    await world.sql.execute("UPDATE execution_queue SET deadline_at = clock_timestamp()")


async def test_deadline_of_an_owned_run(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"), probe("q"), settings={"timeout": "1h"})))
    await world.probe.called("p")
    await until(lambda: _running(world, started.execution_id))
    await pass_deadline(world)
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert world.probe.cancelled == ["p"]
    assert await world.states(started.execution_id) == {"begin": "completed", "p": "failed", "q": "skipped"}
    await closed(world, started.execution_id)


async def test_deadline_of_a_run_with_siblings(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    world.probe.hold("q")
    started = await member.start(await world.flow(fan(probe("p"), probe("q"), settings={"timeout": "1h"})))
    await world.probe.called("p")
    await world.probe.called("q")
    await until(lambda: _running(world, started.execution_id, "q"))
    await pass_deadline(world)
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert sorted(world.probe.cancelled) == ["p", "q"]
    await closed(world, started.execution_id)


async def test_deadline_of_a_parked_run(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(delay("pause", "2h"), probe("p"), settings={"timeout": "1h"})))
    await world.parked(started.execution_id)
    await pass_deadline(world)
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert await world.states(started.execution_id) == {"begin": "completed", "pause": "failed", "p": "skipped"}
    await closed(world, started.execution_id)


async def test_deadline_of_a_run_that_nobody_owns(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"), settings={"timeout": "1h"})))
    await world.probe.called("p")
    await until(lambda: _running(world, started.execution_id))
    await member.crash()
    await pass_deadline(world)
    async with open_session(world.dsn, "gorax_worker") as session:
        assert (await queue.sweep(session, 10)).deadlines == 1
    await world.expire("w")
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert world.probe.count("p") == 1  # what is to be ended is not begun again
    assert await world.states(started.execution_id) == {"begin": "completed", "p": "failed"}
    await closed(world, started.execution_id)


async def test_deadline_counts_from_the_start_of_the_run(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"), settings={"timeout": "1h"})))
    await world.probe.called("p")
    await until(lambda: _running(world, started.execution_id))
    run = await world.execution(started.execution_id)
    row = await world.row(started.execution_id)
    assert (row["deadline_at"] - run["started_at"]).total_seconds() == 3600
    # A later owner does not begin to count anew.
    await member.crash()
    await world.sql.execute("UPDATE executions SET started_at = started_at - interval '2 hours'")
    await world.expire("w")
    await world.member("heir")
    ended = await world.ended(started.execution_id)
    assert (ended["status"], ended["error_code"]) == ("failed", "timeout")


# --- end --------------------------------------------------------------------------------------------------------------


async def test_a_failure_leaves_word_for_the_error_workflow_in_the_same_transaction(world: World) -> None:
    async def breaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Failed(StepError("broken", "It broke."))

    world.probe.acts["p"] = breaks
    member = await world.member()
    flow = await world.flow(chain(probe("p"), settings={"error_workflow": "alert"}))
    started = await member.start(flow)
    await world.ended(started.execution_id)
    rows = await world.sql.fetch("SELECT *, xmin FROM outbox")
    assert [(row["tenant_id"], row["kind"]) for row in rows] == [(flow.tenant, "error_workflow")]
    payload = json.loads(rows[0]["payload"])
    assert payload == {
        "error_workflow": "alert", "execution_id": str(started.execution_id), "workflow_id": str(flow.id),
        "workflow_version": 1, "error": {"code": "broken", "message": "It broke."},
    }  # fmt: skip
    assert rows[0]["xmin"] == await world.sql.fetchval("SELECT xmin FROM executions")


async def test_a_success_or_a_cancel_leaves_no_word(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(probe("p"), settings={"error_workflow": "alert"}))
    await world.ended((await member.start(flow)).execution_id)
    gate = world.probe.hold("p")
    started = await member.start(flow)
    await world.probe.called("p", 2)
    await cancel(member, flow.tenant, started.execution_id)
    gate.set()
    assert await world.sql.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_failed_error_workflow_is_started_once_and_is_not_reported_itself(world: World) -> None:
    async def breaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Failed(StepError("broken", "It broke."))

    world.probe.acts = {"p": breaks, "alarm": breaks}
    member = await world.member(roles=("worker", "maintenance"))
    flow = await world.flow(chain(probe("p"), settings={"error_workflow": "alert"}))
    alert = await world.flow(
        {
            "nodes": [
                {"id": "begin", "type": "event_trigger", "config": {"event": "gorax.execution_failed"}},
                probe("alarm", config={"code": "{{ trigger.body.error.code }}"}),
            ],
            "edges": [{"id": "e", "source": "begin", "target": "alarm"}],
            "settings": {"error_workflow": "alert"},
        },
        tenant=flow.tenant,
        name="alert",
    )
    started = await member.start(flow)
    await world.ended(started.execution_id)
    await world.probe.called("alarm")

    async def alarmed() -> Any:
        return await world.sql.fetchrow(
            "SELECT * FROM executions WHERE workflow_id = $1 AND status = 'failed'", alert.id
        )

    row = await until(alarmed)
    assert row["trigger_type"] == "event"
    assert json.loads(row["trigger_data"])["body"]["execution_id"] == str(started.execution_id)
    assert await until(lambda: world.sql.fetchval("SELECT count(*) = 0 FROM outbox"))
    assert await world.sql.fetchval("SELECT count(*) FROM executions") == 2


async def test_the_end_is_told_to_who_waits(world: World) -> None:
    member = await world.member()
    other = await world.member("api", roles=())
    gate = world.probe.hold("p")
    flow = await world.flow(chain(probe("p")))
    started = await member.start(flow)
    assert not await member.engine.completions.wait(started.execution_id, 0.05)
    told: list[bool] = []

    async def wait(at: Member) -> None:
        told.append(await at.engine.completions.wait(started.execution_id, 10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, member)
        tasks.start_soon(wait, other)
        await world.probe.called("p")
        gate.set()
    assert told == [True, True]
    assert (await world.execution(started.execution_id))["status"] == "completed"


async def test_the_output_is_what_the_leaves_gave(world: World) -> None:
    async def gives(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed([1, {"a": None}])

    world.probe.acts["p"] = gives
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("a"), probe("p"))))
    row = await world.ended(started.execution_id)
    assert json.loads(row["output_data"]) == {"p": [1, {"a": None}]}
    assert row["created_at"] <= row["started_at"] <= row["completed_at"]
