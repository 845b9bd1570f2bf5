"""Replays: a delivery that is in the log starts its workflow once more, as it came.

A replay is a delivery of its own in the log, with the first one as its source; filters and deduplication don't look at
it, for somebody has asked for it. The first one counts its replays, and those of its replays, and is locked meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.engine.starting import StartRequest, WebhookDelivery
from gorax_engine.errors import Conflict, IdempotencyMismatch, InvalidInput, NotFound, PayloadTooLarge
from gorax_engine.store import webhook_events
from gorax_engine.triggers.webhook_requests import is_form, read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gorax_engine.core.model import Json
    from gorax_engine.engine.starting import Started, StartKey
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.rows import Row

TRIGGER_TYPE: Final = "webhook_replay"
MAX_REPLAYS: Final = 5


class Starter(Protocol):
    """The verb of the engine that replays need."""

    async def start_within(self, connection: Connection, request: StartRequest, links: Mapping[str, Json]) -> Started:
        """Start a run within the caller's transaction as `gorax_worker`."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay that was started: its run, its own delivery, and the first one."""

    execution_id: UUID
    event_id: UUID | None
    source_event_id: UUID
    status: str


class Replays:
    """Replays deliveries, one at a time. `limits` are those of the bodies that are read again."""

    def __init__(self, database: Database, starter: Starter, limits: JsonLimits) -> None:
        self._database = database
        self._starter = starter
        self._limits = limits

    async def replay(self, tenant_id: UUID, event_id: UUID, user_id: UUID, key: StartKey | None) -> Replayed:
        """Start the workflow of a delivery once more; the same key does so once.

        Raises NotFound (event_not_found); Conflict (replay_limit, not_replayable, webhook_deleted, webhook_disabled,
        and those of a start); IdempotencyMismatch; Unavailable, after which the same key tells what was done.
        """
        async with self._database.worker() as connection, connection.transaction():
            source = await webhook_events.lock_source(connection, tenant_id, event_id)
            if source is None:
                raise NotFound("There is no such webhook event.", code="event_not_found")
            if key is not None and (known := await _known(connection, tenant_id, source["id"], key)) is not None:
                return known
            if source["replay_count"] >= MAX_REPLAYS:
                message = f"The delivery was replayed {MAX_REPLAYS} times already, which is the limit."
                raise Conflict(message, code="replay_limit")
            request = await self._request(connection, tenant_id, source, user_id, key)
            try:
                started = await self._starter.start_within(connection, request, {"source_event": str(source["id"])})
            except NotFound:
                raise _disabled() from None
            await webhook_events.count_replay(connection, tenant_id, source["id"])
        return Replayed(started.execution_id, started.event_id, source["id"], started.status)

    async def _request(
        self, connection: Connection, tenant_id: UUID, source: Row, user_id: UUID, key: StartKey | None
    ) -> StartRequest:
        webhook = await webhook_events.replay_target(connection, tenant_id, source["webhook_id"])
        if webhook is None:
            raise Conflict(
                "The webhook of the delivery was deleted, so that nothing can be started.", code="webhook_deleted"
            )
        if not webhook["enabled"]:
            raise _disabled()
        raw = source["raw_body"] or b""
        headers, query = source["request_headers"], source["request_query"] or {}
        content_type = headers.get("content-type")
        body = source["request_body"] if source["status"] != "failed" else self._read_again(content_type, raw)
        method, path = source["request_method"], source["request_path"] or ""
        data = {"method": method, "path": path, "headers": headers, "query": query, "body": body}
        if is_form(content_type):
            data["raw"] = raw.decode("latin-1")
        return StartRequest(
            tenant_id=tenant_id,
            workflow_id=webhook["workflow_id"],
            trigger_type=TRIGGER_TYPE,
            trigger_data=data,
            trigger_node=webhook["node_id"] or None,
            priority=webhook["priority"],
            start_key=key,
            started_by=user_id,
            delivery=WebhookDelivery(source["webhook_id"], method, path, query, headers, body, raw),
        )

    def _read_again(self, content_type: str | None, raw: bytes) -> Json:
        """Read the body of a delivery that was refused before, or because of, its reading."""
        try:
            return read_body(content_type, raw, self._limits)
        except (InvalidInput, PayloadTooLarge) as error:
            message = f"The delivery can't be replayed, for its body can't be read: {error.message}"
            raise Conflict(message, code="not_replayable") from None


async def _known(connection: Connection, tenant_id: UUID, source_id: UUID, key: StartKey) -> Replayed | None:
    """Return what the key has started already. Raises IdempotencyMismatch if that was something else."""
    kept = await webhook_events.kept_start(connection, tenant_id, key.kind, key.key)
    if kept is None:
        return None
    if kept.body_hash != key.body_hash:
        raise IdempotencyMismatch("This idempotency key was used before with another body; use a new key.")
    return Replayed(kept.execution_id, kept.event_id, source_id, kept.status or "completed")


def _disabled() -> Conflict:
    return Conflict("The webhook of the delivery is disabled; enable it first.", code="webhook_disabled")
