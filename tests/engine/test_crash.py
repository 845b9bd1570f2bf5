"""The life of an execution, 9: crash, recovery, drain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine import execution as execution_module
from gorax_engine.errors import Unavailable
from gorax_engine.nodes.api import Completed, NodeContext, Outcome
from gorax_engine.store import runs
from gorax_engine.telemetry import ExecutionQuarantined, ExecutionRescued
from tests.engine.harness import Member, World, chain, delay, fan, probe, tally, until


async def running(world: World, execution_id: Any, node: str = "p") -> None:
    """Wait until the start of the node is recorded."""

    async def look() -> bool:
        return (await world.states(execution_id)).get(node) == "running"

    await until(look, f"the record that {node} runs")


async def crash(world: World, member: Member) -> None:
    await member.crash()
    await world.expire(member.name)


async def test_recorded_steps_never_run_again(world: World) -> None:
    world.probe.hold("p3")
    member = await world.member()
    nodes = [probe("p1"), tally("t1"), probe("p2"), tally("t2"), probe("p3"), tally("t3")]
    started = await member.start(await world.flow(chain(*nodes)))
    await world.probe.called("p3")
    await running(world, started.execution_id, "p3")
    before = await world.steps(started.execution_id)
    await crash(world, member)
    del world.probe.acts["p3"]
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert row["status"] == "completed"
    assert [node for _, node, _ in world.probe.calls] == ["p1", "p2", "p3", "p3"]
    assert world.tally.calls == ["t1", "t2", "t3"]
    after = await world.steps(started.execution_id)
    for node in ("begin", "p1", "t1", "p2", "t2"):
        assert after[node, 1] == before[node, 1]


async def test_a_rescue_is_told_and_counted(world: World) -> None:
    world.probe.hold("p")
    member = await world.member(poll=30.0)  # so that no sweep of its own is under way when it dies
    started = [await member.start(await world.flow(chain(probe("p")))) for _ in range(3)]
    await world.probe.called("p", 3)
    for each in started:
        await running(world, each.execution_id)
    heir = await world.member("heir", slots=1)
    told: list[int] = []
    heir.telemetry.subscribe(lambda event: told.append(event.count) if isinstance(event, ExecutionRescued) else None)
    await crash(world, member)
    gate = world.probe.hold("p")
    await until(lambda: world.sql.fetchval("SELECT count(*) = 3 FROM execution_queue WHERE crashes = 1"))

    async def heard() -> bool:
        return bool(told)

    await until(heard)
    assert told == [3]
    assert await world.worker_ids("w") == []
    gate.set()
    for each in started:
        assert (await world.ended(each.execution_id))["status"] == "completed"


async def test_in_doubt_retry_runs_the_step_again_under_one_key(world: World) -> None:
    keys: list[str] = []

    async def act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        keys.append(context.idempotency_key)
        if len(keys) == 1:
            await anyio.sleep_forever()
        return Completed({})

    world.probe.acts["p"] = act
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await crash(world, member)
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert keys == [f"{started.execution_id}:p:"] * 2
    assert list(await world.steps(started.execution_id)) != []
    assert {key for key in await world.steps(started.execution_id) if key[0] == "p"} == {("p", 1)}


async def test_in_doubt_fail_does_not_run_the_step_again(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p", in_doubt="fail"), tally("a"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await crash(world, member)
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "worker_lost")
    assert world.probe.count("p") == 1
    step = (await world.steps(started.execution_id))["p", 1]
    assert (step["status"], step["error_code"]) == ("failed", "worker_lost")


async def test_in_doubt_fail_concerns_only_what_had_begun(world: World) -> None:
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"), probe("q", in_doubt="fail"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await crash(world, member)
    del world.probe.acts["p"]
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.probe.count("q") == 1


async def test_the_count_of_crashes_is_reset_by_progress_alone(world: World) -> None:
    world.probe.hold("p")
    member = await world.member("w0")
    started = await member.start(await world.flow(chain(probe("p"), probe("q"))))
    counts = []
    for turn in range(1, 4):
        node = "p" if turn < 3 else "q"
        await world.probe.called(node, turn if node == "p" else 1)
        await running(world, started.execution_id, node)
        counts.append((await world.row(started.execution_id))["crashes"])
        await crash(world, member)
        if turn == 2:  # the second heir gets past the step
            del world.probe.acts["p"]
            world.probe.hold("q")
        member = await world.member(f"w{turn}")
    assert counts == [0, 1, 0]
    del world.probe.acts["q"]
    await world.probe.called("q", 2)
    await crash(world, member)
    await world.member("last")
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def _is_idle(member: Member) -> bool:
    return member.engine.in_flight() == 0


async def _room(member: Member) -> bool:
    life = member.worker._life
    return life is not None and life.reserved == 0


async def test_a_suspect_runs_alone_and_the_third_loss_ends_it(world: World) -> None:
    world.probe.hold("p")
    member = await world.member("w0")
    started = await member.start(await world.flow(chain(probe("p"), probe("q"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await crash(world, member)
    second = await world.member("w1")
    await world.probe.called("p", 2)
    # The third worker has something else to do: that is let finish before, and nothing new is begun beside it.
    gate = world.probe.hold("other")
    third = await world.member("w2", drain_timeout=10.0)
    other = await world.flow(chain(probe("other")))
    await until(lambda: _room(third))
    busy = await third.start(other)
    await world.probe.called("other")
    await crash(world, second)

    async def alone() -> bool:
        return third.worker._life is not None and third.worker._life.alone

    await until(alone)
    assert world.probe.count("p") == 2
    late = await third.start(other)
    assert late.status == "pending"
    gate.set()
    await world.probe.called("p", 3)
    assert (await world.execution(busy.execution_id))["status"] == "completed"
    assert (await world.execution(late.execution_id))["status"] == "pending"
    assert third.engine.in_flight() == 1
    await crash(world, third)
    last = await world.member("w3")
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "worker_lost")
    assert world.probe.count("p") == 3
    assert await world.states(started.execution_id) == {"begin": "completed", "p": "failed", "q": "skipped"}
    assert (await world.ended(late.execution_id))["status"] == "completed"
    await until(lambda: _is_idle(last))  # it lets go a moment after its commit


async def test_quarantine_is_told(world: World) -> None:
    world.probe.hold("p")
    member = await world.member(poll=30.0)  # so that no sweep of its own is under way when it dies
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await world.sql.execute("UPDATE execution_queue SET crashes = 2")
    heir = await world.member("heir")
    told: list[int] = []
    heir.telemetry.subscribe(
        lambda event: told.append(event.count) if isinstance(event, ExecutionQuarantined) else None
    )
    await crash(world, member)
    row = await world.ended(started.execution_id)
    assert row["error_code"] == "worker_lost"

    async def heard() -> list[int]:
        return told

    assert await until(heard) == [1]


async def test_a_suspect_that_makes_progress_is_one_no_more(world: World) -> None:
    acceptor = await world.member("api", roles=())
    started = await acceptor.start(await world.flow(chain(probe("p"), probe("q"))))
    gate = world.probe.hold("q")
    await world.sql.execute("UPDATE execution_queue SET crashes = 2")
    await world.member()
    await world.probe.called("q")
    await until(lambda: world.sql.fetchval("SELECT crashes = 0 FROM execution_queue"))
    gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_recovery_of_a_graph_with_branches(world: World) -> None:
    """Skips, a failure that was handled and a live sibling: the heir walks to the same end."""
    world.probe.hold("slow")

    async def breaks(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        raise RuntimeError

    world.probe.acts["breaks"] = breaks
    definition = fan(
        {"id": "if", "type": "condition", "config": {"condition": "1 == 2"}},
        probe("breaks"),
        probe("slow"),
    )
    definition["nodes"] += [tally("yes"), tally("no"), tally("mend"), tally("join")]
    definition["edges"] += [
        {"id": "t", "source": "if", "target": "yes", "label": "true"},
        {"id": "f", "source": "if", "target": "no", "label": "false"},
        {"id": "x", "source": "breaks", "target": "mend", "label": "error"},
        *({"id": f"j{n}", "source": n, "target": "join"} for n in ("yes", "no", "mend", "slow")),
    ]
    member = await world.member()
    started = await member.start(await world.flow(definition))
    await world.probe.called("slow")
    await running(world, started.execution_id, "slow")

    async def mended() -> bool:
        return (await world.states(started.execution_id)).get("mend") == "completed"

    await until(mended)
    await crash(world, member)
    del world.probe.acts["slow"]
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert row["status"] == "completed"
    assert await world.states(started.execution_id) == {
        "begin": "completed", "if": "completed", "yes": "skipped", "no": "completed", "breaks": "failed",
        "mend": "completed", "slow": "completed", "join": "completed",
    }  # fmt: skip
    assert sorted(world.tally.calls) == ["join", "mend", "no"]
    assert world.probe.count("breaks") == 1


async def test_a_run_that_was_committed_but_never_begun_is_walked_from_the_start(world: World) -> None:
    member = await world.member()
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    await member.crash()
    await world.sql.execute("DELETE FROM step_executions")
    await world.expire("w")
    del world.probe.acts["p"]
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert await world.states(started.execution_id) == {"begin": "completed", "p": "completed"}


async def test_recovery_waits_for_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await crash(world, member)
    del world.probe.acts["p"]
    real = runs.recorded_steps
    refused: list[int] = []

    async def flaky(*arguments: Any, **more: Any) -> Any:
        if len(refused) < 2:
            refused.append(1)
            raise Unavailable("away")
        return await real(*arguments, **more)

    monkeypatch.setattr(runs, "recorded_steps", flaky)
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert len(refused) == 2


async def test_drain_lets_runs_end(world: World) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p"), tally("a"))))
    await world.probe.called("p")
    member.stopping.set()

    async def draining() -> bool:
        return member.worker._draining

    await until(draining)
    gate.set()
    await member.gone.wait()
    assert (await world.execution(started.execution_id))["status"] == "completed"
    assert await world.worker_ids("w") == []


async def test_drain_gives_back_what_does_not_end_in_time_and_counts_no_crash(world: World) -> None:
    world.probe.hold("p")
    member = await world.member(drain_timeout=0.2)
    started = await member.start(await world.flow(chain(tally("a"), probe("p"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await member.drain()
    assert world.probe.cancelled == ["p"]
    row = await world.row(started.execution_id)
    assert (row["owner"], row["crashes"], row["ready_at"] is not None) == (None, 0, True)
    assert await world.worker_ids("w") == []
    del world.probe.acts["p"]
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.tally.calls == ["a"]


async def test_drain_parks_what_waits_and_takes_nothing_new(world: World) -> None:
    member = await world.member()
    parked = await member.start(await world.flow(chain(delay("pause", "1h"))))
    await world.parked(parked.execution_id)
    member.worker.drain()
    late = await member.start(await world.flow(chain(tally("a"))))
    assert late.status == "pending"
    await member.drain()
    assert (await world.execution(late.execution_id))["status"] == "pending"
    assert await world.worker_ids("w") == []


async def test_drain_gives_back_a_short_wait(world: World) -> None:
    member = await world.member(drain_timeout=0.2)
    started = await member.start(await world.flow(chain(delay("pause", "4s"), tally("a"))))
    await until(lambda: world.waits(started.execution_id))
    await member.drain()
    await world.sql.execute("UPDATE waits SET due_at = clock_timestamp()")
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_crash_between_a_retry_and_its_wait_is_no_loss(world: World) -> None:
    """The failed attempt and the wait for the next are one entry: a heir finds both, or neither."""
    world.probe.hold("p")
    member = await world.member()
    retry = {
        "max_attempts": 2,
        "strategy": "fixed",
        "initial_delay": "1h",
        "max_delay": "1h",
        "retry_on": ["node_crashed"],
    }
    started = await member.start(await world.flow(chain(probe("p", retry=retry))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await member.crash()
    # As recorded by a worker that died right after: the attempt failed, and there is no wait.
    await world.sql.execute(
        "UPDATE step_executions SET status = 'failed', error_code = 'node_crashed', completed_at = clock_timestamp(), "
        'output_data = \'{"error": {"classification": "permanent"}}\' WHERE node_id = \'p\''
    )
    await world.expire("w")
    await world.member("heir")
    await world.parked(started.execution_id)
    (wait,) = await world.waits(started.execution_id)
    assert (wait["kind"], wait["attempt"]) == ("retry_backoff", 2)
    assert world.probe.count("p") == 1


async def test_a_fault_while_a_run_is_rebuilt_leaves_its_records(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of the steps yet: what ran is closed, and what never ran is not made up."""
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("a"), probe("p"), tally("b"))))
    await world.probe.called("p")
    await running(world, started.execution_id)
    await crash(world, member)

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug of the engine")

    monkeypatch.setattr(execution_module, "recover", broken)
    await world.member("heir")
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "internal_error")

    async def closed() -> bool:
        return await world.states(started.execution_id) == {"begin": "completed", "a": "completed", "p": "failed"}

    await until(closed)
