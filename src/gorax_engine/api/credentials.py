"""Routes of credentials: written, changed, deleted and looked after; no answer has a secret in it."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from gorax_engine.api.credential_schemas import Credential, CredentialAccess, CredentialIn, CredentialPatch, Status
from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import check_if_match, etag, principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import Many, One
from gorax_engine.errors import InvalidInput, Problem
from gorax_engine.tenancy.principals import Principal
from gorax_engine.vault.credentials import CHANGEABLE, Credentials
from gorax_engine.vault.credentials import Actor as VaultActor

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]

WRITE_ERRORS = (400, 404, 409, 412, 413, 415)


class CredentialRoutes:
    """Handlers of `/credentials`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._credentials = Credentials(parts.database, parts.vault, parts.telemetry.emit)

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, every, single = "credentials", "/credentials", "/credentials/{credential_id}"
        read, update = "credential:read", "credential:update"
        return [
            Endpoint("GET", every, read, self.list_, "List credentials", tag, Many[Credential]),
            Endpoint(
                "POST", every, "credential:create", self.create, "Store a credential", tag, One[Credential], 201,
                (400, 409, 413, 415),
            ),
            Endpoint("GET", single, read, self.get, "Show a credential", tag, One[Credential], errors=(404,)),
            Endpoint("PUT", single, update, self.replace, "Replace the value", tag, One[Credential], 200, WRITE_ERRORS),
            Endpoint("PATCH", single, update, self.patch, "Change a part", tag, One[Credential], 200, WRITE_ERRORS),
            Endpoint(
                "DELETE", single, "credential:delete", self.delete, "Delete a credential", tag, One[Credential], 200,
                (404, 409, 412),
            ),
            Endpoint(
                "GET", single + "/access-log", read, self.access_log, "List who used it", tag, Many[CredentialAccess],
                errors=(404,),
            ),
        ]  # fmt: skip

    async def list_(
        self,
        principal: Actor,
        name: str | None = None,
        type: str | None = None,
        status: Status | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List credentials, newest first."""
        tenant = principal.tenant_id
        async with self._database.tenant(tenant) as connection:
            rows = await self._credentials.list_page(
                connection, tenant, name=name, type=type, status=status, after=_place(cursor), limit=limit + 1
            )
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def create(self, request: Request, principal: Actor, body: CredentialIn) -> Response:
        """Encrypt and store a credential."""
        new = await self._credentials.seal_new(
            principal.tenant_id, body.name, body.type, body.value, body.description, body.expires_at
        )

        async def do(connection: Any) -> Reply:
            row = await self._credentials.create(connection, _actor(request, principal), new)
            return _shown(row, 201, {"Location": f"{request.url.path}/{row['id']}"})

        return await act(self._database, request, principal, do)

    async def get(self, principal: Actor, credential_id: UUID) -> Response:
        """Show a credential, without its value."""
        async with self._database.tenant(principal.tenant_id) as connection:
            return respond(_shown(await self._credentials.find(connection, principal.tenant_id, credential_id)))

    async def replace(self, request: Request, principal: Actor, credential_id: UUID, body: CredentialIn) -> Response:
        """Replace value, description and expiry. Workflows know a credential by its name: that and its type stay."""
        changes = {"description": body.description, "expires_at": body.expires_at}
        fixed = {"name": body.name, "type": body.type}
        return await self._change(request, principal, credential_id, changes, body.value, fixed)

    async def patch(self, request: Request, principal: Actor, credential_id: UUID, body: CredentialPatch) -> Response:
        """Change what is given."""
        given = body.model_fields_set
        changes: dict[str, Any] = {field: getattr(body, field) for field in CHANGEABLE if field in given}
        value = body.value if "value" in given else None
        return await self._change(request, principal, credential_id, changes, value, {})

    async def _change(
        self,
        request: Request,
        principal: Principal,
        credential_id: UUID,
        changes: Mapping[str, Any],
        value: dict[str, Any] | None,
        fixed: Mapping[str, str],
    ) -> Response:
        actor = _actor(request, principal)
        # Before the transaction: the key may be a service's.
        sealed = None if value is None else await self._credentials.seal_next(actor, credential_id, value)

        async def do(connection: Any) -> Reply:
            row = await self._credentials.find(connection, principal.tenant_id, credential_id, lock=True)
            check_if_match(request, row["revision"])
            _refuse_other(row, fixed)
            return _shown(await self._credentials.change(connection, actor, row, changes, sealed))

        return await act(self._database, request, principal, do)

    async def delete(self, request: Request, principal: Actor, credential_id: UUID) -> Response:
        """Delete a credential for good. What it was used for can still be read."""

        async def do(connection: Any) -> Reply:
            row = await self._credentials.find(connection, principal.tenant_id, credential_id, lock=True)
            check_if_match(request, row["revision"])
            await self._credentials.delete(connection, _actor(request, principal), row)
            return one(row)

        return await act(self._database, request, principal, do)

    async def access_log(
        self, principal: Actor, credential_id: UUID, limit: Limit = DEFAULT_LIMIT, cursor: str | None = None
    ) -> Response:
        """List what was done with a credential and by whom, newest first; also after it was deleted."""
        tenant = principal.tenant_id
        async with self._database.tenant(tenant) as connection:
            rows = await self._credentials.access_log(
                connection, tenant, credential_id, after=_place(cursor), limit=limit + 1
            )
        shown, following = page(rows, limit, lambda row: Cursor(row["accessed_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))


def _actor(request: Request, principal: Principal) -> VaultActor:
    address = None if request.client is None else request.client.host
    return VaultActor(principal.tenant_id, principal.user_id, address, request.headers.get("user-agent"))


def _shown(row: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return one(row, status, {"ETag": etag(row["revision"]), **(headers or {})})


def _refuse_other(row: Mapping[str, Any], fixed: Mapping[str, str]) -> None:
    problems = [
        Problem("fixed_field", f"/{field}", f"The {field} of a credential can't be changed; make a new one.")
        for field, wanted in fixed.items()
        if wanted != row[field]
    ]
    if problems:
        raise InvalidInput("The credential has another name or type.", problems=problems)


def _place(cursor: str | None) -> Any:
    after = decode_cursor(cursor)
    return None if after is None else (after.created_at, after.id)
