"""The life of an execution, 3 and 4: walk and record."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.commands import StartStep
from gorax_engine.core.expressions import Scope
from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import Json
from gorax_engine.core.plan import PlanNode
from gorax_engine.engine import attempts, steps
from gorax_engine.engine import entries as entries_module
from gorax_engine.engine import execution as execution_module
from gorax_engine.engine import journal as journal_module
from gorax_engine.engine import recorder as recorder_module
from gorax_engine.engine import settling as settling_module
from gorax_engine.engine.attempts import Attempted
from gorax_engine.engine.run import Run
from gorax_engine.errors import Unavailable
from gorax_engine.nodes.api import Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.store import queue
from tests.engine.harness import World, chain, delay, fan, probe, tally, until

Flush = queue.Flush


async def states(world: World, context: NodeContext) -> dict[str, str]:
    """What is committed of a node's run while it runs."""
    query = "SELECT node_id, status FROM step_executions WHERE execution_id = $1"
    return {row["node_id"]: row["status"] for row in await world.apart(query, uuid.UUID(context.execution_id))}


class Spy:
    """Sees each flush that the journal sends; `before` and `after` may act around the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushes: list[Flush] = []
        self.before: Any = None
        self.after: Any = None
        real = queue.flush

        async def flush(session: Any, worker_id: Any, rows: Flush) -> queue.Flushed:
            self.flushes.append(rows)
            if self.before is not None:
                await self.before(rows)
            flushed = await real(session, worker_id, rows)
            if self.after is not None:
                await self.after(rows)
            return flushed

        monkeypatch.setattr(queue, "flush", flush)


async def test_start_and_end_in_one_flush_become_one_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.ended(started.execution_id)
    written = [(row.node_id, row.status) for rows in spy.flushes for row in rows.steps]
    assert sorted(written) == [("begin", "completed"), ("p", "completed")]
    row = (await world.steps(started.execution_id))["p", 1]
    assert row["started_at"] is not None
    assert row["completed_at"] >= row["started_at"]


async def test_others_see_what_runs(world: World) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p", config={"x": 1}))))
    await world.probe.called("p")

    async def seen() -> bool:
        return (await world.states(started.execution_id)).get("p") == "running"

    await until(seen)
    gate.set()
    await world.ended(started.execution_id)
    row = (await world.steps(started.execution_id))["p", 1]
    assert (row["status"], row["input_data"]) == ("completed", '{"x": 1}')


async def test_before_an_effect_all_that_it_depends_on_is_durable(world: World) -> None:
    seen: list[dict[str, str]] = []

    async def look(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        seen.append(await states(world, context))
        return Completed({})

    world.probe.acts = {"p": look, "q": look}
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("a"), probe("p"), tally("b"), probe("q"))))
    await world.ended(started.execution_id)
    assert [{node: state for node, state in states.items() if state == "completed"} for states in seen] == [
        dict.fromkeys(("begin", "a"), "completed"),
        dict.fromkeys(("begin", "a", "p", "b"), "completed"),
    ]


async def test_in_doubt_fail_awaits_the_record_of_its_start(world: World) -> None:
    seen: list[str | None] = []

    async def look(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        seen.append((await states(world, context)).get(context.node_id))
        return Completed({})

    world.probe.acts = {"p": look}
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p", in_doubt="fail"))))
    await world.ended(started.execution_id)
    assert seen == ["running"]


async def test_the_outcome_is_recorded(world: World) -> None:
    member = await world.member()
    condition = {"id": "if", "type": "condition", "config": {"condition": "1 == 1"}}
    started = await member.start(await world.flow(chain(condition)))
    await world.ended(started.execution_id)
    assert (await world.steps(started.execution_id))["if", 1]["outcome"] == "true"


async def test_executions_of_a_worker_share_flushes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(monkeypatch)
    member = await world.member()
    flow = await world.flow(chain(tally("a")))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(member.start, flow)

    for row in await world.sql.fetch("SELECT id FROM executions"):
        await world.ended(row["id"])
    assert len(spy.flushes) <= 5
    assert max(len(rows.ends) for rows in spy.flushes) >= 10


async def test_entries_of_one_execution_are_never_split(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's last steps and its end come in one flush, however full batches are."""
    monkeypatch.setattr(entries_module, "MAX_ROWS", 10)
    spy = Spy(monkeypatch)
    member = await world.member()
    flow = await world.flow(chain(*[tally(f"n{n}") for n in range(7)]))
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(member.start, flow)
    for row in await world.sql.fetch("SELECT id FROM executions"):
        await world.ended(row["id"])
    for rows in spy.flushes:
        per_run = [rows.step_runs.count(str(place)) for place in range(1, len(rows.fence) + 1)]
        assert per_run == [8] * len(rows.fence)
        assert len(rows.ends) == len(rows.fence)


async def test_batches_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "MAX_ROWS", 10)
    spy = Spy(monkeypatch)
    member = await world.member()
    flow = await world.flow(chain(tally("a"), tally("b")))
    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(member.start, flow)
    for row in await world.sql.fetch("SELECT id FROM executions"):
        await world.ended(row["id"])
    assert max(len(rows.steps) for rows in spy.flushes) <= 12
    assert sum(len(rows.ends) for rows in spy.flushes) == 30


async def test_batches_are_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_module, "MAX_BYTES", 10_000)
    spy = Spy(monkeypatch)
    member = await world.member()
    flow = await world.flow(chain(tally("a", text="x" * 6_000)))
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(member.start, flow)
    for row in await world.sql.fetch("SELECT id FROM executions"):
        await world.ended(row["id"])
    assert max(len(rows.ends) for rows in spy.flushes) <= 2


async def test_a_flush_that_is_sent_again_after_an_unknown_commit_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    cut: list[Flush] = []

    async def after(rows: Flush) -> None:
        if len(cut) < 2:
            cut.append(rows)
            raise Unavailable("the connection broke after the commit")

    spy.after = after
    member = await world.member()
    # One flush with steps alone, then one with the end.
    started = await member.start(await world.flow(chain(tally("a"), probe("p"), tally("b"))))
    row = await world.ended(started.execution_id)
    assert row["status"] == "completed"
    assert set(await world.states(started.execution_id)) == {"begin", "a", "p", "b"}
    assert world.probe.count("p") == 1
    assert spy.flushes[0] == spy.flushes[1]
    await member.idle()
    assert await world.queued(started.execution_id) is None


async def test_a_backend_killed_in_the_middle_of_a_flush_loses_nothing(world: World) -> None:
    """The session dies with the statement under way; the flush is sent again on a new connection."""
    member = await world.member()
    gate = world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"), tally("b"))))
    await world.probe.called("p")
    async with world.sql.transaction():
        await world.sql.execute("SELECT 1 FROM execution_queue FOR UPDATE")
        gate.set()
        await world.sql.execute("SELECT pg_terminate_backend($1)", await world.blocked())
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.probe.count("p") == 1


@pytest.mark.parametrize("runs", [1, 8])
async def test_a_row_that_postgres_refuses_fails_its_own_execution_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    # What the edge would refuse is slipped past it: JSONB can't hold NUL.
    monkeypatch.setattr(settling_module, "encode_bounded", lambda value: encode(value).replace("POISON", "\\u0000"))
    member = await world.member()
    tenant = await world.tenant()
    good = await world.flow(chain(probe("p"), tally("a")), tenant=tenant)
    bad = await world.flow(chain(tally("b", text="POISON"), probe("q")), tenant=tenant)
    started = []

    async def start(flow: Any) -> None:
        started.append((flow, await member.start(flow)))

    async with anyio.create_task_group() as tasks:
        for place in range(runs):
            tasks.start_soon(start, bad if place == 0 else good)
    for flow, answer in started:
        row = await world.ended(answer.execution_id)
        if flow is bad:
            assert (row["status"], row["error_code"]) == ("failed", "record_rejected")
        else:
            assert row["status"] == "completed"
    assert world.probe.count("q") == 0  # its effect was never allowed: what it depends on is not durable


async def test_a_pure_run_that_is_refused_fails_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling_module, "encode_bounded", lambda value: encode(value).replace("POISON", "\\u0000"))
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("b", text="POISON"))))
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "record_rejected")
    await member.idle()


async def test_an_output_that_cant_be_stored_fails_its_step(world: World) -> None:
    async def nul(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed({"text": "a\0b"})

    world.probe.acts["p"] = nul
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"))))
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "record_rejected")
    assert (await world.steps(started.execution_id))["p", 1]["error_code"] == "record_rejected"


async def test_a_node_that_raises_fails_its_step_and_nothing_else(world: World) -> None:
    async def bug(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        raise RuntimeError("a bug")

    world.probe.acts["p"] = bug
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"))))
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "node_crashed")


async def test_a_pure_node_that_raises_fails_its_step_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        raise RuntimeError("a bug in a pure node")

    monkeypatch.setattr(world.tally, "evaluate", evaluate)
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("bad"))))
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "node_crashed")


async def test_a_fault_of_the_engine_fails_its_run_and_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(run: Run, node: PlanNode, scope: Scope, command: StartStep) -> Attempted:
        if node.id == "bad":
            raise RuntimeError("a bug of the engine")
        return attempts.evaluate(run, node, scope, command)

    monkeypatch.setattr(steps, "evaluate", evaluate)
    member = await world.member()
    bad = await member.start(await world.flow(chain(tally("bad"))))
    late = await member.start(await world.flow(chain(probe("p"), tally("bad"))))
    good = await member.start(await world.flow(chain(tally("good"))))
    for started in (bad, late):
        row = await world.ended(started.execution_id)
        assert (row["status"], row["error_code"]) == ("failed", "internal_error")
    assert (await world.ended(good.execution_id))["status"] == "completed"


async def test_siblings_run_at_the_same_time(world: World) -> None:
    gates = [world.probe.hold(node) for node in ("p", "q", "r")]
    member = await world.member()
    started = await member.start(await world.flow(fan(probe("p"), probe("q"), probe("r"))))
    for node in ("p", "q", "r"):
        await world.probe.called(node)
    for gate in gates:
        gate.set()
    row = await world.ended(started.execution_id)
    assert row["output_data"] == '{"p": {"node": "p"}, "q": {"node": "q"}, "r": {"node": "r"}}'


async def test_a_failing_step_cancels_its_siblings(world: World) -> None:
    world.probe.hold("slow")
    released = world.probe.hold("gate")

    async def fails(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await released.wait()
        return Failed(StepError("broken", "It broke."))

    world.probe.acts["fails"] = fails
    member = await world.member()
    definition = fan(probe("slow"), probe("fails"), delay("pause", "1h"))
    definition["nodes"].append(probe("after"))
    definition["edges"].append({"id": "x", "source": "slow", "target": "after"})
    started = await member.start(await world.flow(definition))
    await world.probe.called("slow")
    await world.probe.called("fails")
    released.set()
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"], row["error_message"]) == ("failed", "broken", "It broke.")
    states = await world.states(started.execution_id)
    assert states == {
        "begin": "completed", "slow": "failed", "fails": "failed", "pause": "failed", "after": "skipped",
    }  # fmt: skip
    steps = await world.steps(started.execution_id)
    assert [steps[node, 1]["error_code"] for node in ("slow", "fails", "pause")] == ["cancelled", "broken", "cancelled"]
    assert world.probe.cancelled == ["slow"]
    assert await world.waits(started.execution_id) == []


async def test_stop_deep_in_a_long_pure_run_ends_it(world: World) -> None:
    """However many turns came before: a run that is walked in portions stops where it says."""
    for length in (198, 199, 200):
        nodes = [tally(f"n{n}") for n in range(length)]
        nodes += [{"id": "stop", "type": "stop", "config": {"output": "here"}}, probe("never")]
        member = world.members[0] if world.members else await world.member()
        started = await member.start(await world.flow(chain(*nodes)))
        row = await world.ended(started.execution_id)
        assert (row["status"], row["output_data"]) == ("completed", '"here"')
    assert world.probe.calls == []


async def test_a_stop_is_recorded_with_the_end_that_it_makes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heir that found the stop alone would walk on: its row does not say that it ends the run."""
    monkeypatch.setattr(execution_module, "SLICE", 0.0)
    monkeypatch.setattr(journal_module, "LINGER", 0.0)
    spy = Spy(monkeypatch)
    member = await world.member()
    nodes = [tally(f"n{n}") for n in range(5)]
    stop = {"id": "stop", "type": "stop", "config": {"output": "here"}}
    started = await member.start(await world.flow(chain(*nodes, stop, tally("never"))))
    assert (await world.ended(started.execution_id))["output_data"] == '"here"'
    assert len(spy.flushes) > 1
    for rows in spy.flushes:
        assert bool(rows.ends) == any(row.node_id == "stop" for row in rows.steps)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    ("node", "ended"),
    [
        ({"id": "end", "type": "fail", "config": {"message": "no", "code": "mine"}}, ("failed", "mine")),
        ({"id": "end", "type": "stop", "config": {"output": 1}}, ("completed", None)),
    ],
)
async def test_what_ended_in_the_same_breath_as_the_run_keeps_its_end(
    world: World, node: dict[str, Json], ended: tuple[str, str | None], last: bool
) -> None:
    """Nodes beside the one that ends the run were evaluated and recorded before the walk heard of any."""
    beside = [tally("a"), tally("b")]
    member = await world.member()
    started = await member.start(await world.flow(fan(*((*beside, node) if last else (node, *beside)))))
    run = await world.ended(started.execution_id)
    assert (run["status"], run["error_code"]) == ended
    states_ = await world.states(started.execution_id)
    # What a stop finds not yet evaluated is skipped.
    beside_it = "skipped" if node["type"] == "stop" and not last else "completed"
    assert (states_["a"], states_["b"]) == (beside_it, beside_it)


async def test_tasks_that_end_in_the_same_breath_as_the_run_keep_their_end(world: World) -> None:
    gate = world.probe.hold("good")

    async def fail(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await gate.wait()
        return Failed(StepError("mine", "no"))

    world.probe.acts["bad"] = fail
    member = await world.member()
    started = await member.start(await world.flow(fan(probe("bad"), probe("good"))))
    await world.probe.called("good")
    await world.probe.called("bad")
    gate.set()
    run = await world.ended(started.execution_id)
    assert (run["status"], run["error_code"]) == ("failed", "mine")
    assert (await world.states(started.execution_id))["bad"] == "failed"


async def test_large_outputs_are_not_written_in_one_flush(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush must fit into its statement's time: one that never does would hold up every run of the worker."""
    spy = Spy(monkeypatch)
    monkeypatch.setattr(entries_module, "MAX_BYTES", 100_000)
    member = await world.member()
    nodes = [{"id": f"n{n}", "type": "formula", "config": {"expression": "trigger.body"}} for n in range(40)]
    started = await member.start(await world.flow(fan(*nodes)), "x" * 10_000)
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert set((await world.states(started.execution_id)).values()) == {"completed"}
    sizes = [sum(len(row.input) + len(row.output) for row in rows.steps) for rows in spy.flushes]
    assert sum(sizes) > 400_000
    assert max(sizes) < 130_000


async def test_large_results_of_tasks_are_not_written_in_one_flush(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    monkeypatch.setattr(entries_module, "MAX_BYTES", 100_000)
    gate = anyio.Event()

    async def large(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await gate.wait()
        return Completed("x" * 30_000)

    world.probe.acts = {f"n{n}": large for n in range(20)}
    member = await world.member()
    started = await member.start(await world.flow(fan(*(probe(f"n{n}") for n in range(20)))))
    await world.probe.called("n19")
    gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"
    sizes = [sum(len(row.input) + len(row.output) for row in rows.steps) for rows in spy.flushes]
    assert sum(sizes) > 600_000
    assert max(sizes) < 200_000


async def test_a_long_pure_run_lets_others_have_their_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats are among the others: evaluating for longer than the lease would lose it."""
    monkeypatch.setattr(execution_module, "SLICE", 0.0)
    member = await world.member()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            if world.tally.calls and len(world.tally.calls) < 50:
                turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        started = await member.start(await world.flow(fan(*(tally(f"n{n}") for n in range(50)))))
        await world.ended(started.execution_id)
        tasks.cancel_scope.cancel()
    assert turns >= 40


async def test_what_is_too_large_to_be_stored_fails_what_made_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of a step fails the step; that of the run, by default all its leaves, fails the run."""
    monkeypatch.setattr(recorder_module, "MAX_OUTPUT", 15_000)
    member = await world.member()
    body = {"id": "n", "type": "formula", "config": {"expression": "trigger.body + trigger.body"}}
    started = await member.start(await world.flow(chain(body)), "x" * 10_000)
    run = await world.ended(started.execution_id)
    assert (run["status"], run["error_code"]) == ("failed", "record_rejected")
    assert await world.states(started.execution_id) == {"begin": "completed", "n": "failed"}
    bodies = [{"id": f"n{n}", "type": "formula", "config": {"expression": "trigger.body"}} for n in range(2)]
    started = await member.start(await world.flow(fan(*bodies)), "x" * 10_000)
    run = await world.ended(started.execution_id)
    assert (run["status"], run["error_code"]) == ("failed", "record_rejected")
    assert set((await world.states(started.execution_id)).values()) == {"completed"}
