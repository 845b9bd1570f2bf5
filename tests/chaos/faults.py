"""The faults of a storm, and how much each of them hit."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import asyncpg

from tests.chaos.fleet import LEASE

if TYPE_CHECKING:
    from gorax_engine.store.embedded import EmbeddedPostgres
    from tests.chaos.fleet import Daemon

PATIENCE: Final = 3.0
"""Seconds that a fault waits for somebody to hit."""

_CONNECTION_ERRORS: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

_LEASES = """
SELECT w.name, count(*)::int AS held FROM execution_queue q JOIN workers w ON w.id = q.owner GROUP BY w.name
"""
_BACKENDS = """
SELECT pid, client_port, query LIKE 'LISTEN%' AS listens FROM pg_stat_activity
 WHERE application_name = 'gorax' AND datname = current_database() AND backend_type = 'client backend'
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that was done: `in_flight` runs were leased to its victims at that moment."""

    fault: str
    victim: str
    in_flight: int

    @property
    def effective(self) -> bool:
        """Did it hit anything?"""
        return self.in_flight > 0


class Faults:
    """Does faults by name. Each returns what it hit; its harm is over when it returns."""

    def __init__(
        self, daemons: list[Daemon], server: EmbeddedPostgres, dsn: str, rng: random.Random, say: Callable[[str], None]
    ) -> None:
        self._daemons = daemons
        self._server = server
        self._dsn = dsn
        self._rng = rng
        self._say = say
        self._busy: set[int] = set()
        self._restarting = False

    @property
    def kinds(self) -> dict[str, tuple[int, Fault]]:
        """Every fault with its weight."""
        return {
            "kill worker": (6, self.kill_worker),
            "stop worker": (3, self.stop_worker),
            "drain worker": (2, self.drain_worker),
            "kill postgres": (2, self.kill_postgres),
            "terminate backends": (4, self.terminate_backends),
            "terminate listener": (2, self.terminate_listener),
            "reset connections": (4, self.reset_connections),
            "black hole": (3, self.black_hole),
            "slow network": (2, self.slow_network),
            "cut before the reply": (6, self.cut_before_reply),
        }

    # --- what they hit -----------------------------------------------------------------------------------------------

    async def _query(self, statement: str, *arguments: Any) -> list[Any]:
        """Ask Postgres as superuser; nothing if it is away."""
        try:
            connection = await asyncpg.connect(self._dsn, timeout=2, command_timeout=5)
        except _CONNECTION_ERRORS:
            return []
        try:
            return list(await connection.fetch(statement, *arguments))
        except _CONNECTION_ERRORS:
            return []
        finally:
            connection.terminate()

    async def _held(self) -> dict[int, int]:
        """How many runs each daemon holds."""
        by_pid = {row["name"].rpartition(":")[2]: row["held"] for row in await self._query(_LEASES)}
        return {daemon.number: by_pid.get(str(daemon.pid), 0) for daemon in self._daemons if daemon.process}

    async def _victim(self) -> tuple[Daemon, int] | None:
        """Choose a daemon that holds runs and that no other fault has in hand; wait for one if there is none."""
        with anyio.move_on_after(PATIENCE):
            while True:
                held = await self._held()
                busy = [d for d in self._daemons if d.number not in self._busy and d.alive and held.get(d.number)]
                if busy:
                    daemon = self._rng.choice(busy)
                    return daemon, held[daemon.number]
                await anyio.sleep(0.1)
        return None

    async def _on_victim(self, fault: str, harm: Callable[[Daemon], Awaitable[bool]]) -> Hit:
        chosen = await self._victim()
        if chosen is None:
            return Hit(fault, "nobody", 0)
        daemon, held = chosen
        self._busy.add(daemon.number)
        try:
            self._say(f"{fault}: {daemon.name}, {held} in flight")
            done = await harm(daemon)
        finally:
            self._busy.discard(daemon.number)
        return Hit(fault, daemon.name, held if done else 0)

    # --- processes ---------------------------------------------------------------------------------------------------

    async def kill_worker(self) -> Hit:
        """SIGKILL."""

        async def harm(daemon: Daemon) -> bool:
            daemon.expected_exit = True
            daemon.send(signal.SIGKILL)
            await anyio.sleep(0.3)
            return True

        return await self._on_victim("kill worker", harm)

    async def stop_worker(self) -> Hit:
        """SIGSTOP for three lease times, then SIGCONT."""

        async def harm(daemon: Daemon) -> bool:
            pid = daemon.pid
            daemon.send(signal.SIGSTOP)
            try:
                await anyio.sleep(3 * LEASE)
            finally:
                if daemon.pid == pid:
                    daemon.send(signal.SIGCONT)
            return True

        return await self._on_victim("stop worker", harm)

    async def drain_worker(self) -> Hit:
        """SIGTERM: a rolling restart in the middle of it all."""

        async def harm(daemon: Daemon) -> bool:
            pid = daemon.pid
            daemon.expected_exit = True
            daemon.send(signal.SIGTERM)
            with anyio.move_on_after(25):
                while daemon.alive and daemon.pid == pid:
                    await anyio.sleep(0.05)
                return True
            daemon.crashes.append(f"{daemon.name} did not drain within 25 s")
            daemon.send(signal.SIGKILL)
            return True

        return await self._on_victim("drain worker", harm)

    # --- Postgres ----------------------------------------------------------------------------------------------------

    async def kill_postgres(self) -> Hit:
        """SIGKILL of the postmaster, then a restart over the same data."""
        if self._restarting:
            return Hit("kill postgres", "nobody", 0)
        self._restarting = True
        try:
            held = sum((await self._held()).values())
            self._say(f"kill postgres: {held} in flight")
            with anyio.CancelScope(shield=True):
                await self._server.kill()
                await anyio.sleep(self._rng.random() * 1.5)
                await self._server.restart()
            return Hit("kill postgres", "postmaster", held)
        finally:
            self._restarting = False

    async def terminate_backends(self) -> Hit:
        """pg_terminate_backend of a third of the engine's sessions."""
        return await self._terminate("terminate backends", listeners=False)

    async def terminate_listener(self) -> Hit:
        """pg_terminate_backend of whoever LISTENs: hints are lost."""
        return await self._terminate("terminate listener", listeners=True)

    async def _terminate(self, fault: str, *, listeners: bool) -> Hit:
        held = await self._held()
        backends = [row for row in await self._query(_BACKENDS) if row["listens"] is listeners]
        chosen = backends if listeners else self._rng.sample(backends, (len(backends) + 2) // 3)
        victims = {
            daemon.number
            for daemon in self._daemons
            for row in chosen
            if row["client_port"] in daemon.proxy.upstream_ports
        }
        in_flight = sum(held.get(number, 0) for number in victims)
        self._say(f"{fault}: {len(chosen)} sessions, {in_flight} in flight")
        await self._query("SELECT pg_terminate_backend(p) FROM unnest($1::int[]) AS p", [row["pid"] for row in chosen])
        return Hit(fault, f"{len(chosen)} sessions", in_flight)

    # --- network -----------------------------------------------------------------------------------------------------

    async def reset_connections(self) -> Hit:
        """RST on all connections of a daemon to Postgres."""

        async def harm(daemon: Daemon) -> bool:
            return daemon.proxy.reset() > 0

        return await self._on_victim("reset connections", harm)

    async def black_hole(self) -> Hit:
        """Nothing gets through, for less or more than a lease; then it comes late, or never."""

        async def harm(daemon: Daemon) -> bool:
            daemon.proxy.hold()
            try:
                await anyio.sleep(LEASE * (0.3 + 2.2 * self._rng.random()))
                if self._rng.random() < 0.5:
                    daemon.proxy.reset()
            finally:
                daemon.proxy.let_flow()
            return True

        return await self._on_victim("black hole", harm)

    async def slow_network(self) -> Hit:
        """Every message takes up to 300 ms, for some seconds."""

        async def harm(daemon: Daemon) -> bool:
            daemon.proxy.latency = 0.05 + 0.25 * self._rng.random()
            try:
                await anyio.sleep(1 + 3 * self._rng.random())
            finally:
                daemon.proxy.latency = 0.0
            return True

        return await self._on_victim("slow network", harm)

    async def cut_before_reply(self) -> Hit:
        """The server has done what it was asked, and its answer is lost with the connection."""

        async def harm(daemon: Daemon) -> bool:
            before = daemon.proxy.cut_replies
            daemon.proxy.cut_next_replies(self._rng.randint(1, 6))
            with anyio.move_on_after(1.0):
                while daemon.proxy.cut_replies == before:
                    await anyio.sleep(0.02)
            return daemon.proxy.cut_replies > before

        return await self._on_victim("cut before the reply", harm)


Fault: TypeAlias = Callable[[], Awaitable[Hit]]
