"""What the walk asks for of the steps of one run, carried out: begun, evaluated, recorded, cut off."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never

from gorax_engine.core.commands import CancelStep, Command, EndRun, EndStep, FoldLoop, OpenStep, SkipStep, StartStep
from gorax_engine.core.events import StepAdmitted, StepDeclined
from gorax_engine.core.model import Failed, InDoubt, NodeKind
from gorax_engine.core.scopes import BreakerPlan
from gorax_engine.engine.attempts import circuit_open, evaluate
from gorax_engine.engine.breakers import Admissions
from gorax_engine.engine.recorder import CANCELLED
from gorax_engine.engine.settling import IN_DOUBT
from gorax_engine.telemetry import StepRetried

if TYPE_CHECKING:
    from gorax_engine.core.model import StepKey
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.core.states import ExecutionState
    from gorax_engine.engine.recorder import Recorder
    from gorax_engine.engine.run import Run
    from gorax_engine.engine.settling import Settling
    from gorax_engine.engine.tasks import Tasks
    from gorax_engine.engine.waiting import Waiting


class Steps:
    """Carries out the walk's commands for one run.

    `pure` are to be evaluated. `in_doubt` are attempts that were begun by a worker that died. `ended` is the state of
    the run once it is over.
    """

    __slots__ = ("_admissions", "_recorder", "_run", "_settling", "_tasks", "_waiting", "ended", "in_doubt", "pure")

    def __init__(self, run: Run, recorder: Recorder, waiting: Waiting, settling: Settling, tasks: Tasks) -> None:
        self.pure: deque[StartStep] = deque()
        self.in_doubt: frozenset[tuple[StepKey, int]] = frozenset()
        self.ended: ExecutionState | None = None
        self._run = run
        self._recorder = recorder
        self._waiting = waiting
        self._settling = settling
        self._tasks = tasks
        self._admissions = Admissions(run.engine.breakers, run.claim.tenant_id)

    def do(self, commands: list[Command]) -> None:
        """Carry out commands, in their order."""
        ended: set[tuple[StepKey, int | None]] | None = None
        for command in commands:
            match command:
                case StartStep():
                    self.start(command)
                case SkipStep(step=step, at=at, declined=declined):
                    self._settling.said += 1
                    self._recorder.skipped(self._run.plan.nodes[step.node], step, at, declined=declined)
                case OpenStep(step=step):
                    self._settling.said += 1
                    self._admissions.opened(step, command.attempt)
                    self._recorder.opened(self._run.plan.nodes[step.node], command)
                case EndStep(step=step):
                    self._settling.said += 1
                    node = self._run.plan.nodes[step.node]
                    self._recorder.closed(node, command)
                    if isinstance(node.scope, BreakerPlan):
                        self._admissions.ended(node.scope, command)
                case FoldLoop():
                    self._recorder.folded(command)
                case CancelStep(step=step, attempt=attempt):
                    ended = self._settling.just_ended() if ended is None else ended
                    if (step, attempt) not in ended and (step, None) not in ended:
                        self._settling.said += 1
                        self._cancel(command)
                case EndRun():
                    self.pure.clear()
                    self.ended = self._recorder.ended(command)
                case _:
                    assert_never(command)

    def start(self, command: StartStep) -> None:
        """Queue what is to be evaluated or to run; keep a wait."""
        step, attempt = command.step, command.attempt
        node = self._run.plan.nodes[step.node]
        if (step, attempt) in self._waiting:
            return  # recovered with its wait
        if attempt > 1 and command.at > self._run.engine.clock.now():
            self._waiting.backoff(node, step, attempt, command.at)
            self._run.engine.telemetry.emit(StepRetried(node.type))
            return
        if (step, attempt) in self.in_doubt and node.in_doubt is not InDoubt.RETRY:
            if node.in_doubt is InDoubt.ASK:
                self._waiting.doubt(node, step, attempt)
            else:
                self._settling.settle(node, command, Failed(IN_DOUBT), "", command.at, self._run.tick())
        elif node.kind is NodeKind.TASK:
            self._tasks.starts.append(command)
        elif isinstance(node.scope, BreakerPlan):
            self._admit(node, node.scope, command)
        else:
            self.pure.append(command)

    def start_again(self, command: StartStep) -> None:
        """Run an attempt that was in doubt once more."""
        self.in_doubt = self.in_doubt - {(command.step, command.attempt)}
        self.start(command)

    def _admit(self, node: PlanNode, plan: BreakerPlan, command: StartStep) -> None:
        """Ask a circuit breaker whether its body may run."""
        at = self._run.tick()
        if self._admissions.admit(plan, command.step, command.attempt, at):
            self._settling.events.append(StepAdmitted(command.step, command.attempt, at))
        else:
            self._settling.settle(node, command, circuit_open(plan.name), "", None, at)

    def evaluate_next(self) -> None:
        """Evaluate the pure node that has waited longest."""
        command = self.pure.popleft()
        node = self._run.plan.nodes[command.step.node]
        scope = self._run.scope(node, command.step, command.at)
        if scope is None:
            return
        started = self._run.engine.clock.after(command.at)
        attempted = evaluate(self._run, node, scope, command)
        completed = self._run.tick()
        if attempted.outcome is None:
            self._settling.events.append(StepDeclined(command.step, completed))
        else:
            self._settling.settle(node, command, attempted.outcome, attempted.given, started, completed)

    def _cancel(self, command: CancelStep) -> None:
        step, attempt = command.step, command.attempt
        node = self._run.plan.nodes[step.node]
        if isinstance(node.scope, BreakerPlan):
            self._admissions.cut(node.scope, step)
        was_at_work = self._tasks.cut(step)
        if self.pure:
            self.pure = deque(start for start in self.pure if start.step != step)
        wait = self._waiting.cut((step, attempt))
        begun = was_at_work or (wait is not None and wait.kind != "retry_backoff")
        begun = begun or (node.scope is not None and not self._admissions.is_unopened(step, attempt))
        if not begun and (step, attempt) not in self.in_doubt:
            if attempt == 1:
                self._recorder.skipped(node, step, command.at)
            return
        self._recorder.failed(node, step, attempt, "", CANCELLED, None, command.at)
