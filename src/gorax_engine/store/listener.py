"""LISTEN: hints that something changed. A lost hint costs latency, never correctness, for everybody polls as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio

from gorax_engine.store.database import CONNECTION_ERRORS, connect
from gorax_engine.telemetry import NotifyReceived, Telemetry

if TYPE_CHECKING:
    import asyncpg

RECONNECT_DELAY: Final = 1.0
PROBE_INTERVAL: Final = 30.0


async def listen(dsn: str, role: str | None, channels: Mapping[str, Callable[[], None]], telemetry: Telemetry) -> None:
    """Call a channel's function at every notification on it, until cancelled. Reconnects for ever.

    After each (re)connection every function is called once, since hints may have been missed.
    """
    while True:
        try:
            connection = await connect(dsn, role)
            try:
                await _follow(connection, channels, telemetry)
            finally:
                connection.terminate()
        except CONNECTION_ERRORS:
            await anyio.sleep(RECONNECT_DELAY)


async def _follow(
    connection: asyncpg.Connection[Any], channels: Mapping[str, Callable[[], None]], telemetry: Telemetry
) -> None:
    gone = anyio.Event()
    connection.add_termination_listener(lambda _: gone.set())

    def on_notify(_connection: object, _pid: int, channel: str, _payload: object) -> None:
        telemetry.emit(NotifyReceived())
        channels[channel]()

    for channel in channels:
        await connection.add_listener(channel, on_notify)
    for hint in channels.values():
        hint()
    while not gone.is_set():
        # A half-open connection says nothing: probe it, so that it is noticed.
        with anyio.move_on_after(PROBE_INTERVAL):
            await gone.wait()
            return
        await connection.execute("SELECT 1")
