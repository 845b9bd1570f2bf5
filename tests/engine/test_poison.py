"""A `finally` that kills whoever runs it: given up at the third loss, and given back if it was no loss."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from gorax_engine.core.model import Json
from gorax_engine.store import queries
from tests.engine.harness import World, chain, probe, tally
from tests.engine.test_crash import running
from tests.engine.test_signals import unwinding


async def unwound(world: World, *final: dict[str, Json], end: str = "cancel") -> uuid.UUID:
    """A run that is ended while its body is at work and goes on with its `finally`, owned by `w0`."""
    more: dict[str, Json] = {"settings": {"timeout": "1s"}} if end == "timeout" else {}
    if end != "body":
        world.probe.hold("p")
    flow = await world.flow(unwinding(body=[probe("p")], final=list(final), **more))
    member = await world.member("w0")
    started = await member.start(flow)
    await world.probe.called("p")
    if end == "cancel":
        await member.engine.operations.cancel(flow.tenant, started.execution_id, "enough")
    return started.execution_id


async def lose(world: World, turn: int) -> None:
    """Let the worker `w<turn>` die, and be found dead by the others."""
    await world.members[-1].crash()
    await world.rescue(f"w{turn}")


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [("body", "failed", "worker_lost"), ("cancel", "cancelled", "cancelled"), ("timeout", "failed", "timeout")],
)
async def test_the_third_loss_in_a_finally_ends_the_run(world: World, end: str, status: str, code: str) -> None:
    """What ended it first is its result; after a success or failure of the body alone that is the loss."""
    world.probe.hold("boom")
    id_ = await unwound(world, tally("f"), probe("boom"), probe("never"), end=end)
    crashes = []
    for turn in range(3):
        await world.probe.called("boom", turn + 1)
        await running(world, id_, "boom")
        crashes.append((await world.row(id_))["crashes"])
        await lose(world, turn)
        await world.member(f"w{turn + 1}")
    row = await world.ended(id_)
    assert crashes == [0, 1, 2]
    assert (row["status"], row["error_code"]) == (status, code)
    assert world.probe.count("boom") == 3
    assert world.probe.count("never") == 0
    states = await world.states(id_)
    assert states.pop("p") == ("completed" if end == "body" else "failed")
    assert {node: states[node] for node in ("f", "boom", "never", "after")} == {
        "f": "completed", "boom": "failed", "never": "skipped", "after": "skipped",
    }  # fmt: skip


async def test_a_finally_that_makes_progress_is_never_given_up(world: World) -> None:
    nodes = [f"f{number}" for number in range(4)]
    gates = [world.probe.hold(node) for node in nodes]
    id_ = await unwound(world, *map(probe, nodes))
    for turn, node in enumerate(nodes):
        await world.probe.called(node)
        await lose(world, turn)
        gates[turn].set()
        await world.member(f"w{turn + 1}")
    assert (await world.ended(id_))["status"] == "cancelled"
    assert [world.probe.count(node) for node in nodes] == [2] * 4


@pytest.mark.parametrize("asked", [True, False])
async def test_a_loss_that_was_none_gives_back_what_was_asked(world: World, asked: bool) -> None:
    gate = world.probe.hold("boom")
    if asked:
        id_ = await unwound(world, probe("boom"))
    else:
        id_ = (await (await world.member("w0")).start(await world.flow(chain(probe("boom"))))).execution_id
    await world.probe.called("boom")
    await world.sql.execute("UPDATE execution_queue SET crashes = 2")
    before = await world.row(id_)
    await lose(world, 0)

    async def mark() -> Any:
        return json.loads((await world.row(id_))["end_requested"] or "null")

    former = json.loads(before["end_requested"] or "null")
    given_up: dict[str, Json] = {"kind": "worker_lost"}
    assert await mark() == (given_up | {"was": former} if asked else given_up)
    await world.sql.fetch(queries.load("workers").absolve, [id_], [before["token"]])
    assert await mark() == former
    assert (former is not None) == asked
    assert (await world.row(id_))["crashes"] == 2
    gate.set()
    await world.member("w1")
    assert (await world.ended(id_))["status"] == ("cancelled" if asked else "completed")
