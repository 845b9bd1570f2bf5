"""The life of an execution, 6: wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.nodes.api import Classification, Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.store import queue
from gorax_engine.store.session import open_session
from tests.engine.harness import World, chain, delay, fan, probe, tally, until

BACKOFF = {"max_attempts": 3, "strategy": "fixed", "initial_delay": "1h", "max_delay": "1h"}


def failing(times: int) -> Any:
    """A node that fails so often, each time in a way that may pass."""

    async def act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        if context.attempt <= times:
            return Failed(StepError("busy", "It is busy.", Classification.TRANSIENT))
        return Completed({"attempt": context.attempt})

    return act


async def test_a_long_wait_parks(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("a"), delay("pause", "1h"), probe("p"))))
    row = await world.parked(started.execution_id)
    await member.idle()
    (wait,) = await world.waits(started.execution_id)
    assert (wait["kind"], wait["node_id"], wait["due_at"]) == ("timer", "pause", row["due_at"])
    run = await world.execution(started.execution_id)
    assert (run["status"], run["waiting_for"]) == ("running", "timer")
    assert await world.states(started.execution_id) == {"begin": "completed", "a": "completed", "pause": "running"}


async def test_a_parked_run_goes_on_when_it_is_due(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("a"), delay("pause", "1h"), probe("p"))))
    await world.parked(started.execution_id)
    await member.idle()
    await world.make_due(started.execution_id)
    row = await world.ended(started.execution_id)
    assert (row["status"], row["waiting_for"]) == ("completed", None)
    assert set((await world.states(started.execution_id)).values()) == {"completed"}
    assert await world.waits(started.execution_id) == []
    assert (world.tally.calls, world.probe.count("p")) == (["a"], 1)


async def test_the_next_timer_is_met_on_time_whatever_the_poll(world: World) -> None:
    """The sweep that parks it learns of the next due time; nobody waits for a poll."""
    member = await world.member(poll=1.0)
    started = await member.start(await world.flow(chain(delay("pause", "6s"), tally("a"))))
    row = await world.parked(started.execution_id)
    await world.sql.execute("UPDATE execution_queue SET due_at = clock_timestamp() + interval '1500 milliseconds'")
    await world.sql.execute("UPDATE waits SET due_at = clock_timestamp() + interval '1500 milliseconds'")
    due = await world.sql.fetchval("SELECT due_at FROM execution_queue")
    run = await world.ended(started.execution_id)
    assert row["due_at"] > due
    step = (await world.steps(started.execution_id))["a", 1]
    assert 0 <= (step["completed_at"] - due).total_seconds() < 0.9
    assert run["status"] == "completed"


async def test_a_short_wait_stays_in_memory_with_its_row(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(delay("pause", "2s"), tally("a"))))

    async def waits() -> list[Any]:
        return await world.waits(started.execution_id)

    (wait,) = await until(waits)
    assert wait["kind"] == "timer"
    assert member.engine.in_flight() == 1
    assert (await world.row(started.execution_id))["owner"] is not None
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert await world.waits(started.execution_id) == []
    step = (await world.steps(started.execution_id))["pause", 1]
    assert 1_500 < step["duration_ms"] < 10_000  # when it really was, not when it was due


async def test_a_short_wait_survives_a_crash(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(tally("a"), delay("pause", "4s"), tally("b"))))
    await until(lambda: world.waits(started.execution_id))
    due = (await world.waits(started.execution_id))[0]["due_at"]
    await member.crash()
    await world.sql.execute("UPDATE waits SET due_at = due_at - interval '3500 milliseconds'")
    await world.expire("w")
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.tally.calls == ["a", "b"]
    step = (await world.steps(started.execution_id))["pause", 1]
    assert 0 < (due - step["completed_at"]).total_seconds() <= 3.5  # the row decides, not the worker's memory


async def test_a_long_wait_survives_a_crash(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(delay("pause", "1h"), tally("b"))))
    before = await world.parked(started.execution_id)
    await member.crash()
    await world.expire("w")
    heir = await world.member("heir")
    await until(lambda: _gone(world, "w"))
    row = await world.row(started.execution_id)
    assert (row["crashes"], row["due_at"]) == (0, before["due_at"])
    await world.make_due(started.execution_id)
    assert (await world.ended(started.execution_id))["status"] == "completed"
    await heir.idle()


async def _gone(world: World, name: str) -> bool:
    return not await world.worker_ids(name)


async def test_retry_backoff_parks_and_goes_on(world: World) -> None:
    world.probe.acts["p"] = failing(2)
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p", retry=BACKOFF))))
    for attempt in (1, 2):
        await world.parked(started.execution_id)
        await member.idle()
        (wait,) = await world.waits(started.execution_id)
        assert (wait["kind"], wait["attempt"]) == ("retry_backoff", attempt + 1)
        assert (await world.execution(started.execution_id))["waiting_for"] == "retry_backoff"
        assert world.probe.count("p") == attempt
        await world.make_due(started.execution_id)
        await world.probe.called("p", attempt + 1)
    row = await world.ended(started.execution_id)
    assert row["status"] == "completed"
    steps = await world.steps(started.execution_id)
    assert [steps["p", attempt]["status"] for attempt in (1, 2, 3)] == ["failed", "failed", "completed"]
    assert [attempt for _, _, attempt in world.probe.calls] == [1, 2, 3]


async def test_a_short_backoff_stays_in_memory_with_its_row(world: World) -> None:
    world.probe.acts["p"] = failing(1)
    retry = {**BACKOFF, "initial_delay": "2s", "max_delay": "2s"}
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p", retry=retry))))
    (wait,) = await until(lambda: world.waits(started.execution_id))
    assert (wait["kind"], wait["attempt"], member.engine.in_flight()) == ("retry_backoff", 2, 1)
    await member.crash()
    await world.expire("w")
    await world.make_due(started.execution_id)
    await world.member("heir")
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert [attempt for _, _, attempt in world.probe.calls] == [1, 2]
    assert await world.waits(started.execution_id) == []


async def test_with_something_else_to_do_a_run_does_not_park(world: World) -> None:
    gate = world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(fan(delay("pause", "1h"), probe("p"))))
    await world.probe.called("p")
    await until(lambda: world.waits(started.execution_id))
    assert (await world.row(started.execution_id))["owner"] is not None
    gate.set()
    await world.parked(started.execution_id)
    await world.make_due(started.execution_id)
    assert (await world.ended(started.execution_id))["status"] == "completed"
    assert world.probe.count("p") == 1


async def test_waiting_for_names_the_oldest_of_several_waits(world: World) -> None:
    world.probe.acts["p"] = failing(1)
    member = await world.member()
    retry = {**BACKOFF, "initial_delay": "2h", "max_delay": "2h"}
    started = await member.start(await world.flow(fan(delay("pause", "1h"), probe("p", retry=retry))))
    row = await world.parked(started.execution_id)
    waits = await world.waits(started.execution_id)
    assert [wait["kind"] for wait in waits] == ["timer", "retry_backoff"]
    assert row["due_at"] == waits[0]["due_at"]
    assert (await world.execution(started.execution_id))["waiting_for"] == "timer"
    # Only the first is due: the run goes on with it, and parks again for the other.
    await world.sql.execute("UPDATE waits SET due_at = now() - interval '1 s' WHERE kind = 'timer'")
    await world.sql.execute("UPDATE execution_queue SET due_at = now() - interval '1 s'")

    async def parked_again() -> bool:
        queued = await world.queued(started.execution_id)
        return queued is not None and queued["owner"] is None and queued["due_at"] == waits[1]["due_at"]

    await until(parked_again)
    assert (await world.execution(started.execution_id))["waiting_for"] == "retry_backoff"
    assert world.probe.count("p") == 1


async def at_the_first_park(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]
) -> list[queue.ParkRow]:
    """Act between a run's decision to park and the flush that does it; return what was sent."""
    real = queue.flush
    parks: list[queue.ParkRow] = []

    async def flush(session: Any, worker_id: Any, rows: queue.Flush) -> queue.Flushed:
        parks.extend(rows.parks)
        if rows.parks and len(parks) == 1:
            await act()
        return await real(session, worker_id, rows)

    monkeypatch.setattr(queue, "flush", flush)
    return parks


async def test_a_wake_between_the_decision_and_the_flush_prevents_parking(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wake_seq: the deadline comes just before the park is written; without it the run would sleep on."""
    async with open_session(world.dsn, "gorax_worker") as session:

        async def act() -> None:
            await session.fetch("UPDATE execution_queue SET deadline_at = clock_timestamp()")
            await queue.sweep(session, 10)

        parks = await at_the_first_park(monkeypatch, act)
        member = await world.member()
        started = await member.start(await world.flow(chain(delay("pause", "1h"), tally("a"))))
        row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert [park.wake_seq for park in parks] == [0]
    assert world.tally.calls == []


async def test_after_a_wake_with_nothing_to_do_the_run_parks_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_session(world.dsn, "gorax_worker") as session:

        async def act() -> None:
            await session.fetch("UPDATE execution_queue SET wake_seq = wake_seq + 1")

        parks = await at_the_first_park(monkeypatch, act)
        member = await world.member()
        started = await member.start(await world.flow(chain(delay("pause", "1h"), tally("a"))))
        row = await world.parked(started.execution_id)
    assert row["token"] == 1  # by its owner, who never let go of it
    assert [park.wake_seq for park in parks] == [0, 1]
    await member.idle()
    await world.make_due(started.execution_id)
    assert (await world.ended(started.execution_id))["status"] == "completed"


async def test_a_steps_timeout_ends_its_wait(world: World) -> None:
    member = await world.member()
    started = await member.start(await world.flow(chain(delay("pause", "2h", timeout="1h"))))
    await world.parked(started.execution_id)
    (wait,) = await world.waits(started.execution_id)
    assert wait["kind"] == "timeout"
    await world.make_due(started.execution_id)
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "timeout")
    assert (await world.steps(started.execution_id))["pause", 1]["error_code"] == "timeout"


async def test_a_wait_that_begins_and_ends_within_one_flush_is_not_left_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backoff shorter than the flush before it: what is left open would run the recorded attempt again."""
    flush = queue.flush
    backoff_is_over = anyio.Event()

    async def slow_at_first(session: Any, worker_id: Any, rows: queue.Flush) -> queue.Flushed:
        if not backoff_is_over.is_set():
            await anyio.sleep(0.1)
        return await flush(session, worker_id, rows)

    monkeypatch.setattr(queue, "flush", slow_at_first)
    member = await world.member()
    world.probe.acts["p"] = failing(1)
    gate = world.probe.hold("q")
    retry = {"max_attempts": 2, "strategy": "fixed", "initial_delay": "1ms", "max_delay": "1ms"}
    started = await member.start(await world.flow(chain(probe("p", retry=retry), probe("q"))))
    await world.probe.called("q")
    backoff_is_over.set()
    assert await world.waits(started.execution_id) == []
    await world.rescue("w")
    await world.probe.called("q", 2)
    gate.set()
    await world.ended(started.execution_id)
    assert world.probe.count("p") == 2
