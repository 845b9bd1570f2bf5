"""Routes of what the user of the API key was told."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, one, respond
from gorax_engine.api.requests import principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import Many, One
from gorax_engine.api.task_schemas import Notification
from gorax_engine.errors import NotFound
from gorax_engine.store import notifications
from gorax_engine.tenancy.principals import Principal

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


class NotificationRoutes:
    """Handlers of `/notifications`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, own = "notifications", "notification:read"
        return [
            Endpoint("GET", "/notifications", own, self.list_, "List notifications", tag, Many[Notification]),
            Endpoint(
                "POST", "/notifications/{notification_id}/read", own, self.read, "Mark a notification as read", tag,
                One[Notification], errors=(404,),
            ),
        ]  # fmt: skip

    async def list_(
        self, principal: Actor, unread: bool | None = None, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Response:
        """List what the own user was told, newest first."""
        after = decode_cursor(cursor)
        place = None if after is None else (after.created_at, after.id)
        async with self._database.tenant(principal.tenant_id, principal.user_id) as connection:
            rows = await notifications.list_page(
                connection, principal.tenant_id, principal.user_id, unread=unread, after=place, limit=limit + 1
            )
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def read(self, principal: Actor, notification_id: UUID) -> Response:
        """Mark a notification as read; doing so again changes nothing."""
        async with self._database.tenant(principal.tenant_id, principal.user_id) as connection:
            row = await notifications.mark_read(connection, principal.tenant_id, principal.user_id, notification_id)
        if row is None:
            raise NotFound(f"There is no notification {notification_id}.", code="notification_not_found")
        return respond(one(row))
