"""Serving an ASGI application inside our own task group: the daemon owns signals, logs and the life of the server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

import anyio
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gorax_engine.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

BACKLOG: Final = 2048
KEEP_ALIVE: Final = 75
HEADERS_DEADLINE: Final = 30.0
"""Seconds from the opening of a connection, or the first byte of a request, to the end of its headers."""
MAX_HEADER_BYTES: Final = 64 * 1024
DRAIN: Final = 10
"""Seconds that requests on their way get at the end."""
TICK: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server listens, with the port that the system chose if none was asked for."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@asynccontextmanager
async def serve_http(
    app: ASGIApp, host: str, port: int, *, share_port: bool = False, drain: float = DRAIN
) -> AsyncIterator[ServerAddress]:
    """Serve `app` until the block ends; then stop accepting and let running requests finish within `drain` seconds.

    With `share_port` several processes may listen on one port, and the system spreads connections among them.
    Raises ConfigurationError if the address can't be had.
    """
    listener = _listen(host, port, share_port)
    address = ServerAddress(host, listener.getsockname()[1])
    server = _Server(
        uvicorn.Config(
            app,
            http=_BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, round(drain)),
        )
    )
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            await server.listening.wait()
            try:
                yield address
            finally:
                server.stop()
    finally:
        listener.close()


def _listen(host: str, port: int, share_port: bool) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"{host} is no address to listen on: {error}.", code="cannot_listen") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        message = f"Can't listen on {host} port {port}: {error.strerror}; another program may use it."
        raise ConfigurationError(message, code="cannot_listen") from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers and without its ten ticks a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening: Final = anyio.Event()
        self._stopping: Final = anyio.Event()

    def stop(self) -> None:
        """Begin to drain."""
        self.should_exit = True
        self._stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the daemon."""
        yield

    async def main_loop(self) -> None:
        """Renew the Date header once a second until told to stop."""
        self.listening.set()
        while not self._stopping.is_set():
            date = formatdate(time.time(), usegmt=True).encode()
            self.server_state.default_headers = [(b"date", date)]
            with anyio.move_on_after(TICK):
                await self._stopping.wait()


class _BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the bounds that it lacks: on the size of the headers, and on the time they may take."""

    _in_headers = True
    _header_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A request whose headers came whole, as nearly all do, costs no timer.
        if self._in_headers and not self.transport.is_closing():
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.send_400_response("The headers are too large.")
                return
            self._await_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._disarm()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_DEADLINE, self.transport.close)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
