"""What nodes from outside wait for: tasks that suspend themselves, and waits that can't be stored or make no sense."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from gorax_engine.core.model import ChildWait, EventWait, Instant, Json, Suspended, TaskWait
from gorax_engine.engine import attempts
from gorax_engine.nodes.api import NodeContext, Outcome
from gorax_engine.vault.masking import MASK, Masker
from gorax_engine.vault.secrets import Revealed
from tests.engine.harness import World, chain, probe, tally
from tests.engine.test_signals import waiting

SECRET = "sk_live_1234567890"
ADMINS: Json = [{"type": "role", "name": "admin"}]


def reveal_to(monkeypatch: pytest.MonkeyPatch) -> dict[str, Json]:
    """Let a credential `c` be there; return the config of a probe that uses it."""

    async def reveal(*_: object) -> Revealed:
        return Revealed({"c": {"name": "c", "type": "api_key", "key": SECRET}}, Masker([SECRET]))

    monkeypatch.setattr(attempts, "_reveal", reveal)
    return {"key": "{{ credentials.c.key }}"}


def suspends(world: World, node: str, outcome: Any) -> None:
    async def act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
        given: Outcome = outcome
        return given

    world.probe.acts[node] = act


UNSTORABLE: dict[str, Any] = {
    "surrogate in a task": Suspended(None, None, TaskWait({"title": "\ud800", "assignees": ADMINS})),
    "object in a task": Suspended(None, None, TaskWait({"title": object(), "assignees": ADMINS})),
    "NUL in a task": Suspended(None, None, TaskWait({"title": "a\0b", "assignees": ADMINS})),
    "task without content": Suspended(None, None, TaskWait(None)),  # type: ignore[arg-type]
    "surrogate in an event": Suspended(None, None, EventWait("\ud800")),
    "surrogate in a key": Suspended(None, None, EventWait("paid", "\ud800")),
    "object in a child": Suspended(None, None, ChildWait("child", object())),
    "surrogate in a child": Suspended(None, None, ChildWait("child", "\ud800")),
    "surrogate in a child's name": Suspended(None, None, ChildWait("\ud800", None)),
    "object in the output": Suspended(0, object()),
    "task with a text": Suspended(None, None, TaskWait("x")),  # type: ignore[arg-type]
    "event of a number": Suspended(None, None, EventWait(5)),  # type: ignore[arg-type]
    "key of a number": Suspended(None, None, EventWait("paid", 5)),  # type: ignore[arg-type]
    "child of a number": Suspended(None, None, ChildWait(5, None)),  # type: ignore[arg-type]
    "wait for a text": Suspended(None, None, "x"),  # type: ignore[arg-type]
    "moment of a text": Suspended("soon"),  # type: ignore[arg-type]
    "moment out of range": Suspended(2**70),
    "NaN in the output": Suspended(0, float("nan")),
}


@pytest.mark.parametrize("kind", ["task", "pure"])
@pytest.mark.parametrize("what", UNSTORABLE)
async def test_a_wait_that_cannot_be_stored_fails_its_own_step_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str, kind: str
) -> None:
    outcome = UNSTORABLE[what]
    gate = world.probe.hold("slow")
    suspends(world, "bad", outcome)
    monkeypatch.setattr(world.tally, "evaluate", lambda config, context: outcome, raising=False)
    member = await world.member()
    other = await member.start(await world.flow(chain(probe("slow"))))
    await world.probe.called("slow")
    started = await member.start(await world.flow(chain(probe("bad") if kind == "task" else tally("bad"))))
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"]) == ("failed", "type_error")
    assert (await world.states(started.execution_id))["bad"] == "failed"
    assert not member.gone.is_set()
    gate.set()
    assert (await world.ended(other.execution_id))["status"] == "completed"
    assert await world.sql.fetchval("SELECT count(*) FROM waits") == 0


@pytest.mark.parametrize("what", ["task without content", "event of a number", "object in the output"])
async def test_such_a_wait_of_a_node_with_credentials(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    suspends(world, "bad", UNSTORABLE[what])
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("bad", config=reveal_to(monkeypatch)))))
    row = await world.ended(started.execution_id)
    assert (row["status"], row["error_code"] in ("node_crashed", "type_error")) == ("failed", True)
    assert (await world.states(started.execution_id))["bad"] == "failed"


async def test_a_task_waits_for_a_moment(world: World) -> None:
    due: Instant = await world.sql.fetchval("SELECT (extract(epoch FROM now()) * 1000000)::bigint + 3600000000")
    suspends(world, "w", Suspended(due, {"n": 1}))
    member = await world.member()
    started = await member.start(await world.flow(chain(probe("w"), tally("after"))))
    await world.parked(started.execution_id)
    assert (await world.states(started.execution_id))["w"] == "running"
    await world.make_due(started.execution_id)
    row = await world.ended(started.execution_id)
    assert row["status"] == "completed"
    step = (await world.steps(started.execution_id))["w", 1]
    assert (step["status"], json.loads(step["output_data"])) == ("completed", {"n": 1})
    assert world.probe.count("w") == 1


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_task_waits_for_an_event(world: World, crashes: bool) -> None:
    suspends(world, "w", Suspended(None, None, EventWait("paid", "k")))
    member = await world.member("w0")
    flow = await world.flow(chain(probe("w", config={"a": 1}), tally("after")))
    id_ = (await member.start(flow)).execution_id
    await waiting(world, "event")
    await world.parked(id_)
    operations = member.engine.operations
    if crashes:
        await member.crash()
        await world.rescue("w0")
        operations = (await world.member("w1")).engine.operations
    assert await operations.signal(flow.tenant, id_, "paid", {"n": 1}) == 1
    assert (await world.ended(id_))["status"] == "completed"
    step = (await world.steps(id_))["w", 1]
    output = json.loads(step["output_data"])
    assert (step["status"], json.loads(step["input_data"])) == ("completed", {"a": 1})
    assert (output["name"], output["correlation_key"], output["body"]) == ("paid", "k", {"n": 1})
    assert str(UUID(output["id"])) == output["id"]
    assert output["published_at"].endswith("Z")
    assert world.probe.count("w") == 1


MASKED: dict[str, Suspended] = {
    "task": Suspended(None, None, TaskWait({"title": f"Is {SECRET} yours?", "assignees": ADMINS})),
    "event": Suspended(None, None, EventWait(f"paid {SECRET}", SECRET)),
    "child": Suspended(None, None, ChildWait("child", {"key": SECRET})),
    "moment": Suspended(0, {"key": SECRET}),
}
"""Where the secret would be stored is wherever the database has it, so that is looked for in all of it."""

TABLES = ("executions", "step_executions", "waits", "human_tasks", "outbox", "notifications", "execution_queue")


@pytest.mark.parametrize("what", MASKED)
async def test_what_a_node_with_credentials_waits_for_is_masked(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    config = reveal_to(monkeypatch)
    suspends(world, "w", MASKED[what])
    tenant = await world.tenant()
    await world.flow(chain(tally("c")), tenant=tenant, name="child")
    member = await world.member()
    flow = await world.flow(chain(probe("w", config=config), probe("after")), tenant=tenant)
    started = await member.start(flow)
    if what in ("child", "moment"):
        assert (await world.ended(started.execution_id))["status"] == "completed"
    else:
        await waiting(world, "human_task" if what == "task" else "event")
    found = " ".join(
        [str(row[0]) for table in TABLES for row in await world.sql.fetch(f"SELECT t::text FROM {table} t")]
    )
    assert SECRET not in found
    assert MASK in found
