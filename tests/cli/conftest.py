"""A stub of the HTTP API at the wire: answers from a table, and keeps what it was asked."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """What to answer; several replies for one route are given in turn, the last one for ever."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


class StubServer:
    """The stub; `url` is where it listens."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def on(self, method: str, path: str, *replies: Reply) -> None:
        """Answer `method path` (below /api/v1) with these replies."""
        self._replies[method, f"/api/v1{path}"] = list(replies)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def calls(self) -> list[str]:
        """Return what was asked, as `METHOD /path`."""
        return [f"{asked.method} {asked.path.removeprefix('/api/v1')}" for asked in self.asked]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._answer
                raise AttributeError(name)

            def _answer(self) -> None:
                url = urlsplit(self.path)
                length = int(self.headers.get("Content-Length", "0"))
                body = json.loads(self.rfile.read(length)) if length else None
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                stub.asked.append(Asked(self.command, url.path, query, dict(self.headers), body))
                replies = stub._replies.get((self.command, url.path))
                if not replies:
                    reply = Reply(404, {"detail": "There is no such object.", "code": "not_found"})
                else:
                    reply = replies[0] if len(replies) == 1 else replies.pop(0)
                payload = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.raw is None:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[StubServer]:
    """Run a stub that the command line finds by its environment, in an empty folder."""
    server = StubServer()
    monkeypatch.setenv("GORAX_SERVER", server.url)
    monkeypatch.setenv("GORAX_API_KEY", "test-key")
    monkeypatch.chdir(tmp_path)
    yield server
    server.close()
