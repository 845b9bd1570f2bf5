"""A pool of children that run scripts: started when they are needed, kept warm, replaced when worn or broken.

A script has a child to itself. Those that find none wait in order, as long as they may. Scripts have no effects, so one
whose child had died before it was asked is run again, in a new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.abc
import msgspec

from gorax_engine.core.json_edge import JsonLimits, parse
from gorax_engine.errors import GoraxError
from gorax_engine.nodes.api import Json, StepError
from gorax_engine.nodes.sandbox import child
from gorax_engine.nodes.sandbox.faults import (
    Fault,
    ScriptFailed,
    crashed,
    explain,
    not_json,
    timed_out,
    too_large,
    unavailable,
)
from gorax_engine.nodes.sandbox.process import Child, ChildDied
from gorax_engine.telemetry import get_logger

MIB: Final = 1 << 20
GRACE: Final = 1.0
"""Seconds after its time at which a script that its engine didn't stop is killed."""

_FAULT_BYTES: Final = 64 << 10
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Bounds of a pool. Times in seconds, sizes in bytes.

    `heap` is what a script may ask for at most. A child ends after `idle` without work, `max_calls`, `max_busy` of
    work, or once it has grown by `max_growth`. A script waits for a child for at most `max_wait`, behind at most
    `max_waiting` others.
    """

    processes: int = 4
    heap: int = 128 * MIB
    idle: float = 60.0
    max_input: int = 16 * MIB
    max_output: int = 10 * MIB
    max_waiting: int = 10_000
    max_wait: float = 300.0
    max_calls: int = 5_000
    max_busy: float = 300.0
    max_growth: int = 32 * MIB


@dataclass(frozen=True, slots=True)
class Script:
    """The body of a function, what it sees as `context`, its time in seconds and its memory in bytes."""

    body: str
    context: Mapping[str, Json]
    seconds: float
    memory: int


class Sandbox:
    """Runs scripts. Enter it once, in the daemon, and share it."""

    def __init__(self, options: SandboxOptions = SandboxOptions()) -> None:
        self.options = options
        self._json = JsonLimits(max_bytes=options.max_output, max_keys=1_000_000)
        self._slots = anyio.Semaphore(options.processes, fast_acquire=True)
        self._waiting = 0
        self._idle: list[Child] = []
        self._children: set[Child] = set()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._reaping = False
        self._warned = False

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        for each in list(self._children):
            self._discard(each)
        self._idle.clear()
        # What is being closed is shielded; the wait for idle children is not.
        self._tasks.cancel_scope.cancel()
        # Without the error: it is not the group's, and would come out of it wrapped.
        await self._tasks.__aexit__(None, None, None)
        self._tasks = None

    async def run(self, script: Script) -> Json:
        """Run a script and return its value. Raises ScriptFailed."""
        memory = min(script.memory, self.options.heap)
        data = b"\n".join([_encode(list(script.context)), *map(_encode, script.context.values())])
        if len(data) > self.options.max_input:
            raise ScriptFailed(too_large(self.options.max_input))
        body = script.body.encode("utf-8", "replace")
        head = child.REQUEST.pack(len(body), len(data), script.seconds, self.options.max_output, memory)
        await self._take_slot()
        try:
            kind, payload = await self._exchange(head + body + data, script.seconds)
        finally:
            self._slots.release()
        if kind == child.VALUE:
            try:
                return parse(payload, self._json)
            except GoraxError as error:
                raise ScriptFailed(not_json(error.message)) from None
        raise ScriptFailed(self._explain(payload, script.seconds, memory))

    def _explain(self, payload: bytes, seconds: float, memory: int) -> StepError:
        try:
            fault = msgspec.json.decode(payload, type=Fault)
        except msgspec.DecodeError:
            return crashed()
        return explain(fault, seconds=seconds, memory=memory, most=self.options.max_output)

    async def _take_slot(self) -> None:
        if self._waiting >= self.options.max_waiting:
            raise ScriptFailed(unavailable(f"{self._waiting} others wait for a process already."))
        self._waiting += 1
        try:
            with anyio.fail_after(self.options.max_wait):
                await self._slots.acquire()
        except TimeoutError:
            reason = f"no process was free for {self.options.max_wait:g} s."
            raise ScriptFailed(unavailable(reason)) from None
        finally:
            self._waiting -= 1

    async def _exchange(self, request: bytes, seconds: float) -> tuple[bytes, bytes]:
        """Ask a child; one that was warm may have died since, so then another."""
        while True:
            runner = await self._runner()
            fresh = runner.calls == 0
            began = anyio.current_time()
            try:
                with anyio.fail_after(seconds + GRACE):
                    reply = await runner.ask(request, max(self.options.max_output, _FAULT_BYTES))
            except ChildDied:
                self._discard(runner)
                if fresh:
                    raise ScriptFailed(crashed()) from None
                continue
            except TimeoutError:
                self._discard(runner)
                raise ScriptFailed(timed_out(seconds)) from None
            except BaseException:
                self._discard(runner)
                raise
            runner.busy += anyio.current_time() - began
            self._put_back(runner)
            return reply

    async def _runner(self) -> Child:
        """Return a warm child, the last one that worked, so that those too many become idle; else a new one."""
        if self._idle:
            return self._idle.pop()
        try:
            runner = await Child.start(self.options.heap)
        except (ChildDied, OSError) as error:
            _log.error("sandbox_not_started", reason=str(error) or "it ended before it was ready")
            raise ScriptFailed(unavailable("its process can't be started; see the log of the worker.")) from None
        self._children.add(runner)
        if runner.missing and not self._warned:
            self._warned = True
            _log.warning("sandbox_weakened", missing=runner.missing)
        return runner

    def _put_back(self, runner: Child) -> None:
        options = self.options
        if (
            runner.calls >= options.max_calls
            or runner.busy >= options.max_busy
            or runner.resident() - runner.grown_from > options.max_growth
        ):
            self._discard(runner)
            return
        runner.idle_since = anyio.current_time()
        self._idle.append(runner)
        if not self._reaping:
            self._reaping = True
            self._group.start_soon(self._reap)

    def _discard(self, runner: Child) -> None:
        """Kill a child now, and bury it beside the work."""
        if runner in self._children:
            self._children.remove(runner)
            runner.kill()
            self._group.start_soon(runner.close)

    async def _reap(self) -> None:
        """End children that have had no work for a while; there is no such task while there are no children."""
        while self._children:
            await anyio.sleep(self.options.idle / 2)
            until = anyio.current_time() - self.options.idle
            for runner in [each for each in self._idle if each.idle_since <= until]:
                self._idle.remove(runner)
                self._discard(runner)
        self._reaping = False

    @property
    def _group(self) -> anyio.abc.TaskGroup:
        assert self._tasks is not None, "the sandbox was not entered"
        return self._tasks


def _plain(value: object) -> Json:
    """Mappings that are views of other values are objects too."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


_encode: Final = msgspec.json.Encoder(enc_hook=_plain).encode
