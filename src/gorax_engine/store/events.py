"""Rows of events: keeping them, bringing them to the waits, and what listens to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import msgspec

from gorax_engine.core.event_names import patterns_of
from gorax_engine.store.queries import load

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.session import Fetcher

_SQL: Final = load("events")

MATCH_BATCH: Final = 500
"""How many waits get their event in one transaction."""

_KEY_LIFETIME: Final = timedelta(hours=24)
_GRACE: Final = timedelta(minutes=1)
"""An event outlives its expiry by this, for waits that opened in time and were not looked at yet."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be kept. `payload` is JSON that Postgres takes; `idempotency_key` publishes once."""

    tenant_id: UUID
    name: str
    correlation_key: str | None
    payload: str
    ttl: timedelta
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A kept event. `dispatched`: it owes no start. A `repeat` is the event that the key published before."""

    id: UUID
    published_at: datetime
    expires_at: datetime
    dispatched: bool
    repeat: bool


@dataclass(frozen=True, slots=True)
class Event:
    """An event as those that it starts see it."""

    id: UUID
    tenant_id: UUID
    name: str
    correlation_key: str | None
    payload: Json
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A trigger node of an active workflow. `filter` is an expression over the event."""

    tenant_id: UUID
    pattern: str
    workflow_id: UUID
    node_id: str
    filter: str | None
    position: int


class Subscription(NamedTuple):
    """What a trigger node listens to."""

    node_id: str
    pattern: str
    filter: str | None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What was left undone: events and waits that nobody looked at, and events that owe starts."""

    events: list[UUID]
    waits: list[UUID]
    starts: list[UUID]


async def insert(fetcher: Fetcher, event: NewEvent) -> Published:
    """Keep an event, once per idempotency key."""
    rows = await fetcher.fetch(
        _SQL.insert_event,
        event.tenant_id,
        event.name,
        event.correlation_key,
        event.payload,
        event.ttl,
        timedelta() if event.idempotency_key is None else _KEY_LIFETIME,
        _GRACE,
        event.idempotency_key,
        patterns_of(event.name),
    )
    repeat = not rows
    if repeat:
        rows = await fetcher.fetch(_SQL.find_published, event.tenant_id, event.idempotency_key)
    row = rows[0]
    return Published(row["id"], row["published_at"], row["expires_at"], row["dispatched"], repeat)


async def match_events(fetcher: Fetcher, event_ids: Sequence[UUID], limit: int = MATCH_BATCH) -> bool:
    """Give committed events to up to `limit` of the open waits for them; say whether no wait is left.

    It must be the first statement of its transaction, and the events must be committed by others before.
    """
    rows = await fetcher.fetch(_SQL.match_events, event_ids, limit)
    return bool(rows[0]["done"])


async def match_waits(fetcher: Fetcher, step_ids: Sequence[UUID]) -> int:
    """Look through the kept events for committed waits; return how many got one.

    It must be the first statement of its transaction, and come after the commit of the waits.
    """
    rows = await fetcher.fetch(_SQL.match_waits, step_ids)
    return int(rows[0]["given"])


async def leftovers(fetcher: Fetcher, limit: int, age: timedelta) -> Leftovers:
    """Return up to `limit` of each kind of what is left undone for `age`."""
    found: dict[str, list[UUID]] = {"event": [], "wait": [], "start": []}
    for row in await fetcher.fetch(_SQL.leftovers, limit, age):
        found[row["kind"]].append(row["id"])
    return Leftovers(found["event"], found["wait"], found["start"])


async def undispatched(fetcher: Fetcher, event_ids: Sequence[UUID]) -> list[Event]:
    """Return those of the events that still owe starts."""
    return [
        Event(
            row["id"],
            row["tenant_id"],
            row["name"],
            row["correlation_key"],
            None if row["payload"] is None else msgspec.json.decode(row["payload"]),
            row["published_at"],
        )
        for row in await fetcher.fetch(_SQL.undispatched, event_ids)
    ]


async def subscribers(fetcher: Fetcher, patterns: Sequence[tuple[UUID, str]]) -> list[Subscriber]:
    """Return what listens to these patterns of tenants, in any order."""
    tenants, texts = [tenant for tenant, _ in patterns], [text for _, text in patterns]
    return [Subscriber(*row) for row in await fetcher.fetch(_SQL.subscribers, tenants, texts)]


async def mark_dispatched(fetcher: Fetcher, event_ids: Sequence[UUID]) -> None:
    """Note that events owe no starts any more."""
    await fetcher.fetch(_SQL.mark_dispatched, event_ids)


async def expire(fetcher: Fetcher, limit: int) -> int:
    """Delete up to `limit` events whose time is over and that owe nothing; return how many."""
    return len(await fetcher.fetch(_SQL.expire_events, limit))


async def replace_subscriptions(
    connection: Connection, tenant_id: UUID, workflow_id: UUID, subscriptions: Sequence[Subscription]
) -> None:
    """Let a workflow listen to these and nothing else."""
    await connection.execute(_SQL.delete_subscriptions, tenant_id, workflow_id)
    if subscriptions:
        columns = [list(column) for column in zip(*subscriptions, strict=True)]
        await connection.execute(_SQL.insert_subscriptions, tenant_id, workflow_id, *columns)
