"""One execution on this worker: walk, do, record.

An execution is rebuilt from its rows or begun afresh, then turns: events go into `core.walk.proceed`, commands come
out. Pure nodes are evaluated on the spot and their results feed the next turn. Task nodes run as tasks of their own,
each only after all that it depends on is durable. When nothing but waits is left, the execution parks: it leaves
memory, and its queue row says until when, if there is a when.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

import anyio
import msgspec

from gorax_engine.core.commands import CancelStep, Command, EndRun, EndStep, FoldLoop, OpenStep, SkipStep, StartStep
from gorax_engine.core.events import (
    Event,
    RunFailed,
    StepAdmitted,
    StepDeclined,
    StepFailed,
    StepSucceeded,
    TimePassed,
)
from gorax_engine.core.failures import step_timed_out, unhandled
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import (
    SECOND,
    Completed,
    Failed,
    InDoubt,
    Instant,
    NodeKind,
    Outcome,
    StepError,
    StepKey,
    Suspended,
)
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.core.walk import proceed, recover
from gorax_engine.core.walk.recovery import recorded_outcome
from gorax_engine.engine.attempts import Attempted, Prepared, act_guarded, circuit_open, evaluate, prepare
from gorax_engine.engine.children import child_outcome, needs_steps, outcome_of_end
from gorax_engine.engine.ending import Mark, read_mark
from gorax_engine.engine.entries import Owner, Tell
from gorax_engine.engine.recorder import CANCELLED, Recorder, encode_bounded, storable
from gorax_engine.engine.run import Engine, Run
from gorax_engine.engine.waiting import Waiting, outcome_of
from gorax_engine.errors import Unavailable
from gorax_engine.store import queue, runs
from gorax_engine.store.queue import ParkRow
from gorax_engine.telemetry import ExecutionFinished, StepRetried, get_logger

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from gorax_engine.core.plan import Plan, PlanNode
    from gorax_engine.store.queue import Claim

PARK_AFTER: Final = 5 * SECOND
"""Waits that are due sooner than this stay in memory, with their rows written."""
CHILD_PATIENCE: Final = 1 * SECOND
"""How long a parent stays in memory for a child that may end soon, if its place isn't needed."""
SLICE: Final = 0.01
"""Seconds that an execution evaluates pure nodes and walks before others have their turn."""
RETRY_DELAY: Final = 0.2
PAUSED: Final = "paused"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A task's report: what became of an attempt, to be recorded and walked by the execution's own turn."""

    node: PlanNode
    command: StartStep
    attempted: Attempted
    started: Instant
    completed: Instant


class Execution:
    """Runs one claim to its end, its parking, or the loss of it. `run` is called once."""

    def __init__(self, claim: Claim, plan: Plan, engine: Engine) -> None:
        self.claim = claim
        self._scope: anyio.CancelScope | None = None
        self.owner = Owner(claim.execution_id, claim.tenant_id, claim.token, self._stop)
        self.ended: ExecutionState | None = None
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
        self._events: deque[Event] = deque()
        self._told: list[Event] = []
        self._pure: deque[StartStep] = deque()
        self._ending = False
        self._inbox: deque[_Ended | Mark | Tell] = deque()
        self._arrived: anyio.Event | None = None
        self._starts: list[StartStep] = []
        self._scopes: dict[StepKey, anyio.CancelScope] = {}
        self._begun = False
        self._is_whole = True
        self._said = 0  # records on which a step may depend
        self._heard = 0  # how many of them are known to be durable
        self._alone: anyio.CancelScope | None = None
        self._in_doubt: frozenset[tuple[StepKey, int]] = frozenset()
        self._paused = False
        self._unopened: set[tuple[StepKey, int]] = set()  # scopes that may begin, and have not
        self._admitted: set[StepKey] = set()  # scopes that a circuit breaker has let begin, and is to hear of
        self._asked: str | None = None  # what the walk was told that is asked of the run
        self._signalled = False  # something may have come for our waits
        self._idle_since: Instant | None = None

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
        self._signalled = bool(self._waiting)
        asked = None if mark is None or self.ended is not None else read_mark(msgspec.json.decode(mark))
        if asked is not None and asked.kind != self._asked and (asked.at is None or asked.force):
            self._post(asked)
        elif self._arrived is not None:
            self._arrived.set()  # it may park now, or go on

    def child_ended(self, tell: Tell) -> None:
        """A child of ours has ended in this very worker; its signal is on the way, but this is quicker."""
        if self.ended is None and not self.owner.lost:
            self._post(tell)

    def _post(self, item: _Ended | Mark | Tell) -> None:
        self._inbox.append(item)
        if self._arrived is not None:
            self._arrived.set()
        if self._alone is not None and isinstance(item, Mark):
            # Nobody reads the inbox while a step runs alone; the step is about to be cancelled anyhow.
            self._alone.cancel()

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
        self._do(commands)
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
        self._signalled = bool(self._waiting)
        run = self._run
        mark = self._first_mark()
        self._asked = None if mark is None else mark.kind
        ends = [] if mark is None else mark.told()
        self._is_whole = False  # until it is rebuilt, the state says nothing of the steps
        rebuilt = recover(self._plan, run.state, run.started(), records, ends, recorded.folded)
        self._in_doubt = rebuilt.in_doubt.difference(waits)
        self._is_whole = True
        run.last = rebuilt.latest
        self._register_deadline()
        if mark is not None and mark.at is None and mark.force:
            # Nothing of what is outstanding is to be begun: the run is given up.
            events = (mark.event(run.tick()),)
            commands: list[Command] = [each for each in rebuilt.commands if not isinstance(each, StartStep)]
            self._do(commands + proceed(self._plan, run.state, events))
            return
        self._do(rebuilt.commands)
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
        self._said += 1  # what must run before the end begins only when it is durable why
        self._events.append(mark.event(at))
        self._ending = True
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
        until = time.monotonic() + SLICE
        while self._events or (self._pure and not self._paused):
            if self._pure and not (self._ending or self._paused):
                self._evaluate(self._pure.popleft())
            else:
                self._ending = False
                events = self._told = list(self._events)
                self._events.clear()
                self._do(proceed(self._plan, self._run.state, events))
            if not self._ending and (self._journal.crowded or time.monotonic() >= until):
                break
        return bool(self._events or (self._pure and not self._paused))

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
                if self._signalled:
                    await self._hear_signals()
                    await self._take_turns()
                    continue
                if not self._inbox and not self._paused:  # it may say that the run is to end
                    self._launch(tasks)
                due = self._due()
                if not self._scopes and not self._inbox and self._may_park(due):
                    seen = self.wake_seq
                    await self._park(due)
                    if self.parked or self.owner.lost or self.owner.rejected:
                        break
                    if self.wake_seq != seen:
                        continue
                await self._arrival(self._look_again(due))
                await self._take_turns()
            tasks.cancel_scope.cancel()

    def _due(self) -> Instant | None:
        """When the next wait or timer is due."""
        timer = self._run.state.next_due()
        moments = [moment for moment in (self._waiting.due(), timer and timer[0]) if moment is not None]
        return min(moments, default=None)

    def _may_park(self, due: Instant | None) -> bool:
        """Is nothing to be expected soon?"""
        if self._paused:
            return True
        if self._starts or self._pure or not (self._waiting or due):
            return False
        now = self._clock.now()
        if due is not None and due - now <= PARK_AFTER:
            return False
        if not any(wait.kind == "sub_workflow" for wait in self._waiting.open.values()):
            return True
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since >= CHILD_PATIENCE or self._engine.crowded()

    def _look_again(self, due: Instant | None) -> Instant | None:
        """When to look at the run again, whatever comes."""
        if self._paused:
            return None
        if self._idle_since is None:
            return due
        patience = self._idle_since + CHILD_PATIENCE
        if patience <= self._clock.now():
            return due
        return patience if due is None else min(due, patience)

    async def _take_turns(self) -> None:
        """Digest what has arrived and what is due."""
        await self._journal.room()
        self._idle_since = None if self._inbox else self._idle_since
        self._take_arrivals()
        if not self._paused:
            self._fire_due()
        while self._turn():
            await self._breathe()

    @property
    def _one_alone(self) -> bool:
        return (
            len(self._starts) == 1
            and not (self._scopes or self._waiting or self._inbox or self._paused)
            and self._run.state.next_due() is None
        )

    async def _run_chain(self) -> None:
        """Run steps right here as long as each is alone: most runs are chains, and a task for each step costs."""
        while self.ended is None and self._one_alone:
            with anyio.CancelScope() as self._alone:
                while self._one_alone:
                    command = self._starts.pop()
                    self._scopes[command.step] = self._alone
                    await self._act(self._plan.nodes[command.step.node], command)
                    await self._take_turns()
            self._alone = None

    def _launch(self, tasks: TaskGroup) -> None:
        """Start a task for each step that is to run."""
        starts, self._starts = self._starts, []
        for command in starts:
            scope = self._scopes[command.step] = anyio.CancelScope()
            tasks.start_soon(self._run_task, self._plan.nodes[command.step.node], command, scope)

    async def _run_task(self, node: PlanNode, command: StartStep, scope: anyio.CancelScope) -> None:
        with scope:
            await self._act(node, command)

    async def _arrival(self, due: Instant | None) -> None:
        """Wait until a report or an event is there, or the next wait is due."""
        if self._inbox or self._signalled or (self._pure and not self._paused):
            return
        self._arrived = arrived = anyio.Event()
        if due is None:
            await arrived.wait()
        else:
            with anyio.move_on_after(max(0.0, (due - self._clock.now()) / SECOND)):
                await arrived.wait()
        self._arrived = None

    def _take_arrivals(self) -> None:
        """Take what is in the inbox, as much of it as the journal has room for."""
        room = True
        while self._inbox and room:
            item = self._inbox.popleft()
            if isinstance(item, Mark):
                self._apply(item)
                continue
            if isinstance(item, Tell):
                self._hear_child(item)
                continue
            scope = self._scopes.pop(item.command.step, None)
            if scope is None:
                continue  # cancelled meanwhile, and recorded as such
            completed = self._run.tick(item.completed)
            if item.attempted.outcome is None:
                self._events.append(StepDeclined(item.command.step, completed))
            else:
                self._settle(
                    item.node, item.command, item.attempted.outcome, item.attempted.given, item.started, completed
                )
            room = not self._journal.crowded

    # --- waits --------------------------------------------------------------------------------------------------------

    def _fire_due(self) -> None:
        now = self._clock.now()
        timer = self._run.state.next_due()
        if timer is not None and timer[0] <= now:
            self._events.append(TimePassed(self._run.tick()))
        for wait in self._waiting.take_due(now):
            assert wait.due is not None
            step, attempt = wait.step, wait.attempt
            node = self._plan.nodes[step.node]
            if wait.kind == "retry_backoff":
                self._start(StartStep(step, attempt, wait.due))
            elif wait.kind == "timer":
                done = Completed(wait.output)
                self._settle(node, StartStep(step, attempt, now), done, "", None, self._run.tick())
            else:
                self._waiting.let_go(wait)
                failed = Failed(step_timed_out(node))
                self._settle(node, StartStep(step, attempt, now), failed, "", None, self._run.tick())

    def _hear_child(self, tell: Tell) -> None:
        """Take the end of a child whose output is at hand; for one whose steps are needed, its signal is read."""
        wait = self._waiting.waits_for(tell.step_id)
        if wait is None:
            return
        if needs_steps(wait) or (wait.detail or {}).get("is_sync") is False:
            self._signalled = True
            return
        self._waiting.close(wait)
        self._recorder.resolved(tell.step_id)
        command = StartStep(wait.step, wait.attempt, self._clock.now())
        node = self._plan.nodes[wait.step.node]
        self._settle(node, command, outcome_of_end(wait, tell.end), "", None, self._run.tick())

    async def _hear_signals(self) -> None:
        """Take what has come for our waits, and tell the walk."""
        self._signalled = False
        self._idle_since = None
        while True:
            try:
                signals = await runs.signals(self._engine.session, self.claim.execution_id)
                heard = [
                    (wait, step_id, await self._outcome(wait, resolution))
                    for wait, step_id, resolution in self._waiting.signalled(signals)
                ]
                break
            except Unavailable:
                await anyio.sleep(RETRY_DELAY)
        for wait, step_id, outcome in heard:
            self._waiting.close(wait)
            self._recorder.resolved(step_id)
            command = StartStep(wait.step, wait.attempt, self._clock.now())
            node = self._plan.nodes[wait.step.node]
            if outcome is None:
                self._in_doubt = self._in_doubt - {(wait.step, wait.attempt)}
                self._start(command)
            else:
                self._settle(node, command, outcome, "", None, self._run.tick())

    async def _outcome(self, wait: runs.OpenWait, resolution: dict[str, object]) -> Outcome | None:
        """Return what a signal means for its step; None: run it again."""
        if wait.kind == "sub_workflow" and "execution_id" in resolution:
            return await child_outcome(self._engine.session, wait, resolution)
        outcome = outcome_of(resolution)
        if wait.kind != "in_doubt" or not isinstance(outcome, Completed):
            return outcome
        match outcome.outcome:
            case "approved":
                response = outcome.output.get("response") if isinstance(outcome.output, dict) else None
                return Completed(response)
            case "rejected":
                return None
            case _:
                return Failed(_IN_DOUBT)

    async def _park(self, due: Instant | None) -> None:
        """Leave memory until `due`, or until woken. What is recorded so far goes with it in one transaction."""
        entry = self._journal.entry(self.owner)
        entry.park = ParkRow(self.claim.execution_id, due, self.wake_seq, self._waits_for())
        self.owner.woken = False
        await self._journal.durable(self.owner)
        self.parked = not (self.owner.woken or self.owner.lost or self.owner.rejected)
        if self.owner.woken:
            self._engine.look_at_marks()

    def _waits_for(self) -> str:
        if self._paused:
            return PAUSED
        wait = self._waiting.oldest()
        if wait is None:
            timer = self._run.state.next_due()
            return "retry_backoff" if timer is not None and timer[1].kind in ("reopen", "round") else "timer"
        match wait.kind:
            case "timer" | "timeout":
                return "timer"
            case "in_doubt":
                return "human_task"
            case kind:
                return kind

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
                self._do(proceed(self._plan, self._run.state, (RunFailed(error, now, force=True),)))
            except Exception:  # noqa: BLE001 - whatever is wrong with the run, its end must not depend on it
                _log.exception("end_without_steps", execution_id=self._run.id)
            else:
                await self._journal.durable(self.owner)
                if self._over() and self.owner.rejected is None:
                    return
        self.owner.rejected = None
        self.ended = self._recorder.ended(EndRun(ExecutionState.FAILED, None, error, now))
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

    # --- commands -----------------------------------------------------------------------------------------------------

    def _do(self, commands: list[Command]) -> None:
        ended: set[tuple[StepKey, int | None]] | None = None
        for command in commands:
            match command:
                case StartStep():
                    self._start(command)
                case SkipStep(step=step, at=at, declined=declined):
                    self._said += 1
                    self._recorder.skipped(self._plan.nodes[step.node], step, at, declined=declined)
                case OpenStep(step=step):
                    self._said += 1
                    self._unopened.discard((step, command.attempt))
                    self._recorder.opened(self._plan.nodes[step.node], command)
                case EndStep(step=step):
                    self._said += 1
                    self._recorder.closed(self._plan.nodes[step.node], command)
                    self._tell_breaker(command)
                case FoldLoop():
                    self._recorder.folded(command)
                case CancelStep(step=step, attempt=attempt):
                    ended = self._just_ended() if ended is None else ended
                    if (step, attempt) not in ended and (step, None) not in ended:
                        self._said += 1
                        self._cancel(command)
                case EndRun():
                    self._pure.clear()
                    self.ended = self._recorder.ended(command)
                case _:
                    assert_never(command)

    def _just_ended(self) -> set[tuple[StepKey, int | None]]:
        """Attempts (None: whichever) whose end is recorded and reached the walk with, or after, what cut them off."""
        return {
            (event.step, event.attempt if isinstance(event, StepFailed) else None)
            for event in (*self._told, *self._events)
            if isinstance(event, (StepSucceeded, StepFailed, StepDeclined))
        }

    def _start(self, command: StartStep) -> None:
        """Queue what is to be evaluated or to run; keep a wait."""
        step, attempt = command.step, command.attempt
        node = self._plan.nodes[step.node]
        if (step, attempt) in self._waiting:
            return  # recovered with its wait
        if attempt > 1 and command.at > self._clock.now():
            self._waiting.backoff(node, step, attempt, command.at)
            self._engine.telemetry.emit(StepRetried(node.type))
            return
        if (step, attempt) in self._in_doubt and node.in_doubt is not InDoubt.RETRY:
            if node.in_doubt is InDoubt.ASK:
                self._waiting.doubt(node, step, attempt)
            else:
                self._settle(node, command, Failed(_IN_DOUBT), "", command.at, self._run.tick())
        elif node.kind is NodeKind.TASK:
            self._starts.append(command)
        elif isinstance(node.scope, BreakerPlan):
            self._admit(node, node.scope, command)
        else:
            self._pure.append(command)

    def _evaluate(self, command: StartStep) -> None:
        """Evaluate a pure node."""
        node = self._plan.nodes[command.step.node]
        scope = self._run.scope(node, command.step, command.at)
        if scope is None:
            return
        started = self._clock.after(command.at)
        attempted = evaluate(self._run, node, scope, command)
        completed = self._run.tick()
        if attempted.outcome is None:
            self._events.append(StepDeclined(command.step, completed))
        else:
            self._settle(node, command, attempted.outcome, attempted.given, started, completed)

    async def _act(self, node: PlanNode, command: StartStep) -> None:
        """One attempt of a task node: wait until its past is durable, then act, under the lease and the timeout."""
        if node.has_effects and self._said > self._heard:
            # All but the trigger's own row, which says nothing that was not committed when the run was accepted.
            said = self._said
            await self._journal.durable(self.owner)
            self._heard = max(self._heard, said)
        if self.owner.lost or self.owner.rejected or command.step not in self._scopes:
            return
        scope = self._run.scope(node, command.step, command.at)
        if scope is None:
            return
        started = self._clock.after(command.at)
        attempted = await prepare(self._run, node, scope, command)
        if isinstance(attempted, Prepared):
            self._recorder.started(node, command.step, command.attempt, attempted.given, started)
            if node.in_doubt is not InDoubt.RETRY:
                await self._journal.durable(self.owner)
            if not self._engine.lease.valid:
                self.abandon()  # the worker's life is over, and it will notice
                return
            attempted = Attempted(await act_guarded(self._run, node, attempted, command), attempted.given)
        self._post(_Ended(node, command, attempted, started, self._clock.after(started)))

    def _admit(self, node: PlanNode, plan: BreakerPlan, command: StartStep) -> None:
        """Ask a circuit breaker whether its body may run."""
        step, attempt = command.step, command.attempt
        at = self._run.tick()
        if self._engine.breakers.get(self.claim.tenant_id, plan.name, plan.policy).admit(at):
            self._admitted.add(step)
            self._unopened.add((step, attempt))
            self._events.append(StepAdmitted(step, attempt, at))
            return
        self._settle(node, command, circuit_open(plan.name), "", None, at)

    def _tell_breaker(self, command: EndStep) -> None:
        plan = self._plan.nodes[command.step.node].scope
        if not isinstance(plan, BreakerPlan) or command.step not in self._admitted:
            return
        self._admitted.discard(command.step)
        breaker = self._engine.breakers.get(self.claim.tenant_id, plan.name, plan.policy)
        if command.error is None:
            breaker.succeeded()
        else:
            breaker.failed(command.at)

    def _settle(
        self,
        node: PlanNode,
        command: StartStep,
        outcome: Outcome,
        recorded: str,
        started: Instant | None,
        completed: Instant,
    ) -> None:
        """Record what became of an attempt and tell the walk."""
        step, attempt = command.step, command.attempt
        if node.kind is not NodeKind.TRIGGER:
            self._said += 1
        match outcome:
            case Completed(outcome=label) if label in node.unhandled:
                failed = Failed(unhandled(node, label or "", outcome.output))
                self._settle(node, command, failed, recorded, started, completed)
            case Completed():
                try:
                    output = encode_bounded(outcome.output)
                except Unencodable as error:
                    failed = Failed(StepError("record_rejected", f"The step's output can't be stored: {error}."))
                    self._settle(node, command, failed, recorded, started, completed)
                    return
                label = recorded_outcome(outcome.outcome, stop=outcome.stop)
                self._recorder.completed(node, step, attempt, recorded, output, label, started, completed)
                self._events.append(StepSucceeded(step, outcome.output, completed, outcome.outcome, outcome.stop))
                self._ending = self._ending or outcome.stop
            case Failed(error=error):
                self._recorder.failed(node, step, attempt, recorded, error, started, completed)
                self._events.append(StepFailed(step, attempt, error, completed))
            case Suspended():
                if node.kind is not NodeKind.TASK:  # the start of a task is recorded before it acts
                    self._recorder.started(node, step, attempt, recorded, completed if started is None else started)
                refused = self._waiting.begin(node, step, attempt, outcome, completed)
                if refused is not None:
                    self._settle(node, command, refused, recorded, started, completed)
            case _:
                assert_never(outcome)

    def _cancel(self, command: CancelStep) -> None:
        step, attempt = command.step, command.attempt
        node = self._plan.nodes[step.node]
        if isinstance(node.scope, BreakerPlan) and step in self._admitted:
            self._admitted.discard(step)
            self._engine.breakers.get(self.claim.tenant_id, node.scope.name, node.scope.policy).abandoned()
        scope = self._scopes.pop(step, None)
        if scope is not None:
            scope.cancel()
        self._starts = [start for start in self._starts if start.step != step]
        if self._pure:
            self._pure = deque(start for start in self._pure if start.step != step)
        wait = self._waiting.cut((step, attempt))
        begun = scope is not None or (wait is not None and wait.kind != "retry_backoff")
        begun = begun or (node.scope is not None and (step, attempt) not in self._unopened)
        if not begun and (step, attempt) not in self._in_doubt:
            if attempt == 1:
                self._recorder.skipped(node, step, command.at)
            return
        self._recorder.failed(node, step, attempt, "", CANCELLED, None, command.at)


_IN_DOUBT: Final = StepError("worker_lost", "The worker died while this step ran, and it is not known what it did.")


def _nothing() -> None:
    """What is called for a run that has been let go."""


def _nothing_of(_child: object) -> None:
    """What is told of children to a run that has been let go."""
