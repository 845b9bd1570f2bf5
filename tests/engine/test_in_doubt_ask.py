"""`in_doubt: ask`: nobody knows what a step did whose worker died, so people are asked."""

from __future__ import annotations

import json
from typing import Any

from gorax_engine.nodes.api import Completed
from tests.engine.harness import World, chain, probe, tally, until


async def doubtful(world: World) -> tuple[Any, Any]:
    """A run whose worker died in the middle of a step; return its id and the row of the wait."""
    world.probe.hold("p")
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("p", in_doubt="ask"), tally("after"))))
    await world.probe.called("p")
    assert (await world.states(started.execution_id))["p"] == "running"  # its start was durable before it acted
    await member.crash()
    await world.expire(member.name)
    await world.member("heir")

    async def look() -> Any:
        return next(iter(await world.waits(started.execution_id)), None)

    return started.execution_id, await until(look, "the wait for people")


async def decide(world: World, step_id: Any, outcome: str, response: Any) -> None:
    """What a decision tells the run."""
    resolution = {"status": "completed", "outcome": outcome, "output": {"outcome": outcome, "response": response}}
    assert await world.sql.fetch("SELECT * FROM gorax_signal($1, $2)", [step_id], [json.dumps(resolution)])


async def test_admins_get_a_review(world: World) -> None:
    execution, wait = await doubtful(world)
    assert (wait["kind"], wait["due_at"]) == ("in_doubt", None)
    task = await world.sql.fetchrow("SELECT * FROM human_tasks WHERE execution_id = $1", execution)
    assert task is not None
    assert (task["task_type"], task["status"], task["step_id"]) == ("review", "pending", str(wait["step_id"]))
    asked = await world.sql.fetch("SELECT kind, assignee FROM human_task_assignees WHERE task_id = $1", task["id"])
    assert [tuple(row) for row in asked] == [("role", "admin")]
    await world.sql.execute(
        "WITH news AS (DELETE FROM outbox WHERE kind = 'task_news' RETURNING payload) "
        "SELECT gorax_tell_assignees(jsonb_agg(n.payload)) FROM news n HAVING count(*) > 0"
    )
    told = await world.sql.fetchval(
        "SELECT count(*) FROM notifications WHERE metadata ->> 'task_id' = $1::text", str(task["id"])
    )
    members = await world.sql.fetchval(
        "SELECT count(*) FROM user_roles u JOIN roles r ON r.id = u.role_id "
        "WHERE r.name = 'admin' AND u.tenant_id = $1",
        task["tenant_id"],
    )
    assert told == members > 0
    assert world.probe.count("p") == 1


async def test_approving_means_that_it_happened(world: World) -> None:
    execution, wait = await doubtful(world)
    await decide(world, wait["step_id"], "approved", {"charge": 7})
    assert (await world.ended(execution))["status"] == "completed"
    assert world.probe.count("p") == 1
    step = (await world.steps(execution))["p", 1]
    assert (step["status"], json.loads(step["output_data"])) == ("completed", {"charge": 7})


async def test_rejecting_runs_it_again(world: World) -> None:
    execution, wait = await doubtful(world)

    async def act(*_: Any) -> Completed:
        return Completed({})

    world.probe.acts["p"] = act
    await decide(world, wait["step_id"], "rejected", {"reason": "no"})
    assert (await world.ended(execution))["status"] == "completed"
    assert world.probe.count("p") == 2
    assert set(await world.steps(execution)) >= {("p", 1)}
