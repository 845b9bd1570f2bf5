"""Children whose start is on its way when the step that wants them is cut off."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import anyio
import pytest

from gorax_engine.core.model import Json
from gorax_engine.engine.waiting import Waiting
from gorax_engine.store import queue
from tests.engine.harness import DEADLINE, Flow, Member, World, chain, probe, tally
from tests.engine.test_sub_workflow import child_of, pair, sub


def race(**more: Json) -> dict[str, Json]:
    """Two branches of which the first that ends cuts off the other: a probe `quick`, and a probe `pre` with a child."""
    branches = [{"name": "a", "nodes": ["pre", "sub"]}, {"name": "b", "nodes": ["quick"]}]
    return {
        "nodes": [
            {"id": "begin", "type": "manual_trigger", "config": {}},
            {"id": "par", "type": "parallel", "config": {"wait_mode": "first", "branches": branches}},
            probe("pre"), sub(**more), probe("quick"),
        ],
        "edges": [
            {"id": "e0", "source": "begin", "target": "par"}, {"id": "e1", "source": "pre", "target": "sub"},
        ],
    }  # fmt: skip


def unwinding(definition: dict[str, Json]) -> dict[str, Json]:
    """The same with a `try` after it: for its `finally` the run's owner is asked to end it."""
    config = {"try_nodes": ["body"], "finally_nodes": ["final"]}
    definition["nodes"] += [{"id": "try", "type": "try", "config": config}, tally("body"), tally("final")]
    definition["edges"].append({"id": "e2", "source": "par", "target": "try"})
    return definition


class Held:
    """The first flush that starts a child is committed, and its answer is on its way until `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go, self.cut = anyio.Event(), anyio.Event(), anyio.Event()
        real, let_go = queue.flush, Waiting.let_go

        async def flush(session: Any, worker: Any, rows: queue.Flush) -> queue.Flushed:
            flushed = await real(session, worker, rows)
            if '"children"' in (rows.more or "") and not self.begun.is_set():
                self.begun.set()
                await self.go.wait()
            return flushed

        def noted(waiting: Waiting, wait: Any) -> None:
            let_go(waiting, wait)
            self.cut.set()

        monkeypatch.setattr(queue, "flush", flush)
        monkeypatch.setattr(Waiting, "let_go", noted)


@pytest.fixture
def held(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.go.set()  # else the worker would wait for ever


class Course(NamedTuple):
    member: Member
    parent: uuid.UUID
    child: uuid.UUID
    quick: anyio.Event


async def to_the_start_of_the_child(world: World, held: Held, flow: Flow) -> Course:
    """Run the flow until its child is there, and the flow doesn't know of it."""
    quick = world.probe.hold("quick")
    member = await world.member()
    started = await member.start(flow)
    await world.probe.called("quick")
    with anyio.fail_after(DEADLINE):
        await held.begun.wait()
    child = await child_of(world, started.execution_id)
    return Course(member, started.execution_id, child["id"], quick)


@pytest.mark.parametrize("policy", ["cancel", "abandon"])
@pytest.mark.parametrize("how", ["sibling", "cancel", "unwind", "timeout"])
async def test_a_child_whose_start_is_on_its_way_when_its_step_is_cut_off(
    world: World, held: Held, how: str, policy: str
) -> None:
    work = world.probe.hold("p")
    more: dict[str, Json] = {"timeout": "0.2s"} if how == "timeout" else {}
    definition = race(cancel_policy=policy, **more)
    flow = await pair(world, unwinding(definition) if how == "unwind" else definition, chain(probe("p")))
    member, parent, child, quick = await to_the_start_of_the_child(world, held, flow)
    if how == "sibling":
        quick.set()
    elif how != "timeout":
        await member.engine.operations.cancel(flow.tenant, parent, "enough")
    if how == "cancel":
        await world.ended(parent)  # whoever owns it
    else:
        with anyio.fail_after(DEADLINE):
            await held.cut.wait()
    held.go.set()
    if how == "timeout":
        quick.set()
    await world.ended(parent)
    if policy == "abandon":
        work.set()
    assert (await world.ended(child))["status"] == ("cancelled" if policy == "cancel" else "completed")
    await member.idle()
    assert await world.sql.fetchval("SELECT count(*) FROM execution_queue") == 0
    assert await world.sql.fetchval("SELECT count(*) FROM waits") == 0


async def test_a_child_on_its_own_goes_on_when_its_parent_is_cancelled(world: World, held: Held) -> None:
    work = world.probe.hold("p")
    flow = await pair(world, race(mode="async"), chain(probe("p")))
    member, parent, child, _ = await to_the_start_of_the_child(world, held, flow)
    await member.engine.operations.cancel(flow.tenant, parent, "enough")
    await world.ended(parent)
    assert (await world.row(child))["end_requested"] is None  # else it would end if it had the time to hear of it
    held.go.set()
    work.set()
    assert (await world.ended(child))["status"] == "completed"
