"""Routes of the tenant: itself, its API keys, and what may be permitted."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import ApiKey, ApiKeyIn, Many, NewApiKey, One, Permission, Tenant
from gorax_engine.errors import Forbidden, InvalidInput, NotFound, Problem
from gorax_engine.store import api_keys, tenants
from gorax_engine.tenancy.api_keys import Authenticator, new_key
from gorax_engine.tenancy.principals import Principal

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


class TenancyRoutes:
    """Handlers of `/tenant`, `/api-keys` and `/permissions`."""

    def __init__(self, parts: ApiDependencies, authenticator: Authenticator) -> None:
        self._database = parts.database
        self._authenticator = authenticator

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        keys, key = "/api-keys", "/api-keys/{api_key_id}"
        return [
            Endpoint("GET", "/tenant", "tenant:read", self.tenant, "Show the tenant", "tenancy", One[Tenant]),
            Endpoint(
                "GET", "/permissions", "tenant:read", self.permissions, "List permissions", "tenancy", Many[Permission]
            ),
            Endpoint("GET", keys, "api_key:read", self.list_, "List API keys", "api_keys", Many[ApiKey]),
            Endpoint(
                "POST", keys, "api_key:create", self.create, "Make an API key", "api_keys", One[NewApiKey], 201,
                (400, 409, 413, 415),
            ),
            Endpoint("GET", key, "api_key:read", self.get, "Show an API key", "api_keys", One[ApiKey], errors=(404,)),
            Endpoint(
                "DELETE", key, "api_key:delete", self.revoke, "Revoke an API key", "api_keys", One[ApiKey],
                errors=(404, 409),
            ),
        ]  # fmt: skip

    async def tenant(self, principal: Actor) -> Response:
        """Show the tenant of the API key."""
        async with self._database.tenant(principal.tenant_id) as connection:
            return respond(one(await tenants.get(connection, principal.tenant_id)))

    async def permissions(self, principal: Actor) -> Response:
        """List all that can be permitted, and whether this key has it."""
        async with self._database.tenant(principal.tenant_id) as connection:
            known = await api_keys.permissions(connection)
        data = [{"permission": name, "granted": principal.may(name)} for name in known]
        return respond(Reply({"data": data, "next_cursor": None}))

    async def list_(self, principal: Actor, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None) -> Response:
        """List API keys, newest first."""
        after = decode_cursor(cursor)
        place = None if after is None else (after.created_at, after.id)
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await api_keys.list_page(connection, principal.tenant_id, place, limit + 1)
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def create(self, request: Request, principal: Actor, body: ApiKeyIn) -> Response:
        """Make an API key. Its secret is in the answer and nowhere else."""

        async def do(connection: Any) -> Reply:
            key = new_key()
            key_id = await api_keys.insert(
                connection,
                principal.tenant_id,
                user_id=await self._acts_for(connection, principal, body.role),
                name=body.name,
                prefix=key.prefix,
                key_hash=key.hash,
                created_by=principal.user_id,
                lifetime=None if body.expires_in_days is None else timedelta(days=body.expires_in_days),
            )
            row = await api_keys.get(connection, principal.tenant_id, key_id) or {}
            return Reply({"data": {**row, "key": key.secret}}, 201, kept={"data": {**row, "key": None}})

        return await act(self._database, request, principal, do)

    async def get(self, principal: Actor, api_key_id: UUID) -> Response:
        """Show an API key."""
        async with self._database.tenant(principal.tenant_id) as connection:
            return respond(one(await self._find(connection, principal, api_key_id)))

    async def revoke(self, request: Request, principal: Actor, api_key_id: UUID) -> Response:
        """End an API key for good; other processes notice within a few seconds."""

        async def do(connection: Any) -> Reply:
            key_hash = await api_keys.revoke(connection, principal.tenant_id, api_key_id)
            reply = one(await self._find(connection, principal, api_key_id))
            if key_hash is not None:
                self._authenticator.forget(key_hash)
            return reply

        return await act(self._database, request, principal, do)

    async def _find(self, connection: Any, principal: Principal, api_key_id: UUID) -> dict[str, Any]:
        row = await api_keys.get(connection, principal.tenant_id, api_key_id)
        if row is None:
            raise NotFound(f"There is no API key {api_key_id}.", code="api_key_not_found")
        return row

    async def _acts_for(self, connection: Any, principal: Principal, role: str | None) -> UUID:
        if role is None:
            return principal.user_id
        found = await api_keys.role_permissions(connection, principal.tenant_id, role)
        if found is None:
            problem = Problem("unknown_role", "/role", f"The tenant has no role `{role}`.")
            raise InvalidInput("The API key can't have this role.", problems=[problem])
        role_id, permissions = found
        excess = sorted(permissions - principal.permissions)
        if excess:
            raise Forbidden(f"The role `{role}` permits more than the own API key: {', '.join(excess)}.")
        return await api_keys.service_user(connection, principal.tenant_id, role, role_id, principal.user_id)
