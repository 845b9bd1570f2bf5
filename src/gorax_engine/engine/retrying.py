"""Retry and replay: new runs that follow from old ones. A terminal run is never touched again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import anyio
import anyio.to_thread

from gorax_engine.core.events import RunStarted
from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import SECOND, Json
from gorax_engine.core.plan import trigger_of
from gorax_engine.core.states import StepState
from gorax_engine.core.walk import initial, take_over
from gorax_engine.engine.plans import UnsupportedVersion
from gorax_engine.engine.recorder import failed_row, step_row
from gorax_engine.engine.starting import Started, StartRequest, row_of
from gorax_engine.errors import Conflict, InvalidInput, NotFound, Problem
from gorax_engine.store import queue, runs

if TYPE_CHECKING:
    from gorax_engine.core.model import StepKey
    from gorax_engine.core.plan import Plan
    from gorax_engine.core.walk import StepRecord
    from gorax_engine.engine.plans import Plans
    from gorax_engine.engine.starting import StartKey, Starts
    from gorax_engine.store.database import Database
    from gorax_engine.store.queue import StepRow
    from gorax_engine.store.runs import PastRun

TERMINAL: Final = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Again:
    """How a run is run again: on which version, with which input (the old one's unless given), from which step."""

    version: Literal["same", "current"] = "same"
    has_input: bool = False
    input: Json = None
    from_step: str | None = None
    started_by: UUID | None = None
    start_key: StartKey | None = None


class Retries:
    """Starts runs that follow from others."""

    def __init__(self, database: Database, plans: Plans, starts: Starts) -> None:
        self._database = database
        self._plans = plans
        self._starts = starts

    async def retry(self, tenant_id: UUID, execution_id: UUID, again: Again) -> Started:
        """Start a run that takes over what succeeded in a failed or cancelled one and goes on from what did not.

        With `from_step` that step and all that depends on it begin anew, of a completed run too. Keys of effects keep
        the id of the first run. Raises NotFound; Conflict (not_ended, nothing_failed, version_unsupported, and those
        of a start); InvalidInput (unknown_step).
        """
        old = await self._past(tenant_id, execution_id)
        if old.status == "completed" and again.from_step is None:
            message = "The execution has completed, so that there is nothing to retry: name a step, or replay it."
            raise Conflict(message, code="nothing_failed")
        return await self._start(tenant_id, old, again, "retry")

    async def replay(self, tenant_id: UUID, execution_id: UUID, again: Again) -> Started:
        """Start a run afresh with the input of another one; with `from_step`, as `retry` does, but under new keys.

        Raises as `retry` does.
        """
        old = await self._past(tenant_id, execution_id)
        return await self._start(tenant_id, old, again, "replay")

    async def _past(self, tenant_id: UUID, execution_id: UUID) -> PastRun:
        async with self._database.worker() as connection:
            old = await runs.past_run(connection, tenant_id, execution_id)
        if old is None:
            raise NotFound("There is no such execution.", code="execution_not_found")
        if old.status not in TERMINAL:
            raise Conflict(f"The execution is still {old.status}: wait for its end, or cancel it.", code="not_ended")
        return old

    async def _plan(self, old: PastRun, again: Again) -> tuple[int, Plan]:
        """Return the version to run, and its plan."""
        version = old.workflow_version if again.version == "same" else old.published_version
        if version is None:
            raise Conflict("The workflow has no published version; publish it first.", code="not_published")
        try:
            plan = await self._plans.get(old.workflow_id, version)
        except UnsupportedVersion as reason:
            raise Conflict(f"The run can't be run again: {reason}.", code="version_unsupported") from reason
        if again.from_step is not None and again.from_step not in plan.nodes:
            message = f"Version {version} of the workflow has no step `{again.from_step}`."
            raise InvalidInput(message, code="unknown_step", problems=[Problem("unknown_step", "/from_step", message)])
        return version, plan

    async def _start(self, tenant_id: UUID, old: PastRun, again: Again, kind: Literal["retry", "replay"]) -> Started:
        version, plan = await self._plan(old, again)
        data = {**old.trigger_data, "body": again.input} if again.has_input else old.trigger_data
        request = StartRequest(
            tenant_id,
            old.workflow_id,
            kind,
            data,
            trigger_node=trigger_of(plan, old.trigger_node, old.trigger_type),
            start_key=again.start_key,
            started_by=again.started_by,
        )
        origin = (old.origin_id or old.id) if kind == "retry" else None
        past = None
        # The old run is over, so it may be read before: nothing is held while it is walked again.
        async with self._database.worker() as connection:
            new_id = await runs.new_execution_id(connection)
            if kind == "retry" or again.from_step is not None:
                steps = await runs.recorded_steps(connection, old.id)
                past = _Past(steps, await runs.recorded_inputs(connection, old.id))
        rows: list[StepRow] = []
        if past is not None:
            seed = (origin or new_id).bytes
            # Many steps take their time, which is not the event loop's.
            work = partial(_taken_over, old, plan, request, again.from_step, new_id, seed, past)
            rows = await anyio.to_thread.run_sync(work)
        links = {
            "retry_of": str(old.id),
            "origin": None if origin is None else str(origin),
            "version": version,
            "id": str(new_id),
            "resumes": bool(rows),
        }
        async with self._database.worker() as connection, connection.transaction():
            (verdict,) = await queue.start(
                connection, [row_of(request)], worker_id=None, room=0, ring=True, links=encode([links])
            )
            started = self._starts.answer(request, verdict)
            if not started.duplicate:
                await queue.record_steps(connection, tenant_id, new_id, rows)
        return started


@dataclass(frozen=True, slots=True)
class _Past:
    """What is recorded of the steps of a run that is over, and the inputs of their attempts, as JSON."""

    steps: Mapping[tuple[StepKey, int], StepRecord]
    inputs: Mapping[tuple[StepKey, int], str]


def _taken_over(
    old: PastRun, plan: Plan, request: StartRequest, from_step: str | None, new_id: UUID, seed: bytes, past: _Past
) -> list[StepRow]:
    """Return the rows with which the new run begins; that of its trigger has the new input."""
    trigger = request.trigger_node or ""
    told = {
        key: replace(record, output=request.trigger_data)
        if key[0].node == trigger and record.state is StepState.COMPLETED
        else record
        for key, record in past.steps.items()
    }
    started = RunStarted(trigger, request.trigger_data, old.started or old.created)
    roots = {"trigger": request.trigger_data, "vars": old.vars}
    taken = take_over(plan, lambda: initial(plan, roots, seed), started, told, from_step)
    return [
        _copy(new_id.int, plan, step, attempt, record, past.inputs.get((step, attempt), ""))
        for (step, attempt), record in _brought_forward(taken, new_id).items()
    ]


def _brought_forward(
    taken: Mapping[tuple[StepKey, int], StepRecord], new_id: UUID
) -> dict[tuple[StepKey, int], StepRecord]:
    """Let what is taken over have happened just before the new run: its timers don't count the time between the two."""
    latest = max((record.at for record in taken.values()), default=0)
    shift = (new_id.int >> 80) * (SECOND // 1_000) - latest  # an id begins with its time, in milliseconds
    return {
        key: replace(record, at=record.at + shift, started=None if record.started is None else record.started + shift)
        for key, record in taken.items()
    }


def _copy(
    execution: int,
    plan: Plan,
    step: StepKey,
    attempt: int,
    record: StepRecord,
    given: str,
) -> StepRow:
    """Return the row of a step that is taken over."""
    node = plan.nodes[step.node]
    if record.state is StepState.FAILED and record.error is not None:
        bound = record.output.get("error") if isinstance(record.output, dict) else None
        return failed_row(
            execution, node, step, attempt, record.error, record.at, given=given, started=record.started, bound=bound
        )
    if record.state is StepState.SKIPPED:
        return step_row(execution, node, step, 1, StepState.SKIPPED, outcome=record.outcome, completed=record.at)
    if record.state is StepState.RUNNING:
        return step_row(execution, node, step, attempt, StepState.RUNNING, given=given, started=record.started)
    return step_row(
        execution,
        node,
        step,
        attempt,
        StepState.COMPLETED,
        given=given,
        output=encode(record.output),
        outcome=record.outcome,
        started=record.started,
        completed=record.at,
    )
