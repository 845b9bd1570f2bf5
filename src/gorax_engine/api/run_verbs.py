"""Routes of what is done with runs: cancel, pause, resume, signal, retry, replay, one by one and in bulk."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import idempotency_key_of, principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.run_schemas import (
    AgainIn,
    BulkCancelIn,
    BulkIn,
    BulkResult,
    BulkRetryIn,
    NewRun,
    Paused,
    RunFilter,
    RunState,
    SignalIn,
    Signalled,
)
from gorax_engine.api.schemas import One
from gorax_engine.core import json_edge
from gorax_engine.engine.retrying import Again
from gorax_engine.engine.starting import Started, StartKey
from gorax_engine.errors import GoraxError, InvalidInput, Problem, Unavailable
from gorax_engine.store import executions
from gorax_engine.store.executions import ExecutionFilter
from gorax_engine.store.request_idempotency import LIFETIME
from gorax_engine.tenancy.principals import Principal

Actor = Annotated[Principal, Depends(principal_of)]
Verb = Callable[[UUID, UUID, Again], Awaitable[Started]]

LIVE = ("running", "pending")


class RunVerbRoutes:
    """Handlers of `/executions/{execution_id}/<verb>` and `/executions/bulk/<verb>`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._verbs = parts.verbs
        self._admit = parts.admit

    def endpoints(self) -> list[Endpoint]:
        """The table of routes. Those in bulk come first: `bulk` is no id."""
        tag, bulk, one_path = "executions", "/executions/bulk", "/executions/{execution_id}"
        state, again = (404, 409), (400, 404, 409, 413, 415)
        return [
            Endpoint(
                "POST", bulk + "/cancel", "execution:cancel", self.bulk_cancel, "Cancel several runs", tag,
                One[BulkResult], 200, (400, 413, 415),
            ),
            Endpoint(
                "POST", bulk + "/retry", "execution:retry", self.bulk_retry, "Retry several runs", tag,
                One[BulkResult], 200, (400, 413, 415),
            ),
            Endpoint(
                "POST", one_path + "/cancel", "execution:cancel", self.cancel, "Cancel a run", tag, One[RunState],
                errors=state,
            ),
            Endpoint(
                "POST", one_path + "/pause", "execution:pause", self.pause, "Pause a run", tag, One[Paused],
                errors=state,
            ),
            Endpoint(
                "POST", one_path + "/resume", "execution:resume", self.resume, "Let a paused run go on", tag,
                One[Paused], errors=state,
            ),
            Endpoint(
                "POST", one_path + "/signal", "execution:signal", self.signal, "Give an event to a run", tag,
                One[Signalled], 200, (400, 404, 409, 413, 415),
            ),
            Endpoint(
                "POST", one_path + "/retry", "execution:retry", self.retry, "Go on from what failed", tag,
                One[NewRun], 202, again,
            ),
            Endpoint(
                "POST", one_path + "/replay", "execution:retry", self.replay, "Run it afresh", tag, One[NewRun], 202,
                again,
            ),
        ]  # fmt: skip

    async def cancel(self, request: Request, principal: Actor, execution_id: UUID, force: bool = False) -> Response:
        """End a run as cancelled; 409 if it has ended already.

        What must run before it ends (`finally`) runs first, for a minute at most, and meanwhile it is `running`; with
        `force` it ends at once.
        """
        reason = _reason(request, force=force)

        async def do(_: Any) -> Reply:
            status = await self._verbs.cancel(principal.tenant_id, execution_id, reason, force=force)
            return one({"execution_id": execution_id, "status": status})

        return await act(self._database, request, principal, do)

    async def pause(self, request: Request, principal: Actor, execution_id: UUID) -> Response:
        """Begin no further step of a run. Steps at work go on to their end; its `timeout` goes on counting."""

        async def do(_: Any) -> Reply:
            await self._verbs.pause(principal.tenant_id, execution_id)
            return one({"execution_id": execution_id, "paused": True})

        return await act(self._database, request, principal, do)

    async def resume(self, request: Request, principal: Actor, execution_id: UUID) -> Response:
        """Let a paused run go on, with all that fell due meanwhile."""

        async def do(_: Any) -> Reply:
            await self._verbs.resume(principal.tenant_id, execution_id)
            return one({"execution_id": execution_id, "paused": False})

        return await act(self._database, request, principal, do)

    async def signal(self, request: Request, principal: Actor, execution_id: UUID, body: SignalIn) -> Response:
        """Give an event to the waits of one run for this name; nobody else gets it, and it is not kept."""

        async def do(_: Any) -> Reply:
            told = await self._verbs.signal(principal.tenant_id, execution_id, body.name, body.payload)
            return one({"execution_id": execution_id, "delivered": told})

        return await act(self._database, request, principal, do)

    async def retry(
        self, request: Request, principal: Actor, execution_id: UUID, body: AgainIn | None = None
    ) -> Response:
        """Start a run that takes over what succeeded in a failed or cancelled one, and goes on from what did not."""
        return await self._again("retry", self._verbs.retry, request, principal, execution_id, body or AgainIn())

    async def replay(
        self, request: Request, principal: Actor, execution_id: UUID, body: AgainIn | None = None
    ) -> Response:
        """Start a run with the input of one that has ended; nothing is taken over, unless `from_step` says so."""
        return await self._again("replay", self._verbs.replay, request, principal, execution_id, body or AgainIn())

    async def _again(
        self, name: str, verb: Verb, request: Request, principal: Principal, execution_id: UUID, body: AgainIn
    ) -> Response:
        has_input = "input" in body.model_fields_set
        key, start_key = idempotency_key_of(request), None
        if key is not None:
            content = [name, str(execution_id), body.version, has_input, body.input, body.from_step]
            start_key = _start_key(key, json_edge.encode(content))
        again = Again(body.version, has_input, body.input, body.from_step, principal.user_id, start_key)
        await self._admit(principal.tenant_id, start_key)
        started = await verb(principal.tenant_id, execution_id, again)
        data = {"execution_id": started.execution_id, "status": started.status, "retry_of": execution_id}
        return respond(one(data, 202))

    # --- in bulk ------------------------------------------------------------------------------------------------------

    async def bulk_cancel(self, request: Request, principal: Actor, body: BulkCancelIn) -> Response:
        """Cancel runs one after another; each has its own result, and one that fails stops none of the others."""
        reason = _reason(request, force=body.force)
        ids, more = await self._chosen(principal, body, LIVE, LIVE)

        async def cancel(execution_id: UUID) -> dict[str, Any]:
            status = await self._verbs.cancel(principal.tenant_id, execution_id, reason, force=body.force)
            return {"status": status, "new_execution_id": None}

        return await _each(ids, more, cancel)

    async def bulk_retry(self, request: Request, principal: Actor, body: BulkRetryIn) -> Response:
        """Retry runs one after another; each has its own result. With a key, each of them is retried once."""
        key = idempotency_key_of(request)
        ids, more = await self._chosen(principal, body, ("failed",), ("failed", "cancelled"))

        async def retry(execution_id: UUID) -> dict[str, Any]:
            start_key = None
            if key is not None:
                own = hashlib.sha256(f"{key}\0{execution_id}".encode()).hexdigest()
                start_key = _start_key(f"bulk:{own}", json_edge.encode(["retry", str(execution_id), body.version]))
            again = Again(body.version, started_by=principal.user_id, start_key=start_key)
            await self._admit(principal.tenant_id, start_key)
            started = await self._verbs.retry(principal.tenant_id, execution_id, again)
            return {"status": started.status, "new_execution_id": started.execution_id}

        return await _each(ids, more, retry)

    async def _chosen(
        self, principal: Principal, body: BulkIn, usual: Sequence[str], possible: Sequence[str]
    ) -> tuple[list[UUID], bool]:
        """Return the ids that are meant, and whether there are more."""
        if (body.ids is None) == (body.filter is None):
            message = "Say which runs are meant: either by `ids` or by a `filter`."
            raise InvalidInput(message, problems=[Problem("ids_or_filter", "", message)])
        if body.filter is None:
            return list(dict.fromkeys(body.ids or ())), False
        if body.filter.status is not None and body.filter.status not in possible:
            message = f"The status must be one of {', '.join(possible)}: others have nothing to be done with."
            raise InvalidInput(message, problems=[Problem("unsuitable_status", "/filter/status", message)])
        statuses = usual if body.filter.status is None else (body.filter.status,)
        found: list[UUID] = []
        async with self._database.tenant(principal.tenant_id) as connection:
            for status in statuses:
                wanted = _wanted(body.filter, status)
                left = body.limit + 1 - len(found)
                rows = await executions.list_page(connection, principal.tenant_id, wanted, None, left) if left else []
                found += [row["id"] for row in rows]
        return found[: body.limit], len(found) > body.limit


def _wanted(given: RunFilter, status: str) -> ExecutionFilter:
    return ExecutionFilter(
        given.workflow_id,
        status,
        given.trigger_type,
        given.start_date,
        given.end_date,
        given.error_search,
        given.waiting_for,
    )


async def _each(ids: Sequence[UUID], more: bool, verb: Callable[[UUID], Awaitable[dict[str, Any]]]) -> Response:
    """Do it for each run, and tell what became of each. Raises Unavailable: then it is not known of the last one."""
    results: list[dict[str, Any]] = []
    for execution_id in ids:
        nothing = {"status": None, "new_execution_id": None}
        try:
            result = {**await verb(execution_id), "code": None, "detail": None}
        except Unavailable:
            raise
        except GoraxError as error:
            result = {**nothing, "code": error.code, "detail": error.message}
        results.append({"execution_id": execution_id, **result})
    failed = sum(result["code"] is not None for result in results)
    return respond(one({"results": results, "succeeded": len(results) - failed, "failed": failed, "more": more}))


def _reason(request: Request, *, force: bool) -> str:
    return f"Cancelled by request {request.state.request_id}{' (forced)' if force else ''}."


def _start_key(key: str, content: str) -> StartKey:
    return StartKey("idempotency", key, hashlib.sha256(content.encode()).digest(), LIFETIME)
