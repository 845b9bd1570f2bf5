"""LISTEN gives hints: they come, and come again after the connection was lost."""

from __future__ import annotations

import anyio
import pytest

from gorax_engine.store import listener
from gorax_engine.store.listener import listen
from gorax_engine.telemetry import NotifyReceived, Telemetry, TelemetryEvent
from tests.engine.harness import World, until


async def test_hints_come_also_after_the_connection_was_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "RECONNECT_DELAY", 0.01)
    rings: list[str] = []
    events: list[TelemetryEvent] = []
    telemetry = Telemetry()
    telemetry.subscribe(events.append)
    channels = {"gorax_ready": lambda: rings.append("ready"), "gorax_wake": lambda: rings.append("wake")}

    async def heard(*words: str) -> None:
        async def look() -> bool:
            return rings == list(words)

        await until(look, f"{words}, there is {rings}")
        rings.clear()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, world.dsn, "gorax_worker", channels, telemetry)
        await heard("ready", "wake")  # once after each connection: hints may have been missed
        await world.sql.execute("NOTIFY gorax_ready")
        await heard("ready")
        await world.sql.execute("NOTIFY gorax_wake")
        await heard("wake")
        assert events == [NotifyReceived(), NotifyReceived()]
        killed = await world.sql.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert killed == 1
        await heard("ready", "wake")
        await world.sql.execute("NOTIFY gorax_wake")
        await heard("wake")
        tasks.cancel_scope.cancel()


async def test_a_half_open_connection_is_probed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PROBE_INTERVAL", 0.02)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, world.dsn, "gorax_worker", {"gorax_ready": lambda: None}, Telemetry())
        await until(
            lambda: world.sql.fetchval(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT 1'"
            )
        )
        tasks.cancel_scope.cancel()


async def test_it_waits_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "RECONNECT_DELAY", 0.0)
    tries: list[str] = []
    enough = anyio.Event()

    async def connect(dsn: str, role: str | None) -> None:
        tries.append(dsn)
        if len(tries) == 3:
            enough.set()
        raise ConnectionRefusedError

    monkeypatch.setattr(listener, "connect", connect)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen, "postgresql://nowhere", None, {}, Telemetry())
        with anyio.fail_after(5):
            await enough.wait()
        tasks.cancel_scope.cancel()
