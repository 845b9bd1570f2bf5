"""The route of events: publishing one."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from pydantic import StrictInt, StrictStr
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.replies import Reply, act, one
from gorax_engine.api.requests import principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import AnswerModel, One, RequestModel
from gorax_engine.core.event_names import DEFAULT_TTL, correlation_key, event_name, event_ttl
from gorax_engine.errors import InvalidInput, Problem
from gorax_engine.store.events import NewEvent, Published
from gorax_engine.tenancy.principals import Principal
from gorax_engine.triggers.events import new_event

Actor = Annotated[Principal, Depends(principal_of)]


class EventIn(RequestModel):
    """An event. `ttl` is a duration: for how long it is kept for waits that come later (24 h, at most 30 days)."""

    name: StrictStr
    correlation_key: StrictStr | StrictInt | None = None
    payload: Any = None
    ttl: StrictStr | StrictInt | float | None = None


class PublishedEvent(AnswerModel):
    """An event that is kept."""

    event_id: UUID
    name: str
    correlation_key: str | None
    published_at: str
    expires_at: str


class EventRoutes:
    """Handlers of `/events`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._events = parts.events

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        return [
            Endpoint(
                "POST", "/events", "event:publish", self.publish, "Publish an event", "events", One[PublishedEvent],
                202, (400, 409, 413, 415),
            ),
        ]  # fmt: skip

    async def publish(self, request: Request, principal: Actor, body: EventIn) -> Response:
        """Publish an event; it is answered after the commit, and reaches those that wait for it at once."""
        event = _read(principal.tenant_id, body)
        committed: list[Published] = []

        async def do(connection: Any) -> Reply:
            published = await self._events.publish_within(connection, event)
            committed.append(published)
            data = {
                "event_id": published.id,
                "name": event.name,
                "correlation_key": event.correlation_key,
                "published_at": published.published_at,
                "expires_at": published.expires_at,
            }
            return one(data, 202)

        answer = await act(self._database, request, principal, do)
        for published in committed:
            await self._events.spread(published)
        return answer


def _read(tenant_id: UUID, body: EventIn) -> NewEvent:
    """Return the event that a body names. Raises InvalidInput with all that is wrong."""
    problems: list[Problem] = []

    def checked(field: str, read: Any, value: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            problems.append(Problem("invalid_event", f"/{field}", str(error)))
            return None

    name = checked("name", event_name, body.name)
    key = None if body.correlation_key is None else checked("correlation_key", correlation_key, body.correlation_key)
    ttl = DEFAULT_TTL if body.ttl is None else checked("ttl", event_ttl, body.ttl)
    if problems:
        raise InvalidInput("This can't be an event; see `errors`.", problems=problems)
    return new_event(tenant_id, name, key, body.payload, ttl)
