"""Retry and replay: what is taken over, what begins anew, under which keys, on which version, and what is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine.retrying import Again
from gorax_engine.engine.starting import Started
from gorax_engine.errors import Conflict, InvalidInput, NotFound
from gorax_engine.nodes.api import Completed, Failed, NodeContext, Outcome, StepError
from tests.engine.harness import Flow, Member, World, chain, delay, fan, probe, tally, until


class Script:
    """What probes do: fail as long as they are told to. Keeps whom they were called for, and under which key."""

    def __init__(self, world: World, *nodes: str) -> None:
        self.broken: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.keys: list[str] = []
        self.configs: list[Any] = []
        for node in nodes:
            world.probe.acts[node] = self.act

    async def act(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        self.calls.append((context.node_id, context.path))
        self.keys.append(context.idempotency_key)
        self.configs.append(dict(config))
        place = f"{context.path}.{context.node_id}" if context.path else context.node_id
        if place in self.broken or context.node_id in self.broken:
            return Failed(StepError("broken", "It broke."))
        return Completed({"of": place})

    def mend(self) -> None:
        """From now on nothing fails; forget what was."""
        self.broken.clear()
        self.calls.clear()
        self.keys.clear()
        self.configs.clear()


async def ended(world: World, started: Started, status: str) -> Any:
    row = await world.ended(started.execution_id)
    assert row["status"] == status, (row["error_code"], row["error_message"])
    return row


async def retry(member: Member, flow: Flow, run: uuid.UUID, **again: Any) -> Started:
    return await member.engine.operations.retry(flow.tenant, run, Again(**again))


async def replay(member: Member, flow: Flow, run: uuid.UUID, **again: Any) -> Started:
    return await member.engine.operations.replay(flow.tenant, run, Again(**again))


async def publish(world: World, flow: Flow, definition: Json) -> None:
    """Make a definition the second version."""
    await world.sql.execute(
        "INSERT INTO workflow_versions (workflow_id, tenant_id, version, definition, created_by) "
        "SELECT id, tenant_id, 2, $2::text::jsonb, created_by FROM workflows WHERE id = $1",
        flow.id, json.dumps(definition),
    )  # fmt: skip
    await world.sql.execute("UPDATE workflows SET version = 2, published_version = 2 WHERE id = $1", flow.id)


def nested(scope: dict[str, Json], edges: list[tuple[str, str, str | None]], *nodes: dict[str, Json]) -> Json:
    """`begin`, a scope behind it, and the nodes that the edges lead to."""
    shown = [
        {"id": f"n{i}", "source": source, "target": target, **({"label": label} if label else {})}
        for i, (source, target, label) in enumerate(edges)
    ]
    flow = chain(scope)
    return {**flow, "nodes": [*flow["nodes"], *nodes], "edges": [*flow["edges"], *shown]}


async def test_what_succeeded_is_taken_over_and_what_failed_begins_anew(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "c")
    script.broken = {"b"}
    flow = await world.flow(chain(probe("a"), tally("t"), probe("b"), probe("c")))
    first = await member.start(flow, {"n": 1})
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id)
    row = await ended(world, second, "completed")
    assert script.calls == [("b", ""), ("c", "")]
    assert world.tally.calls == ["t"]
    assert (row["retry_of"], row["trigger_type"]) == (first.execution_id, "retry")
    assert json.loads(row["trigger_data"]) == {"body": {"n": 1}}
    assert set((await world.states(second.execution_id)).values()) == {"completed"}
    assert (await world.execution(first.execution_id))["status"] == "failed"
    old, new = (await world.steps(first.execution_id)), (await world.steps(second.execution_id))
    assert new["a", 1]["output_data"] == old["a", 1]["output_data"]
    assert new["a", 1]["duration_ms"] == old["a", 1]["duration_ms"]
    assert new["a", 1]["completed_at"] <= row["started_at"]


async def test_keys_are_those_of_the_first_run_through_a_chain_of_retries(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b")
    script.broken = {"b"}
    flow = await world.flow(chain(probe("a"), probe("b")))
    first = await member.start(flow)
    await ended(world, first, "failed")
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "failed")
    script.broken.clear()
    third = await retry(member, flow, second.execution_id)
    row = await ended(world, third, "completed")
    assert (row["retry_of"], row["origin_id"]) == (second.execution_id, first.execution_id)
    assert script.keys == [f"{first.execution_id}:a:", *[f"{first.execution_id}:b:"] * 3]


async def test_a_replay_takes_nothing_over_and_has_keys_of_its_own(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b")
    flow = await world.flow(chain(probe("a"), probe("b")))
    first = await member.start(flow, 7)
    await ended(world, first, "completed")
    script.mend()
    second = await replay(member, flow, first.execution_id)
    row = await ended(world, second, "completed")
    assert script.keys == [f"{second.execution_id}:a:", f"{second.execution_id}:b:"]
    assert (row["trigger_type"], row["retry_of"], row["origin_id"]) == ("replay", first.execution_id, None)
    assert json.loads(row["trigger_data"]) == {"body": 7}


async def test_a_replay_from_a_step_takes_over_what_is_before_it(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "c")
    flow = await world.flow(chain(probe("a"), probe("b"), probe("c")))
    first = await member.start(flow)
    await ended(world, first, "completed")
    script.mend()
    second = await replay(member, flow, first.execution_id, from_step="b")
    await ended(world, second, "completed")
    assert script.keys == [f"{second.execution_id}:b:", f"{second.execution_id}:c:"]


async def test_from_a_chosen_step_it_and_all_that_depends_on_it_begin_anew(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "c", "z")
    nodes = fan(probe("a"), probe("z"))
    nodes["nodes"] += [probe("b"), probe("c")]
    nodes["edges"] += [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}]
    flow = await world.flow(nodes)
    first = await member.start(flow)
    await ended(world, first, "completed")
    script.mend()
    second = await retry(member, flow, first.execution_id, from_step="b")
    await ended(world, second, "completed")
    assert script.calls == [("b", ""), ("c", "")]


async def test_from_a_chosen_step_another_one_that_failed_begins_anew_too(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "z")
    script.broken = {"z"}
    nodes = fan(probe("a"), probe("z"))
    nodes["nodes"] += [probe("b")]
    nodes["edges"] += [{"source": "a", "target": "b"}]
    world.probe.hold("z")
    flow = await world.flow(nodes)
    first = await member.start(flow)
    await world.probe.called("b")
    await until(lambda: _completed(world, first, "b"))
    world.probe.acts["z"] = script.act
    await member.crash()
    await world.expire("w")
    member = await world.member("heir")
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id, from_step="b")
    await ended(world, second, "completed")
    assert sorted(script.calls) == [("b", ""), ("z", "")]


async def _completed(world: World, run: Started, node: str) -> bool:
    return (await world.states(run.execution_id)).get(node) == "completed"


async def test_with_another_input_what_begins_anew_sees_it(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b")
    script.broken = {"b"}
    config = {"config": {"n": "{{ trigger.body.n }}", "t": "{{ steps.begin.body.n }}"}}
    flow = await world.flow(chain(probe("a", **config), probe("b", **config)))
    first = await member.start(flow, {"n": 1})
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id, has_input=True, input={"n": 2})
    row = await ended(world, second, "completed")
    assert (script.calls, script.configs) == ([("b", "")], [{"n": 2, "t": 2}])
    assert json.loads(row["trigger_data"]) == {"body": {"n": 2}}
    begin = (await world.steps(second.execution_id))["begin", 1]
    assert json.loads(begin["output_data"]) == {"body": {"n": 2}}
    third = await replay(member, flow, first.execution_id, has_input=True, input=None)
    assert json.loads((await world.ended(third.execution_id))["trigger_data"]) == {"body": None}


async def test_all_attempts_are_given_again(world: World) -> None:
    member = await world.member()
    script = Script(world, "a")
    script.broken = {"a"}
    policy = {"max_attempts": 2, "strategy": "fixed", "initial_delay": "1ms", "retry_on": ["broken"]}
    flow = await world.flow(chain(probe("a", retry=policy)))
    first = await member.start(flow)
    await ended(world, first, "failed")
    assert len(script.calls) == 2
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "failed")
    assert len(script.calls) == 4
    assert set(await world.steps(second.execution_id)) == {("begin", 1), ("a", 1), ("a", 2)}


# --- in scopes --------------------------------------------------------------------------------------------------------


async def test_in_a_loop_only_the_iteration_that_failed_goes_on(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "after")
    script.broken = {"each[2].b"}
    flow = await world.flow(
        nested(
            {"id": "each", "type": "loop", "config": {"source": 4}},
            [("each", "a", "body"), ("a", "b", None), ("each", "after", "done")],
            probe("a"), probe("b"), probe("after"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id)
    row = await ended(world, second, "completed")
    assert script.calls == [("b", "each[2]"), ("a", "each[3]"), ("b", "each[3]"), ("after", "")]
    assert row["output_data"]


async def test_in_a_parallel_what_the_other_branches_did_stays(world: World) -> None:
    member = await world.member()
    script = Script(world, "l", "r", "after")
    script.broken = {"r"}
    world.probe.hold("s")
    gate = anyio.Event()

    async def late(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await gate.wait()
        return await script.act(config, context)

    world.probe.acts["r"] = late
    flow = await world.flow(
        nested(
            {"id": "fan", "type": "parallel", "config": {}},
            [("fan", "l", "left"), ("fan", "r", "right"), ("fan", "s", "third"), ("fan", "after", "done")],
            probe("l"), probe("r"), probe("s"), probe("after"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await world.probe.called("s")
    await until(lambda: _completed(world, first, "l"))
    gate.set()
    await ended(world, first, "failed")
    script.mend()
    world.probe.acts["s"] = script.act
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert sorted(script.calls[:2]) == [("r", "fan.right"), ("s", "fan.third")]
    assert script.calls[2:] == [("after", "")]


async def test_in_a_try_the_body_goes_on_and_its_finally_runs_again(world: World) -> None:
    """The finally ran because the body had failed: it belongs to the end, and comes when that comes."""
    member = await world.member()
    script = Script(world, "a", "b", "undo", "after")
    script.broken = {"b"}
    flow = await world.flow(
        nested(
            {"id": "guard", "type": "try", "config": {}},
            [("guard", "a", "try"), ("a", "b", None), ("guard", "undo", "finally"), ("guard", "after", "done")],
            probe("a"), probe("b"), probe("undo"), probe("after"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    assert [node for node, _ in script.calls] == ["a", "b", "undo"]
    script.mend()
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert [node for node, _ in script.calls] == ["b", "undo", "after"]


async def test_a_failure_that_was_caught_stays_caught(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "mend", "after")
    script.broken = {"a", "after"}
    flow = await world.flow(
        nested(
            {"id": "guard", "type": "try", "config": {}},
            [("guard", "a", "try"), ("guard", "mend", "catch"), ("guard", "after", "done")],
            probe("a"), probe("mend"), probe("after"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert script.calls == [("after", "")]


async def test_in_a_retry_scope_the_last_round_goes_on(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "after")
    script.broken = {"b"}
    policy = {"max_attempts": 3, "strategy": "exponential_jitter", "initial_delay": "100ms", "retry_on": ["broken"]}
    flow = await world.flow(
        nested(
            {"id": "again", "type": "retry", "config": policy},
            [("again", "a", "body"), ("a", "b", None), ("again", "after", "done")],
            probe("a"), probe("b"), probe("after"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    assert [node for node, _ in script.calls] == ["a", "b"] * 3
    script.mend()
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert script.calls == [("b", ""), ("after", "")]
    rounds = await world.sql.fetch(
        "SELECT node_id, round, status FROM step_executions WHERE execution_id = $1 AND node_id IN ('a', 'b') "
        "ORDER BY round, node_id", second.execution_id,
    )  # fmt: skip
    assert [tuple(row) for row in rounds] == [
        ("a", 0, "completed"), ("b", 0, "failed"), ("a", 1, "completed"), ("b", 1, "failed"),
        ("a", 2, "completed"), ("b", 2, "completed"),
    ]  # fmt: skip
    third = await replay(member, flow, second.execution_id, from_step="after")
    await ended(world, third, "completed")


async def test_behind_a_circuit_breaker_nothing_recorded_runs_again(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b")
    script.broken = {"b"}
    flow = await world.flow(
        nested(
            {"id": "fuse", "type": "circuit_breaker", "config": {}},
            [("fuse", "a", "body"), ("a", "b", None)],
            probe("a"), probe("b"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert script.calls == [("b", "")]
    assert set((await world.states(second.execution_id)).values()) == {"completed"}


async def test_the_time_between_two_runs_is_not_counted_by_a_scope(world: World) -> None:
    """A scope's timeout goes on counting from what it has used, however long the retry is in coming."""
    member = await world.member()
    script = Script(world, "l", "r")
    script.broken = {"r"}
    flow = await world.flow(
        nested(
            {"id": "fan", "type": "parallel", "config": {}, "timeout": "1h"},
            [("fan", "l", "left"), ("l", "r", None)],
            probe("l"), probe("r"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    age = "interval '3 days'"
    await world.sql.execute(
        f"UPDATE step_executions SET started_at = started_at - {age}, completed_at = completed_at - {age}"
    )
    await world.sql.execute(
        f"UPDATE executions SET created_at = created_at - {age}, started_at = started_at - {age}, "
        f"completed_at = completed_at - {age}"
    )
    second = await retry(member, flow, first.execution_id)
    row = await ended(world, second, "failed")
    assert row["error_code"] == "broken"
    script.mend()
    third = await retry(member, flow, second.execution_id)
    await ended(world, third, "completed")
    assert script.calls == [("r", "fan.left")]


async def test_a_scope_whose_time_was_over_goes_on_where_it_was(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "undo")
    world.probe.hold("b")
    flow = await world.flow(
        nested(
            {"id": "guard", "type": "try", "config": {}},
            [("guard", "fan", "try"), ("fan", "a", "left"), ("a", "b", None), ("guard", "undo", "finally")],
            {"id": "fan", "type": "parallel", "config": {}, "timeout": "1500ms"},
            probe("a"), probe("b"), probe("undo"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    row = await ended(world, first, "failed")
    assert row["error_code"] == "timeout"
    script.mend()
    del world.probe.acts["b"]
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert [node for node, _ in script.calls] == ["undo"]
    assert world.probe.count("b") == 2


async def test_a_retry_survives_a_crash(world: World) -> None:
    """What was taken over is rebuilt together with what came after it."""
    member = await world.member()
    script = Script(world, "a", "b", "c")
    script.broken = {"each[1].b"}
    flow = await world.flow(
        nested(
            {"id": "each", "type": "loop", "config": {"source": 3}},
            [("each", "a", "body"), ("a", "b", None), ("b", "c", None)],
            probe("a"), probe("b"), probe("c"),
        )
    )  # fmt: skip
    first = await member.start(flow)
    await ended(world, first, "failed")
    script.mend()
    world.probe.hold("c")
    second = await retry(member, flow, first.execution_id)
    await world.probe.called("c", 2)
    await member.crash()
    world.probe.acts["c"] = script.act
    await world.expire("w")
    await world.member("heir")
    await ended(world, second, "completed")
    assert script.calls == [("b", "each[1]"), ("c", "each[1]"), ("a", "each[2]"), ("b", "each[2]"), ("c", "each[2]")]


# --- which runs, which version ----------------------------------------------------------------------------------------


async def test_a_cancelled_run_goes_on_with_what_was_cut_off(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "c")
    world.probe.hold("b")
    flow = await world.flow(chain(probe("a"), probe("b"), probe("c", when="true")))
    first = await member.start(flow)
    await world.probe.called("b")
    await member.engine.operations.cancel(flow.tenant, first.execution_id, "not now")
    script.mend()
    del world.probe.acts["b"]
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert script.calls == [("c", "")]
    assert world.probe.count("b") == 2


async def test_a_step_with_a_condition_that_a_cancel_skipped_is_not_declined(world: World) -> None:
    """It had its turn and had not begun: that it was skipped says nothing about its `when`."""
    member = await world.member()
    Script(world, "a")
    gate = world.probe.hold("a")
    flow = await world.flow(chain(probe("a"), probe("b", when="true")))
    first = await member.start(flow)
    await world.probe.called("a")
    await member.engine.operations.pause(flow.tenant, first.execution_id)
    await member.heard_of_pause(first.execution_id)
    gate.set()
    await world.resting(first.execution_id)
    await member.engine.operations.cancel(flow.tenant, first.execution_id, "not now")
    assert (await world.states(first.execution_id))["b"] == "skipped"
    second = await retry(member, flow, first.execution_id)
    await ended(world, second, "completed")
    assert (await world.states(second.execution_id))["b"] == "completed"
    assert world.probe.count("a") == 1


async def test_a_step_that_was_declined_stays_declined(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "c")
    script.broken = {"c"}
    nodes = fan(probe("a", when="trigger.body.go"), probe("c"))
    flow = await world.flow(nodes)
    first = await member.start(flow, {"go": False})
    await ended(world, first, "failed")
    script.mend()
    second = await retry(member, flow, first.execution_id, has_input=True, input={"go": True})
    await ended(world, second, "completed")
    assert script.calls == [("c", "")]
    assert (await world.states(second.execution_id))["a"] == "skipped"


async def test_a_retry_is_pinned_to_the_version_that_the_run_had(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b")
    script.broken = {"b"}
    flow = await world.flow(chain(probe("a"), probe("b")))
    first = await member.start(flow)
    await ended(world, first, "failed")
    await publish(world, flow, chain(probe("a"), probe("b", config={"v": 2}), probe("new")))
    script.mend()
    second = await retry(member, flow, first.execution_id)
    row = await ended(world, second, "completed")
    assert (row["workflow_version"], script.configs) == (1, [{}])


async def test_on_the_current_version_changed_nodes_are_seen(world: World) -> None:
    member = await world.member()
    script = Script(world, "a", "b", "new")
    script.broken = {"b"}
    flow = await world.flow(chain(probe("gone"), probe("a"), probe("b")))
    first = await member.start(flow)
    await ended(world, first, "failed")
    await publish(world, flow, chain(probe("a"), probe("new"), probe("b", config={"v": 2})))
    script.mend()
    second = await retry(member, flow, first.execution_id, version="current")
    row = await ended(world, second, "completed")
    assert (row["workflow_version"], script.calls) == (2, [("new", ""), ("b", "")])
    assert script.configs == [{}, {"v": 2}]
    assert set(await world.states(second.execution_id)) == {"begin", "a", "new", "b"}
    third = await replay(member, flow, first.execution_id, version="current")
    assert (await ended(world, third, "completed"))["workflow_version"] == 2


async def test_what_can_not_be_retried(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(probe("a"), delay("nap", "1h")))
    live = await member.start(flow)
    await world.parked(live.execution_id)
    done = await member.start(await world.flow(chain(tally("t")), tenant=flow.tenant))
    await ended(world, done, "completed")

    async def refusal(kind: type[Exception], verb: Any, run: uuid.UUID, **again: Any) -> str:
        with pytest.raises(kind) as refused:
            await verb(member, flow, run, **again)
        return str(refused.value.code)  # type: ignore[attr-defined]

    for verb in (retry, replay):
        assert await refusal(Conflict, verb, live.execution_id) == "not_ended"
        assert await refusal(NotFound, verb, uuid.uuid4()) == "execution_not_found"
        assert await refusal(InvalidInput, verb, done.execution_id, from_step="nobody") == "unknown_step"
    assert await refusal(Conflict, retry, done.execution_id) == "nothing_failed"
    elsewhere = Flow(await world.tenant(), flow.id)
    with pytest.raises(NotFound):
        await retry(member, elsewhere, done.execution_id)
    await world.sql.execute("UPDATE workflows SET status = 'inactive'")
    assert await refusal(Conflict, replay, done.execution_id) == "workflow_inactive"
    await world.sql.execute("UPDATE workflows SET status = 'active', published_version = NULL")
    assert await refusal(Conflict, replay, done.execution_id, version="current") == "not_published"
