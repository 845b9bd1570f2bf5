"""The public application: webhooks in front, then the API under /api/v1, its OpenAPI document and its pages.

`build_api` puts the routes together and decides what an error looks like; it owns no resource.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Route

from gorax_engine import __version__
from gorax_engine.api.credentials import CredentialRoutes
from gorax_engine.api.docs_page import docs_page
from gorax_engine.api.events import EventRoutes
from gorax_engine.api.executions import ExecutionRoutes
from gorax_engine.api.notifications import NotificationRoutes
from gorax_engine.api.problems import (
    CONTENT_TYPE,
    METHOD_NOT_ALLOWED,
    ProblemAnswer,
    problem_answer,
    unexpected_answer,
)
from gorax_engine.api.request_id import HEADER, request_id_of
from gorax_engine.api.requests import ClientGone
from gorax_engine.api.routing import Endpoint, GuardedRoute
from gorax_engine.api.run_verbs import RunVerbRoutes
from gorax_engine.api.schedules import ScheduleRoutes
from gorax_engine.api.schemas import ProblemDocument
from gorax_engine.api.tasks import TaskRoutes
from gorax_engine.api.tenancy import TenancyRoutes
from gorax_engine.api.webhook_events import WebhookEventRoutes
from gorax_engine.api.webhook_filters import WebhookFilterRoutes
from gorax_engine.api.webhooks import WebhookRoutes
from gorax_engine.api.webhooks_ingress import PREFIX as WEBHOOKS
from gorax_engine.api.webhooks_ingress import IngressParts, WebhookIngress
from gorax_engine.api.workflows import WorkflowRoutes
from gorax_engine.errors import (
    GoraxError,
    InvalidInput,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
)
from gorax_engine.store import executions
from gorax_engine.telemetry import get_logger
from gorax_engine.tenancy.api_keys import Authenticator
from gorax_engine.triggers.rate_limits import RateLimits
from gorax_engine.triggers.webhooks import Webhooks

if TYPE_CHECKING:
    from uuid import UUID

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from gorax_engine.api.dependencies import ApiDependencies
    from gorax_engine.store.rows import Row
    from gorax_engine.tenancy.principals import Principal

BASE: Final = "/api/v1"
OPENAPI_PATH: Final = "/api/v1/openapi.json"
DOCS_PATH: Final = "/api/docs"

_BEARER: Final = "bearer "
_log = get_logger(__name__)


def build_api(parts: ApiDependencies) -> ASGIApp:
    """Return the public application."""
    authenticator = Authenticator(parts.database)
    endpoints = [
        *WorkflowRoutes(parts).endpoints(),
        *RunVerbRoutes(parts).endpoints(),
        *ExecutionRoutes(parts).endpoints(),
        *TaskRoutes(parts).endpoints(),
        *NotificationRoutes(parts).endpoints(),
        *EventRoutes(parts).endpoints(),
        *CredentialRoutes(parts).endpoints(),
        *WebhookRoutes(parts).endpoints(),
        *WebhookFilterRoutes(parts).endpoints(),
        *WebhookEventRoutes(parts).endpoints(),
        *ScheduleRoutes(parts).endpoints(),
        *TenancyRoutes(parts, authenticator).endpoints(),
    ]
    api = build_router(endpoints, BearerGate(authenticator), parts)
    ingress = WebhookIngress(
        IngressParts(
            Webhooks(parts.database, parts.sealed),
            parts.verbs,
            parts.telemetry,
            parts.limits,
            RateLimits(),
            parts.admit,
            partial(_result_of, parts),
            parts.trusted_proxies,
        )
    )
    return Front(ingress, api)


def build_router(endpoints: Sequence[Endpoint], gate: BearerGate, parts: ApiDependencies) -> FastAPI:
    """Return the router of `endpoints` and the two public pages, with every error as a problem document."""
    app = FastAPI(
        title="gorax-engine",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            GoraxError: _on_error,
            RequestValidationError: _on_invalid_request,
            HTTPException: _on_http_exception,
            ClientGone: _on_client_gone,
            Exception: _on_bug,
        },
    )
    app.router.routes.extend(GuardedRoute(BASE, endpoint, gate, parts.limits) for endpoint in endpoints)

    # Made when they are first asked for, and in a thread: it takes half a second.
    @lru_cache(maxsize=1)
    def document() -> dict[str, Any]:
        return _openapi(app)

    @lru_cache(maxsize=1)
    def page() -> str:
        return docs_page(document())

    async def openapi(_: Request) -> Response:
        return JSONResponse(await to_thread.run_sync(document))

    async def docs(_: Request) -> Response:
        return HTMLResponse(
            await to_thread.run_sync(page),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    app.router.routes.extend([Route(OPENAPI_PATH, openapi), Route(DOCS_PATH, docs)])
    return app


async def _result_of(parts: ApiDependencies, tenant_id: UUID, execution_id: UUID, wait: float) -> Row | None:
    """Return a run once it has ended, None if that takes longer than `wait` seconds."""
    if not await parts.ends.wait(execution_id, wait):
        return None
    async with parts.database.tenant(tenant_id) as connection:
        return await executions.get(connection, tenant_id, execution_id)


class Front:
    """Sends webhooks to the ingress and all else to the router, and gives every request of the latter its id."""

    def __init__(self, ingress: ASGIApp, api: FastAPI) -> None:
        self.ingress = ingress
        self.api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"].startswith(WEBHOOKS):
            await self.ingress(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), (HEADER.lower().encode(), request_id.encode())]
            await send(message)

        try:
            await self.api(scope, receive, send_with_id)
        except Exception:
            # The router has answered and logged what it raises; an answer that broke off can only be cut.
            if not begun:
                raise


class BearerGate:
    """Lets requests with a valid API key pass."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def admit(self, request: Request) -> Principal:
        """Return whom the bearer token stands for. Raises Unauthenticated, Unavailable."""
        header = request.headers.get("authorization", "")
        if header[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("Send an API key: `Authorization: Bearer gorax_...`.")
        return await self._authenticator.authenticate(header[len(_BEARER) :].strip())


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GoraxError)
    answer = problem_answer(error, request.state.request_id)
    if answer.status >= 500 and not isinstance(error, Unavailable):
        _log.error("request_failed", request_id=request.state.request_id, exc_info=error)
    return _response(answer)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    if any(fault["loc"][0] == "path" for fault in faults):
        return await _on_error(request, NotFound("There is no such object: its id in the path is no id."))
    problems = [_problem(fault) for fault in faults]
    return await _on_error(request, InvalidInput("The request is wrong; see `errors`.", problems=problems))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code != 405:
        return await _on_error(request, NotFound(f"There is nothing at {path[:200]}.", code="route_not_found"))
    allowed = _allowed_methods(request)
    refusal = InvalidInput(f"{path[:200]} accepts {', '.join(allowed)} only.", code=METHOD_NOT_ALLOWED)
    response = await _on_error(request, refusal)
    response.headers["Allow"] = ", ".join(allowed)
    return response


async def _on_client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)


async def _on_bug(request: Request, error: Exception) -> Response:
    request_id = request.state.request_id
    _log.error("request_failed", request_id=request_id, path=request.url.path, exc_info=error)
    return _response(unexpected_answer(request_id))


def _response(answer: ProblemAnswer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), CONTENT_TYPE)


def _allowed_methods(request: Request) -> list[str]:
    allowed: set[str] = set()
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            allowed |= route.methods or set()
    return sorted(allowed)


def _problem(fault: dict[str, Any]) -> Problem:
    where, *path = fault["loc"]
    code = "unknown_field" if fault["type"] == "extra_forbidden" else str(fault["type"])
    message = str(fault["msg"])
    if where == "body":
        return Problem(code, "".join(f"/{_token(part)}" for part in path), message)
    return Problem(code, "", f"{where} parameter `{'.'.join(map(str, path))}`: {message}")


def _token(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description="Workflows, their runs and the tenant. Errors are problem documents (RFC 9457).",
        routes=[route for route in app.router.routes if isinstance(route, GuardedRoute)],
    )
    components = document.setdefault("components", {})
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    components.setdefault("schemas", {}).update({**schema.pop("$defs", {}), ProblemDocument.__name__: schema})
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "description": "An API key."}}
    return document
