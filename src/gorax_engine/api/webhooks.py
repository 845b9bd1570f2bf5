"""Routes of webhooks: made, changed, tried out, deleted. A secret is in the answer that makes it, and in no other."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import check_if_match, etag, principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import Many, One
from gorax_engine.api.webhook_filters import verdict_of
from gorax_engine.api.webhook_schemas import (
    RotateIn,
    TrialIn,
    TrialVerdict,
    Webhook,
    WebhookChange,
    WebhookIn,
    WebhookSettings,
    WebhookWithHealth,
    WebhookWithSecret,
)
from gorax_engine.core.durations import parse_duration
from gorax_engine.core.model import SECOND
from gorax_engine.errors import InvalidInput, Problem
from gorax_engine.store import webhook_events, webhook_filters, webhook_upkeep
from gorax_engine.store.webhook_upkeep import WebhookValues
from gorax_engine.tenancy.principals import Principal
from gorax_engine.triggers.webhook_admin import NewSecret, WebhookAdmin
from gorax_engine.triggers.webhook_filters import judge, trial_request

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]

WRITE_ERRORS = (400, 404, 409, 412, 413, 415)
STAYS = ("node_id", "path", "methods", "auth_type", "signature_scheme")
"""What a PUT leaves as it is where it is absent: no webhook loses its address or its proof by an oversight."""


class WebhookRoutes:
    """Handlers of `/webhooks` below the API (deliveries come in at `/webhooks/…` of the server itself)."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._admin = WebhookAdmin(parts.database, parts.sealed)

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, every, single = "webhooks", "/webhooks", "/webhooks/{webhook_id}"
        read, update = "webhook:read", "webhook:update"
        shown = One[WebhookWithSecret]
        return [
            Endpoint("GET", every, read, self.list_, "List webhooks", tag, Many[Webhook]),
            Endpoint(
                "POST", every, "webhook:create", self.create, "Make a webhook", tag, shown, 201,
                (400, 404, 409, 413, 415),
            ),
            Endpoint("GET", single, read, self.get, "Show a webhook", tag, One[WebhookWithHealth], errors=(404,)),
            Endpoint("PUT", single, update, self.replace, "Replace the settings", tag, shown, 200, WRITE_ERRORS),
            Endpoint("PATCH", single, update, self.patch, "Change a part", tag, shown, 200, WRITE_ERRORS),
            Endpoint(
                "DELETE", single, "webhook:delete", self.delete, "Delete a webhook", tag, One[Webhook], 200,
                (404, 409, 412),
            ),
            Endpoint(
                "POST", single + "/rotate-secret", update, self.rotate_secret, "Give it another secret", tag, shown,
                200, WRITE_ERRORS,
            ),
            Endpoint(
                "POST", single + "/test", update, self.test, "Try a request out", tag, One[TrialVerdict], 200,
                (400, 404, 413, 415),
            ),
        ]  # fmt: skip

    async def list_(
        self,
        principal: Actor,
        workflow_id: UUID | None = None,
        enabled: bool | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List webhooks, newest first."""
        after = decode_cursor(cursor)
        place = None if after is None else (after.created_at, after.id)
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await webhook_upkeep.list_page(
                connection, principal.tenant_id, workflow_id, enabled, place, limit + 1
            )
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": [_addressed(row) for row in shown], "next_cursor": following}))

    async def create(self, request: Request, principal: Actor, body: WebhookIn) -> Response:
        """Make a webhook that is no node's. A secret that is generated is in this answer alone."""
        tenant, workflow = principal.tenant_id, _workflow_of(body)
        secret = await self._admin.new_secret(tenant, body.auth_type, body.signature_scheme, body.secret)
        settings = _given(body)

        async def do(connection: Any) -> Reply:
            row = await self._admin.create(connection, tenant, workflow, body.node_id, body.path, settings, secret)
            return _told(row, secret, 201, {"Location": f"{request.url.path}/{row['id']}"})

        return await act(self._database, request, principal, do)

    async def get(self, principal: Actor, webhook_id: UUID) -> Response:
        """Show a webhook, and how its deliveries of the last 24 hours went."""
        tenant = principal.tenant_id
        async with self._database.tenant(tenant) as connection:
            row = await self._admin.find(connection, tenant, webhook_id)
            health = await webhook_events.health(connection, tenant, webhook_id)
        return respond(one({**_addressed(row), "health": health}, 200, {"ETag": etag(row["revision"])}))

    async def replace(self, request: Request, principal: Actor, webhook_id: UUID, body: WebhookChange) -> Response:
        """Set what is given, and all else to its default; addresses, methods and proofs that are absent stay."""
        unset = {each.name: each.default for each in fields(WebhookValues) if each.name not in STAYS}
        return await self._change(request, principal, webhook_id, body, {**unset, **_given(body)})

    async def patch(self, request: Request, principal: Actor, webhook_id: UUID, body: WebhookChange) -> Response:
        """Change what is given."""
        return await self._change(request, principal, webhook_id, body, _given(body))

    async def _change(
        self, request: Request, principal: Principal, webhook_id: UUID, body: WebhookChange, changes: Mapping[str, Any]
    ) -> Response:
        tenant = principal.tenant_id
        chosen = body.secret if "secret" in body.model_fields_set else None
        secret = await self._admin.prepare(tenant, webhook_id, changes, chosen)

        async def do(connection: Any) -> Reply:
            row = await self._admin.find(connection, tenant, webhook_id, lock=True)
            check_if_match(request, row["revision"])
            return _told(await self._admin.change(connection, tenant, row, changes, secret), secret)

        return await act(self._database, request, principal, do)

    async def delete(self, request: Request, principal: Actor, webhook_id: UUID) -> Response:
        """Delete a webhook that was made by hand; its events stay."""

        async def do(connection: Any) -> Reply:
            row = await self._admin.find(connection, principal.tenant_id, webhook_id, lock=True)
            check_if_match(request, row["revision"])
            await self._admin.delete(connection, principal.tenant_id, row)
            return one(_addressed(row))

        return await act(self._database, request, principal, do)

    async def rotate_secret(
        self, request: Request, principal: Actor, webhook_id: UUID, body: RotateIn | None = None
    ) -> Response:
        """Give a webhook another secret. A generated one is in this answer alone."""
        sent, tenant = body or RotateIn(), principal.tenant_id
        secret = await self._admin.rotated(tenant, webhook_id, sent.secret, _grace(sent.grace))

        async def do(connection: Any) -> Reply:
            row = await self._admin.find(connection, tenant, webhook_id, lock=True)
            check_if_match(request, row["revision"])
            return _told(await self._admin.change(connection, tenant, row, {}, secret), secret)

        return await act(self._database, request, principal, do)

    async def test(self, principal: Actor, webhook_id: UUID, body: TrialIn) -> Response:
        """Say what would become of a request whose sender has proven itself. Nothing is stored or started."""
        tenant = principal.tenant_id
        async with self._database.tenant(tenant) as connection:
            row = await self._admin.find(connection, tenant, webhook_id)
            filters = await webhook_filters.list_all(connection, tenant, webhook_id)
            workflow = await webhook_upkeep.workflow_of(connection, tenant, webhook_id)
        assert workflow is not None  # a webhook goes with its workflow
        data = trial_request(row["path"], body.method, body.headers, body.query, body.body)
        verdict = verdict_of(judge(filters, data))
        code, reason = _hindrance(row, workflow, body.method) or (None, None)
        if code is None and not verdict["passed"]:
            code, reason = "filtered", verdict["reason"]
        named = {name: workflow[name] for name in ("id", "name", "status", "published_version")}
        return respond(
            one(
                {
                    "accepted": code is None,
                    "code": code,
                    "reason": reason,
                    "filters": verdict,
                    "trigger_data": data,
                    "workflow": named,
                }
            )
        )


def _given(body: WebhookSettings) -> dict[str, Any]:
    """Return the settings that a request names."""
    names = {each.name for each in fields(WebhookValues)} & body.model_fields_set
    given = {name: getattr(body, name) for name in names}
    given |= {name: tuple(dict.fromkeys(given[name])) for name in ("methods", "allowed_ips") if name in given}
    if isinstance(body, WebhookIn):
        return {name: value for name, value in given.items() if name not in ("path", "node_id")}
    return given


def _grace(value: str | int) -> timedelta:
    try:
        return timedelta(seconds=parse_duration(value) / SECOND)
    except ValueError as error:
        raise InvalidInput(str(error), problems=[Problem("invalid_grace", "/grace", str(error))]) from None


def _addressed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "url": f"/webhooks/{row['path']}", "id_url": f"/webhooks/{row['workflow_id']}/{row['id']}"}


def _told(
    row: Mapping[str, Any], secret: NewSecret | None, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    """Return the answer with the secret that was generated; a repeat is told none."""
    data = _addressed(row)
    return Reply(
        {"data": {**data, "secret": None if secret is None else secret.shown}},
        status,
        {"ETag": etag(row["revision"]), **(headers or {})},
        kept={"data": {**data, "secret": None}},
    )


def _workflow_of(body: WebhookIn) -> str:
    """Return the id or name that a body gives its workflow by. Raises InvalidInput unless it is one of them."""
    if (body.workflow is None) == (body.workflow_id is None):
        message = "Say which workflow it starts: either by `workflow_id` or by `workflow`, its name."
        raise InvalidInput(message, problems=[Problem("workflow_or_workflow_id", "/workflow_id", message)])
    return body.workflow or str(body.workflow_id)


def _hindrance(row: Mapping[str, Any], workflow: Mapping[str, Any], method: str) -> tuple[str, str] | None:
    """Return why nothing could be started, whatever the filters say."""
    if not row["enabled"]:
        return "webhook_disabled", "The webhook is disabled; enable it first."
    if workflow["status"] != "active":
        return "workflow_inactive", f"The workflow is {workflow['status']}; publish or activate it first."
    if workflow["tenant_status"] != "active":
        return "tenant_suspended", "The tenant is suspended."
    if method not in row["methods"]:
        return "method_not_allowed", f"The webhook accepts {', '.join(row['methods'])} only."
    if row["auth_type"] != "none" and not row["has_secret"]:
        return (
            "secret_missing",
            "The webhook asks for a proof and has no secret, so that nobody gets in; rotate its secret.",
        )
    return None
