"""Rows of the log of deliveries: read under the tenant, and replayed as the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Place, Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

HEALTH_EVENTS: Final = 10_000
"""The deliveries that figures of health look at, so that busy webhooks don't cost more."""

_SQL: Final = load("webhook_events")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which deliveries are meant: `since` <= created_at < `until`; status is processed, filtered or failed."""

    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeptStart:
    """What was started under a key. `status` is None for a run that is gone."""

    execution_id: UUID
    event_id: UUID | None
    body_hash: bytes | None
    status: str | None


async def list_page(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, wanted: EventFilter, after: Place, limit: int
) -> list[Row]:
    """Return up to `limit` deliveries, newest first, without what they held."""
    at, last = after or (None, None)
    return as_rows(
        await connection.fetch(
            _SQL.list_events, tenant_id, webhook_id, wanted.status, wanted.since, wanted.until, at, last, limit
        )
    )


async def get(connection: Connection, tenant_id: UUID, event_id: UUID) -> Row | None:
    """Return one delivery with all that it held."""
    return as_row(await connection.fetchrow(_SQL.get_event, tenant_id, event_id))


async def of_webhook(connection: Connection, tenant_id: UUID, webhook_id: UUID, event_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of some ids that are deliveries of a webhook."""
    rows = await connection.fetch(_SQL.events_of_webhook, tenant_id, webhook_id, event_ids)
    return {row["id"] for row in rows}


async def replayable(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, wanted: EventFilter, limit: int
) -> list[UUID]:
    """Return the ids of up to `limit` deliveries that were not replayed yet, oldest first."""
    rows = await connection.fetch(
        _SQL.replayable_events, tenant_id, webhook_id, wanted.status, wanted.since, wanted.until, limit
    )
    return [row["id"] for row in rows]


async def lock_source(connection: Connection, tenant_id: UUID, event_id: UUID) -> Row | None:
    """Return the first source of a delivery and lock it (as the worker); None if there is no such delivery."""
    first = await connection.fetchval(_SQL.first_of_replays, tenant_id, event_id)
    return None if first is None else as_row(await connection.fetchrow(_SQL.lock_source, tenant_id, first))


async def replay_target(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Row | None:
    """Return workflow_id, node_id, priority and enabled of a webhook (as the worker)."""
    return as_row(await connection.fetchrow(_SQL.replay_target, tenant_id, webhook_id))


async def count_replay(connection: Connection, tenant_id: UUID, event_id: UUID) -> None:
    """Count one replay of a locked delivery (as the worker)."""
    await connection.execute(_SQL.count_replay, tenant_id, event_id)


async def kept_start(connection: Connection, tenant_id: UUID, kind: str, key: str) -> KeptStart | None:
    """Return what was started under a key that is not over (as the worker)."""
    record = await connection.fetchrow(_SQL.kept_start, tenant_id, kind, key)
    return None if record is None else KeptStart(*record)


async def health(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Row:
    """Return how the deliveries of the last 24 hours went, or the last `HEALTH_EVENTS` of them."""
    record = await connection.fetchrow(_SQL.webhook_health, tenant_id, webhook_id, HEALTH_EVENTS)
    assert record is not None  # an aggregate has always one row
    return dict(record)
