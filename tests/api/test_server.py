"""Serving: the port is reported and shared, a drain lets requests finish, and headers are bounded."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import anyio.abc
import pytest

from gorax_engine.api import server
from gorax_engine.api.server import serve_http
from gorax_engine.errors import ConfigurationError

pytestmark = pytest.mark.anyio

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


class App:
    """Answers once `gate` is open."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.entered = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered.set()
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def test_a_request_is_served_without_a_server_header() -> None:
    app = App()
    app.gate.set()
    async with serve_http(app, "127.0.0.1", 0) as address:
        assert address.port > 0
        assert address.url == f"http://127.0.0.1:{address.port}"
        async with await anyio.connect_tcp("127.0.0.1", address.port) as stream:
            await stream.send(GET)
            answer = await stream.receive()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"date:" in answer.lower()
    assert b"server:" not in answer.lower()


async def test_a_drain_lets_a_request_finish() -> None:
    app, answers = App(), []

    async def ask(port: int) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(GET)
            answers.append(await stream.receive())

    async with anyio.create_task_group() as tasks:
        async with serve_http(app, "127.0.0.1", 0) as address:
            tasks.start_soon(ask, address.port)
            await app.entered.wait()
            tasks.start_soon(_open_later, app)
        with pytest.raises(OSError):
            await anyio.connect_tcp("127.0.0.1", address.port)
    assert answers[0].startswith(b"HTTP/1.1 200 OK")


async def _open_later(app: App) -> None:
    await anyio.sleep(0.3)
    app.gate.set()


async def test_processes_can_share_a_port_and_a_taken_one_is_refused() -> None:
    async with serve_http(App(), "127.0.0.1", 0, share_port=True) as first:
        async with serve_http(App(), "127.0.0.1", first.port, share_port=True) as second:
            assert second.port == first.port
        with pytest.raises(ConfigurationError, match="another program"):
            async with serve_http(App(), "127.0.0.1", first.port):
                pass


async def test_no_such_host() -> None:
    with pytest.raises(ConfigurationError):
        async with serve_http(App(), "no-such-host.invalid", 0):
            pass


@pytest.mark.parametrize("one_header", [True, False])
async def test_endless_headers_are_cut(one_header: bool) -> None:
    piece = b"a" * 8192 if one_header else b"x-a: " + b"b" * 8185 + b"\r\n"
    async with (
        serve_http(App(), "127.0.0.1", 0) as address,
        await anyio.connect_tcp("127.0.0.1", address.port) as stream,
    ):
        await stream.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"x-a: " if one_header else b""))
        with anyio.fail_after(5), pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await _send_for_ever(stream, piece)


async def _send_for_ever(stream: anyio.abc.SocketStream, piece: bytes) -> None:
    for _ in range(100):
        await stream.send(piece)
        await anyio.sleep(0)
    while True:
        await stream.receive()


async def test_slow_headers_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADERS_DEADLINE", 0.1)
    async with serve_http(App(), "127.0.0.1", 0) as address:
        for start in (b"", b"GET / HT", GET[:-2]):
            async with await anyio.connect_tcp("127.0.0.1", address.port) as stream:
                if start:
                    await stream.send(start)
                with anyio.fail_after(5), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


def test_ipv6_urls_have_brackets() -> None:
    assert server.ServerAddress("::1", 80).url == "http://[::1]:80"
    assert socket.has_ipv6 in {True, False}
