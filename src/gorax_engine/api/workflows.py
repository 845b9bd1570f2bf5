"""Routes of workflows: drafts, checks, versions, publishing and starting."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import check_if_match, etag, idempotency_key_of, principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import (
    DefinitionIn,
    ExecuteIn,
    Execution,
    Many,
    One,
    StartedRun,
    Validation,
    Workflow,
    WorkflowIn,
    WorkflowPatch,
    WorkflowSummary,
    WorkflowVersion,
    WorkflowVersionSummary,
)
from gorax_engine.core import json_edge
from gorax_engine.engine.starting import StartKey, StartRequest
from gorax_engine.errors import NotFound, Problem
from gorax_engine.store import executions, webhooks, workflows
from gorax_engine.store.request_idempotency import LIFETIME
from gorax_engine.tenancy.principals import Principal
from gorax_engine.triggers.signatures import Scheme, check_secret
from gorax_engine.workflows import drafts, publishing
from gorax_engine.workflows.documents import SETTINGS, canonical_definition, check_definition, with_settings
from gorax_engine.workflows.webhook_secrets import WebhookSecrets

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Wait = Annotated[int, Query(ge=0, le=60, description="Seconds to wait for the end of the run.")]
Status = Literal["draft", "active", "inactive", "archived"]

WRITE_ERRORS = (400, 404, 409, 412, 413, 415)


class WorkflowRoutes:
    """Handlers of `/workflows`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._verbs = parts.verbs
        self._ends = parts.ends
        self._admit = parts.admit
        self._registry = parts.registry
        self._secrets = WebhookSecrets(
            parts.database, parts.sealed, lambda kind, scheme, secret: check_secret(kind, Scheme(scheme), secret)
        )

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, one_path = "workflows", "/workflows/{workflow_id}"
        read, update = "workflow:read", "workflow:update"
        return [
            Endpoint("GET", "/workflows", read, self.list_, "List workflows", tag, Many[WorkflowSummary]),
            Endpoint(
                "POST", "/workflows", "workflow:create", self.create, "Create a draft", tag, One[Workflow], 201,
                (400, 409, 413, 415),
            ),
            Endpoint(
                "POST", "/workflows/validate", read, self.validate, "Check a definition", tag, One[Validation],
                errors=(400, 413, 415),
            ),
            Endpoint("GET", one_path, read, self.get, "Show a workflow", tag, One[Workflow], errors=(404,)),
            Endpoint("PUT", one_path, update, self.replace, "Replace the draft", tag, One[Workflow], 200, WRITE_ERRORS),
            Endpoint("PATCH", one_path, update, self.patch, "Change a part", tag, One[Workflow], 200, WRITE_ERRORS),
            Endpoint(
                "DELETE", one_path, "workflow:delete", self.archive, "Archive", tag, One[Workflow], 200,
                (404, 409, 412),
            ),
            Endpoint(
                "POST", one_path + "/publish", update, self.publish, "Publish the draft", tag, One[Workflow], 200,
                (404, 409, 412),
            ),
            Endpoint(
                "POST", one_path + "/execute", "workflow:execute", self.execute, "Start a run", tag,
                One[StartedRun] | One[Execution], 202, (400, 404, 409, 413, 415),
            ),
            Endpoint(
                "GET", one_path + "/versions", read, self.versions, "List published versions", tag,
                Many[WorkflowVersionSummary], errors=(404,),
            ),
            Endpoint(
                "GET", one_path + "/versions/{version}", read, self.version, "Show a published version", tag,
                One[WorkflowVersion], errors=(404,),
            ),
            Endpoint(
                "POST", one_path + "/versions/{version}/restore", update, self.restore, "Make a version the draft", tag,
                One[Workflow], 200, (404, 409, 412),
            ),
        ]  # fmt: skip

    async def list_(
        self,
        principal: Actor,
        name: str | None = None,
        status: Status | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List workflows, newest first; archived ones only with `status=archived`."""
        after = _place(cursor)
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await workflows.list_page(connection, principal.tenant_id, name, status, after, limit + 1)
        return _list(rows, limit)

    async def create(self, request: Request, principal: Actor, body: WorkflowIn) -> Response:
        """Store a draft."""
        definition = canonical_definition(body.definition, body.settings, self._registry)
        definition = await self._secrets.sealed(principal.tenant_id, definition)

        async def do(connection: Any) -> Reply:
            row = await drafts.create(
                connection, principal.tenant_id, principal.user_id, body.name, body.description, definition
            )
            headers = {"Location": f"{request.url.path}/{row['id']}"}
            return await self._shown(connection, principal.tenant_id, row, 201, headers)

        return await act(self._database, request, principal, do)

    async def validate(self, principal: Actor, body: DefinitionIn) -> Response:
        """Say all that is wrong with a definition; pointers lead into it."""
        checked = check_definition(body.definition, self._registry)
        errors = checked.errors or self._secrets.problems(checked.canonical)
        data = {
            "valid": not errors,
            "errors": [_problem(problem) for problem in errors],
            "warnings": [_problem(problem) for problem in checked.warnings],
        }
        return respond(one(data))

    async def get(self, principal: Actor, workflow_id: UUID) -> Response:
        """Show a workflow with its draft."""
        async with self._database.tenant(principal.tenant_id) as connection:
            row = await drafts.find(connection, principal.tenant_id, workflow_id)
            return respond(await self._shown(connection, principal.tenant_id, row))

    async def replace(self, request: Request, principal: Actor, workflow_id: UUID, body: WorkflowIn) -> Response:
        """Replace name, description and draft; what is published stays as it is."""
        definition = canonical_definition(body.definition, body.settings, self._registry)
        definition = await self._secrets.sealed(principal.tenant_id, definition, workflow_id)
        changes = {"name": body.name, "description": body.description, "definition": definition}

        async def do(connection: Any) -> Reply:
            current = await self._lock(connection, request, principal, workflow_id)
            row = await drafts.change(connection, principal.tenant_id, current, changes)
            return await self._shown(connection, principal.tenant_id, row)

        return await act(self._database, request, principal, do)

    async def patch(self, request: Request, principal: Actor, workflow_id: UUID, body: WorkflowPatch) -> Response:
        """Change what is given. `status: active` publishes the first time, later it switches the workflow on."""
        given = body.model_fields_set
        changes: dict[str, Any] = {field: getattr(body, field) for field in ("name", "description") if field in given}
        if "definition" in given:
            definition = canonical_definition(body.definition, body.settings, self._registry)
            changes["definition"] = await self._secrets.sealed(principal.tenant_id, definition, workflow_id)

        async def do(connection: Any) -> Reply:
            row = await self._lock(connection, request, principal, workflow_id)
            if "definition" not in given and body.settings:
                merged = with_settings(row["definition"], body.settings)
                changes["definition"] = canonical_definition(merged, None, self._registry)
            row = await drafts.change(connection, principal.tenant_id, row, changes)
            if body.status is not None:
                row = await publishing.set_status(
                    connection, principal.tenant_id, principal.user_id, row, body.status, self._registry
                )
            return await self._shown(connection, principal.tenant_id, row)

        return await act(self._database, request, principal, do)

    async def archive(self, request: Request, principal: Actor, workflow_id: UUID) -> Response:
        """Archive a workflow: its name and webhook paths are free, nothing starts it any more, its runs go on."""

        async def do(connection: Any) -> Reply:
            current = await self._lock(connection, request, principal, workflow_id)
            row = await drafts.archive(connection, principal.tenant_id, current)
            return await self._shown(connection, principal.tenant_id, row)

        return await act(self._database, request, principal, do)

    async def publish(self, request: Request, principal: Actor, workflow_id: UUID) -> Response:
        """Make the draft the next version; a draft that is published already stays the version that it is."""

        async def do(connection: Any) -> Reply:
            current = await self._lock(connection, request, principal, workflow_id)
            row = await publishing.publish(connection, principal.tenant_id, principal.user_id, current, self._registry)
            return await self._shown(connection, principal.tenant_id, row)

        return await act(self._database, request, principal, do)

    async def execute(
        self, request: Request, principal: Actor, workflow_id: UUID, body: ExecuteIn | None = None, wait: Wait = 0
    ) -> Response:
        """Start a run of the latest published version; with `wait` its end is the answer if it comes in time."""
        value = None if body is None else body.input
        key = idempotency_key_of(request)
        start_key = None
        if key is not None:
            content = f"{workflow_id}\0{json_edge.encode(value)}"
            start_key = StartKey("idempotency", key, hashlib.sha256(content.encode()).digest(), LIFETIME)
        await self._admit(principal.tenant_id, start_key)
        started = await self._verbs.start(
            StartRequest(
                tenant_id=principal.tenant_id,
                workflow_id=workflow_id,
                trigger_type="api",
                trigger_data={"body": value},
                start_key=start_key,
                started_by=principal.user_id,
            )
        )
        tenant_id, execution_id = principal.tenant_id, started.execution_id
        if wait and await self._ends.wait(execution_id, float(wait)):
            async with self._database.tenant(tenant_id) as connection:
                run = await executions.get(connection, tenant_id, execution_id)
            if run is not None:
                return respond(one(run))
        return respond(one({"execution_id": execution_id, "status": started.status}, 202))

    async def versions(
        self, principal: Actor, workflow_id: UUID, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Response:
        """List published versions, newest first."""
        after = _place(cursor)
        async with self._database.tenant(principal.tenant_id) as connection:
            await drafts.find(connection, principal.tenant_id, workflow_id)
            rows = await workflows.list_versions(connection, principal.tenant_id, workflow_id, after, limit + 1)
        return _list(rows, limit)

    async def version(self, principal: Actor, workflow_id: UUID, version: int) -> Response:
        """Show a published version."""
        async with self._database.tenant(principal.tenant_id) as connection:
            await drafts.find(connection, principal.tenant_id, workflow_id)
            row = await _find_version(connection, principal.tenant_id, workflow_id, version)
        return respond(one(row))

    async def restore(self, request: Request, principal: Actor, workflow_id: UUID, version: int) -> Response:
        """Make a published version the draft again; what is published stays as it is until that is published."""
        async with self._database.tenant(principal.tenant_id) as connection:
            await drafts.find(connection, principal.tenant_id, workflow_id)
            row = await _find_version(connection, principal.tenant_id, workflow_id, version)
        definition = canonical_definition(row["definition"], None, self._registry)
        definition = await self._secrets.sealed(principal.tenant_id, definition, workflow_id)

        async def do(connection: Any) -> Reply:
            current = await self._lock(connection, request, principal, workflow_id)
            changed = await drafts.change(connection, principal.tenant_id, current, {"definition": definition})
            return await self._shown(connection, principal.tenant_id, changed)

        return await act(self._database, request, principal, do)

    async def _lock(self, connection: Any, request: Request, principal: Principal, workflow_id: UUID) -> Any:
        row = await drafts.find_for_change(connection, principal.tenant_id, workflow_id)
        check_if_match(request, row["revision"])
        return row

    async def _shown(
        self, connection: Any, tenant_id: UUID, row: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Reply:
        addresses = await webhooks.list_of_workflow(connection, tenant_id, row["id"])
        data = {
            **row,
            "settings": row["definition"].get(SETTINGS) or {},
            "webhooks": [{**address, "url": f"/webhooks/{address['path']}"} for address in addresses],
        }
        return one(data, status, {"ETag": etag(row["revision"]), **(headers or {})})


def _problem(problem: Problem) -> dict[str, str]:
    return {"pointer": problem.pointer, "code": problem.code, "message": problem.message}


async def _find_version(connection: Any, tenant_id: UUID, workflow_id: UUID, version: int) -> Any:
    row = None
    if 1 <= version < 2**31:
        row = await workflows.get_version(connection, tenant_id, workflow_id, version)
    if row is None:
        raise NotFound(f"The workflow has no version {version}.", code="version_not_found")
    return row


def _place(cursor: str | None) -> Any:
    after = decode_cursor(cursor)
    return None if after is None else (after.created_at, after.id)


def _list(rows: list[dict[str, Any]], limit: int) -> Response:
    shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
    return respond(Reply({"data": shown, "next_cursor": following}))
