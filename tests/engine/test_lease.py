"""The loss of a lease is found by the heartbeat, if by nothing else."""

from __future__ import annotations

import pytest

from gorax_engine.telemetry import LeaseLostEvent
from tests.engine.harness import World, chain, deafen, probe, until


async def test_a_heartbeat_alone_finds_that_its_row_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No notification, no poll, no flush: the step that runs is stopped, and the next life runs it again."""
    deafen(monkeypatch)
    member = await world.member(heartbeat=0.2, poll=30.0)
    told: list[object] = []
    member.telemetry.subscribe(told.append)
    world.probe.hold("p")
    started = await member.start(await world.flow(chain(probe("p"))))
    await world.probe.called("p")
    await until(lambda: world.sql.fetchval("SELECT 1 FROM step_executions WHERE status = 'running'"))
    gate = world.probe.hold("p")
    await world.rescue("w")
    await world.probe.called("p", 2)
    assert world.probe.cancelled == ["p"]
    assert sum(isinstance(event, LeaseLostEvent) for event in told) == 1
    gate.set()
    assert (await world.ended(started.execution_id))["status"] == "completed"
