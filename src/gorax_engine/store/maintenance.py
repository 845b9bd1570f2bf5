"""What the duties of the maintenance role ask of the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from gorax_engine.store import queries

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.model import Json
    from gorax_engine.store.session import Session

_SQL: Final = queries.load("maintenance")


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """Something to be done after the end of a run."""

    id: int
    tenant_id: UUID
    kind: str
    payload: dict[str, Json]


async def hold_term(session: Session, duty: str, holder: UUID, seconds: float) -> int | None:
    """Take or renew the leadership of a duty for `seconds`; return the term, None if another one leads."""
    rows = await session.fetch(_SQL.hold_term, duty, holder, seconds)
    return int(rows[0]["term"]) if rows else None


async def resign(session: Session, duty: str, holder: UUID) -> None:
    """Give the leadership up."""
    await session.fetch(_SQL.resign, duty, holder)


async def ensure_partitions(session: Session) -> None:
    """Create the partitions of the months ahead."""
    await session.fetch(_SQL.ensure_partitions)


async def expire_start_keys(session: Session, limit: int) -> int:
    """Delete up to `limit` start keys that are over; return how many."""
    return len(await session.fetch(_SQL.expire_start_keys, limit))


async def expire_answers(session: Session, limit: int) -> int:
    """Delete up to `limit` remembered answers that are over; return how many."""
    return len(await session.fetch(_SQL.expire_answers, limit))


async def expire_webhook_events(session: Session, limit: int) -> int:
    """Delete up to `limit` webhook events that their tenants keep no longer; return how many."""
    return len(await session.fetch(_SQL.expire_webhook_events, limit))


async def outbox(session: Session, limit: int) -> list[OutboxEntry]:
    """Return the oldest entries of the outbox."""
    return [
        OutboxEntry(row["id"], row["tenant_id"], row["kind"], msgspec.json.decode(row["payload"]))
        for row in await session.fetch(_SQL.outbox, limit)
    ]


async def outbox_done(session: Session, entry_id: int) -> None:
    """Forget an entry that is carried out."""
    await session.fetch(_SQL.outbox_done, entry_id)


async def find_workflow(session: Session, tenant_id: UUID, name_or_id: str) -> UUID | None:
    """Return the id of a workflow of the tenant by name or id."""
    rows = await session.fetch(_SQL.find_workflow, tenant_id, name_or_id)
    return rows[0]["id"] if rows else None
