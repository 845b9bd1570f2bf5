"""Whether a tenant may queue more work: asked before a start is accepted, so that a refusal is early and clear.

What is already accepted is never dropped: starts by schedules, events, other runs and replays pass. The figures of a
tenant are a second old at most, so a burst may overshoot a limit by what one second brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.errors import TooManyRequests
from gorax_engine.store import tenants
from gorax_engine.store.lookup_cache import LookupCache
from gorax_engine.telemetry import QuotaRejected

if TYPE_CHECKING:
    from gorax_engine.engine.starting import StartKey
    from gorax_engine.store.database import Database
    from gorax_engine.telemetry import Telemetry

FRESH_FOR: Final = 1.0
RETRY_AFTER: Final = 5
"""Seconds: what a client is told, for a queue that is full doesn't empty at once."""

_REASONS: Final[dict[str, str]] = {
    "max_queued_executions": "as many runs are waiting to begin as its limit allows",
    "max_queue_age_seconds": "its runs wait longer to begin than its limit allows",
}


class Admission:
    """Judges starts by the queue of their tenant. `max_depth` and `max_age` (seconds) are the operator's; 0: none.

    The tenant's quotas `max_queued_executions` and `max_queue_age_seconds` take their place.
    """

    def __init__(self, database: Database, telemetry: Telemetry, max_depth: int, max_age: int) -> None:
        self._database = database
        self._telemetry = telemetry
        self._limits = (max_depth, max_age)
        self._verdicts: LookupCache[UUID, str | None] = LookupCache(self._load, ttl=FRESH_FOR)

    async def check(self, tenant_id: UUID, start_key: StartKey | None = None) -> None:
        """Raise TooManyRequests (queue_full) if the tenant has too much queued; Unavailable.

        A repeat of what was accepted before passes: it starts nothing, and is owed the answer of the first.
        """
        quota = await self._verdicts.get(tenant_id)
        if quota is not None and not await self._is_repeat(tenant_id, start_key):
            self._telemetry.emit(QuotaRejected(quota))
            raise TooManyRequests(
                f"The tenant can't start more now: {_REASONS[quota]} (`{quota}`); try again later.",
                code="queue_full",
                retry_after=RETRY_AFTER,
            )

    async def _is_repeat(self, tenant_id: UUID, start_key: StartKey | None) -> bool:
        if start_key is None:
            return False
        async with self._database.worker() as connection:
            return await tenants.has_start_key(connection, tenant_id, start_key.kind, start_key.key)

    async def _load(self, tenant_id: UUID) -> str | None:
        async with self._database.worker() as connection:
            return await tenants.admission(connection, tenant_id, *self._limits)
