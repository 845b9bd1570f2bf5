"""Worker registrations: the rows whose age decides who is alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gorax_engine.store import queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from gorax_engine.core.model import Instant
    from gorax_engine.store.session import Session

_SQL: Final = queries.load("workers")


@dataclass(frozen=True, slots=True)
class Owned:
    """A queue row that this worker holds, with the marks on it."""

    execution_id: UUID
    token: int
    wake_seq: int
    end_requested: str | None
    paused: bool


async def register(
    session: Session, worker_id: UUID, name: str, version: str, roles: Sequence[str], slots: int, lease_ms: int
) -> Instant:
    """Add a worker; return the database's clock."""
    rows = await session.fetch(_SQL.register, worker_id, name, version, roles, slots, lease_ms)
    return int(rows[0]["now_us"])


async def heartbeat(session: Session, worker_id: UUID, *, draining: bool) -> Instant | None:
    """Renew the lease; return the database's clock, or None if the worker was taken for dead."""
    rows = await session.fetch(_SQL.heartbeat, worker_id, draining)
    return int(rows[0]["now_us"]) if rows else None


async def owned(session: Session, worker_id: UUID) -> list[Owned]:
    """Return every run that the worker holds."""
    return [Owned(*row.values()) for row in await session.fetch(_SQL.owned, worker_id)]


async def hand_back(session: Session, worker_id: UUID, runs: Sequence[tuple[UUID, int]]) -> int:
    """Free runs that the worker holds, each by its id and token; return how many were still so."""
    ids, tokens = [run for run, _ in runs], [token for _, token in runs]
    return int((await session.fetch(_SQL.hand_back, worker_id, ids, tokens))[0]["freed"])


async def absolve(session: Session, runs: Sequence[tuple[UUID, int]]) -> int:
    """Take back the crash that was counted for runs, each by the token it had, whose worker lives; return how many."""
    ids, tokens = [run for run, _ in runs], [token for _, token in runs]
    return len(await session.fetch(_SQL.absolve, ids, tokens))


async def release(session: Session, worker_id: UUID) -> int:
    """Give back all runs and remove the worker; return how many there were."""
    return int((await session.fetch(_SQL.release, worker_id))[0]["freed"])
