"""What is asked of a run is told to its walk once, and a `finally` has effects only when its cause is durable."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from gorax_engine.core.model import Instant, Json
from gorax_engine.engine.recorder import Recorder
from gorax_engine.nodes.api import Completed, NodeContext, Outcome
from gorax_engine.store import queue
from tests.engine.harness import World, delay, probe
from tests.engine.test_signals import event, unwinding, waiting


def with_keeper(definition: dict[str, Json]) -> dict[str, Json]:
    """Another node of the `finally`, beside the others: while it is at work, the run stays in its owner's memory."""
    definition["nodes"].append(probe("keep"))
    definition["edges"].append({"id": "keep", "source": "try", "target": "keep", "label": "finally"})
    return definition


async def told(world: World, execution_id: uuid.UUID) -> Json:
    return json.loads((await world.row(execution_id))["end_requested"])


@pytest.mark.parametrize("end", ["cancel", "timeout"])
async def test_a_wake_while_a_run_unwinds_says_nothing_new(
    world: World, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    applied: list[Instant] = []
    real = Recorder.applied

    def spy(self: Recorder, at: Instant) -> None:
        applied.append(at)
        real(self, at)

    monkeypatch.setattr(Recorder, "applied", spy)
    world.probe.hold("p")
    last, keep = world.probe.hold("last"), world.probe.hold("keep")
    more: dict[str, Json] = {"settings": {"timeout": "1s"}} if end == "timeout" else {}
    final = [probe("first"), event("e"), probe("last")]
    flow = await world.flow(with_keeper(unwinding(body=[probe("p")], final=final, **more)))
    member = await world.member("w0")
    id_ = (await member.start(flow)).execution_id
    operations = member.engine.operations
    await world.probe.called("p")
    if end == "cancel":
        await operations.cancel(flow.tenant, id_, "enough")
    await world.probe.called("keep")
    await waiting(world, "event")
    before = await told(world, id_)
    assert (before["kind"], "at" in before) == (end, True)
    await operations.signal(flow.tenant, id_, "paid", None)
    await world.probe.called("last")  # the wake was heard, and all that follows from it is durable
    assert await told(world, id_) == before
    assert applied == [before["at"]]
    await member.crash()
    heir = await world.member("w1")
    await world.rescue("w0")
    await world.probe.called("last", 2)
    await world.probe.called("keep", 2)
    assert await told(world, id_) == before
    assert len(applied) == 1
    last.set()
    keep.set()
    row = await world.ended(id_)
    assert (row["status"], row["error_code"]) == (("cancelled", "cancelled") if end == "cancel" else ("failed", end))
    assert world.probe.count("first") == 1
    states = await world.states(id_)
    assert {node: states[node] for node in ("p", "first", "e", "last", "keep", "after")} == {
        "p": "failed", "first": "completed", "e": "completed", "last": "completed", "keep": "completed",
        "after": "skipped",
    }  # fmt: skip
    await heir.idle()


@pytest.mark.parametrize(
    ("end", "body"),
    [("cancel", ["p"]), ("timeout", ["p"]), ("cancel", ["p", "long"]), ("timeout", ["p", "long"]),
     ("fail", ["p", "long", "q"])],
)  # fmt: skip
async def test_what_ended_the_body_is_durable_before_its_finally_acts(
    world: World, monkeypatch: pytest.MonkeyPatch, end: str, body: list[str]
) -> None:
    durable: dict[str, str] = {}
    seen: list[dict[str, str]] = []
    real = queue.flush

    async def slow(session: Any, worker: Any, rows: queue.Flush) -> queue.Flushed:
        await anyio.sleep(0.05)  # long enough for what doesn't wait for it
        flushed = await real(session, worker, rows)
        durable.update({row.node_id: row.status for row in rows.steps})
        if '"marks"' in (rows.more or ""):
            durable["the mark"] = "applied"
        return flushed

    async def look(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        seen.append(dict(durable))
        return Completed({})

    monkeypatch.setattr(queue, "flush", slow)
    world.probe.acts["f"] = look
    world.probe.hold("p")
    more: dict[str, Json] = {"settings": {"timeout": "1s"}} if end == "timeout" else {}
    gate = anyio.Event()

    async def fails(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        await gate.wait()
        raise ZeroDivisionError

    world.probe.acts["q"] = fails
    nodes = [delay(node, "1h") if node == "long" else probe(node) for node in body]
    definition = unwinding(body=nodes, final=[probe("f")], **more)
    # Nothing comes after it: that would be skipped, and the record of that be waited for anyhow.
    definition["nodes"] = [node for node in definition["nodes"] if node["id"] != "after"]
    definition["edges"] = [edge for edge in definition["edges"] if edge["target"] != "after"]
    flow = await world.flow(definition)
    member = await world.member()
    id_ = (await member.start(flow)).execution_id
    await world.probe.called("p")
    if "long" in body:
        await waiting(world, "timer")
    gate.set()
    if end == "cancel":
        await member.engine.operations.cancel(flow.tenant, id_, "enough")
    await world.ended(id_)
    (before,) = seen
    expected = dict.fromkeys(body, "failed") | ({} if end == "fail" else {"the mark": "applied"})
    assert {name: before.get(name) for name in expected} == expected
