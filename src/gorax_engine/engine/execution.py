"""One execution on this worker: walk, do, record.

An execution is rebuilt from its rows or begun afresh, then turns: events go into `core.walk.proceed`, commands come
out. Pure nodes are evaluated on the spot and their results feed the next turn. Task nodes run as tasks of their own,
each only after all that it depends on is durable. When nothing but waits is left, the execution parks: it leaves
memory, and its queue row says until when, if there is a when.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, assert_never

import anyio
import msgspec

from gorax_engine.core.commands import Command, EndRun, StartStep
from gorax_engine.core.events import RunFailed, StepDeclined
from gorax_engine.core.model import SECOND, Instant, StepError, StepKey
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.core.walk import proceed, recover
from gorax_engine.engine.ending import Mark, read_mark
from gorax_engine.engine.entries import Owner, Tell
from gorax_engine.engine.hearing import Hearing
from gorax_engine.engine.inbox import Ended, Inbox
from gorax_engine.engine.parking import PAUSED, Parking
from gorax_engine.engine.recorder import Recorder, storable
from gorax_engine.engine.run import Engine, Run
from gorax_engine.engine.settling import Settling
from gorax_engine.engine.steps import Steps
from gorax_engine.engine.tasks import Tasks
from gorax_engine.engine.waiting import Waiting
from gorax_engine.errors import Unavailable
from gorax_engine.store import queue, runs
from gorax_engine.store.queue import ParkRow
from gorax_engine.telemetry import ExecutionFinished, get_logger

if TYPE_CHECKING:
    from gorax_engine.core.plan import Plan
    from gorax_engine.store.queue import Claim

SLICE: Final = 0.01
"""Seconds that an execution evaluates pure nodes and walks before others have their turn."""
RETRY_DELAY: Final = 0.2

_log = get_logger(__name__)


class Execution:
    """Runs one claim to its end, its parking, or the loss of it. `run` is called once."""

    def __init__(self, claim: Claim, plan: Plan, engine: Engine) -> None:
        self.claim = claim
        self._scope: anyio.CancelScope | None = None
        self.owner = Owner(claim.execution_id, claim.tenant_id, claim.token, self._stop)
        self.parked = False
        self.wake_seq = claim.wake_seq
        self._plan = plan
        self._engine = engine
        self._journal = engine.journal
        self._run = Run(claim, plan, engine)
        self._recorder = Recorder(claim, plan, self.owner, engine)
        self._waiting = Waiting(self._run, self._recorder)
        self.owner.on_child = self._waiting.child_started
        self._clock = engine.clock
        self._settling = Settling(self._recorder, self._waiting)
        self._hearing = Hearing(self._run, self._recorder, self._waiting, self._settling)
        self._parking = Parking(self._run, self._waiting)
        self._inbox = Inbox()
        self._tasks = Tasks(self._run, self._recorder, self.owner, self._settling, self._inbox)
        self._steps = Steps(self._run, self._recorder, self._waiting, self._settling, self._tasks)
        self._events = self._settling.events
        self._begun = False
        self._is_whole = True
        self._paused = False
        self._asked: str | None = None  # what the walk was told that is asked of the run

    @property
    def ended(self) -> ExecutionState | None:
        """The state of the run once it is over."""
        return self._steps.ended

    # --- from outside, by the worker ---------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Stop at once and write nothing more: the run is no longer ours."""
        self.owner.lost = True
        self._stop()

    def close(self) -> None:
        """The run is let go: nothing will call it any more, and it is free without waiting for the collector."""
        self.owner.on_void = _nothing
        self.owner.on_child = _nothing_of

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def woken(self, wake_seq: int, mark: str | None, *, paused: bool) -> None:
        """The queue row was woken: take note, and act on what is asked of the run."""
        self.wake_seq = wake_seq
        self._paused = paused
        self._hearing.signalled = bool(self._waiting)
        asked = None if mark is None or self.ended is not None else read_mark(msgspec.json.decode(mark))
        if asked is not None and asked.kind != self._asked and (asked.at is None or asked.force):
            self._inbox.post(asked)
            if self._tasks.alone is not None:
                # Nobody reads the inbox while a step runs alone; the step is about to be cancelled anyhow.
                self._tasks.alone.cancel()
        else:
            self._inbox.ring()  # it may park now, or go on

    def child_ended(self, tell: Tell) -> None:
        """A child of ours has ended in this very worker; its signal is on the way, but this is quicker."""
        if self.ended is None and not self.owner.lost:
            self._inbox.post(tell)

    # --- life ---------------------------------------------------------------------------------------------------------

    def run_at_once(self) -> bool:
        """Walk as far as it goes without waiting; return whether that was to the end (which is then on its way).

        A run of pure nodes needs no task of its own. Call `run` for all that did not end here.
        """
        if self.claim.recovered:
            return False
        self._begun = True
        self._register_deadline()
        commands = proceed(self._plan, self._run.state, (self._run.started(),))
        self._steps.do(commands)
        self._take_first_mark()
        self._turn()
        return self.ended is not None

    async def run(self) -> None:
        """Walk until the run has ended, is parked, or is lost. Cancellation leaves all that is recorded as it is."""
        with anyio.CancelScope() as self._scope:
            if self.owner.lost or self.owner.rejected:
                self._scope.cancel()
            if not self._begun:
                await self._recover()
            while self._turn():
                await self._breathe()
            await self._run_chain()
            if self.ended is None:
                await self._live()
            if self.ended is not None:
                await self._journal.durable(self.owner)
        await self.conclude()

    async def _recover(self) -> None:
        """Rebuild the run from its rows."""
        recorded, waits = await self._load()
        records = recorded.steps
        # A wait for what has ended is over, however it came to be left open: it must not begin the attempt again.
        self._waiting.adopt(
            {key: wait for key, wait in waits.items() if key not in records or records[key].state is StepState.RUNNING}
        )
        self._hearing.signalled = bool(self._waiting)
        run = self._run
        mark = self._first_mark()
        self._asked = None if mark is None else mark.kind
        ends = [] if mark is None else mark.told()
        self._is_whole = False  # until it is rebuilt, the state says nothing of the steps
        rebuilt = recover(self._plan, run.state, run.started(), records, ends, recorded.folded)
        self._steps.in_doubt = rebuilt.in_doubt.difference(waits)
        self._is_whole = True
        run.last = rebuilt.latest
        self._register_deadline()
        if mark is not None and mark.at is None and mark.force:
            # Nothing of what is outstanding is to be begun: the run is given up.
            events = (mark.event(run.tick()),)
            commands: list[Command] = [each for each in rebuilt.commands if not isinstance(each, StartStep)]
            self._steps.do(commands + proceed(self._plan, run.state, events))
            return
        self._steps.do(rebuilt.commands)
        if mark is not None and mark.at is None:
            self._apply(mark)

    def _register_deadline(self) -> None:
        claim, timeout = self.claim, self._plan.settings.timeout
        if timeout is not None:
            self._journal.entry(self.owner).deadline = (claim.execution_id, claim.started + timeout)

    def _first_mark(self) -> Mark | None:
        """What was asked of the run before it was claimed."""
        text = self.claim.end_requested
        return None if text is None else read_mark(msgspec.json.decode(text))

    def _take_first_mark(self) -> None:
        mark = self._first_mark()
        if mark is not None and self.ended is None:
            self._apply(mark)

    def _apply(self, mark: Mark) -> None:
        """Tell the walk what is asked of the run, before all that is still to be evaluated."""
        at = self._run.tick()
        self._asked = mark.kind
        self._settling.said += 1  # what must run before the end begins only when it is durable why
        self._events.append(mark.event(at))
        self._settling.ending = True
        if self._plan.unwinds:
            self._recorder.applied(at)

    async def _load(
        self,
    ) -> tuple[runs.Recorded, dict[tuple[StepKey, int], runs.OpenWait]]:
        """Read what is recorded, however long the database is away; the loss of the lease ends the waiting."""
        session, execution_id = self._engine.session, self.claim.execution_id
        while True:
            try:
                return await runs.recorded(session, execution_id), await runs.open_waits(session, execution_id)
            except Unavailable:
                await anyio.sleep(RETRY_DELAY)

    def _turn(self) -> bool:
        """Evaluate and walk until nothing is left, time is up or much is to be written; return whether some is left.

        Never returns between a step that stops the run and what follows from it: they are recorded together.
        """
        settling = self._settling
        until = time.monotonic() + SLICE
        while self._events or (self._steps.pure and not self._paused):
            if self._steps.pure and not (settling.ending or self._paused):
                self._steps.evaluate_next()
            else:
                self._steps.do(proceed(self._plan, self._run.state, settling.take()))
            if not settling.ending and (self._journal.crowded or time.monotonic() >= until):
                break
        return bool(self._events or (self._steps.pure and not self._paused))

    async def _breathe(self) -> None:
        """Between two turns: let the others have theirs, let the journal write, and hear what was asked meanwhile."""
        if self._journal.crowded:
            await self._journal.room()
        else:
            await anyio.lowlevel.checkpoint()
        self._take_arrivals()

    def _over(self) -> bool:
        return self.ended is not None

    async def _live(self) -> None:
        """Run tasks and wait for what comes, until the end or the parking."""
        async with anyio.create_task_group() as tasks:
            await self._take_turns()  # what is due comes before what is to begin
            while not self._over():
                await self._run_chain()
                if self._over():
                    break
                if self._hearing.signalled:
                    self._parking.idle_since = None
                    await self._hearing.hear_signals(self._steps.start_again)
                    await self._take_turns()
                    continue
                if not self._inbox and not self._paused:  # it may say that the run is to end
                    self._tasks.launch(tasks)
                due, now = self._parking.due(), self._clock.now()
                if not self._tasks.at_work and not self._inbox and self._may_park(due, now):
                    seen = self.wake_seq
                    await self._park(due)
                    if self.parked or self.owner.lost or self.owner.rejected:
                        break
                    if self.wake_seq != seen:
                        continue
                await self._arrival(None if self._paused else self._parking.look_again(due, now))
                await self._take_turns()
            tasks.cancel_scope.cancel()

    async def _take_turns(self) -> None:
        """Digest what has arrived and what is due."""
        await self._journal.room()
        if self._inbox:
            self._parking.idle_since = None
        self._take_arrivals()
        if not self._paused:
            self._hearing.fire_due(self._steps.start)
        while self._turn():
            await self._breathe()

    @property
    def _one_alone(self) -> bool:
        return (
            len(self._tasks.starts) == 1
            and not (self._tasks.at_work or self._waiting or self._inbox or self._paused)
            and self._run.state.next_due() is None
        )

    async def _run_chain(self) -> None:
        """Run steps right here as long as each is alone: most runs are chains, and a task for each step costs."""
        while self.ended is None and self._one_alone:
            with anyio.CancelScope() as scope:
                self._tasks.alone = scope
                while self._one_alone:
                    await self._tasks.run_here(scope)
                    await self._take_turns()
            self._tasks.alone = None

    async def _arrival(self, due: Instant | None) -> None:
        """Wait until a report or an event is there, or the next wait is due."""
        if self._inbox or self._hearing.signalled or (self._steps.pure and not self._paused):
            return
        await self._inbox.wait(None if due is None else max(0.0, (due - self._clock.now()) / SECOND))

    def _take_arrivals(self) -> None:
        """Take what is in the inbox, as much of it as the journal has room for."""
        room = True
        while self._inbox and room:
            item = self._inbox.take()
            match item:
                case Mark():
                    self._apply(item)
                case Tell():
                    self._hearing.hear_child(item)
                case Ended():
                    if self._tasks.ended(item.command.step):
                        self._take_report(item)
                        room = not self._journal.crowded
                case _:
                    assert_never(item)

    def _take_report(self, report: Ended) -> None:
        command, attempted = report.command, report.attempted
        completed = self._run.tick(report.completed)
        if attempted.outcome is None:
            self._events.append(StepDeclined(command.step, completed))
        else:
            self._settling.settle(report.node, command, attempted.outcome, attempted.given, report.started, completed)

    # --- parking ------------------------------------------------------------------------------------------------------

    def _may_park(self, due: Instant | None, now: Instant) -> bool:
        """Is nothing to be expected soon?"""
        return self._paused or (not (self._tasks.starts or self._steps.pure) and self._parking.may_leave(due, now))

    async def _park(self, due: Instant | None) -> None:
        """Leave memory until `due`, or until woken. What is recorded so far goes with it in one transaction."""
        entry = self._journal.entry(self.owner)
        entry.park = ParkRow(
            self.claim.execution_id, due, self.wake_seq, PAUSED if self._paused else self._parking.waits_for()
        )
        self.owner.woken = False
        await self._journal.durable(self.owner)
        self.parked = not (self.owner.woken or self.owner.lost or self.owner.rejected)
        if self.owner.woken:
            self._engine.look_at_marks()

    # --- ends ---------------------------------------------------------------------------------------------------------

    async def give_up(self) -> None:
        """End the run as failed because of a fault of the engine itself, found while it ran."""
        if self.ended is None and not self.owner.lost:
            await self._fail(StepError("internal_error", "The engine failed while it ran this run; its log says why."))

    async def conclude(self) -> None:
        """What must be done when nothing runs any more: a refused record fails the run by itself."""
        if self.owner.rejected is not None and not self.owner.lost:
            refusal, self.owner.rejected = self.owner.rejected, None
            await self._fail(
                StepError("record_rejected", f"Postgres refused to store a result of this run: {storable(refusal)}")
            )
        self.tell()

    async def _fail(self, error: StepError) -> None:
        """End the run from without, with what became of its steps; if that can't be stored either, the bare end."""
        now = self._run.tick()
        if not self._over() and self._is_whole:
            try:
                self._steps.do(proceed(self._plan, self._run.state, (RunFailed(error, now, force=True),)))
            except Exception:  # noqa: BLE001 - whatever is wrong with the run, its end must not depend on it
                _log.exception("end_without_steps", execution_id=self._run.id)
            else:
                await self._journal.durable(self.owner)
                if self._over() and self.owner.rejected is None:
                    return
        self.owner.rejected = None
        self._steps.ended = self._recorder.ended(EndRun(ExecutionState.FAILED, None, error, now))
        await self._journal.durable(self.owner)
        if not self._is_whole and not self.owner.lost:
            with suppress(Unavailable):
                await queue.close_running_steps(self._engine.session, self.claim.execution_id)

    def tell(self) -> None:
        """Count the end, if it was ours."""
        if self.ended is not None and not self.owner.lost:
            claim = self.claim
            self._engine.telemetry.emit(
                ExecutionFinished(
                    self.ended.value, self._clock.now() - claim.created, max(0, claim.started - claim.created)
                )
            )


def _nothing() -> None:
    """What is called for a run that has been let go."""


def _nothing_of(_child: object) -> None:
    """What is told of children to a run that has been let go."""
