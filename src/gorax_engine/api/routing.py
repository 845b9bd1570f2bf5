"""Routes as data: each names its permission, and nothing is served without passing the gate.

`Endpoint` is one row of a table of routes. `GuardedRoute` turns it into a FastAPI route that first authenticates, then
asks for the permission, then reads and parses the body under our limits, and only then lets FastAPI look at it.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from gorax_engine.api.problems import CONTENT_TYPE
from gorax_engine.api.requests import read_json
from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.errors import InvalidInput, Problem
from gorax_engine.tenancy.principals import PERMISSIONS, Principal


class Gate(Protocol):
    """Who decides whether a request may pass."""

    async def admit(self, request: Request) -> Principal:
        """Return the principal of the request. Raises Unauthenticated, Unavailable."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route: what it answers, what it needs, and what OpenAPI says of it.

    `response` is the model of a success, for the documentation (handlers encode their answers themselves); `errors`
    are the statuses beyond those that every route may give.
    """

    method: str
    path: str
    permission: str
    handler: Callable[..., Awaitable[Response]]
    summary: str
    tag: str
    response: Any
    status: int = 200
    errors: tuple[int, ...] = ()
    description: str | None = None


class GuardedRoute(APIRoute):
    """A FastAPI route behind the gate."""

    def __init__(self, prefix: str, endpoint: Endpoint, gate: Gate, limits: JsonLimits) -> None:
        if endpoint.permission not in PERMISSIONS:
            raise ValueError(f"{endpoint.method} {endpoint.path} names no known permission: {endpoint.permission!r}")
        self.permission = endpoint.permission
        self._gate = gate
        self._limits = limits
        errors = sorted({401, 403, 422, 503, *endpoint.errors})
        super().__init__(
            prefix + endpoint.path,
            endpoint.handler,
            methods=[endpoint.method],
            response_model=endpoint.response,
            status_code=endpoint.status,
            summary=endpoint.summary,
            description=endpoint.description or f"Needs the permission `{endpoint.permission}`.",
            tags=[endpoint.tag],
            responses=dict.fromkeys(errors, _PROBLEM),
            operation_id=f"{endpoint.tag}_{endpoint.handler.__name__}".rstrip("_"),
            openapi_extra={"x-gorax-permission": endpoint.permission, "security": [{"bearer": []}]},
            strict_content_type=False,
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with the gate before it (called once, by FastAPI)."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            principal = await self._gate.admit(request)
            principal.require(self.permission)
            request.state.principal = principal
            self._refuse_unknown_parameters(request)
            if self.body_field is not None:
                required = self.body_field.field_info.is_required()
                request = await read_json(request, self._limits, required=required)
            return await handle(request)

        return guarded

    def _refuse_unknown_parameters(self, request: Request) -> None:
        known = {parameter.alias for parameter in self.dependant.query_params}
        unknown = [name for name in request.query_params if name not in known]
        if unknown:
            choice = f"known are {', '.join(sorted(known))}" if known else "this route has none"
            problems = [
                Problem("unknown_parameter", "", f"There is no query parameter `{name}`; {choice}.") for name in unknown
            ]
            raise InvalidInput("The request has query parameters that this route doesn't know.", problems=problems)


_PROBLEM: Final[dict[str, Any]] = {
    "description": "A problem document (RFC 9457)",
    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
}
