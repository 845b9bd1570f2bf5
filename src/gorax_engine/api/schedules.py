"""Routes of schedules: kept, looked ahead at, started by hand, and filled afterwards."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import check_if_match, etag, idempotency_key_of, principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schedule_schemas import (
    BackfillIn,
    FilledStretch,
    Occurrence,
    Preview,
    PreviewIn,
    Schedule,
    ScheduleIn,
    SchedulePatch,
    TriggerIn,
)
from gorax_engine.api.schemas import Many, One, StartedRun
from gorax_engine.core import json_edge
from gorax_engine.core.schedules import ScheduleSpec
from gorax_engine.engine.starting import StartKey
from gorax_engine.store import schedules as rows_of_schedules
from gorax_engine.store.request_idempotency import LIFETIME
from gorax_engine.tenancy.principals import Principal
from gorax_engine.triggers import schedules
from gorax_engine.triggers.backfills import Backfills, Stretch

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]

WRITE_ERRORS = (400, 404, 409, 412, 413, 415)


class ScheduleRoutes:
    """Handlers of `/schedules`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._verbs = parts.verbs
        self._admit = parts.admit
        self._backfills = Backfills(parts.database, parts.telemetry)

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, every, single = "schedules", "/schedules", "/schedules/{schedule_id}"
        read, update, trigger = "schedule:read", "schedule:update", "schedule:trigger"
        return [
            Endpoint("GET", every, read, self.list_, "List schedules", tag, Many[Schedule]),
            Endpoint(
                "POST", every, "schedule:create", self.create, "Create a schedule", tag, One[Schedule], 201,
                (400, 404, 409, 413, 415),
            ),
            Endpoint(
                "POST", every + "/preview", read, self.preview, "Look ahead", tag, One[Preview], errors=(400, 413, 415),
            ),
            Endpoint("GET", single, read, self.get, "Show a schedule", tag, One[Schedule], errors=(404,)),
            Endpoint("PUT", single, update, self.replace, "Replace", tag, One[Schedule], 200, WRITE_ERRORS),
            Endpoint("PATCH", single, update, self.patch, "Change a part", tag, One[Schedule], 200, WRITE_ERRORS),
            Endpoint(
                "DELETE", single, "schedule:delete", self.delete, "Delete a schedule", tag, One[Schedule], 200,
                (404, 409, 412),
            ),
            Endpoint(
                "GET", single + "/occurrences", read, self.occurrences, "List what became of its occurrences", tag,
                Many[Occurrence], errors=(404,),
            ),
            Endpoint(
                "POST", single + "/trigger", trigger, self.trigger, "Start a run now", tag, One[StartedRun], 202,
                (400, 404, 409, 413, 415, 429),
            ),
            Endpoint(
                "POST", single + "/backfill", trigger, self.backfill, "Start what was not started", tag,
                One[FilledStretch], 202, (400, 404, 409, 413, 415),
            ),
        ]  # fmt: skip

    async def list_(
        self,
        principal: Actor,
        workflow_id: UUID | None = None,
        enabled: bool | None = None,
        name: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List schedules, newest first."""
        tenant, place = principal.tenant_id, decode_cursor(cursor)
        after = None if place is None else (place.created_at, place.id)
        async with self._database.tenant(tenant) as connection:
            rows = await rows_of_schedules.list_page(connection, tenant, workflow_id, enabled, name, after, limit + 1)
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": [_data(row) for row in shown], "next_cursor": following}))

    async def create(self, request: Request, principal: Actor, body: ScheduleIn) -> Response:
        """Create a schedule; it begins with its next occurrence."""

        async def do(connection: Any) -> Reply:
            row = await schedules.create(connection, principal.tenant_id, principal.user_id, _given(body))
            return _shown(row, 201, {"Location": f"{request.url.path}/{row['id']}"})

        return await act(self._database, request, principal, do)

    async def preview(self, principal: Actor, body: PreviewIn) -> Response:
        """Say when a schedule would occur: exactly what then happens."""
        begin = body.begin
        if begin is None:
            async with self._database.tenant(principal.tenant_id) as connection:
                begin = await rows_of_schedules.now(connection)
        return respond(one({"occurrences": schedules.preview(_given(body), begin, body.count)}))

    async def get(self, principal: Actor, schedule_id: UUID) -> Response:
        """Show a schedule."""
        async with self._database.tenant(principal.tenant_id) as connection:
            return respond(_shown(await schedules.find(connection, principal.tenant_id, schedule_id)))

    async def replace(self, request: Request, principal: Actor, schedule_id: UUID, body: ScheduleIn) -> Response:
        """Replace all that may change; what isn't given takes its default. Workflow and name stay unless given."""
        return await self._change(request, principal, schedule_id, body, whole=True)

    async def patch(self, request: Request, principal: Actor, schedule_id: UUID, body: SchedulePatch) -> Response:
        """Change what is given. A schedule that is enabled goes on from now: nothing is made up for."""
        return await self._change(request, principal, schedule_id, body, whole=False)

    async def _change(
        self, request: Request, principal: Principal, schedule_id: UUID, body: BaseModel, *, whole: bool
    ) -> Response:
        async def do(connection: Any) -> Reply:
            row = await schedules.find_for_change(connection, principal.tenant_id, schedule_id)
            check_if_match(request, row["revision"])
            changed = await schedules.change(connection, principal.tenant_id, row, _given(body), whole=whole)
            return _shown(changed)

        return await act(self._database, request, principal, do)

    async def delete(self, request: Request, principal: Actor, schedule_id: UUID) -> Response:
        """Delete a schedule with its history; its runs stay."""

        async def do(connection: Any) -> Reply:
            row = await schedules.find_for_change(connection, principal.tenant_id, schedule_id, even_archived=True)
            check_if_match(request, row["revision"])
            await schedules.delete(connection, principal.tenant_id, row)
            return one(_data(row))

        return await act(self._database, request, principal, do)

    async def occurrences(
        self, principal: Actor, schedule_id: UUID, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Response:
        """List what became of a schedule's occurrences, newest first; what is older than 90 days is gone."""
        tenant, place = principal.tenant_id, decode_cursor(cursor)
        before = None if place is None else place.created_at
        async with self._database.tenant(tenant) as connection:
            await schedules.find(connection, tenant, schedule_id)
            rows = await rows_of_schedules.list_occurrences(connection, tenant, schedule_id, before, limit + 1)
        shown, following = page(rows, limit, lambda row: Cursor(row["scheduled_for"], row["schedule_id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def trigger(
        self, request: Request, principal: Actor, schedule_id: UUID, body: TriggerIn | None = None
    ) -> Response:
        """Start a run beside the plan, whatever runs already."""
        given = body is not None and "input" in body.model_fields_set
        async with self._database.tenant(principal.tenant_id) as connection:
            row = await schedules.find(connection, principal.tenant_id, schedule_id)
            now = await rows_of_schedules.now(connection)
        own_input = body.input if body is not None and given else row["input"]
        key, start_key = idempotency_key_of(request), None
        if key is not None:
            content = f"trigger\0{schedule_id}\0{json_edge.encode(body.input) if body is not None and given else ''}"
            start_key = StartKey("idempotency", key, hashlib.sha256(content.encode()).digest(), LIFETIME)
        await self._admit(principal.tenant_id, start_key)
        started = await self._verbs.start(
            schedules.start_by_hand(principal.tenant_id, principal.user_id, row, now, own_input, start_key)
        )
        return respond(one({"execution_id": started.execution_id, "status": started.status}, 202))

    async def backfill(self, request: Request, principal: Actor, schedule_id: UUID, body: BackfillIn) -> Response:
        """Start every occurrence of a stretch of the past that was not started. A repeat starts nothing twice."""
        stretch = Stretch(body.start, body.end, body.limit)

        async def do(connection: Any) -> Reply:
            row = await schedules.find(connection, principal.tenant_id, schedule_id)
            now = await rows_of_schedules.now(connection)
            filled = await self._backfills.fill(principal.tenant_id, principal.user_id, row, stretch, now)
            occurrences = [{"scheduled_for": at, "execution_id": run} for at, run in filled.occurrences]
            return one({"started": filled.started, "already": filled.already, "occurrences": occurrences}, 202)

        return await act(self._database, request, principal, do)


def _given(body: BaseModel) -> dict[str, Any]:
    return {field: getattr(body, field) for field in body.model_fields_set}


def _data(row: Mapping[str, Any]) -> dict[str, Any]:
    given = ScheduleSpec.of_row(row).given()
    return {
        field: given[field] if field in ("dst", "jitter", "catchup_window") else row[field]
        for field in Schedule.model_fields
    }


def _shown(row: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return one(_data(row), status, {"ETag": etag(row["revision"]), **(headers or {})})
