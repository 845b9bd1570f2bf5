"""One execution on this worker: walk, do, record.

An execution is rebuilt from its rows or begun afresh, then turns: events go into `core.walk.advance`, commands come
out. Pure nodes are evaluated on the spot and their results feed the next turn. Task nodes run as tasks of their own,
each only after all that it depends on is durable. When nothing but waits is left, the execution parks: it leaves
memory, and its queue row says until when.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

import anyio
import msgspec

from gorax_engine.core.commands import CancelStep, Command, EndRun, SkipStep, StartStep
from gorax_engine.core.events import Event, RunFailed, RunStarted, StepDeclined, StepFailed, StepSucceeded
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.instants import format_instant
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import (
    SECOND,
    Completed,
    Failed,
    InDoubt,
    Instant,
    Json,
    NodeKind,
    Outcome,
    StepError,
    StepKey,
    Suspended,
)
from gorax_engine.core.plan import trigger_of
from gorax_engine.core.policies import classify
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.core.walk import StepRecord, initial, proceed, recover, scope_of
from gorax_engine.engine.journal import Owner
from gorax_engine.engine.recorder import CANCELLED, Recorder, encode_bounded, storable
from gorax_engine.errors import Unavailable
from gorax_engine.nodes.api import NodeContext
from gorax_engine.store import runs
from gorax_engine.store.queue import ParkRow
from gorax_engine.telemetry import ExecutionFinished, StepRetried, get_logger

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from gorax_engine.core.plan import Plan, PlanNode
    from gorax_engine.engine.clock import DatabaseClock
    from gorax_engine.engine.journal import Journal
    from gorax_engine.engine.lease import Lease
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.queue import Claim
    from gorax_engine.store.session import Session
    from gorax_engine.telemetry import Telemetry

PARK_AFTER: Final = 5 * SECOND
"""Waits that are due sooner than this stay in memory, with their rows written."""
SLICE: Final = 0.01
"""Seconds that an execution evaluates pure nodes and walks before others have their turn."""
RETRY_DELAY: Final = 0.2

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """What executions of one worker share."""

    journal: Journal
    lease: Lease
    clock: DatabaseClock
    registry: NodeRegistry
    session: Session
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class _Ended:
    """A task's report: what became of an attempt, to be recorded and walked by the execution's own turn."""

    node: PlanNode
    command: StartStep
    outcome: Outcome | None
    input: str
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
        self._recorder = Recorder(claim, plan, self.owner, engine.journal, engine.telemetry)
        self._clock = engine.clock
        self._seed = claim.execution_id.bytes
        self._trigger: Json = msgspec.json.decode(claim.trigger_data) if claim.trigger_data else {}
        self._ids = (str(claim.execution_id), str(claim.tenant_id), str(claim.workflow_id))
        self._state = initial(plan, self._roots(), self._seed)
        self._events: deque[Event] = deque()
        self._told: list[Event] = []
        self._pure: deque[StartStep] = deque()
        self._ending = False
        self._inbox: deque[_Ended | Event] = deque()
        self._arrived: anyio.Event | None = None
        self._starts: list[StartStep] = []
        self._waits: dict[tuple[StepKey, int], runs.OpenWait] = {}
        self._scopes: dict[StepKey, anyio.CancelScope] = {}
        self._begun = False
        self._said = 0  # records on which a step may depend
        self._heard = 0  # how many of them are known to be durable
        self._alone: anyio.CancelScope | None = None
        self._in_doubt: frozenset[tuple[StepKey, int]] = frozenset()

    # --- from outside, by the worker ---------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Stop at once and write nothing more: the run is no longer ours."""
        self.owner.lost = True
        self._stop()

    def close(self) -> None:
        """The run is let go: nothing will call it any more, and it is free without waiting for the collector."""
        self.owner.on_void = _nothing

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def request_end(self, wake_seq: int, mark: str | None) -> None:
        """The queue row was woken: take note, and act on its mark if it has one."""
        self.wake_seq = wake_seq
        if mark is not None and self.ended is None:
            event = _end_event(msgspec.json.decode(mark), self._clock.now())
            if event is not None:
                self._post(event)
        elif self._arrived is not None:
            self._arrived.set()  # a run that was woken while it parked may park now

    def _post(self, item: _Ended | Event) -> None:
        self._inbox.append(item)
        if self._arrived is not None:
            self._arrived.set()
        if self._alone is not None and not isinstance(item, _Ended):
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
        self._do(self._first_commands(proceed(self._plan, self._state, (self._started_event(),))))
        self._turn()
        return self.ended is not None

    async def run(self) -> None:
        """Walk until the run has ended, is parked, or is lost. Cancellation leaves all that is recorded as it is."""
        with anyio.CancelScope() as self._scope:
            if self.owner.lost or self.owner.rejected:
                self._scope.cancel()
            if not self._begun:
                self._do(await self._recover())
            while self._turn():
                await self._breathe()
            await self._run_chain()
            if self.ended is None:
                await self._live()
            if self.ended is not None:
                await self._journal.durable(self.owner)
        await self.conclude()

    def _started_event(self) -> RunStarted:
        claim = self.claim
        return RunStarted(trigger_of(self._plan, claim.trigger_node, claim.trigger_type), self._trigger, claim.started)

    async def _recover(self) -> list[Command]:
        """Rebuild the run from its rows."""
        records, waits = await self._load()
        # A wait for what has ended is over, however it came to be left open: it must not begin the attempt again.
        self._waits = {
            key: wait for key, wait in waits.items() if key not in records or records[key].state is StepState.RUNNING
        }
        rebuilt = recover(self._plan, self._state, self._started_event(), records)
        self._state, self._in_doubt = rebuilt.state, rebuilt.in_doubt
        return self._first_commands(rebuilt.commands)

    def _first_commands(self, commands: list[Command]) -> list[Command]:
        """Register the run's deadline; if an end was asked for, that comes before all that is outstanding."""
        claim, timeout = self.claim, self._plan.settings.timeout
        if timeout is not None:
            self._journal.entry(self.owner).deadline = (claim.execution_id, claim.started + timeout)
        if claim.end_requested is None:
            return commands
        mark = msgspec.json.decode(claim.end_requested)
        event = _end_event(mark, self._clock.now())
        if event is None:
            return commands
        ends = proceed(self._plan, self._state, (event,))
        return [command for command in commands if isinstance(command, SkipStep)] + ends

    async def _load(
        self,
    ) -> tuple[dict[tuple[StepKey, int], StepRecord], dict[tuple[StepKey, int], runs.OpenWait]]:
        """Read what is recorded, however long the database is away; the loss of the lease ends the waiting."""
        session, execution_id = self._engine.session, self.claim.execution_id
        while True:
            try:
                return await runs.recorded_steps(session, execution_id), await runs.open_waits(session, execution_id)
            except Unavailable:
                await anyio.sleep(RETRY_DELAY)

    def _roots(self) -> Mapping[str, Json]:
        claim = self.claim
        roots: dict[str, Json] = {
            "trigger": self._trigger,
            "vars": msgspec.json.decode(claim.vars) if claim.vars else {},
        }
        if self._plan.reads_env:
            roots["env"] = {
                "tenant_id": self._ids[1],
                "execution_id": self._ids[0],
                "workflow_id": self._ids[2],
                "workflow_version": claim.workflow_version,
                "started_at": format_instant(claim.started),
            }
        return roots

    def _turn(self) -> bool:
        """Evaluate and walk until nothing is left, time is up or much is to be written; return whether some is left.

        Never returns between a step that stops the run and the end of the run: they are recorded together, since the
        row of the step alone doesn't tell a later owner that it stopped the run.
        """
        until = time.monotonic() + SLICE
        while self._pure or self._events:
            if self._pure and not self._ending:
                self._evaluate(self._pure.popleft())
            else:
                self._ending = False
                events = self._told = list(self._events)
                self._events.clear()
                self._do(proceed(self._plan, self._state, events))
            if not self._ending and (self._journal.crowded or time.monotonic() >= until):
                break
        return bool(self._pure or self._events)

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
            while not self._over():
                await self._run_chain()
                if self._over():
                    break
                if not self._inbox:  # it may say that the run is to end
                    self._launch(tasks)
                due = min((wait.due for wait in self._waits.values()), default=None)
                if due is not None and not self._scopes and not self._inbox and due - self._clock.now() > PARK_AFTER:
                    seen = self.wake_seq
                    await self._park(due)
                    if self.parked or self.owner.lost or self.owner.rejected:
                        break
                    if self.wake_seq != seen:
                        continue
                await self._arrival(due)
                await self._take_turns()
            tasks.cancel_scope.cancel()

    async def _take_turns(self) -> None:
        """Digest what has arrived and what is due."""
        await self._journal.room()
        self._take_arrivals()
        self._fire_due()
        while self._turn():
            await self._breathe()

    @property
    def _one_alone(self) -> bool:
        return len(self._starts) == 1 and not (self._scopes or self._waits or self._inbox)

    async def _run_chain(self) -> None:
        """Run steps right here as long as each is alone: most runs are chains, and a task for each step costs."""
        while self.ended is None and self._one_alone:
            with anyio.CancelScope() as self._alone:
                while self._one_alone:
                    command = self._starts.pop()
                    self._scopes[command.step] = self._alone
                    await self._act(self._plan.nodes[self._plan.index[command.step.node]], command)
                    await self._take_turns()
            self._alone = None

    def _launch(self, tasks: TaskGroup) -> None:
        """Start a task for each step that is to run."""
        starts, self._starts = self._starts, []
        for command in starts:
            node = self._plan.nodes[self._plan.index[command.step.node]]
            scope = self._scopes[command.step] = anyio.CancelScope()
            tasks.start_soon(self._run_task, node, command, scope)

    async def _run_task(self, node: PlanNode, command: StartStep, scope: anyio.CancelScope) -> None:
        with scope:
            await self._act(node, command)

    async def _arrival(self, due: Instant | None) -> None:
        """Wait until a report or an event is there, or the next wait is due."""
        if self._inbox:
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
            if not isinstance(item, _Ended):
                self._events.append(item)
                self._ending = True  # before all that is still to be evaluated
                continue
            scope = self._scopes.pop(item.command.step, None)
            if scope is None:
                continue  # cancelled meanwhile, and recorded as such
            if item.outcome is None:
                self._events.append(StepDeclined(item.command.step, item.completed))
            else:
                self._settle(item.node, item.command, item.outcome, item.input, item.started, item.completed)
            room = not self._journal.crowded

    def _fire_due(self) -> None:
        now = self._clock.now()
        for (step, attempt), wait in sorted(self._waits.items()):
            if wait.due > now:
                continue
            del self._waits[step, attempt]
            node = self._plan.nodes[self._plan.index[step.node]]
            self._recorder.waited_for(step, attempt)
            if wait.kind == "retry_backoff":
                self._start(StartStep(step, attempt, wait.due))
            elif wait.kind == "timeout":
                error = StepError("timeout", f"The step {node.id} did not end within its timeout.", classify("timeout"))
                self._settle(node, StartStep(step, attempt, now), Failed(error), "", None, now)
            else:
                self._settle(node, StartStep(step, attempt, now), Completed(wait.output), "", None, wait.due)

    async def _park(self, due: Instant) -> None:
        """Leave memory until `due`. What is recorded so far goes with it in one transaction."""
        wait = min(self._waits.values(), key=lambda wait: (wait.due, wait.step))
        entry = self._journal.entry(self.owner)
        waiting_for = "retry_backoff" if wait.kind == "retry_backoff" else "timer"
        entry.park = ParkRow(self.claim.execution_id, due, self.wake_seq, waiting_for)
        self.owner.woken = False
        await self._journal.durable(self.owner)
        self.parked = not (self.owner.woken or self.owner.lost or self.owner.rejected)

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
        now = self._clock.now()
        if not self._over():
            try:
                self._do(proceed(self._plan, self._state, (RunFailed(error, now),)))
            except Exception:  # noqa: BLE001 - whatever is wrong with the run, its end must not depend on it
                _log.exception("end_without_steps", execution_id=self._ids[0])
            else:
                await self._journal.durable(self.owner)
                if self._over() and self.owner.rejected is None:
                    return
        self.owner.rejected = None
        self.ended = self._recorder.ended(EndRun(ExecutionState.FAILED, None, error, now))
        await self._journal.durable(self.owner)

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
                case SkipStep(step=step, at=at):
                    self._said += 1
                    self._recorder.skipped(self._plan.nodes[self._plan.index[step.node]], step, at)
                case CancelStep(step=step, attempt=attempt):
                    ended = self._just_ended() if ended is None else ended
                    if (step, attempt) not in ended and (step, None) not in ended:
                        self._cancel(command)
                case EndRun():
                    self._pure.clear()
                    self.ended = self._recorder.ended(command)
                case _:
                    assert_never(command)

    def _just_ended(self) -> set[tuple[StepKey, int | None]]:
        """Attempts (None: whichever) whose end is recorded and reached the walk with, or after, the end of the run."""
        return {
            (event.step, event.attempt if isinstance(event, StepFailed) else None)
            for event in (*self._told, *self._events)
            if isinstance(event, (StepSucceeded, StepFailed, StepDeclined))
        }

    def _start(self, command: StartStep) -> None:
        """Queue what is to be evaluated or to run; keep a wait."""
        step, attempt = command.step, command.attempt
        node = self._plan.nodes[self._plan.index[step.node]]
        if (step, attempt) in self._waits:
            return  # recovered with its wait
        if attempt > 1 and command.at > self._clock.now():
            self._wait(node, step, attempt, "retry_backoff", command.at, None)
            self._engine.telemetry.emit(StepRetried(node.type))
            return
        if (step, attempt) in self._in_doubt and node.in_doubt is InDoubt.FAIL:
            error = StepError("worker_lost", "The worker died while this step ran, and it is not known what it did.")
            self._settle(node, command, Failed(error), "", command.at, self._clock.now())
        elif node.kind is NodeKind.TASK:
            self._starts.append(command)
        else:
            self._pure.append(command)

    def _evaluate(self, command: StartStep) -> None:
        """Evaluate a pure node."""
        node = self._plan.nodes[self._plan.index[command.step.node]]
        started = self._clock.after(command.at)
        recorded = ""
        try:
            scope = scope_of(self._plan, self._state, command.at)
            if node.when is not None and command.attempt == 1 and not _is_true(node.when(scope)):
                self._events.append(StepDeclined(command.step, started))
                return
            config = node.config.render(scope)
            recorded = encode_bounded(node.config.record(config)) if config else ""
            outcome = self._engine.registry.pure(node.type).evaluate(config, self._context(command))
        except ExpressionError as error:
            outcome = Failed(StepError(error.code, error.message))
        except Unencodable as error:
            outcome = Failed(StepError("type_error", f"The step's input can't be stored: {error}."))
        self._settle(node, command, outcome, recorded, started, self._clock.after(started))

    async def _act(self, node: PlanNode, command: StartStep) -> None:
        """One attempt of a task node: wait until its past is durable, then act, under the lease and the timeout."""
        if self._said > self._heard:
            # All but the trigger's own row, which says nothing that was not committed when the run was accepted.
            said = self._said
            await self._journal.durable(self.owner)
            self._heard = max(self._heard, said)
        if self.owner.lost or self.owner.rejected or command.step not in self._scopes:
            return
        started = self._clock.after(command.at)
        recorded = ""
        outcome: Outcome | None = None
        try:
            expressions = scope_of(self._plan, self._state, command.at)
            if node.when is None or command.attempt > 1 or _is_true(node.when(expressions)):
                config = node.config.render(expressions)
                recorded = encode_bounded(node.config.record(config))
                self._recorder.started(node, command.step, command.attempt, recorded, started)
                if node.in_doubt is not InDoubt.RETRY:
                    await self._journal.durable(self.owner)
                if not self._engine.lease.valid:
                    self.abandon()  # the worker's life is over, and it will notice
                    return
                outcome = await self._attempt(node, config, command)
        except ExpressionError as error:
            outcome = Failed(StepError(error.code, error.message))
        except Unencodable as error:
            outcome = Failed(StepError("type_error", f"The step's input can't be stored: {error}."))
        self._post(_Ended(node, command, outcome, recorded, started, self._clock.after(started)))

    async def _attempt(self, node: PlanNode, config: Mapping[str, Json], command: StartStep) -> Outcome:
        """Run the node's own code. The one place where an exception becomes an outcome."""
        try:
            if node.timeout is None:
                return await self._engine.registry.task(node.type).run(config, self._context(command))
            with anyio.move_on_after(node.timeout / SECOND):
                return await self._engine.registry.task(node.type).run(config, self._context(command))
            error = StepError("timeout", f"The step {node.id} did not end within its timeout.", classify("timeout"))
            return Failed(error)
        except (ExpressionError, Unencodable):
            raise
        except Exception as error:  # noqa: BLE001 - the one place where a fault of a node becomes an outcome
            _log.exception("node_crashed", node_type=node.type, node_id=node.id, execution_id=self._ids[0])
            return Failed(StepError("node_crashed", f"The node type {node.type} failed: {type(error).__name__}."))

    def _context(self, command: StartStep) -> NodeContext:
        step = command.step
        execution_id, tenant_id, workflow_id = self._ids
        return NodeContext(
            execution_id,
            tenant_id,
            workflow_id,
            step.node,
            step.path,
            command.attempt,
            command.at,
            f"{execution_id}:{step.node}:{step.path}",
            self._seed,
            self._trigger,
        )

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
            case Completed():
                try:
                    output = encode_bounded(outcome.output)
                except Unencodable as error:
                    failed = Failed(StepError("record_rejected", f"The step's output can't be stored: {error}."))
                    self._settle(node, command, failed, recorded, started, completed)
                    return
                self._recorder.completed(node, step, attempt, recorded, output, outcome.outcome, started, completed)
                self._events.append(StepSucceeded(step, outcome.output, completed, outcome.outcome, outcome.stop))
                self._ending = self._ending or outcome.stop
            case Failed(error=error):
                self._recorder.failed(node, step, attempt, recorded, error, started, completed)
                self._events.append(StepFailed(step, attempt, error, completed))
            case Suspended(due_at=due, output=output_when_due):
                self._recorder.started(node, step, attempt, recorded, completed if started is None else started)
                kind = "timer"
                if node.timeout is not None and completed + node.timeout < due:
                    kind, due = "timeout", completed + node.timeout
                self._wait(node, step, attempt, kind, due, output_when_due)
            case _:
                assert_never(outcome)

    def _wait(self, node: PlanNode, step: StepKey, attempt: int, kind: str, due: Instant, output: Json) -> None:
        wait = self._waits[step, attempt] = runs.OpenWait(step, attempt, kind, due, output)
        self._recorder.waiting(node, wait)

    def _cancel(self, command: CancelStep) -> None:
        step, attempt = command.step, command.attempt
        node = self._plan.nodes[self._plan.index[step.node]]
        scope = self._scopes.pop(step, None)
        if scope is not None:
            scope.cancel()
        self._starts = [start for start in self._starts if start.step != step]
        wait = self._waits.pop((step, attempt), None)
        begun = scope is not None or (wait is not None and wait.kind != "retry_backoff")
        if not begun and (step, attempt) not in self._in_doubt:
            if attempt == 1:
                self._recorder.skipped(node, step, command.at)
            return
        self._recorder.failed(node, step, attempt, "", CANCELLED, None, command.at)


def _nothing() -> None:
    """What is called for a run that has been let go."""


def _is_true(value: Json) -> bool:
    if value is True or value is False:
        return value
    raise ExpressionError("type_error", "`when` must give true or false.")


def _end_event(mark: Mapping[str, Json], at: Instant) -> Event | None:
    """Turn the mark on a queue row into what the walk understands; None for one of a later version, which it tells."""
    match mark.get("kind"):
        case "timeout":
            return RunFailed(StepError("timeout", "The run did not end within its timeout."), at)
        case "worker_lost":
            message = "Three workers died while they ran this execution, without progress; it is given up."
            return RunFailed(StepError("worker_lost", message), at)
        case kind:
            _log.error("unknown_mark", kind=kind)
            return None
