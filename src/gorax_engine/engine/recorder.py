"""What an execution says about itself, turned into the rows that the journal commits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import Raw

from gorax_engine.core.json_edge import Unencodable, encode
from gorax_engine.core.model import StepError
from gorax_engine.core.policies import step_error_json
from gorax_engine.core.scopes import JoinPlan
from gorax_engine.core.states import ExecutionState, StepState
from gorax_engine.core.step_ids import step_id
from gorax_engine.core.walk.recovery import CUT, DECLINED
from gorax_engine.engine.entries import Tell
from gorax_engine.store.queue import EndRow, OutboxRow, StepRow, WaitRow
from gorax_engine.store.runs import ChildEnd
from gorax_engine.telemetry import StepFinished

if TYPE_CHECKING:
    from gorax_engine.core.commands import EndRun, EndStep, FoldLoop, OpenStep
    from gorax_engine.core.model import Instant, Json, StepKey
    from gorax_engine.core.plan import Plan, PlanNode
    from gorax_engine.engine.entries import ChildStart, Owner
    from gorax_engine.engine.run import Engine
    from gorax_engine.store.queue import Claim
    from gorax_engine.store.runs import OpenWait

ERROR_WORKFLOW_EVENT: Final = "gorax.execution_failed"
MAX_OUTPUT: Final = 16 * 1024 * 1024
"""Of the JSON of one input or output. A flush must fit into memory, and into the time of its statement."""
FOLLOW_UP_ROWS: Final = 10
"""How many rows of steps a human task or a child counts as, for the size of a flush."""
CANCELLED: Final = StepError("cancelled", "The step was cut off: its run, or what it belongs to, came to its end.")


def encode_bounded(value: Json) -> str:
    """Return the JSON of an input or output. Raises Unencodable if it can't be stored or is above `MAX_OUTPUT`."""
    text = encode(value)
    if len(text) > MAX_OUTPUT:
        raise Unencodable(f"it has {len(text)} characters, at most {MAX_OUTPUT} are allowed")
    return text


class Recorder:
    """Writes one run's records into the journal. `waited` says whether the run may have rows in `waits`."""

    def __init__(self, claim: Claim, plan: Plan, owner: Owner, engine: Engine) -> None:
        self.waited = claim.recovered
        self._claim = claim
        self._plan = plan
        self._owner = owner
        self._journal = engine.journal
        self._telemetry = engine.telemetry
        self._match_event = engine.match_event
        self._number = claim.execution_id.int
        self._unfoldable: set[tuple[StepKey, int]] = set()

    def step_id(self, step: StepKey, attempt: int) -> UUID:
        """Return the id of an attempt's row."""
        return UUID(step_id(self._number, step, attempt))

    def started(self, node: PlanNode, step: StepKey, attempt: int, given: str, at: Instant) -> None:
        """An attempt runs now."""
        row = step_row(self._number, node, step, attempt, StepState.RUNNING, given=given, started=at)
        self._journal.step(self._owner, row)

    def opened(self, node: PlanNode, command: OpenStep) -> None:
        """A scope runs now."""
        try:
            given = encode_bounded(command.given)
        except Unencodable:
            given = ""  # what a config holds that can't be stored, the steps of the body will meet
        self.started(node, command.step, command.attempt, given, command.at)

    def closed(self, node: PlanNode, command: EndStep) -> None:
        """A scope or join has ended."""
        step, attempt, at = command.step, command.attempt, command.at
        error = command.error
        if error is None:
            try:
                output = encode_bounded(command.output)
            except Unencodable as refusal:
                # The walk has gone on with it; what is recorded says why nobody can see it.
                output = encode({"record_rejected": f"The output can't be stored: {refusal}."})
            self.completed(node, step, attempt, "", output, None, join_start(node, at), at)
        else:
            started = join_start(node, at)
            row = failed_row(self._number, node, step, attempt, error, at, started=started, bound=command.bound)
            self._journal.step(self._owner, row)

    def completed(
        self,
        node: PlanNode,
        step: StepKey,
        attempt: int,
        given: str,
        output: str,
        outcome: str | None,
        started: Instant | None,
        at: Instant,
    ) -> None:
        """An attempt ended well. `given` and `output` are JSON texts."""
        has_more = attempt > 1 or outcome is not None or step.path or step.round
        more = more_of(step, attempt, outcome, None) if has_more else ""
        row = StepRow(
            step_id(self._number, step, attempt),
            node.id,
            node.type,
            "completed",
            given,
            output,
            more,
            "" if started is None else str(started),
            str(at),
        )
        self._journal.step(self._owner, row)
        if started is not None:
            self._telemetry.emit(StepFinished(node.type, "completed", at - started))

    def failed(
        self,
        node: PlanNode,
        step: StepKey,
        attempt: int,
        given: str,
        error: StepError,
        started: Instant | None,
        at: Instant,
    ) -> None:
        """An attempt ended badly, or was cut off."""
        self._journal.step(
            self._owner, failed_row(self._number, node, step, attempt, error, at, given=given, started=started)
        )
        if started is not None:
            self._telemetry.emit(StepFinished(node.type, "failed", at - started))

    def skipped(self, node: PlanNode, step: StepKey, at: Instant, *, declined: bool = False) -> None:
        """A step never runs; `declined` says that it is for its own `when`."""
        outcome = DECLINED if declined else None
        row = step_row(self._number, node, step, 1, StepState.SKIPPED, outcome=outcome, completed=at)
        self._journal.step(self._owner, row)

    def waiting(self, node: PlanNode, wait: OpenWait, event_name: str | None, correlation_key: str | None) -> None:
        """A step waits."""
        self.waited = True
        row = WaitRow(
            self.step_id(wait.step, wait.attempt),
            self._claim.execution_id,
            self._claim.tenant_id,
            node.id,
            wait.step.path,
            wait.step.round,
            wait.attempt,
            wait.kind,
            wait.due,
            encode(wait.output),
            event_name,
            correlation_key,
            None if wait.detail is None else encode(wait.detail),
        )
        self._journal.entry(self._owner).waits.append(row)

    def waited_for(self, wait: OpenWait) -> None:
        """A wait is over."""
        entry, wait_id = self._journal.entry(self._owner), self.step_id(wait.step, wait.attempt)
        # A flush closes before it opens: one that was opened in this very entry must not be left open by it.
        if any(row.step_id == wait_id for row in entry.waits):
            entry.waits = [row for row in entry.waits if row.step_id != wait_id]
            if entry.follow is not None:
                entry.follow.tasks = [task for task in entry.follow.tasks if task[0] != wait_id]
                entry.follow.children = [child for child in entry.follow.children if child.step_id != wait_id]
        entry.closed_waits.append(wait_id)

    def resolved(self, step_id: UUID) -> None:
        """A signal is spent."""
        self._journal.entry(self._owner).follow_up.resolved.append(step_id)

    def open_task(self, step_id: UUID, task: str) -> None:
        """People are to be asked; `task` is JSON as gorax_open_tasks takes it."""
        self._journal.entry(self._owner).follow_up.tasks.append((step_id, Raw(task.encode())))
        self._journal.weigh(FOLLOW_UP_ROWS, len(task))

    def folded(self, command: FoldLoop) -> None:
        """What iterations of a loop gave is recorded together."""
        if (command.step, command.attempt) in self._unfoldable:
            return
        self.waited = True
        fold: dict[str, Json] = {
            "run": str(self._claim.execution_id),
            "tenant": str(self._claim.tenant_id),
            "step": str(self.step_id(command.step, command.attempt)),
            "first": command.first,
            "upto": command.first + len(command.results),
            "prefix": command.prefix,
            "round": command.round,
        }
        try:
            results = encode_bounded(command.results).encode()
        except Unencodable:
            # Who rebuilds the run looks at the steps, from here on: folds must have no gap.
            self._unfoldable.add((command.step, command.attempt))
            return
        fold["results"] = Raw(results)
        self._journal.weigh(1, len(results))
        self._journal.entry(self._owner).follow_up.folds.append(fold)

    def start_child(self, child: ChildStart) -> None:
        """A child is to be started."""
        self._journal.entry(self._owner).follow_up.children.append(child)
        self._journal.weigh(FOLLOW_UP_ROWS, len(child.input))
        self._journal.hurry()

    def cancel_child(self, wait: OpenWait) -> None:
        """The child that a wait was for is to be cancelled; it may be known only when this is written."""
        self._journal.entry(self._owner).follow_up.cancels.append(wait)

    def match_event(self, step: StepKey, attempt: int) -> None:
        """A wait for an event is open: once that is durable, events that came before are looked for."""
        self._journal.entry(self._owner)
        self._journal.when_durable(self._owner, partial(self._match_event, self.step_id(step, attempt)))

    def applied(self, at: Instant) -> None:
        """What was asked of the run is being done since `at`."""
        self._journal.entry(self._owner).follow_up.mark = at

    def ended(self, command: EndRun) -> ExecutionState:
        """The run is over; return its state, which is `failed` if its output can't be stored."""
        status, error, output = command.status, command.error, None
        if status is ExecutionState.COMPLETED:
            try:
                output = encode_bounded(command.output)
            except Unencodable as refusal:
                status = ExecutionState.FAILED
                error = StepError("record_rejected", f"The run's output can't be stored: {refusal}.")
        entry = self._journal.entry(self._owner)
        entry.end = EndRow(
            self._claim.execution_id,
            status.value,
            output,
            None if error is None else storable(error.message),
            None if error is None else error.code,
            command.at,
            self.waited,
        )
        if error is not None and status is ExecutionState.FAILED:
            self._report_failure(entry.outbox, error)
        claim = self._claim
        if claim.parent_execution_id is not None and claim.parent_step_id is not None:
            resolution = encode({"status": status.value, "execution_id": str(claim.execution_id)})
            end = ChildEnd(
                claim.execution_id,
                status.value,
                command.output if status is ExecutionState.COMPLETED else None,
                None if error is None else error.code,
                None if error is None else error.message,
                None,
            )
            entry.follow_up.tells.append(Tell(claim.parent_execution_id, claim.parent_step_id, resolution, end))
        return status

    def _report_failure(self, outbox: list[OutboxRow], error: StepError) -> None:
        """Leave word for the workflow that the tenant named for failures; its own failures are not reported again."""
        target, claim = self._plan.settings.error_workflow, self._claim
        if target is None or (claim.trigger_type == "event" and f'"{ERROR_WORKFLOW_EVENT}"' in claim.trigger_data):
            return
        payload: dict[str, Json] = {
            "error_workflow": target,
            "execution_id": str(claim.execution_id),
            "workflow_id": str(claim.workflow_id),
            "workflow_version": claim.workflow_version,
            "error": {"code": error.code, "message": storable(error.message)},
        }
        outbox.append(OutboxRow(claim.tenant_id, "error_workflow", encode(payload)))


def join_start(node: PlanNode, at: Instant) -> Instant | None:
    """Return the start of a join that ends at `at`: it only ever ends. That of a scope is recorded when it opens."""
    return at if isinstance(node.scope, JoinPlan) else None


def step_row(
    execution: int,
    node: PlanNode,
    step: StepKey,
    attempt: int,
    state: StepState,
    *,
    given: str = "",
    output: str = "",
    outcome: str | None = None,
    error: StepError | None = None,
    started: Instant | None = None,
    completed: Instant | None = None,
) -> StepRow:
    """Return the row of an attempt of a run, whose id comes as a number."""
    return StepRow(
        step_id(execution, step, attempt),
        node.id,
        node.type,
        state.value,
        given,
        output,
        more_of(step, attempt, outcome, error),
        "" if started is None else str(started),
        "" if completed is None else str(completed),
    )


def failed_row(
    execution: int,
    node: PlanNode,
    step: StepKey,
    attempt: int,
    error: StepError,
    at: Instant,
    *,
    given: str = "",
    started: Instant | None = None,
    bound: Json = None,
) -> StepRow:
    """Return the row of an attempt that failed; what it has of the failure is kept as its output.

    `bound` is the error as templates see it, if it came from another step. One that was cut off says so by its outcome.
    """
    bound = bound or step_error_json(error, node.id, node.type, attempt, node.retry.max_attempts, at)
    try:
        output = encode({"error": bound})
    except Unencodable:
        # What can't be stored of the details is left out; code and message are ours.
        slim = {key: bound.get(key) for key in ("code", "classification", "node_id", "node_type", "timestamp")}
        output = encode({"error": {**slim, "message": storable(error.message)}})
    return step_row(
        execution,
        node,
        step,
        attempt,
        StepState.FAILED,
        given=given,
        output=output,
        outcome=CUT if error is CANCELLED else None,
        error=error,
        started=started,
        completed=at,
    )


def more_of(step: StepKey, attempt: int, outcome: str | None, error: StepError | None) -> str:
    """Return what few attempts have, as the JSON of a step row's `more`; "" for most."""
    more: dict[str, Json] = {}
    if attempt > 1:
        more["retry"] = attempt - 1
    if outcome is not None:
        more["outcome"] = outcome
    if error is not None:
        more["error"] = storable(error.message)
        more["code"] = error.code
    if step.path:
        more["path"] = step.path
    if step.round:
        more["round"] = step.round
    return encode(more) if more else ""


def storable(text: str) -> str:
    """Return a message without what JSONB can't hold: it may quote what was refused for that very reason."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()
