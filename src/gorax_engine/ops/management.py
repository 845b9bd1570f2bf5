"""The management port: metrics and health, for the operator's tools alone.

`/livez` says that the loop turns and never asks the database: a process must not be killed because Postgres is gone.
`/readyz` says whether traffic should come: the database answers, its schema is known, nothing drains.
`/startupz` says whether the start is over.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from gorax_engine.errors import GoraxError, Unavailable
from gorax_engine.ops.metrics import CONTENT_TYPE, Metrics
from gorax_engine.store import executions
from gorax_engine.store.migrate import check

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gorax_engine.store.database import Database

CHECK_DEADLINE: Final = 2.0
CHECK_EVERY: Final = 1.0
QUEUE_EVERY: Final = 5.0

_encode: Final = msgspec.json.Encoder().encode
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queue: live runs by state, the age in seconds of the oldest ready one, timers that are due."""

    depth: dict[str, int]
    oldest_age: float | None
    timers_due: int
    human_tasks_open: int


@dataclass(frozen=True, slots=True)
class HealthChecks:
    """How to find out how the process is.

    `check_database` raises a GoraxError with the reason if the database can't be used; `read_queue` looks at the queue.
    """

    check_database: Callable[[], Awaitable[None]]
    read_queue: Callable[[], Awaitable[QueueState]]
    started: Callable[[], bool]
    draining: Callable[[], bool]


class ManagementApp:
    """An ASGI application for the management port."""

    def __init__(self, metrics: Metrics, checks: HealthChecks, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._checks = checks
        self._clock = clock
        self._lock = anyio.Lock()
        self._checked_at = float("-inf")
        self._fault: str | None = None
        self._queue_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, content_type, body = await self._answer(scope["method"], scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        if method not in {"GET", "HEAD"}:
            return 405, _TEXT, b"only GET and HEAD\n"
        match path:
            case "/livez":
                return 200, _TEXT, b"ok\n"
            case "/startupz":
                return _health(None if self._checks.started() else "the start is not over")
            case "/readyz":
                return _health(await self._why_not_ready())
            case "/metrics":
                await self._look_at_queue()
                return 200, CONTENT_TYPE, self._metrics.render()
            case _:
                return 404, _TEXT, b"there are /metrics /livez /readyz /startupz\n"

    async def _why_not_ready(self) -> str | None:
        if not self._checks.started():
            return "the start is not over"
        if self._checks.draining():
            return "draining"
        async with self._lock:
            if self._clock() - self._checked_at >= CHECK_EVERY:
                self._fault = await self._check_database()
                self._checked_at = self._clock()
        return self._fault

    async def _check_database(self) -> str | None:
        try:
            with anyio.fail_after(CHECK_DEADLINE):
                await self._checks.check_database()
        except GoraxError as error:
            return error.message
        except TimeoutError:
            return "the database does not answer"
        return None

    async def _look_at_queue(self) -> None:
        async with self._lock:
            if self._clock() - self._queue_at < QUEUE_EVERY:
                return
            try:
                with anyio.fail_after(CHECK_DEADLINE):
                    state = await self._checks.read_queue()
            except (GoraxError, TimeoutError):
                self._metrics.forget_queue()
            else:
                self._metrics.queue(state.depth, state.oldest_age, state.timers_due, state.human_tasks_open)
            self._queue_at = self._clock()


def _health(fault: str | None) -> tuple[int, str, bytes]:
    body = _encode({"status": "ok" if fault is None else "unavailable", "reason": fault})
    return (200 if fault is None else 503), _JSON, body


async def check_database(database: Database) -> None:
    """Raise Unavailable if the database doesn't answer, or stands at a schema that this build can't use."""
    async with database.worker() as connection:
        problem = (await check(connection)).problem
    if problem is not None:
        raise Unavailable(problem)


async def read_queue(database: Database) -> QueueState:
    """Look at the queue. Raises Unavailable."""
    row = await executions.queue_state(database)
    depth = {state: row[state] for state in ("running", "ready", "parked")}
    return QueueState(depth, row["oldest_age"], row["timers_due"], row["human_tasks_open"])
