"""Rows of mail about tasks that is still to be sent, as the worker's role sees them: of all tenants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store import queries

if TYPE_CHECKING:
    from gorax_engine.store.session import Session

_SQL: Final = queries.load("task_mails")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that is ours to send; `attempts` counts this one. `is_open` says whether its task is undecided still."""

    id: UUID
    tenant_id: UUID
    task_id: UUID
    recipients: list[str]
    subject: str
    body: str
    attempts: int
    execution_id: UUID
    node_id: str | None
    is_open: bool
    credential: str | None
    sender: str | None


async def claim(session: Session, limit: int, seconds: float) -> list[Mail]:
    """Take up to `limit` mails that are due; after `seconds` without `done` others may take them."""
    return [Mail(**row) for row in await session.fetch(_SQL.claim_mails, limit, seconds)]


async def done(session: Session, mail_id: UUID) -> None:
    """Forget a mail that is sent or given up."""
    await session.fetch(_SQL.mail_done, mail_id)


async def postpone(session: Session, mail_id: UUID, seconds: float) -> None:
    """Let a mail be tried again in `seconds`."""
    await session.fetch(_SQL.postpone_mail, mail_id, seconds)
