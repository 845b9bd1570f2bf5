"""The verbs of the engine: start, cancel, pause, resume, signal, retry, replay."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import Json
from gorax_engine.core.states import ExecutionState
from gorax_engine.engine.cancelling import last_records
from gorax_engine.engine.plans import UnsupportedVersion
from gorax_engine.engine.retrying import Again, Retries
from gorax_engine.engine.starting import Started, StartRequest, Starts, row_of
from gorax_engine.errors import Conflict, NotFound
from gorax_engine.store import queue, runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from gorax_engine.core.plan import Plan
    from gorax_engine.engine.plans import Plans
    from gorax_engine.engine.worker import Worker
    from gorax_engine.store.database import Database
    from gorax_engine.store.session import Fetcher, Session
    from gorax_engine.telemetry import Telemetry


class Operations:
    """The verbs. `run` commits starts until cancelled; the verbs may be called by any task meanwhile."""

    def __init__(
        self, session: Session, database: Database, plans: Plans, telemetry: Telemetry, worker: Worker | None
    ) -> None:
        self._starts = Starts(session, telemetry, worker)
        self._database = database
        self._plans = plans
        self._retries = Retries(database, plans, self._starts)

    async def run(self) -> None:
        """Commit starts, group after group, until cancelled."""
        await self._starts.run()

    async def start(self, request: StartRequest) -> Started:
        """Start a run; see `Starts.start`."""
        return await self._starts.start(request)

    async def record(self, request: StartRequest) -> UUID:
        """Write down a delivery that is refused; see `Starts.record`."""
        return await self._starts.record(request)

    async def start_within(self, connection: Fetcher, request: StartRequest, links: Mapping[str, Json]) -> Started:
        """Start a run that follows from something else, within the caller's transaction as `gorax_worker`.

        `links` are those of gorax_start_executions. Raises as `Starts.start` does.
        """
        rows = [row_of(request)]
        (verdict,) = await queue.start(connection, rows, worker_id=None, room=0, ring=True, links=encode([dict(links)]))
        return self._starts.answer(request, verdict)

    async def retry(self, tenant_id: UUID, execution_id: UUID, again: Again) -> Started:
        """Start a run that goes on from where another one failed; see `Retries.retry`."""
        return await self._retries.retry(tenant_id, execution_id, again)

    async def replay(self, tenant_id: UUID, execution_id: UUID, again: Again) -> Started:
        """Start another run afresh; see `Retries.replay`."""
        return await self._retries.replay(tenant_id, execution_id, again)

    async def cancel(self, tenant_id: UUID, execution_id: UUID, reason: str, *, force: bool = False) -> str:
        """End a live run as cancelled, whoever owns it, and return its status.

        A run in which something must run before it ends (`finally`) stays `running` until that is done, for a minute at
        most; with `force` it ends at once, like all others. The transaction that ends it also records what its steps
        became, tells its parent, and asks its children to end. Raises NotFound and Conflict (already_ended).
        """
        reason = reason or "The execution was cancelled."
        async with self._database.worker() as connection:
            plan = await self._plan(await self._peek(connection, tenant_id, execution_id))
            async with connection.transaction():
                around = await queue.relatives(connection, execution_id)
                others = [*around.children, *([around.parent_execution_id] if around.parent_execution_id else [])]
                await queue.lock_runs(connection, tenant_id, [execution_id, *others])
                locked = await queue.lock_for_cancel(connection, tenant_id, execution_id)
                if locked is None:
                    raise Conflict("The execution has ended meanwhile.", code="already_ended")
                if plan is not None and plan.unwinds and not force and locked.started is not None:
                    await queue.request_cancel(connection, [execution_id], reason)
                    return ExecutionState.RUNNING.value
                # A child that was started meanwhile is younger than all that is locked, so the order holds.
                children = (await queue.relatives(connection, execution_id)).children
                await queue.lock_runs(connection, tenant_id, children)
                if plan is None:
                    await queue.close_running_steps(connection, execution_id)
                else:
                    recorded = await runs.recorded(connection, execution_id)
                    steps = last_records(execution_id, locked, plan, recorded)
                    await queue.record_steps(connection, tenant_id, execution_id, steps)
                end = queue.EndRow(
                    execution_id, ExecutionState.CANCELLED.value, None, reason, "cancelled", locked.now, waited=True
                )
                await queue.record_end(connection, end)
                if children:
                    await queue.request_cancel(connection, children, "The run that started it was cancelled.")
                if around.parent_step_id is not None:
                    resolution = encode({"status": "cancelled", "execution_id": str(execution_id)})
                    await queue.signal(connection, [around.parent_step_id], [resolution])
        return ExecutionState.CANCELLED.value

    async def pause(self, tenant_id: UUID, execution_id: UUID) -> None:
        """Let a live run begin no further step; steps at work go on to their end. Pausing twice is pausing once.

        Raises NotFound and Conflict (already_ended).
        """
        async with self._database.worker() as connection:
            await self._peek(connection, tenant_id, execution_id)
            if not await queue.pause(connection, tenant_id, execution_id):
                raise Conflict("The execution has ended, or is about to.", code="already_ended")

    async def resume(self, tenant_id: UUID, execution_id: UUID) -> None:
        """Let a paused run go on. Raises NotFound and Conflict (already_ended, not_paused)."""
        async with self._database.worker() as connection:
            await self._peek(connection, tenant_id, execution_id)
            if not await queue.resume(connection, tenant_id, execution_id):
                raise Conflict("The execution is not paused.", code="not_paused")

    async def signal(self, tenant_id: UUID, execution_id: UUID, name: str, payload: Json) -> int:
        """Give an event to one run alone; return how many of its waits for an event of this name got it.

        Raises NotFound, Conflict (already_ended; no_matching_wait).
        """
        event: dict[str, Json] = {"id": str(uuid4()), "name": name, "body": payload}
        async with self._database.worker() as connection:
            await self._peek(connection, tenant_id, execution_id)
            async with connection.transaction():
                await queue.lock_runs(connection, tenant_id, [execution_id])
                waits = await runs.event_waits(connection, execution_id, name)
                event["published_at"] = await runs.database_time(connection)
                resolutions = [
                    encode({"status": "completed", "output": {**event, "correlation_key": wait.correlation_key}})
                    for wait in waits
                ]
                steps = [wait.step_id for wait in waits]
                told = await queue.signal(connection, steps, resolutions) if steps else []
        if not told:
            raise Conflict(f"The execution doesn't wait for an event `{name}`.", code="no_matching_wait")
        return len(told)

    async def _peek(self, connection: Fetcher, tenant_id: UUID, execution_id: UUID) -> tuple[UUID, int]:
        status = await queue.execution_status(connection, tenant_id, execution_id)
        if status is None:
            raise NotFound("There is no such execution.", code="execution_not_found")
        pinned = await queue.pinned_version(connection, tenant_id, execution_id)
        if pinned is None:
            raise Conflict(f"The execution has ended already: it is {status}.", code="already_ended")
        return pinned

    async def _plan(self, pinned: tuple[UUID, int]) -> Plan | None:
        """The plan, or None if this process can't compile it: then only steps that were begun are recorded."""
        try:
            return await self._plans.get(*pinned)
        except UnsupportedVersion:
            return None
