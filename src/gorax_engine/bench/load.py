"""Load from outside: a daemon under measurement, clients that deliver webhooks, and a server that answers calls."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit
from uuid import uuid4

import anyio

from gorax_engine.bench.workload import BODY

START_DEADLINE: Final = 30.0
_ANSWER: Final = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon that runs."""

    pid: int
    url: str

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Resident memory."""
        return rss_mb(self.pid)


def rss_mb(pid: int) -> float:
    """Return a process's resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


@asynccontextmanager
async def daemon(dsn: str, *, roles: str, key_file: str | None = None) -> AsyncIterator[Served]:
    """Run `gorax serve` with these roles for the block's time."""
    port, management = _free_port(), _free_port()
    environment = {
        **os.environ,
        "GORAX_DATABASE__DSN": dsn,
        "GORAX_SERVER__PORT": str(port),
        "GORAX_MANAGEMENT__PORT": str(management),
        "GORAX_LOG__LEVEL": "warning",
        **({} if key_file is None else {"GORAX_VAULT__KEY_FILE": key_file}),
    }
    command = [sys.executable, "-m", "gorax_engine.cli", "serve", "--roles", roles]
    async with await anyio.open_process(command, env=environment, stdout=None, stderr=None) as process:
        try:
            with anyio.fail_after(START_DEADLINE):
                await _until_started(management)
            yield Served(process.pid, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            with anyio.move_on_after(10):
                await process.wait()
            if process.returncode is None:
                process.kill()


@asynccontextmanager
async def key_file(text: str) -> AsyncIterator[str]:
    """Keep the vault's key in a file for the block's time."""
    with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:  # made with mode 0600
        file.write(text)
        file.flush()
        yield file.name


async def _until_started(management: int) -> None:
    while True:
        try:
            async with await anyio.connect_tcp("127.0.0.1", management) as stream:
                await stream.send(b"GET /startupz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                if (await stream.receive()).startswith(b"HTTP/1.1 200"):
                    return
        except (OSError, anyio.EndOfStream):
            pass
        await anyio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def deliver(url: str, count: int, clients: int, secret: str) -> tuple[float, list[float]]:
    """POST `count` webhooks over `clients` keep-alive connections; return the seconds and each latency in ms.

    Each is signed as GitHub does, and has an id of its own.

    Raises RuntimeError at the first answer that is not 202.
    """
    parts = urlsplit(url)
    body = json.dumps(BODY).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"x-github-event: push\r\nx-hub-signature-256: sha256={signature}\r\ncontent-length: {len(body)}\r\n"
        "x-github-delivery: "
    ).encode()
    tail = b"\r\n\r\n" + body
    left = iter(range(count))
    latencies: list[float] = []
    async with anyio.create_task_group() as tasks:
        began = time.perf_counter()
        for _ in range(clients):
            tasks.start_soon(_client, parts.hostname or "", parts.port or 80, (head, tail), left, latencies)
    return time.perf_counter() - began, latencies


async def _client(
    host: str, port: int, request: tuple[bytes, bytes], left: Iterator[int], latencies: list[float]
) -> None:
    # The client must be cheap, for it shares the processors with what it measures: no HTTP library.
    reader, writer = await asyncio.open_connection(host, port)
    for _ in left:
        began = time.perf_counter()
        writer.write(str(uuid4()).encode().join(request))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = await reader.readexactly(length)
        latencies.append((time.perf_counter() - began) * 1000)
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(f"{head[:40]!r} {answer[:300]!r}")
    writer.close()


class _Answering(asyncio.Protocol):
    """Answers every request that comes in one piece with the same JSON."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._transport.write(_ANSWER)


@asynccontextmanager
async def answering_server() -> AsyncIterator[str]:
    """Serve a constant answer on loopback; give its URL."""
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
