"""The supervisor of `serve --processes N`: starts N daemons, hands signals on, restarts what crashes.

Each child is an ordinary `gorax serve` in a process group of its own, so that a Ctrl-C reaches it once, through here.
Children report `READY=1` (sd_notify) to a socket of the supervisor; systemd hears of it once all are ready.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
from anyio import create_task_group, open_process, open_signal_receiver

from gorax_engine.cli.exits import CONFIGURATION, FAILED, NO_DATABASE, OK
from gorax_engine.ops.sd_notify import notify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import Process

SUPERVISOR_VARIABLE: Final = "GORAX_SUPERVISOR"
"""Holds the supervisor's process id in the environment of its children; they share the public port."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
HEALTHY_AFTER: Final = 60.0
"""Seconds that a child must live for its earlier crashes to be forgotten."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the child again after `pause` seconds."""

    pause: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop all children and exit with `code`."""

    code: int


@dataclass(frozen=True, slots=True)
class Gone:
    """This child has ended as it was told to."""


def decide(code: int, *, stopping: bool, was_ready: bool, crashes: int) -> Restart | GiveUp | Gone:
    """Say what follows from a child's exit.

    A refusal to start (78) holds for all children alike. An unreachable database (69) does so at the first start only:
    later it is an outage, which the other children sit out, and so does this one.
    """
    if stopping:
        return Gone()
    if code == CONFIGURATION or (code == NO_DATABASE and not was_ready):
        return GiveUp(code)
    return Restart(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(crashes, 10)))


class Supervisor:
    """Keeps one process for each of `environments`, all running `command`."""

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        self._command = list(command)
        self._environments = list(environments)
        self._running: dict[int, Process] = {}
        self._ready: set[int] = set()
        self._stopping = False
        self._stop = anyio.Event()
        self._settled = anyio.Event()
        """The first child is ready, or has ended: what it refuses, all would refuse, and it is said once."""
        self._code = OK

    async def run(self) -> int:
        """Run until a signal (0, once all have drained) or a refusal of a child (its exit code)."""
        with open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with create_task_group() as helpers:
                helpers.start_soon(self._pass_on, signals)
                helpers.start_soon(self._ping_watchdog)
                async with create_task_group() as keepers:
                    for index in range(len(self._environments)):
                        keepers.start_soon(self._keep, index)
                helpers.cancel_scope.cancel()
        return self._code

    async def _keep(self, index: int) -> None:
        crashes = 0
        if index > 0:
            await self._settled.wait()
        while not self._stopping:
            started = anyio.current_time()
            code = await self._run_once(index)
            if anyio.current_time() - started >= HEALTHY_AFTER:
                crashes = 0
            match decide(code, stopping=self._stopping, was_ready=index in self._ready, crashes=crashes):
                case Gone():
                    # A child that dies while it drains has not drained: the exit code says so.
                    self._code = self._code or (OK if code == OK else FAILED)
                case GiveUp(code=refusal):
                    self._code = refusal
                    self._begin_to_stop(signal.SIGTERM)
                case Restart(pause=pause):
                    crashes += 1
                    self._settled.set()
                    print(f"Process {index} ended with {code}; starting it again in {pause:g} s.", file=sys.stderr)
                    with anyio.move_on_after(pause):
                        await self._stop.wait()

    async def _run_once(self, index: int) -> int:
        with ExitStack() as stack:
            channel = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            channel.setblocking(False)
            channel.bind("")  # Linux picks a free abstract name.
            address = "@" + channel.getsockname()[1:].decode("ascii")
            environment = {**self._environments[index], "NOTIFY_SOCKET": address}
            async with await open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                env=environment,
                start_new_session=True,
            ) as process:
                self._running[index] = process
                if self._stopping:  # A signal came while the process was being made.
                    process.terminate()
                async with create_task_group() as listeners:
                    listeners.start_soon(self._listen, index, channel)
                    code = await process.wait()
                    listeners.cancel_scope.cancel()
                del self._running[index]
        return code

    async def _listen(self, index: int, channel: socket.socket) -> None:
        while True:
            await anyio.wait_readable(channel)
            message = channel.recv(4096).decode("utf-8", "replace")
            if "READY=1" in message.splitlines() and index not in self._ready:
                self._ready.add(index)
                self._settled.set()
                if len(self._ready) == len(self._environments):
                    notify("READY=1")

    async def _pass_on(self, signals: object) -> None:
        async for number in signals:  # type: ignore[attr-defined]
            if number == signal.SIGHUP:
                self._send(number)
            else:
                self._begin_to_stop(number)

    def _begin_to_stop(self, number: signal.Signals) -> None:
        if not self._stopping:
            notify("STOPPING=1")
        self._stopping = True
        self._stop.set()
        self._settled.set()
        self._send(signal.SIGTERM if number == signal.SIGINT else number)

    def _send(self, number: signal.Signals) -> None:
        for process in list(self._running.values()):
            if process.returncode is None:
                process.send_signal(number)

    async def _ping_watchdog(self) -> None:
        interval = int(os.environ.get("WATCHDOG_USEC", "0")) / 2_000_000 or math.inf
        while True:
            await anyio.sleep(interval)
            notify("WATCHDOG=1")


def child_environments(environment: Mapping[str, str], management_ports: Sequence[int]) -> list[dict[str, str]]:
    """Return an environment for each child; they differ in their management port."""
    # systemd's watchdog watches the supervisor, which watches its children.
    kept = {name: value for name, value in environment.items() if name not in ("WATCHDOG_USEC", "WATCHDOG_PID")}
    mine = {SUPERVISOR_VARIABLE: str(os.getpid())}
    return [{**kept, **mine, "GORAX_MANAGEMENT__PORT": str(port)} for port in management_ports]


def die_with_supervisor() -> bool:
    """In a child of a supervisor: ask the kernel for a SIGTERM when it dies. Return whether it is gone already."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return False
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
    return os.getppid() != int(supervisor)
