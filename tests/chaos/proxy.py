"""A TCP proxy between one daemon and Postgres that can do to its connections what networks do."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute, SocketStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_CHUNK = 65_536


class Proxy:
    """Forwards to `target()`, and does harm on demand.

    `kept` is what clients sent into the black hole; `cut_replies` counts lost messages of the server.
    """

    def __init__(self, target: Callable[[], tuple[str, int]]) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._flowing = anyio.Event()
        self._flowing.set()
        self._cuts = 0
        self.latency = 0.0
        self.port = 0
        self.cut_replies = 0
        self.kept = bytearray()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Listen on a port of its own until the block ends."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        self.port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._accept)
            yield self
            tasks.cancel_scope.cancel()

    @property
    def upstream_ports(self) -> set[int]:
        """The ports that Postgres sees as those of its clients."""
        return {link.upstream_port for link in self._links}

    def hold(self) -> None:
        """A black hole: what is sent stays in the proxy, both ways."""
        self._flowing = anyio.Event()
        self.kept.clear()

    def let_flow(self) -> None:
        """The black hole heals: what was held is delivered, however late."""
        self._flowing.set()

    def reset(self) -> int:
        """Reset every open connection; return how many there were."""
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def cut_next_replies(self, count: int) -> None:
        """Let the next `count` messages of the server vanish, and their connections with them."""
        self._cuts = count

    async def _accept(self, client: SocketStream) -> None:
        async with client:
            try:
                server = await anyio.connect_tcp(*self._target())
            except OSError:
                return
            async with server:
                link = _Link(client, server)
                self._links.add(link)
                try:
                    async with anyio.create_task_group() as tasks:
                        link.scope = tasks.cancel_scope
                        tasks.start_soon(self._pump, link, client, server, True)
                        tasks.start_soon(self._pump, link, server, client, False)
                finally:
                    self._links.discard(link)

    async def _pump(self, link: _Link, source: SocketStream, target: SocketStream, upwards: bool) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            while True:
                data = await source.receive(_CHUNK)
                if self.latency:
                    await anyio.sleep(self.latency)
                if upwards and not self._flowing.is_set():
                    self.kept += data
                await self._flowing.wait()
                if upwards:
                    link.asked = True
                elif self._cuts and link.asked:
                    self._cuts -= 1
                    self.cut_replies += 1
                    link.reset()
                    break
                await target.send(data)
        link.scope.cancel()


class _Link:
    """Two sockets that are one connection."""

    def __init__(self, client: SocketStream, server: SocketStream) -> None:
        self._sockets = (client, server)
        self.upstream_port: int = server.extra(SocketAttribute.local_port)
        self.scope = anyio.CancelScope()
        self.asked = False

    def reset(self) -> None:
        """End both sides by RST."""
        for stream in self._sockets:
            with suppress(OSError):
                raw = stream.extra(SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.scope.cancel()
