"""Routes of human tasks: lists, one task, and what people do with it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from starlette.responses import Response

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, act, one, respond
from gorax_engine.api.requests import principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.schemas import Many, One
from gorax_engine.api.task_schemas import ApproveIn, DelegateIn, RejectIn, SubmitIn, Task, TaskSummary
from gorax_engine.errors import InvalidInput, Problem
from gorax_engine.people import decisions
from gorax_engine.people.decisions import Assignee, Decision, Verb
from gorax_engine.store import human_tasks
from gorax_engine.store.human_tasks import TaskFilter
from gorax_engine.tenancy.principals import Principal

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Status = Literal["pending", "approved", "rejected", "expired", "cancelled"]

_ME = "me"


class TaskRoutes:
    """Handlers of `/tasks`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, path, errors = "tasks", "/tasks/{task_id}", (400, 404, 409, 413, 415)
        rows: list[tuple[str, Callable[..., Awaitable[Response]], str]] = [
            ("/approve", self.approve, "Approve a task"),
            ("/reject", self.reject, "Reject a task"),
            ("/submit", self.submit, "Submit the form of a task"),
            ("/delegate", self.delegate, "Hand a task on"),
        ]
        return [
            Endpoint("GET", "/tasks", "task:read", self.list_, "List tasks", tag, Many[TaskSummary]),
            Endpoint("GET", path, "task:read", self.get, "Show a task", tag, One[Task], errors=(404,)),
            *(
                Endpoint("POST", path + end, "task:act", handler, summary, tag, One[Task], errors=errors)
                for end, handler, summary in rows
            ),
        ]

    async def list_(
        self,
        principal: Actor,
        assignee: Annotated[str | None, Query(max_length=64)] = None,
        status: Status | None = None,
        overdue: bool | None = None,
        execution_id: UUID | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List tasks, newest first. `assignee` is `me` or a user's id: what is asked of the user or of a role held."""
        user_id = _user(principal, assignee)
        after = decode_cursor(cursor)
        async with self._database.tenant(principal.tenant_id) as connection:
            asked = None
            if user_id is not None:
                asked = await decisions.assignees_of(connection, principal.tenant_id, user_id)
            wanted = TaskFilter(status, overdue, execution_id, asked)
            place = None if after is None else after.id
            rows = await human_tasks.list_page(connection, principal.tenant_id, wanted, place, limit + 1)
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def get(self, principal: Actor, task_id: UUID) -> Response:
        """Show a task with its form, its history and the response."""
        async with self._database.tenant(principal.tenant_id) as connection:
            return respond(one(_shown(await decisions.find(connection, principal.tenant_id, task_id))))

    async def approve(
        self, request: Request, principal: Actor, task_id: UUID, body: ApproveIn | None = None
    ) -> Response:
        """Approve a task: its run goes on along `approved`. 409 if it is decided already, also by the same user."""
        sent = body or ApproveIn()
        return await self._decide(request, principal, task_id, Decision(Verb.APPROVE, sent.comment, sent.data or {}))

    async def reject(self, request: Request, principal: Actor, task_id: UUID, body: RejectIn | None = None) -> Response:
        """Reject a task: its run goes on along `rejected`, or fails where no edge says so."""
        sent = body or RejectIn()
        return await self._decide(request, principal, task_id, Decision(Verb.REJECT, sent.reason, sent.data or {}))

    async def submit(self, request: Request, principal: Actor, task_id: UUID, body: SubmitIn | None = None) -> Response:
        """Fill in the form of a task: its run goes on along `approved`."""
        sent = body or SubmitIn()
        return await self._decide(request, principal, task_id, Decision(Verb.SUBMIT, None, sent.data or {}))

    async def delegate(self, request: Request, principal: Actor, task_id: UUID, body: DelegateIn) -> Response:
        """Let somebody else decide in one's own place."""
        to = _assignee(body)

        async def do(connection: Any) -> Reply:
            return one(_shown(await decisions.delegate(connection, principal, task_id, to, body.comment)))

        return await act(self._database, request, principal, do)

    async def _decide(self, request: Request, principal: Principal, task_id: UUID, decision: Decision) -> Response:
        async def do(connection: Any) -> Reply:
            return one(_shown(await decisions.decide(connection, principal, task_id, decision)))

        return await act(self._database, request, principal, do)


def _user(principal: Principal, assignee: str | None) -> UUID | None:
    if assignee is None:
        return None
    if assignee == _ME:
        return principal.user_id
    try:
        return UUID(assignee)
    except ValueError:
        problem = Problem("invalid_assignee", "", "query parameter `assignee`: must be `me` or a user's id.")
        raise InvalidInput("The request is wrong; see `errors`.", problems=[problem]) from None


def _assignee(body: DelegateIn) -> Assignee:
    if isinstance(body.to, str):
        return Assignee.read(body.to)
    named = body.to.id or body.to.name
    if named is None:
        problem = Problem("missing", "/to", "`to` needs the `id` of a user or the `name` of a role.")
        raise InvalidInput("The request is wrong; see `errors`.", problems=[problem])
    return Assignee(body.to.type, named.lower() if body.to.type == "user" else named)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a task as it is shown: the form stands beside the rest of the configuration."""
    config = dict(row["config"])
    return {**row, "form_fields": config.pop("form_fields", None) or [], "config": config}
