"""Routes of the log of deliveries: read it, and replay what stands in it."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import idempotency_key_of, principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import Many, One
from gorax_engine.api.webhook_schemas import (
    Event,
    EventStatus,
    EventSummary,
    ReplayedEvent,
    ReplayManyIn,
    ReplayResult,
)
from gorax_engine.engine.starting import StartKey
from gorax_engine.errors import GoraxError, InvalidInput, NotFound, Problem, Unavailable
from gorax_engine.store import webhook_events, webhook_upkeep
from gorax_engine.store.request_idempotency import LIFETIME
from gorax_engine.store.webhook_events import EventFilter
from gorax_engine.tenancy.principals import Principal
from gorax_engine.triggers.webhook_replays import Replayed, Replays

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


class WebhookEventRoutes:
    """Handlers of `/webhooks/{webhook_id}/events` and `/webhooks/events/{event_id}`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._replays = Replays(parts.database, parts.verbs, parts.limits)

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, log, single = "webhook events", "/webhooks/{webhook_id}/events", "/webhooks/events/{event_id}"
        read, replay = "webhook:read", "webhook:replay"
        return [
            Endpoint("GET", log, read, self.list_, "List deliveries", tag, Many[EventSummary], errors=(404,)),
            Endpoint(
                "POST", log + "/replay", replay, self.replay_many, "Replay several deliveries", tag, One[ReplayResult],
                202, (400, 404, 409, 413, 415),
            ),
            Endpoint("GET", single, read, self.get, "Show a delivery", tag, One[Event], errors=(404,)),
            Endpoint(
                "POST", single + "/replay", replay, self.replay, "Replay a delivery", tag, One[ReplayedEvent], 202,
                (404, 409),
            ),
        ]  # fmt: skip

    async def list_(
        self,
        principal: Actor,
        webhook_id: UUID,
        status: EventStatus | None = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List the deliveries of a webhook, newest first; also after it was deleted, as long as they are kept."""
        tenant, after = principal.tenant_id, decode_cursor(cursor)
        place = None if after is None else (after.created_at, after.id)
        wanted = EventFilter(status, since, until)
        async with self._database.tenant(tenant) as connection:
            rows = await webhook_events.list_page(connection, tenant, webhook_id, wanted, place, limit + 1)
            if not rows and after is None:
                await _require_webhook(connection, tenant, webhook_id)
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def get(self, principal: Actor, event_id: UUID) -> Response:
        """Show a delivery with all that it held."""
        async with self._database.tenant(principal.tenant_id) as connection:
            row = await webhook_events.get(connection, principal.tenant_id, event_id)
        if row is None:
            raise NotFound("There is no such webhook event.", code="event_not_found")
        raw = row["raw_body"]
        return respond(one({**row, "raw_body": None if raw is None else base64.b64encode(raw).decode()}))

    async def replay(self, request: Request, principal: Actor, event_id: UUID) -> Response:
        """Start the workflow of a delivery once more; a delivery can be replayed 5 times."""
        key = idempotency_key_of(request)
        start_key = None if key is None else _start_key(key, event_id)
        replayed = await self._replays.replay(principal.tenant_id, event_id, principal.user_id, start_key)
        return respond(one(_shown(replayed), 202))

    async def replay_many(self, request: Request, principal: Actor, webhook_id: UUID, body: ReplayManyIn) -> Response:
        """Replay deliveries one after another; one that is refused stops none of the others."""
        _check_choice(body)
        key = idempotency_key_of(request)

        async def do(connection: Any) -> Reply:
            await _require_webhook(connection, principal.tenant_id, webhook_id)
            ids, more = await _chosen(connection, principal.tenant_id, webhook_id, body)
            own = await webhook_events.of_webhook(connection, principal.tenant_id, webhook_id, ids)
            replayed: list[dict[str, Any]] = []
            refused: list[dict[str, Any]] = []
            for event_id in ids:
                try:
                    if event_id not in own:
                        raise NotFound("The webhook has no such event.", code="event_not_found")
                    start_key = None if key is None else _start_key(_key_of_one(key, event_id), event_id)
                    done = await self._replays.replay(principal.tenant_id, event_id, principal.user_id, start_key)
                except Unavailable:
                    raise
                except GoraxError as error:
                    refused.append({"event_id": event_id, "code": error.code, "message": error.message})
                else:
                    replayed.append({**_shown(done), "requested_event_id": event_id})
            return one({"replayed": replayed, "refused": refused, "more": more}, 202)

        return await act(self._database, request, principal, do)


async def _chosen(
    connection: Any, tenant_id: UUID, webhook_id: UUID, body: ReplayManyIn
) -> tuple[Sequence[UUID], bool]:
    """Return the ids that are meant, and whether there are more."""
    if body.event_ids is not None:
        return list(dict.fromkeys(body.event_ids)), False
    wanted = EventFilter(body.status, body.since, body.until)
    found = await webhook_events.replayable(connection, tenant_id, webhook_id, wanted, body.limit + 1)
    return found[: body.limit], len(found) > body.limit


def _check_choice(body: ReplayManyIn) -> None:
    by_filter = body.model_fields_set & {"status", "since", "until"}
    if (body.event_ids is None) == (body.status is None) or (body.event_ids is not None and by_filter):
        message = (
            "Say which deliveries are meant: either by `event_ids`, or by a `status`, perhaps with `since` and `until`."
        )
        raise InvalidInput(message, problems=[Problem("ids_or_status", "", message)])


async def _require_webhook(connection: Any, tenant_id: UUID, webhook_id: UUID) -> None:
    if await webhook_upkeep.get(connection, tenant_id, webhook_id) is None:
        raise NotFound("There is no such webhook.", code="webhook_not_found")


def _key_of_one(key: str, event_id: UUID) -> str:
    return "bulk:" + hashlib.sha256(f"{key}\0{event_id}".encode()).hexdigest()


def _start_key(key: str, event_id: UUID) -> StartKey:
    content = f"webhook_replay\0{event_id}"
    return StartKey("idempotency", key, hashlib.sha256(content.encode()).digest(), LIFETIME)


def _shown(replayed: Replayed) -> dict[str, Any]:
    return {
        "execution_id": replayed.execution_id,
        "event_id": replayed.event_id,
        "source_event_id": replayed.source_event_id,
        "status": replayed.status,
    }
