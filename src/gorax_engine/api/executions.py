"""Routes of executions: lists, steps, their tree, explain, the live stream."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query
from pydantic import AwareDatetime
from starlette.responses import Response, StreamingResponse

from gorax_engine.api.dependencies import ApiDependencies
from gorax_engine.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Cursor, decode_cursor, page
from gorax_engine.api.replies import Reply, one, respond
from gorax_engine.api.requests import principal_of
from gorax_engine.api.routing import Endpoint
from gorax_engine.api.run_schemas import RunTree
from gorax_engine.api.run_tree import nest, owners_of
from gorax_engine.api.schemas import Execution, ExecutionSummary, ExplanationOut, Many, One, Step
from gorax_engine.api.stream import RunStreams
from gorax_engine.engine.explain import SCOPE_TYPES, Child, Explanation, Facts, Task, Wait, explain
from gorax_engine.engine.explain import Step as RunningStep
from gorax_engine.errors import NotFound
from gorax_engine.store import executions, steps, workflows
from gorax_engine.store.executions import ExecutionFilter
from gorax_engine.store.explain import ExplainRows, collect
from gorax_engine.store.rows import Row
from gorax_engine.tenancy.principals import Principal

Actor = Annotated[Principal, Depends(principal_of)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Status = Literal["pending", "running", "completed", "failed", "cancelled"]

MAX_TREE = 5_000
"""Steps that a tree shows at most."""
MAX_CHILDREN = 200


class ExecutionRoutes:
    """Handlers of `/executions`."""

    def __init__(self, parts: ApiDependencies) -> None:
        self._database = parts.database
        self._registry = parts.registry
        self._streams = RunStreams(parts.database, parts.ends, parts.draining)

    def endpoints(self) -> list[Endpoint]:
        """The table of routes."""
        tag, one_path, read = "executions", "/executions/{execution_id}", "execution:read"
        return [
            Endpoint("GET", "/executions", read, self.list_, "List runs", tag, Many[ExecutionSummary]),
            Endpoint("GET", one_path, read, self.get, "Show a run", tag, One[Execution], errors=(404,)),
            Endpoint("GET", one_path + "/steps", read, self.steps, "List steps", tag, Many[Step], errors=(404,)),
            Endpoint(
                "GET", one_path + "/explain", read, self.explain, "Why does it not move?", tag, One[ExplanationOut],
                errors=(404,),
            ),
            Endpoint("GET", one_path + "/stream", read, self.stream, "Watch a run", tag, None, errors=(404,)),
            Endpoint("GET", one_path + "/tree", read, self.tree, "Nest steps", tag, One[RunTree], errors=(404,)),
        ]  # fmt: skip

    async def list_(
        self,
        principal: Actor,
        workflow_id: UUID | None = None,
        status: Status | None = None,
        trigger_type: str | None = None,
        start_date: AwareDatetime | None = None,
        end_date: AwareDatetime | None = None,
        error_search: Annotated[str | None, Query(max_length=200)] = None,
        waiting_for: str | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List runs without their data, newest first; created from `start_date` on and before `end_date`."""
        wanted = ExecutionFilter(workflow_id, status, trigger_type, start_date, end_date, error_search, waiting_for)
        after = decode_cursor(cursor)
        place = None if after is None else (after.created_at, after.id)
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await executions.list_page(connection, principal.tenant_id, wanted, place, limit + 1)
        shown, following = page(rows, limit, lambda row: Cursor(row["created_at"], row["id"]))
        return respond(Reply({"data": shown, "next_cursor": following}))

    async def get(self, principal: Actor, execution_id: UUID) -> Response:
        """Show a run with its data."""
        async with self._database.tenant(principal.tenant_id) as connection:
            row = await executions.get(connection, principal.tenant_id, execution_id)
        if row is None:
            raise no_execution(execution_id)
        return respond(one(row))

    async def steps(
        self,
        principal: Actor,
        execution_id: UUID,
        attempts: Literal["latest", "all"] = "latest",
        limit: Limit = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> Response:
        """List the steps of a run in the order in which they began; `attempts=all` shows every attempt."""
        after = decode_cursor(cursor)
        place = None if after is None else (after.created_at, after.id)
        tenant_id = principal.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            if await executions.get(connection, tenant_id, execution_id) is None:
                raise no_execution(execution_id)
            rows = await steps.list_page(
                connection, tenant_id, execution_id, attempts=attempts == "all", after=place, limit=limit + 1
            )
        shown, following = page(rows, limit, lambda row: Cursor(row["began_at"], row["id"]))
        data = [{name: value for name, value in row.items() if name != "began_at"} for row in shown]
        return respond(Reply({"data": data, "next_cursor": following}))

    async def tree(
        self, principal: Actor, execution_id: UUID, limit: Annotated[int, Query(ge=1, le=MAX_TREE)] = 1_000
    ) -> Response:
        """Show the steps of a run nested in their scopes, without data, with the runs that they have started."""
        tenant_id = principal.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            run = await executions.get(connection, tenant_id, execution_id)
            if run is None:
                raise no_execution(execution_id)
            rows = await steps.tree(connection, tenant_id, execution_id, limit + 1)
            children = await executions.children(connection, tenant_id, execution_id, MAX_CHILDREN + 1)
            version = await workflows.get_version(connection, tenant_id, run["workflow_id"], run["workflow_version"])
        owners = {} if version is None else owners_of(version["definition"], self._registry)
        data = {
            "execution_id": execution_id,
            "status": run["status"],
            "steps": nest(rows[:limit], children[:MAX_CHILDREN], owners),
            "truncated": len(rows) > limit or len(children) > MAX_CHILDREN,
        }
        return respond(one(data))

    async def explain(self, principal: Actor, execution_id: UUID) -> Response:
        """Say why a run stands where it stands."""
        async with self._database.tenant(principal.tenant_id) as connection:
            rows = await collect(connection, principal.tenant_id, execution_id, SCOPE_TYPES)
        if rows is None:
            raise no_execution(execution_id)
        return respond(one(_shown(explain(facts_of(rows)))))

    async def stream(self, principal: Actor, execution_id: UUID) -> Response:
        """Watch a run by server-sent events: `execution` and `step` whenever they change, until it has ended."""
        async with self._database.tenant(principal.tenant_id) as connection:
            if await executions.get(connection, principal.tenant_id, execution_id) is None:
                raise no_execution(execution_id)
        self._streams.check_room()
        return StreamingResponse(
            self._streams.watch(principal.tenant_id, execution_id),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


def facts_of(rows: ExplainRows) -> Facts:
    """Return the facts that rows hold."""
    run = rows.run
    ending = run["end_requested"]
    limit = run["tenant_limit"]
    return Facts(
        status=run["status"],
        now=run["now"],
        created_at=run["created_at"],
        started_at=run["started_at"],
        completed_at=run["completed_at"],
        error_code=run["error_code"],
        error_message=run["error_message"],
        tenant_active=run["tenant_status"] == "active",
        queued=run["queued"],
        owned=run["owner"] is not None,
        ready=run["ready_at"] is not None,
        ready_at=run["ready_at"],
        ending=None if ending is None else ending["kind"],
        crashes=run["crashes"] or 0,
        owner_name=run["owner_name"],
        owner_age_ms=None if run["owner_age_ms"] is None else float(run["owner_age_ms"]),
        owner_seen_at=run["owner_seen_at"],
        lease_ms=run["lease_ms"],
        live_workers=run["live_workers"],
        in_flight=run["in_flight"],
        ahead=run["ahead"],
        limit=None if limit is None else int(limit),
        steps=[
            RunningStep(s["node_id"], s["node_type"], s["iteration_path"], s["attempt"], s["started_at"])
            for s in rows.steps
        ],
        waits=[_wait_of(row) for row in rows.waits],
        wait_count=rows.wait_count,
        waiting_for=run["waiting_for"],
        failed=_failed_step(rows.failed),
        due_at=run["due_at"],
        paused=bool(run["paused"]),
    )


def _wait_of(row: Row) -> Wait:
    task = child = event = None
    if row["task_id"] is not None:
        task = Task(row["task_id"], row["title"], row["assignees"] or [], row["due_date"])
    if row["child_status"] is not None:
        child = Child(row["child_id"], row["child_status"], row["child_waiting_for"])
    if row["event_name"] is not None:
        event = (row["event_name"], row["correlation_key"])
    place = (row["node_id"], row["iteration_path"], row["attempt"])
    return Wait(*place, row["kind"], row["due_at"], row["created_at"], task, child, event)


def _failed_step(row: Row | None) -> RunningStep | None:
    if row is None:
        return None
    return RunningStep(row["node_id"], row["node_type"], row["iteration_path"], row["attempt"], None)


def no_execution(execution_id: UUID) -> NotFound:
    """Return the error for a run that is absent, or another tenant's."""
    return NotFound(f"There is no execution {execution_id}.", code="execution_not_found")


def _shown(explanation: Explanation) -> dict[str, Any]:
    return {
        "state": explanation.state,
        "blocker": explanation.blocker.value,
        "sentence": explanation.sentence,
        "since": explanation.since,
        "details": dict(explanation.details),
    }
