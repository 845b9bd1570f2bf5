"""Routes of the filters of webhooks, and of trying them out."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import Many, One
from gorax_engine.api.webhook_schemas import FilterIn, FilterPatch, FilterVerdict, TrialIn, WebhookFilter
from gorax_engine.core.filters import Verdict
from gorax_engine.store.webhook_filters import FilterValues
from gorax_engine.tenancy.principals import Principal
from gorax_engine.triggers import webhook_filters

Actor = Annotated[Principal, Depends(principal_of)]

WRITE_ERRORS = (400, 404, 409, 413, 415)


class WebhookFilterRoutes:
    """Handlers of `/webhooks/{webhook_id}/filters`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, every = "webhook filters", "/webhooks/{webhook_id}/filters"
        single = every + "/{filter_id}"
        read, update = "webhook:read", "webhook:update"
        shown = One[WebhookFilter]
        return [
            Endpoint("GET", every, read, self.list_, "List filters", tag, Many[WebhookFilter], errors=(404,)),
            Endpoint("POST", every, update, self.create, "Add a filter", tag, shown, 201, WRITE_ERRORS),
            Endpoint(
                "POST", every + "/test", update, self.test, "Try the filters out", tag, One[FilterVerdict], 200,
                (400, 404, 413, 415),
            ),
            Endpoint("GET", single, read, self.get, "Show a filter", tag, shown, errors=(404,)),
            Endpoint("PUT", single, update, self.replace, "Replace a filter", tag, shown, 200, WRITE_ERRORS),
            Endpoint("PATCH", single, update, self.patch, "Change a part", tag, shown, 200, WRITE_ERRORS),
            Endpoint("DELETE", single, update, self.delete, "Delete a filter", tag, shown, 200, (404,)),
        ]  # fmt: skip

    async def list_(self, principal: Actor, webhook_id: UUID) -> Response:
        """List the filters of a webhook, group by group; there are 50 at most."""
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await webhook_filters.list_all(connection, principal.tenant_id, webhook_id)
        return respond(Reply({"data": rows, "next_cursor": None}))

    async def create(self, request: Request, principal: Actor, webhook_id: UUID, body: FilterIn) -> Response:
        """Add a filter to a webhook."""
        values = FilterValues(**body.model_dump())

        async def do(connection: Any) -> Reply:
            row = await webhook_filters.add(connection, principal.tenant_id, webhook_id, values)
            return one(row, 201, {"Location": f"{request.url.path}/{row['id']}"})

        return await act(self._database, request, principal, do)

    async def get(self, principal: Actor, webhook_id: UUID, filter_id: UUID) -> Response:
        """Show a filter."""
        async with self._database.tenant(principal.tenant_id) as connection:
            return respond(one(await webhook_filters.find(connection, principal.tenant_id, webhook_id, filter_id)))

    async def replace(
        self, request: Request, principal: Actor, webhook_id: UUID, filter_id: UUID, body: FilterIn
    ) -> Response:
        """Replace a filter."""
        return await self._change(request, principal, webhook_id, filter_id, body.model_dump())

    async def patch(
        self, request: Request, principal: Actor, webhook_id: UUID, filter_id: UUID, body: FilterPatch
    ) -> Response:
        """Change what is given."""
        return await self._change(request, principal, webhook_id, filter_id, body.model_dump(exclude_unset=True))

    async def _change(
        self, request: Request, principal: Principal, webhook_id: UUID, filter_id: UUID, changes: Mapping[str, Any]
    ) -> Response:
        async def do(connection: Any) -> Reply:
            tenant = principal.tenant_id
            return one(await webhook_filters.change(connection, tenant, webhook_id, filter_id, changes))

        return await act(self._database, request, principal, do)

    async def delete(self, request: Request, principal: Actor, webhook_id: UUID, filter_id: UUID) -> Response:
        """Delete a filter."""

        async def do(connection: Any) -> Reply:
            return one(await webhook_filters.delete(connection, principal.tenant_id, webhook_id, filter_id))

        return await act(self._database, request, principal, do)

    async def test(self, principal: Actor, webhook_id: UUID, body: TrialIn) -> Response:
        """Say what the enabled filters make of a request, rule by rule. Nothing is stored."""
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await webhook_filters.list_all(connection, principal.tenant_id, webhook_id)
        data = webhook_filters.trial_request("", body.method, body.headers, body.query, body.body)
        return respond(one(verdict_of(webhook_filters.judge(rows, data))))


def verdict_of(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as it is shown."""
    rules = [
        {
            "id": rule.filter.id,
            "field_path": rule.filter.field_path,
            "operator": rule.filter.operator,
            "value": rule.filter.value,
            "logic_group": rule.filter.logic_group,
            "passed": rule.passed,
            "found": rule.found,
            "actual": rule.actual,
            "reason": rule.reason,
        }
        for rule in verdict.rules
    ]
    return {"passed": verdict.passed, "reason": verdict.reason, "rules": rules}
