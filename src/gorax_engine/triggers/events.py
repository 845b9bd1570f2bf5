"""Publishing events, and what follows from it: waits get theirs, and workflows with a fitting trigger node start.

An event is committed first; everything else comes after that, and each part of it may be done again by anybody: waits
are matched in the database, and a start has the key of event and workflow. So whoever publishes does it at once, and
`work_off` does what a crash or a fault left undone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

import anyio

from gorax_engine.core import json_edge
from gorax_engine.core.event_names import MAX_PAYLOAD, patterns_of
from gorax_engine.core.expressions import Expression, ExpressionError, Scope, compile_expression
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import SECOND
from gorax_engine.engine.starting import StartKey, StartRequest
from gorax_engine.errors import (
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    InvalidInput,
    MalformedInput,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from gorax_engine.store import events
from gorax_engine.store.events import Event, NewEvent, Published, Subscriber
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from gorax_engine.core.model import Json, Micros
    from gorax_engine.engine.starting import Started
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.session import Fetcher

START_KEY_TTL: Final = timedelta(days=7)
"""For how long a start that is tried again finds the first one; far longer than anything is left undone."""
BACKLOG: Final = 10_000
"""Events that this process may still have in hand; what is more is left to `work_off`."""
BATCH: Final = 100
STALE_AFTER: Final = timedelta(seconds=1)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_log = get_logger(__name__)


class Starter(Protocol):
    """The verb of the engine that events need."""

    async def start(self, request: StartRequest) -> Started:
        """Start a run; return after its commit."""


def new_event(
    tenant_id: UUID, name: str, correlation_key: str | None, payload: Json, ttl: Micros, key: str | None = None
) -> NewEvent:
    """Return an event to be kept; name, correlation key and ttl were checked (`core.event_names`).

    Raises MalformedInput and PayloadTooLarge.
    """
    try:
        text = json_edge.encode(payload)
    except Unencodable as error:
        raise MalformedInput(f"The payload can't be stored: {error}.") from None
    if len(text) > MAX_PAYLOAD:
        raise PayloadTooLarge(f"The payload has {len(text)} characters as JSON; at most {MAX_PAYLOAD} are allowed.")
    return NewEvent(tenant_id, name, correlation_key, text, timedelta(seconds=ttl / SECOND), key)


class Events:
    """Publishes events. `run` starts what they start, until cancelled; the rest may be called by any task meanwhile."""

    def __init__(self, database: Database) -> None:
        self._rows = _WorkerRows(database)
        self._in_hand: deque[UUID] = deque()
        self._arrived = anyio.Event()

    async def publish(
        self,
        tenant_id: str,
        name: str,
        correlation_key: str | None,
        payload: Json,
        ttl: Micros,
        idempotency_key: str,
    ) -> str:
        """Publish an event durably, once per idempotency key; return its id.

        Raises MalformedInput, PayloadTooLarge, and Unavailable, after which the same key tells whether it is kept.
        """
        event = new_event(UUID(tenant_id), name, correlation_key, payload, ttl, idempotency_key)
        published = await events.insert(self._rows, event)
        await self.spread(published)
        return str(published.id)

    async def publish_within(self, connection: Connection, event: NewEvent) -> Published:
        """Publish an event within the caller's transaction; `spread` it after the commit."""
        return await events.insert(connection, event)

    async def spread(self, published: Published) -> None:
        """Bring a committed event to those that wait for it. Never fails: what can't be done now is done later."""
        if published.repeat:
            return
        try:
            done = await events.match_events(self._rows, [published.id])
        except Unavailable as error:
            _log.info("event_left_over", event_id=str(published.id), reason=error.message)
            return
        if not (done and published.dispatched) and len(self._in_hand) < BACKLOG:
            self._in_hand.append(published.id)
            self._arrived.set()

    async def run(self, starter: Starter) -> None:
        """Do what remains to be done for the events that `spread` has begun with, until cancelled."""
        while True:
            if not self._in_hand:
                self._arrived = anyio.Event()
                await self._arrived.wait()
            taken = [self._in_hand.popleft() for _ in range(min(BATCH, len(self._in_hand)))]
            try:
                while not await events.match_events(self._rows, taken):
                    pass
                await dispatch(self._rows, starter, taken)
            except Unavailable as error:
                _log.info("events_left_over", count=len(taken), reason=error.message)


async def work_off(fetcher: Fetcher, starter: Starter, age: timedelta = STALE_AFTER) -> None:
    """Do what was left undone for `age`: match events and waits, start workflows. Raises Unavailable."""
    while True:
        left = await events.leftovers(fetcher, BATCH, age)
        if left.events:
            while not await events.match_events(fetcher, left.events):
                pass
        if left.waits:
            await events.match_waits(fetcher, left.waits)
        if left.starts:
            await dispatch(fetcher, starter, left.starts)
        if max(len(left.events), len(left.waits), len(left.starts)) < BATCH:
            return


async def dispatch(fetcher: Fetcher, starter: Starter, event_ids: Sequence[UUID]) -> None:
    """Start, once per event, every active workflow of its tenant with a trigger node that listens to it.

    Raises Unavailable; then some starts are done, and all may be tried again.
    """
    owing = await events.undispatched(fetcher, event_ids)
    if not owing:
        return
    patterns = {(event.tenant_id, pattern) for event in owing for pattern in patterns_of(event.name)}
    listening: dict[tuple[UUID, str], list[Subscriber]] = {}
    for subscriber in await events.subscribers(fetcher, sorted(patterns)):
        listening.setdefault((subscriber.tenant_id, subscriber.pattern), []).append(subscriber)
    tasks = [task for event in owing for task in _starts(event, listening)]
    failures: list[Unavailable] = []

    async def start(request: StartRequest) -> None:
        try:
            await starter.start(request)
        except Unavailable as error:
            failures.append(error)
        except (NotFound, Conflict, Forbidden, IdempotencyMismatch, InvalidInput) as refusal:
            ids = {"tenant_id": str(request.tenant_id), "workflow_id": str(request.workflow_id)}
            _log.warning("event_start_refused", code=refusal.code, **ids)

    async with anyio.create_task_group() as group:
        for request in tasks:
            group.start_soon(start, request)
    if failures:
        raise failures[0]
    await events.mark_dispatched(fetcher, [event.id for event in owing])


def _starts(event: Event, listening: dict[tuple[UUID, str], list[Subscriber]]) -> Iterable[StartRequest]:
    """The starts of an event: of a workflow's nodes the first whose filter holds is the trigger."""
    data = {"name": event.name, "correlation_key": event.correlation_key, "body": event.payload}
    begun: set[UUID] = set()
    fitting = [each for pattern in patterns_of(event.name) for each in listening.get((event.tenant_id, pattern), ())]
    for subscriber in sorted(fitting, key=lambda each: (each.workflow_id, each.position)):
        if subscriber.workflow_id not in begun and _holds(subscriber, event, data):
            begun.add(subscriber.workflow_id)
            key = StartKey("event", f"{event.id}:{subscriber.workflow_id}", None, START_KEY_TTL)
            yield StartRequest(
                event.tenant_id, subscriber.workflow_id, "event", data, subscriber.node_id, start_key=key
            )


def _holds(subscriber: Subscriber, event: Event, data: dict[str, Json]) -> bool:
    """Say whether an event passes a filter. One that can't be evaluated, or gives no boolean, doesn't hold."""
    if subscriber.filter is None:
        return True
    now = (event.published_at - _EPOCH) // _MICROSECOND
    try:
        return _compiled(subscriber.filter)(Scope({"trigger": data}, now, seed=event.id.bytes)) is True
    except (ExpressionError, InvalidInput) as error:
        _log.info("event_filter_failed", workflow_id=str(subscriber.workflow_id), reason=error.message)
        return False


@lru_cache(maxsize=1_000)
def _compiled(source: str) -> Expression:
    return compile_expression(source)


@dataclass(frozen=True, slots=True)
class _WorkerRows:
    """A Fetcher that takes a connection of the worker's pool for each statement: each is its own transaction."""

    database: Database

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]:
        """Run one statement and return its rows. Raises Unavailable."""
        async with self.database.worker() as connection:
            return await connection.fetch(query, *arguments)
