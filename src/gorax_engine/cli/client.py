"""A small synchronous client of the HTTP API, on the standard library so that every command starts at once."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from gorax_engine import __version__
from gorax_engine.errors import GoraxError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gorax_engine.core.model import Json

TIMEOUT: Final = 30.0
STREAM_SILENCE: Final = 60.0
"""Seconds without a byte after which a stream counts as dead; the server sends a comment more often."""
MAX_BODY: Final = 256 * 1024 * 1024
PAGE: Final = 200


class CannotConnect(GoraxError):
    """The server can't be reached, or broke off."""

    code = "cannot_connect"


class Refused(GoraxError):
    """The server answered with an error; `problems` are the faults it named."""

    def __init__(
        self, message: str, *, code: str, status: int, problems: tuple[Problem, ...] = (), request_id: str = ""
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.problems = problems
        self.request_id = request_id


class Answer:
    """The decoded body of a success, with its ETag."""

    __slots__ = ("body", "etag", "status")

    def __init__(self, status: int, body: Json, etag: str | None) -> None:
        self.status = status
        self.body = body
        self.etag = etag

    @property
    def data(self) -> Json:
        """What the envelope holds."""
        return self.body["data"] if isinstance(self.body, dict) and "data" in self.body else self.body


class Client:
    """Calls below `/api/v1` of one server. Every call has a timeout, in seconds."""

    def __init__(self, server: str, api_key: str) -> None:
        self._server = _server_url(server)
        self._api_key = api_key

    def get(self, path: str, query: Mapping[str, Json] | None = None, *, timeout: float = TIMEOUT) -> Answer:
        """GET one object. Raises CannotConnect, Refused."""
        return self.call("GET", path, query=query, timeout=timeout)

    def pages(self, path: str, query: Mapping[str, Json], limit: int) -> Iterator[Json]:
        """Yield up to `limit` items of a list, page by page. Raises CannotConnect, Refused."""
        cursor: str | None = None
        while limit > 0:
            size = min(limit, PAGE)
            body = self.get(path, {**query, "limit": size, "cursor": cursor}).body
            yield from body["data"][:size]
            limit -= len(body["data"])
            cursor = body.get("next_cursor")
            if not cursor or not body["data"]:
                return

    def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        query: Mapping[str, Json] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> Answer:
        """Send one request and decode the answer. Raises CannotConnect, Refused."""
        with self._exchange(method, path, body, query, headers or {}, timeout) as response:
            payload = response.read(MAX_BODY)
            if response.status >= 400:
                raise refusal(response.status, payload)
            return Answer(response.status, decode(payload), response.headers.get("ETag"))

    def stream(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield (event, data) of server-sent events until the server ends them. Raises CannotConnect, Refused."""
        headers = {"Accept": "text/event-stream"}
        with self._exchange("GET", path, None, None, headers, STREAM_SILENCE) as response:
            if response.status >= 400:
                raise refusal(response.status, response.read(MAX_BODY))
            yield from parse_events(line.decode("utf-8", "replace") for line in response)

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body: Json,
        query: Mapping[str, Json] | None,
        headers: Mapping[str, str],
        timeout: float,
    ) -> Iterator[http.client.HTTPResponse]:
        sent = {
            "Authorization": f"Bearer {self._api_key}",
            "Accept": "application/json",
            "User-Agent": f"gorax-cli/{__version__}",
            **headers,
        }
        payload = None
        if body is not None:
            payload = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        connection = self._connection(timeout)
        try:
            connection.request(method, self._target(path, query), body=payload, headers=sent)
            # A response that ends with the connection holds the socket itself.
            with connection.getresponse() as response:
                yield response
        except TimeoutError as error:
            raise CannotConnect(f"{self._server.geturl()} did not answer within {timeout:g} s.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CannotConnect(f"Can't talk to {self._server.geturl()}: {reason}; is the daemon running?") from error
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        assert self._server.hostname is not None
        if self._server.scheme == "https":
            return http.client.HTTPSConnection(
                self._server.hostname, self._server.port, timeout=timeout, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(self._server.hostname, self._server.port, timeout=timeout)

    def _target(self, path: str, query: Mapping[str, Json] | None) -> str:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return f"{self._server.path.rstrip('/')}/api/v1{path}" + (f"?{urlencode(given)}" if given else "")


def _server_url(server: str) -> SplitResult:
    try:
        url = urlsplit(server if "://" in server else f"http://{server}")
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CannotConnect(f"--server must be an http or https URL, not {server!r}.", code="invalid_server")
    return url


def segment(value: str) -> str:
    """Quote a value for use as one segment of a path."""
    return quote(value, safe="")


def decode(payload: bytes) -> Json:
    """Decode a JSON body; an empty one is None. Raises CannotConnect when it is something else."""
    if not payload.strip():
        return None
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CannotConnect("The server's answer is not JSON; is this a gorax server?", code="not_gorax") from error


def refusal(status: int, payload: bytes) -> Refused:
    """Turn an error response into one sentence, a code, and the problems that it lists."""
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        phrase = http.client.responses.get(status, "")
        return Refused(f"The server answered {status} {phrase}".rstrip() + ".", code="http_error", status=status)
    problems = tuple(
        Problem(str(item.get("code", "")), str(item.get("pointer", "")), str(item.get("message", "")))
        for item in body.get("errors") or ()
        if isinstance(item, dict)
    )
    message = body.get("detail") or body.get("title") or f"The server answered {status}."
    return Refused(
        str(message),
        code=str(body.get("code") or "http_error"),
        status=status,
        problems=problems,
        request_id=str(body.get("request_id") or ""),
    )


def parse_events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Parse the lines of an event stream (WHATWG HTML, 9.2): yield (event, data), skip comments and empty events."""
    event, data = "message", list[str]()
    for raw in lines:
        line = raw.rstrip("\r\n")
        if not line:
            if data:
                yield event, "\n".join(data)
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
