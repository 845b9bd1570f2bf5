"""Children of the bench: start them, let them begin together, collect what they print."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

if TYPE_CHECKING:
    from anyio.abc import Process

    from gorax_engine.bench.child import Job

CHILD_DEADLINE: Final = 600.0
LINE: Final = 16 * 1024 * 1024


class BenchFailed(Exception):
    """A child ended without a result; its standard error says why."""


class Child:
    """A running child."""

    def __init__(self, process: Process) -> None:
        self.process = process
        assert process.stdout is not None
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def line(self) -> str:
        """The next line that the child prints."""
        with anyio.fail_after(CHILD_DEADLINE):
            try:
                return (await self._lines.receive_until(b"\n", LINE)).decode()
            except (anyio.EndOfStream, anyio.IncompleteRead) as error:
                raise BenchFailed("a process of the bench ended early") from error

    async def ready(self) -> None:
        """Wait until the child says that it is ready."""
        line = await self.line()
        if line != "ready":
            raise BenchFailed(f"unexpected words of a process of the bench: {line[:200]}")

    async def go(self) -> None:
        """Let the child begin, or end."""
        assert self.process.stdin is not None
        await self.process.stdin.send(b"go\n")

    async def result(self) -> dict[str, Any]:
        """What the child measured."""
        result: dict[str, Any] = json.loads(await self.line())
        return result


@asynccontextmanager
async def child(job: Job) -> AsyncIterator[Child]:
    """Run a child for the block's time."""
    command = [sys.executable, "-m", "gorax_engine.bench.child", json.dumps(asdict(job))]
    process = await anyio.open_process(command, stderr=None)
    async with process:
        try:
            yield Child(process)
        finally:
            if process.returncode is None:
                process.kill()


async def run_together(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Run the jobs at once, all beginning when the last is ready; return their results."""
    results: list[dict[str, Any]] = [{} for _ in jobs]
    ready = 0
    begin = anyio.Event()

    async def run(index: int, job: Job) -> None:
        nonlocal ready
        async with child(job) as one:
            await one.ready()
            ready += 1
            if ready == len(jobs):
                begin.set()
            await begin.wait()
            await one.go()
            results[index] = await one.result()
            await one.process.wait()

    async with anyio.create_task_group() as tasks:
        for index, job in enumerate(jobs):
            tasks.start_soon(run, index, job)
    return results
