"""What comes from without while a run is closing, parked, or in nobody's hands: decisions, events, cancels."""

from __future__ import annotations

import json
import random
import uuid
from datetime import datetime
from itertools import pairwise

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine import parking
from gorax_engine.errors import Conflict
from tests.engine.harness import World, chain, delay, fan, probe, tally, until
from tests.engine.test_scopes import Cut

APPROVED = json.dumps({"status": "completed", "output": {"outcome": "approved"}, "outcome": "approved"})


def human(id_: str, **more: Json) -> dict[str, Json]:
    return {"id": id_, "type": "human_task", "config": {"title": "Well?", "assignees": ["admin"]}, **more}


def event(id_: str, **config: Json) -> dict[str, Json]:
    return {"id": id_, "type": "wait_for_event", "config": {"event": "paid", **config}}


def unwinding(*, body: list[dict[str, Json]], final: list[dict[str, Json]], **more: Json) -> dict[str, Json]:
    """A try around `body`, all of it at once, with a finally of nodes in a row; then `after`."""
    made = chain({"id": "try", "type": "try", "config": {}}, **more)
    made["nodes"] += [*body, *final, tally("after")]
    made["edges"] += [
        *({"id": f"b{node['id']}", "source": "try", "target": node["id"], "label": "try"} for node in body),
        *({"id": f"f{first['id']}", "source": first["id"], "target": then["id"]} for first, then in pairwise(final)),
        {"id": "final", "source": "try", "target": final[0]["id"], "label": "finally"},
        {"id": "after", "source": "try", "target": "after", "label": "done"},
    ]
    return made


async def _is(world: World, execution_id: uuid.UUID, node: str, state: str) -> bool:
    return (await world.states(execution_id)).get(node) == state


async def open_waits(world: World, kind: str) -> list[uuid.UUID]:
    rows = await world.apart("SELECT step_id FROM waits WHERE kind = $1 ORDER BY iteration_path, node_id", kind)
    return [row[0] for row in rows]


async def waiting(world: World, kind: str, count: int = 1) -> list[uuid.UUID]:
    """Wait until so many waits of a kind are open."""

    async def look() -> list[uuid.UUID] | None:
        found = await open_waits(world, kind)
        return found if len(found) == count else None

    steps: list[uuid.UUID] = await until(look, f"{count} waits of kind {kind}")
    return steps


async def signal(world: World, *steps: uuid.UUID, resolution: str = APPROVED) -> set[uuid.UUID]:
    rows = await world.apart("SELECT * FROM gorax_signal($1, $2)", list(steps), [resolution] * len(steps))
    return {row[0] for row in rows}


async def calls(world: World, *nodes: str) -> list[int]:
    return [world.probe.count(node) for node in nodes]


# --- a finally, and the end of the run --------------------------------------------------------------------------------


FINAL = [probe("f1"), tally("f2"), delay("f3", "30ms"), probe("f4")]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("end", ["cancel", "fail", "timeout", "stop"])
async def test_a_finally_is_finished_whoever_dies_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, end: str, seed: int
) -> None:
    """The run is ended while the body is at work; workers die after any flush of what follows."""
    if seed % 2:
        monkeypatch.setattr(parking, "PARK_AFTER", 0)
    world.probe.hold("p")
    body = [probe("p"), human("h")]
    more = {"settings": {"timeout": "1s"}} if end == "timeout" else {}
    definition = unwinding(body=body, final=FINAL, **more)
    if end in ("fail", "stop"):
        config = {"code": "scripted", "message": "As written."} if end == "fail" else {"output": 7}
        definition["nodes"] += [probe("gate"), {"id": "end", "type": end, "config": config}]
        definition["edges"] += [
            {"id": "g", "source": "begin", "target": "gate"}, {"id": "e", "source": "gate", "target": "end"},
        ]  # fmt: skip
    gate = world.probe.hold("gate")
    flow = await world.flow(definition)
    first = await world.member("g")
    api = await world.member("api", roles=())
    started = await first.start(flow)
    await world.probe.called("p")
    await waiting(world, "human_task")
    rng = random.Random(seed)
    cut = Cut(rng.randrange(4) + 1)
    cut.install(monkeypatch)
    if end == "cancel":
        await api.engine.operations.cancel(flow.tenant, started.execution_id, "enough")
    del world.probe.acts["gate"]
    gate.set()
    member, recorded = first, 0
    while True:

        async def over() -> bool:
            row = await world.execution(started.execution_id)
            return cut.reached.is_set() or row["completed_at"] is not None

        await until(over, "the end of a generation")
        member.scope.cancel()
        cut.dead.set()
        await member.crash()
        if (await world.execution(started.execution_id))["completed_at"] is not None:
            break
        cut.again(rng.choice((1, 2, 3)))
        await world.rescue(member.name)
        await world.sql.execute("UPDATE execution_queue SET crashes = 0")
        recorded += 1
        member = await world.member(f"g{recorded}", poll=0.05)
    row = await world.execution(started.execution_id)
    ends = {"cancel": ("cancelled", "cancelled"), "fail": ("failed", "scripted"), "timeout": ("failed", "timeout"),
            "stop": ("completed", None)}  # fmt: skip
    assert (row["status"], row["error_code"]) == ends[end]
    if end == "stop":
        assert row["output_data"] == "7"
    states = await world.states(started.execution_id)
    inner = {node: states[node] for node in ("p", "h", "f1", "f2", "f3", "f4", "after")}
    assert inner == {
        "p": "failed", "h": "failed", "f1": "completed", "f2": "completed", "f3": "completed", "f4": "completed",
        "after": "skipped",
    }  # fmt: skip
    assert all(times <= recorded + 1 for times in await calls(world, "f1", "f4"))
    assert await world.waits(started.execution_id) == []
    assert await world.sql.fetchval("SELECT count(*) FROM human_tasks WHERE status <> 'cancelled'") == 0
    assert await world.sql.fetchval("SELECT count(*) FROM signals") == 0


async def test_a_step_of_a_finally_that_is_recorded_never_runs_again(world: World) -> None:
    world.probe.hold("p")
    gate = world.probe.hold("f4")
    member = await world.member()
    api = await world.member("api", roles=())
    flow = await world.flow(unwinding(body=[probe("p")], final=FINAL))
    started = await member.start(flow)
    await world.probe.called("p")
    assert await api.engine.operations.cancel(flow.tenant, started.execution_id, "enough") == "running"
    await world.probe.called("f4")
    await until(lambda: _is(world, started.execution_id, "f4", "running"))
    await member.crash()
    await world.expire(member.name)
    gate.set()
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_message"]) == ("cancelled", "enough")
    assert await calls(world, "p", "f1", "f4") == [1, 1, 2]
    assert world.tally.calls == ["f2"]


async def test_a_second_cancel_by_force_ends_a_finally(world: World) -> None:
    world.probe.hold("p")
    world.probe.hold("f1")
    member = await world.member()
    flow = await world.flow(unwinding(body=[probe("p")], final=FINAL))
    started = await member.start(flow)
    await world.probe.called("p")
    operations = member.engine.operations
    await operations.cancel(flow.tenant, started.execution_id, "enough")
    await world.probe.called("f1")
    await until(lambda: _is(world, started.execution_id, "f1", "running"))
    assert await operations.cancel(flow.tenant, started.execution_id, "now", force=True) == "cancelled"
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_message"]) == ("cancelled", "now")
    states = await world.states(started.execution_id)
    assert {states["try"], states["p"], states["f1"]} == {"failed"}
    assert {states["f2"], states["f4"]} == {"skipped"}
    await member.idle()
    with pytest.raises(Conflict):
        await operations.cancel(flow.tenant, started.execution_id, "again")


# --- decisions and events ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["human_task", "event"])
async def test_what_comes_while_nobody_has_the_run(world: World, kind: str) -> None:
    member = await world.member()
    step = human("w") if kind == "human_task" else event("w")
    started = await member.start(await world.flow(chain(step, probe("p"))))
    (wait,) = await waiting(world, kind)
    await world.parked(started.execution_id)
    await member.crash()
    assert await signal(world, wait) == {wait}
    assert await signal(world, wait) == set()
    await world.expire(member.name)
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.probe.count("p") == 1
    assert json.loads((await world.steps(started.execution_id))["w", 1]["output_data"]) == {"outcome": "approved"}


async def test_what_comes_before_the_owner_is_found_dead(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(fan(human("h"), probe("p"))))
    await world.probe.called("p")
    (wait,) = await waiting(world, "human_task")
    await member.crash()
    assert await signal(world, wait) == {wait}
    assert (await world.row(started.execution_id))["owner"] is not None
    await world.expire(member.name)
    del world.probe.acts["p"]
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_what_was_heard_but_not_recorded_is_heard_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(human("h"), tally("t"))))
    (wait,) = await waiting(world, "human_task")
    await world.parked(started.execution_id)
    await member.idle()
    cut = Cut(0)
    cut.install(monkeypatch)
    await signal(world, wait)
    with anyio.fail_after(10):
        await cut.reached.wait()
    assert world.tally.calls == ["t"]
    member.scope.cancel()
    cut.dead.set()
    await member.crash()
    cut.again(1000)
    await world.expire(member.name)
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert await world.states(started.execution_id) == dict.fromkeys(("begin", "h", "t"), "completed")


async def test_what_comes_for_a_run_that_has_ended_is_nobodys(world: World) -> None:
    member = await world.member()
    flow = await world.flow(chain(human("h")))
    started = await member.start(flow)
    (wait,) = await waiting(world, "human_task")
    await world.parked(started.execution_id)
    await member.engine.operations.cancel(flow.tenant, started.execution_id, "enough")
    assert await signal(world, wait) == set()
    assert await world.sql.fetchval("SELECT count(*) FROM signals") == 0
    assert await world.sql.fetchval("SELECT status FROM human_tasks") == "cancelled"


async def test_an_event_named_by_hand(world: World) -> None:
    member = await world.member()
    flow = await world.flow(fan(event("a"), event("b", correlation_key="k"), {**event("c"), "config": {"event": "x"}}))
    started = await member.start(flow)
    await waiting(world, "event", 3)
    operations = member.engine.operations
    with pytest.raises(Conflict):
        await operations.signal(flow.tenant, started.execution_id, "nothing", None)
    assert await operations.signal(flow.tenant, started.execution_id, "paid", {"n": 1}) == 2
    assert await operations.signal(flow.tenant, started.execution_id, "x", {"n": 2}) == 1
    row = await world.ended(started.execution_id)
    found = json.loads(row["output_data"])
    assert {node: (given["name"], given["correlation_key"], given["body"]["n"]) for node, given in found.items()} == {
        "a": ("paid", None, 1), "b": ("paid", "k", 1), "c": ("x", None, 2),
    }  # fmt: skip
    assert found["a"]["id"] == found["b"]["id"] != found["c"]["id"]
    assert all(str(uuid.UUID(given["id"])) == given["id"] for given in found.values())
    moments = [datetime.fromisoformat(found[node]["published_at"]).timestamp() for node in "ac"]
    assert row["created_at"].timestamp() <= moments[0] <= moments[1] <= row["completed_at"].timestamp()


async def test_a_thousand_waits_of_one_run(world: World) -> None:
    """They are opened, answered and ended together, in a few flushes; nothing stays in memory meanwhile."""
    member = await world.member()
    definition = chain({"id": "all", "type": "loop", "config": {"source": 1000, "max_concurrency": 1000}})
    definition["nodes"].append(human("h"))
    definition["edges"].append({"id": "b", "source": "all", "target": "h", "label": "body"})
    started = await member.start(await world.flow(definition))
    steps = await waiting(world, "human_task", 1000)
    await world.parked(started.execution_id)
    await member.idle()
    assert len(await signal(world, *steps[:500])) == 500
    await waiting(world, "human_task", 500)
    assert len(await signal(world, *steps)) == 500
    row = await world.ended(started.execution_id)
    assert json.loads(row["output_data"])["all"]["iteration_count"] == 1000


async def test_in_a_first_wins_race_the_loser_is_taken_back(world: World) -> None:
    member = await world.member()
    definition = chain({"id": "race", "type": "parallel", "config": {"wait_mode": "first"}}, tally("t"))
    definition["edges"][1]["label"] = "done"
    definition["nodes"] += [human("h1"), human("h2"), event("e")]
    definition["edges"] += [{"id": n, "source": "race", "target": n, "label": n} for n in ("h1", "h2", "e")]
    started = await member.start(await world.flow(definition))
    first, second = await waiting(world, "human_task", 2)
    await world.parked(started.execution_id)
    assert await signal(world, first) == {first}
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert await signal(world, second) == set()
    states = await world.states(started.execution_id)
    assert {node: states[node] for node in ("h1", "h2", "e")} == {"h1": "completed", "h2": "failed", "e": "failed"}
    tasks = await world.sql.fetch("SELECT node_id, status FROM human_tasks")
    assert {row["node_id"]: row["status"] for row in tasks}["h2"] == "cancelled"


# --- joins ------------------------------------------------------------------------------------------------------------


def joined(**config: Json) -> dict[str, Json]:
    made = fan(probe("a"), probe("b"), probe("c"))
    made["nodes"] += [{"id": "j", "type": "join", "config": config}, tally("t")]
    made["edges"] += [{"id": f"j{n}", "source": n, "target": "j"} for n in "abc"]
    made["edges"].append({"id": "jt", "source": "j", "target": "t"})
    return made


@pytest.mark.parametrize("dies", [False, True])
async def test_a_join_of_two_of_three(world: World, dies: bool) -> None:
    gate = world.probe.hold("b")
    world.probe.hold("c")
    member = await world.member()
    started = await member.start(await world.flow(joined(join_strategy="wait_n", required_count=2)))
    await world.probe.called("b")
    await world.probe.called("c")
    await until(lambda: _is(world, started.execution_id, "a", "completed"))
    if dies:
        await member.crash()
        del world.probe.acts["b"]
        await world.expire(member.name)
        await world.member("heir")
    else:
        gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"
    states = await world.states(started.execution_id)
    assert (states["a"], states["b"], states["c"], states["j"]) == ("completed", "completed", "failed", "completed")
    assert world.probe.count("a") == 1


@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_join_that_waits_too_long_after_a_crash(world: World, goes_on: bool) -> None:
    """The timeout counts from the first arrival, whoever has the run meanwhile."""
    world.probe.hold("b")
    world.probe.hold("c")
    member = await world.member()
    timeout = {"timeout": "1s", "on_timeout": "continue" if goes_on else "fail"}
    started = await member.start(await world.flow(joined(**timeout)))
    await world.probe.called("b")
    await world.probe.called("c")
    await until(lambda: _is(world, started.execution_id, "a", "completed"))
    await member.crash()
    await world.expire(member.name)
    await world.member("heir")
    row = await world.ended(started.execution_id)
    states = await world.states(started.execution_id)
    if goes_on:
        assert (row["status"], states["j"], states["t"]) == ("completed", "completed", "completed")
    else:
        assert (row["status"], row["error_code"], states["j"]) == ("failed", "join_timeout", "failed")
    assert (states["b"], states["c"]) == ("failed", "failed")
    (step,) = await world.sql.fetch(
        "SELECT j.completed_at - a.completed_at AS took FROM step_executions j JOIN step_executions a "
        "USING (execution_id) WHERE j.node_id = 'j' AND a.node_id = 'a'"
    )
    assert step["took"].total_seconds() == 1.0
    assert world.probe.count("a") == 1
