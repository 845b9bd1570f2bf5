"""The task steps of one run: those that are to begin, and those at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from gorax_engine.core.model import InDoubt
from gorax_engine.engine.attempts import Attempted, Prepared, act_guarded, prepare
from gorax_engine.engine.inbox import Ended

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from gorax_engine.core.commands import StartStep
    from gorax_engine.core.model import StepKey
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.engine.entries import Owner
    from gorax_engine.engine.inbox import Inbox
    from gorax_engine.engine.recorder import Recorder
    from gorax_engine.engine.run import Run
    from gorax_engine.engine.settling import Settling


class Tasks:
    """Runs task steps, each under a scope of its own. What becomes of them goes to the inbox.

    `starts` are to begin. `alone` is the scope of the one that the execution itself runs, if it does.
    """

    __slots__ = ("_heard", "_inbox", "_owner", "_recorder", "_run", "_scopes", "_settling", "alone", "starts")

    def __init__(self, run: Run, recorder: Recorder, owner: Owner, settling: Settling, inbox: Inbox) -> None:
        self.starts: list[StartStep] = []
        self.alone: anyio.CancelScope | None = None
        self._scopes: dict[StepKey, anyio.CancelScope] = {}
        self._heard = 0  # of the records on which a step may depend, how many are known to be durable
        self._run = run
        self._recorder = recorder
        self._owner = owner
        self._settling = settling
        self._inbox = inbox

    @property
    def at_work(self) -> bool:
        """Is one of them running, or its report on the way?"""
        return bool(self._scopes)

    def launch(self, tasks: TaskGroup) -> None:
        """Start a task for each step that is to run."""
        starts, self.starts = self.starts, []
        for command in starts:
            scope = self._scopes[command.step] = anyio.CancelScope()
            tasks.start_soon(self._run_task, self._run.plan.nodes[command.step.node], command, scope)

    async def run_here(self, scope: anyio.CancelScope) -> None:
        """Run the only step that is to begin, within `scope`, which the caller has entered."""
        command = self.starts.pop()
        self._scopes[command.step] = scope
        await self._act(self._run.plan.nodes[command.step.node], command)

    def ended(self, step: StepKey) -> bool:
        """The report of a step is read; return False if the step was cut off meanwhile, and recorded as such."""
        return self._scopes.pop(step, None) is not None

    def cut(self, step: StepKey) -> bool:
        """Cut off a step; return whether it was at work."""
        scope = self._scopes.pop(step, None)
        if scope is not None:
            scope.cancel()
        self.starts = [start for start in self.starts if start.step != step]
        return scope is not None

    async def _run_task(self, node: PlanNode, command: StartStep, scope: anyio.CancelScope) -> None:
        with scope:
            await self._act(node, command)

    async def _act(self, node: PlanNode, command: StartStep) -> None:
        """One attempt of a task node: wait until its past is durable, then act, under the lease and the timeout."""
        if node.has_effects and self._settling.said > self._heard:
            # All but the trigger's own row, which says nothing that was not committed when the run was accepted.
            said = self._settling.said
            await self._run.engine.journal.durable(self._owner)
            self._heard = max(self._heard, said)
        if self._owner.lost or self._owner.rejected or command.step not in self._scopes:
            return
        scope = self._run.scope(node, command.step, command.at)
        if scope is None:
            return
        started = self._run.engine.clock.after(command.at)
        attempted = await prepare(self._run, node, scope, command)
        if isinstance(attempted, Prepared):
            self._recorder.started(node, command.step, command.attempt, attempted.given, started)
            if node.in_doubt is not InDoubt.RETRY:
                await self._run.engine.journal.durable(self._owner)
            if not self._run.engine.lease.valid:
                self._owner.lost = True  # the worker's life is over, and it will notice
                self._owner.on_void()
                return
            attempted = Attempted(await act_guarded(self._run, node, attempted, command), attempted.given)
        self._inbox.post(Ended(node, command, attempted, started, self._run.engine.clock.after(started)))
