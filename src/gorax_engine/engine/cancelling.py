"""What becomes of the steps of a run that is ended from without, by who doesn't run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from gorax_engine.core.commands import CancelStep, EndRun, EndStep, FoldLoop, OpenStep, SkipStep, StartStep
from gorax_engine.core.events import Event, RunCancelled, RunStarted
from gorax_engine.core.json_edge import encode
from gorax_engine.core.plan import trigger_of
from gorax_engine.core.states import StepState
from gorax_engine.core.walk import initial, proceed, recover
from gorax_engine.core.walk.recovery import DECLINED
from gorax_engine.engine.ending import read_mark
from gorax_engine.engine.recorder import CANCELLED, failed_row, join_start, step_row

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.commands import Command
    from gorax_engine.core.model import StepKey
    from gorax_engine.core.plan import Plan
    from gorax_engine.core.walk import StepRecord
    from gorax_engine.store.queue import Cancellable, StepRow
    from gorax_engine.store.runs import Recorded


def last_records(execution_id: UUID, run: Cancellable, plan: Plan, recorded: Recorded) -> list[StepRow]:
    """Return the last rows of a cancelled run: what ran is failed, what never began is skipped."""
    seed = (run.origin_id or execution_id).bytes
    state = initial(plan, {"trigger": msgspec.json.decode(run.trigger_data or "{}"), "vars": {}}, seed)
    commands: list[Command] = []
    if run.started is not None:
        trigger = trigger_of(plan, run.trigger_node, run.trigger_type)
        started = RunStarted(trigger, msgspec.json.decode(run.trigger_data or "{}"), run.started)
        commands = recover(plan, state, started, recorded.steps, _marked(run), recorded.folded).commands
    commands += proceed(plan, state, (RunCancelled(run.now, force=True),))
    rows = []
    for command in commands:
        row = _row(execution_id.int, plan, command, recorded.steps, run)
        if row is not None:
            rows.append(row)
    return rows


def _marked(run: Cancellable) -> list[Event]:
    """What was asked of the run before, if its owner has begun to do it."""
    mark = None if run.end_requested is None else read_mark(msgspec.json.decode(run.end_requested))
    return [] if mark is None else mark.told()


def _row(
    execution: int,
    plan: Plan,
    command: Command,
    records: dict[tuple[StepKey, int], StepRecord],
    run: Cancellable,
) -> StepRow | None:
    match command:
        case CancelStep(step=step, attempt=attempt) if (step, attempt) in records:
            return failed_row(execution, plan.nodes[step.node], step, attempt, CANCELLED, run.now)
        case SkipStep(step=step, declined=True):
            node = plan.nodes[step.node]
            return step_row(execution, node, step, 1, StepState.SKIPPED, outcome=DECLINED, completed=run.now)
        case CancelStep(step=step, attempt=1) | SkipStep(step=step):
            return step_row(execution, plan.nodes[step.node], step, 1, StepState.SKIPPED, completed=run.now)
        case EndStep(step=step, attempt=attempt, error=None, output=output, at=at):
            node = plan.nodes[step.node]
            text = encode(output)
            started = join_start(node, at)
            return step_row(
                execution, node, step, attempt, StepState.COMPLETED, output=text, started=started, completed=at
            )
        case EndStep(step=step, attempt=attempt, error=error, bound=bound, at=at) if error is not None:
            node = plan.nodes[step.node]
            return failed_row(execution, node, step, attempt, error, at, started=join_start(node, at), bound=bound)
        case CancelStep() | EndRun() | StartStep() | OpenStep() | EndStep() | FoldLoop():
            return None
        case _:
            assert_never(command)
