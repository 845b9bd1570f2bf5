"""The witness: an HTTP server outside the engine that remembers every call of every workflow.

It runs in a thread with a loop of its own, so that it answers while the storm is busy. What it answers depends on the
path and on how often it has seen the call's Idempotency-Key, and on nothing else:

    /ok          200 {"answer": v + 1} for a body {"v": v}
    /slow/MS     the same after MS milliseconds
    /flaky/N     500 for the first N calls of a key, then as /ok
    /reset/N     the connection is reset for the first N calls of a key, then as /ok
    /fail        500 always
    /gate/NAME   as /ok, but each call waits until `release` was called often enough for NAME
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived: when (seconds since the epoch), under which key, with which content."""

    at: float
    key: str
    path: str
    payload_hash: str


class Sink:
    """`with Sink() as sink:` serves at `sink.url`; `sink.calls` grows in order of arrival."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.url = ""
        self._seen: Counter[str] = Counter()
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="sink")
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the sink did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def release(self, name: str) -> None:
        """Let one call through the gate."""
        self._loop.call_soon_threadsafe(lambda: self._gate(name).release())

    def count(self, path: str) -> int:
        """How many calls came to this path."""
        return sum(1 for call in self.calls if call.path == path)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=600, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    def _gate(self, name: str) -> asyncio.Semaphore:
        return self._gates.setdefault(name, asyncio.Semaphore(0))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        arrived = time.time()
        content = await request.read()
        key = request.headers.get("Idempotency-Key", "")
        self.calls.append(Call(arrived, key, request.path, hashlib.sha256(content).hexdigest()[:32]))
        seen = self._seen[key] = self._seen[key] + 1
        match request.path.split("/")[1:]:
            case ["slow", delay]:
                await asyncio.sleep(int(delay) / 1000)
            case ["flaky", times] if seen <= int(times):
                return web.json_response({"fault": "scripted"}, status=500)
            case ["reset", times] if seen <= int(times):
                return _reset(request)
            case ["fail"]:
                return web.json_response({"fault": "always"}, status=500)
            case ["gate", name]:
                await self._gate(name).acquire()
            case _:
                pass
        body: dict[str, Any] = await request.json()
        return web.json_response({"answer": body["v"] + 1})


def _reset(request: web.Request) -> web.StreamResponse:
    """Send RST instead of an answer."""
    transport = request.transport
    if transport is not None:
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()
