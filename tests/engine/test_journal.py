"""The journal's finer points: dividing a refused flush, and merging what one flush says of one step."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine import journal as journal_module
from gorax_engine.nodes.api import Failed, NodeContext, Outcome, StepError
from gorax_engine.store import queue
from gorax_engine.store.session import RecordRejected
from tests.engine.harness import World, chain, fan, probe, tally


@pytest.mark.parametrize("guilty", [0, 3, 7])
async def test_a_refused_flush_is_divided_until_the_guilty_run_stands_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, guilty: int
) -> None:
    real = queue.flush
    sizes: list[int] = []

    async def flush(session: Any, worker_id: Any, rows: queue.Flush) -> queue.Flushed:
        if any(row.node_id == "bad" for row in rows.steps):
            sizes.append(len(rows.fence))
            raise RecordRejected("no", "22P05")
        return await real(session, worker_id, rows)

    monkeypatch.setattr(queue, "flush", flush)
    member = await world.member()
    tenant = await world.tenant()
    good = await world.flow(chain(tally("a"), probe("p"), tally("b")), tenant=tenant)
    bad = await world.flow(chain(tally("bad"), probe("never")), tenant=tenant)
    for flow in (good, bad):  # so that both plans are at hand, and the eight below are begun together
        await world.ended((await member.start(flow)).execution_id)
    sizes.clear()
    world.probe.calls.clear()
    runs: dict[int, uuid.UUID] = {}

    async def start(place: int) -> None:
        runs[place] = (await member.start(bad if place == guilty else good)).execution_id

    async with anyio.create_task_group() as tasks:
        for place in range(8):
            tasks.start_soon(start, place)
    for place, execution_id in runs.items():
        row = await world.ended(execution_id)
        if place == guilty:
            assert (row["status"], row["error_code"]) == ("failed", "record_rejected")
        else:
            assert row["status"] == "completed"
            assert await world.states(execution_id) == dict.fromkeys(("begin", "a", "p", "b"), "completed")
    assert sizes == [8, 4, 2, 1]  # halved each time
    assert world.probe.count("never") == 0


async def test_a_step_that_is_cancelled_in_the_flush_of_its_start_keeps_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "LINGER", 5.0)  # nothing is flushed before somebody waits for it
    ready = anyio.Event()

    async def fails(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await ready.wait()
        return Failed(StepError("broken", "It broke."))

    world.probe.acts["p"] = fails
    world.probe.hold("q")
    member = await world.member()
    started = await member.start(await world.flow(fan(probe("p"), probe("q", config={"x": 1}))))
    await world.probe.called("p")
    await world.probe.called("q")
    ready.set()
    await world.ended(started.execution_id)
    step = (await world.steps(started.execution_id))["q", 1]
    assert (step["status"], step["error_code"], step["input_data"]) == ("failed", "cancelled", '{"x": 1}')
    assert step["started_at"] is not None
    assert step["duration_ms"] is not None
