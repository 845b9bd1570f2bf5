"""The outside world of the acceptance tests: an HTTP server that answers as told, and remembers every request."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)


@dataclass
class Reply:
    """What to answer. `hold` is waited for before, `drop` closes the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hold: threading.Event | None = None
    drop: bool = False
    endless: bool = False


class Sink:
    """Listens on a loopback port. A path without replies of its own answers 200 `{"ok": true}`."""

    def __init__(self) -> None:
        self._asked: list[Asked] = []
        self._replies: dict[str, list[Reply]] = {}
        self._failing: dict[str, int] = {}
        self._keys: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def on(self, path: str, *replies: Reply) -> str:
        """Answer `path` with these in turn, the last one for ever; return its URL."""
        self._replies[path] = list(replies)
        return self.url + path

    def fail_first(self, path: str, times: int) -> str:
        """Answer the first so many requests of each `Idempotency-Key` for `path` with 500; return its URL."""
        self._failing[path] = times
        return self.url + path

    def keys(self) -> Counter[str]:
        """Return how often each `Idempotency-Key` was asked for."""
        with self._changed:
            return Counter(
                asked.headers["idempotency-key"] for asked in self._asked if "idempotency-key" in asked.headers
            )

    def asked(self, path: str) -> list[Asked]:
        """Return the requests for a path so far."""
        with self._changed:
            return [asked for asked in self._asked if asked.path == path]

    def wait_for(self, path: str, count: int = 1, timeout: float = 20) -> list[Asked]:
        """Wait until a path was asked for so many times."""

        def enough() -> bool:
            return sum(asked.path == path for asked in self._asked) >= count

        with self._changed:
            assert self._changed.wait_for(enough, timeout), f"{path} was not asked for {count} times"
        return self.asked(path)

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _note(self, asked: Asked) -> Reply:
        with self._changed:
            self._asked.append(asked)
            self._changed.notify_all()
            if asked.path in self._failing:
                key = asked.headers.get("idempotency-key", "")
                self._keys[key] += 1
                return Reply(
                    *((500, {"fault": True}) if self._keys[key] <= self._failing[asked.path] else (200, {"ok": True}))
                )
            replies = self._replies.get(asked.path)
            if not replies:
                return Reply(body={"ok": True})
            return replies[0] if len(replies) == 1 else replies.pop(0)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self._answer
                raise AttributeError(name)

            def _answer(self) -> None:
                url = urlsplit(self.path)
                raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = sink._note(Asked(self.command, url.path, url.query, headers, raw))
                if reply.hold is not None:
                    reply.hold.wait(30)
                if reply.drop:
                    self.close_connection = True
                    return
                try:
                    self._send(reply)
                except OSError:
                    self.close_connection = True  # The client had enough.

            def _send(self, reply: Reply) -> None:
                payload = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                if reply.raw is None and "Content-Type" not in reply.headers:
                    self.send_header("Content-Type", "application/json")
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.endless:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
                    while not sink._closing.is_set():
                        self.wfile.write(chunk)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


def bomb(megabytes: int) -> bytes:
    """Return so many megabytes of zeros as gzip, which are about a thousandth of that."""
    return gzip.compress(b"\0" * (megabytes * 1024 * 1024), compresslevel=9)
