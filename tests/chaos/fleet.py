"""The daemons of a storm: real `gorax serve` processes, each behind its own proxy to Postgres."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine.vault.local_key import new_key_text
from tests.chaos.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

LEASE: Final = 2.0
HEARTBEAT: Final = 0.6
POLL: Final = 0.3
READY_WITHIN: Final = 40.0
NO_DATABASE: Final = 69


@dataclass(slots=True)
class Daemon:
    """One place for a daemon: its port and proxy stay, its processes come and go."""

    number: int
    port: int
    proxy: Proxy
    dsn: str
    log: Path
    key_file: Path
    process: subprocess.Popen[bytes] | None = None
    incarnation: int = 0
    stopped: bool = False
    ended: bool = False
    expected_exit: bool = False
    crashes: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        """What the witness calls the process that runs now."""
        return f"d{self.number}.{self.incarnation}"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Does its process run?"""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start a process."""
        self.incarnation += 1
        self.expected_exit = False
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GORAX_")} | {
            "GORAX_DATABASE__DSN": f"{self.dsn}?chaos.process={self.name}",
            "GORAX_SERVER__PORT": str(self.port),
            "GORAX_MANAGEMENT__PORT": "0",
            "GORAX_WORKER__SLOTS": "60",
            "GORAX_WORKER__LEASE": f"{LEASE}s",
            "GORAX_WORKER__HEARTBEAT": f"{HEARTBEAT}s",
            "GORAX_WORKER__POLL": f"{POLL}s",
            "GORAX_WORKER__DRAIN_TIMEOUT": "1s",
            "GORAX_OUTBOUND__ALLOW": "127.0.0.0/8",
            "GORAX_LOG__FORMAT": "json",
            "GORAX_VAULT__KEY_FILE": str(self.key_file),
        }
        command = [sys.executable, "-m", "gorax_engine.cli", "serve", "--roles", "api,worker,scheduler,maintenance"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def send(self, sign: signal.Signals) -> None:
        """Send a signal to the process that runs now."""
        if self.alive:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        """End the process for good."""
        self.ended = True
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    async def ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", self.port)
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.name} is not ready; see {self.log}") from None
                await anyio.sleep(0.05)
            else:
                await stream.aclose()
                return

    async def supervise(self) -> None:
        """Start a process again whenever the last one is gone; an exit that no fault explains is a crash."""
        while not self.ended:
            await anyio.sleep(0.05)
            if self.process is None or self.process.poll() is None or self.ended:
                continue
            code = self.process.returncode
            if not self.expected_exit and code != NO_DATABASE:
                self.crashes.append(f"{self.name} ended with exit code {code}; see {self.log}")
            await anyio.sleep(0.2)
            self.start()


@asynccontextmanager
async def fleet(
    size: int, dsn: str, target: Callable[[], tuple[str, int]], directory: Path
) -> AsyncIterator[list[Daemon]]:
    """Prepare `size` daemons (not started) whose DSN leads through a proxy each; kill them at the end."""
    key_file = directory / "vault-key"
    key_file.touch(mode=0o600)
    key_file.write_text(new_key_text())
    async with AsyncExitStack() as stack:
        daemons = []
        try:
            for number in range(1, size + 1):
                proxy = await stack.enter_async_context(Proxy(target).running())
                through = _through(dsn, proxy.port)
                log = directory / f"daemon-{number}.log"
                daemons.append(Daemon(number, _free_port(), proxy, through, log, key_file))
            yield daemons
        finally:
            for daemon in daemons:
                daemon.kill()


def _through(dsn: str, port: int) -> str:
    """Return the DSN with another port."""
    head, _, tail = dsn.rpartition("@")
    return f"{head}@127.0.0.1:{port}/{tail.partition('/')[2]}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
