"""Long loops: what their first iterations gave is recorded together, and a rebuilt run doesn't look at their steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gorax_engine.core.model import Json
from gorax_engine.core.walk.loops import FOLD
from gorax_engine.nodes.api import Completed, NodeContext, Outcome
from gorax_engine.store import runs
from tests.engine.harness import World, until

pytestmark = pytest.mark.anyio

COUNT = 2 * FOLD + 50


def loop(**config: Json) -> dict[str, Any]:
    return {
        "nodes": [
            {"id": "begin", "type": "manual_trigger"},
            {"id": "items", "type": "loop", "config": {"source": COUNT, **config}},
            {"id": "twice", "type": "formula", "config": {"expression": "item * 2"}},
            {"id": "p", "type": "probe", "when": f"item == {COUNT - 10}", "config": {"n": "{{ item }}"}},
            {"id": "last", "type": "formula", "config": {"expression": "steps.twice + 1"}},
        ],
        "edges": [
            {"source": "begin", "target": "items"},
            {"source": "items", "target": "twice", "label": "body"},
            {"source": "twice", "target": "p"},
            {"source": "twice", "target": "last"},
        ],
    }


@pytest.mark.parametrize("concurrency", [1, 7])
async def test_a_rebuilt_loop_reads_only_what_is_live(
    world: World, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    gate = world.probe.hold("p")
    member = await world.member("w0")
    started = await member.start(await world.flow(loop(max_concurrency=concurrency)))
    await world.probe.called("p")

    async def folded() -> Any:
        query = "SELECT max(upto) FROM loop_progress WHERE execution_id = $1"
        return await world.sql.fetchval(query, started.execution_id) == 2 * FOLD

    await until(folded)
    read: list[int] = []
    real = runs.recorded_steps

    async def spy(*arguments: Any, **more: Any) -> Any:
        found = await real(*arguments, **more)
        read.append(len(found))
        return found

    monkeypatch.setattr(runs, "recorded_steps", spy)
    await member.crash()
    await world.sql.execute("UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 hour'")
    evaluated: list[str] = []

    async def act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        evaluated.append(context.path)
        return Completed(config["n"])

    gate.set()
    world.probe.acts["p"] = act
    await world.member("w1")
    row = await world.ended(started.execution_id)
    assert row["status"] == "completed"
    output = json.loads(row["output_data"])["items"]
    assert output["iteration_count"] == COUNT
    assert [entry["output"]["last"] if isinstance(entry["output"], dict) else entry["output"]
            for entry in output["iterations"]] == [2 * n + 1 for n in range(COUNT)]  # fmt: skip
    assert evaluated == [f"items[{COUNT - 10}]"]
    assert len(read) == 1
    assert read[0] <= 4 * 50 + 10
    assert await world.sql.fetchval("SELECT count(*) FROM loop_progress") == 0
    query = "SELECT count(*), count(DISTINCT (node_id, iteration_path)) FROM step_executions WHERE execution_id = $1"
    counted = await world.sql.fetchrow(query, started.execution_id)
    assert counted is not None
    assert tuple(counted) == (3 * COUNT + 2, 3 * COUNT + 2)


async def test_a_loop_whose_steps_may_run_again_is_not_folded(world: World) -> None:
    definition = loop()
    definition["nodes"].append({"id": "again", "type": "retry", "config": {}})
    definition["nodes"].append({"id": "one", "type": "formula", "config": {"expression": "1"}})
    definition["edges"] += [
        {"source": "twice", "target": "again"},
        {"source": "again", "target": "one", "label": "body"},
    ]
    gate = world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(definition))
    await world.probe.called("p")
    assert await world.sql.fetchval("SELECT count(*) FROM loop_progress") == 0
    gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"
