"""One life of a worker: the runs that it holds from its registration to its drain, or to the loss of its lease."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine.engine.entries import Owner
from gorax_engine.engine.execution import Execution
from gorax_engine.engine.explain import VERSION_UNSUPPORTED
from gorax_engine.engine.plans import Plans, UnsupportedVersion
from gorax_engine.engine.strays import Holding, Strays
from gorax_engine.errors import Unavailable
from gorax_engine.store.queue import ParkRow
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from anyio.abc import TaskGroup

    from gorax_engine.core.plan import Plan
    from gorax_engine.core.states import ExecutionState
    from gorax_engine.engine.run import Engine
    from gorax_engine.store.queue import Claim

AT_ONCE: Final = 0.05
"""Seconds of the loop that a group of claims may take for runs that are walked at once."""
UNSUPPORTED_DELAY_US: Final = 30_000_000
RETRY_DELAY: Final = 0.5

_log = get_logger(__name__)


class Life:
    """One registration and all that hangs on it: runs are begun here, and let go.

    `held` counts the runs in memory, `reserved` the places that are set aside for what is being claimed. `ended` is set
    whenever a run is let go. `ring` says that there may be something to claim, `on_end` how a run has ended.
    """

    def __init__(
        self,
        engine: Engine,
        tasks: TaskGroup,
        plans: Plans,
        slots: int,
        ring: Callable[[], None],
        on_end: Callable[[UUID, ExecutionState], None],
    ) -> None:
        self.engine = engine
        self.lease = engine.lease
        self.executions: dict[UUID, Execution] = {}
        self.known: set[Holding] = set()
        self.strays = Strays()
        self.ended = anyio.Event()
        self.held = 0
        self.reserved = 0
        self.saturated = False
        self.suspects_since: float | None = None
        self.closed = False
        self.alone = False
        self._tasks = tasks
        self._plans = plans
        self._slots = slots
        self._ring = ring
        self._on_end = on_end

    @property
    def free(self) -> int:
        """How many further runs may be held."""
        return self._slots - self.held - self.reserved

    def begin_all(self, claims: Sequence[Claim]) -> None:
        """Begin runs: at once as long as that takes no more than a moment of the loop, the others as tasks."""
        until = time.monotonic() + AT_ONCE
        for claim in claims:
            self._begin(claim, at_once=time.monotonic() < until)

    def _begin(self, claim: Claim, *, at_once: bool) -> None:
        """Begin a run: with `at_once` one that needs no waiting is walked to its end here, all others get a task."""
        self.held += 1
        self.known.add((claim.execution_id, claim.token))
        plan = self._plans.cached(claim.workflow_id, claim.workflow_version)
        if plan is None or not at_once:
            self._tasks.start_soon(self._load_and_run, claim)
            return
        execution, fault = self._prepare(claim, plan)
        if fault is not None:
            self._tasks.start_soon(self._give_up, execution, fault)
            return
        try:
            has_ended = execution.run_at_once()
        except Exception as error:  # noqa: BLE001 - a fault of the engine fails one run, not the worker
            self._tasks.start_soon(self._give_up, execution, error)
            return
        if has_ended:
            self.engine.journal.when_durable(execution.owner, partial(self._ended_at_once, execution))
        else:
            self._tasks.start_soon(self._run, execution)

    def _prepare(self, claim: Claim, plan: Plan) -> tuple[Execution, Exception | None]:
        """Take a run into memory. If its data can't be read, it comes without them, to be given up for that fault."""
        fault: Exception | None = None
        try:
            execution = Execution(claim, plan, self.engine)
        except Exception as error:  # noqa: BLE001 - whoever wrote what can't be read must not end the worker
            fault = error
            execution = Execution(replace(claim, trigger_data="", vars=None), plan, self.engine)
        self.executions[claim.execution_id] = execution
        return execution, fault

    def _ended_at_once(self, execution: Execution) -> None:
        if execution.owner.rejected is not None and not self.closed:
            self._tasks.start_soon(self._run, execution)  # it still has its failure to record
            return
        execution.tell()
        self._let_go(execution)

    async def _run(self, execution: Execution) -> None:
        """Run to the end, the parking or the loss. A fault of the engine itself fails this run and no other."""
        try:
            await execution.run()
        except Exception as error:  # noqa: BLE001 - a fault of the engine fails one run, not the worker
            await self._give_up(execution, error)
        else:
            self._let_go(execution)

    async def _give_up(self, execution: Execution, error: Exception) -> None:
        _log.error("execution_crashed", execution_id=str(execution.claim.execution_id), exc_info=error)
        await execution.give_up()
        self._let_go(execution)

    def _let_go(self, execution: Execution) -> None:
        """The run is no longer in memory: tell who waits for its end, and free its place."""
        claim = execution.claim
        execution.close()
        if self.executions.get(claim.execution_id) is execution:  # it may have been claimed again by now
            del self.executions[claim.execution_id]
        self._free_place(claim)
        if execution.ended is not None and not execution.owner.lost:
            self._on_end(claim.execution_id, execution.ended)

    def _free_place(self, claim: Claim) -> None:
        self.known.discard((claim.execution_id, claim.token))
        self.held -= 1
        self.ended.set()
        if self.saturated:
            self._ring()

    async def _load_and_run(self, claim: Claim) -> None:
        plan = await self._load_plan(claim)
        if plan is None:
            self._free_place(claim)
            return
        execution, fault = self._prepare(claim, plan)
        if fault is not None:
            await self._give_up(execution, fault)
            return
        try:
            at_once = execution.run_at_once()
        except Exception as error:  # noqa: BLE001 - a fault of the engine fails one run, not the worker
            await self._give_up(execution, error)
            return
        if at_once:
            await self.engine.journal.durable(execution.owner)
            self._ended_at_once(execution)
        else:
            await self._run(execution)

    async def _load_plan(self, claim: Claim) -> Plan | None:
        """Get the plan, however long the database is away; park a run that this worker can't compile."""
        while True:
            try:
                return await self._plans.get(claim.workflow_id, claim.workflow_version)
            except Unavailable:
                await anyio.sleep(RETRY_DELAY)
            except UnsupportedVersion as reason:
                _log.error("version_unsupported", execution_id=str(claim.execution_id), reason=str(reason))
                owner = Owner(claim.execution_id, claim.tenant_id, claim.token, lambda: None)
                due = self.engine.clock.now() + UNSUPPORTED_DELAY_US
                self.engine.journal.entry(owner).park = ParkRow(
                    claim.execution_id, due, claim.wake_seq, VERSION_UNSUPPORTED
                )
                await self.engine.journal.durable(owner)
                return None
