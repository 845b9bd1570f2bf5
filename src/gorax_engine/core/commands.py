"""What `walk.advance` asks the engine to do. Commands are values; doing them is the engine's affair."""

from typing import TypeAlias

from msgspec import Struct

from gorax_engine.core.model import Instant, Json, StepError, StepKey
from gorax_engine.core.states import ExecutionState


class StartStep(Struct, frozen=True, gc=False):
    """Run attempt `attempt` (from 1) of a step, not before `at`; `at` is also what `now()` means within it."""

    step: StepKey
    attempt: int
    at: Instant


class OpenStep(Struct, frozen=True, gc=False):
    """Record that a scope, which the walk carries out itself, runs now; `given` is its config as rendered."""

    step: StepKey
    attempt: int
    given: Json
    at: Instant


class EndStep(Struct, frozen=True, gc=False):
    """Record that a scope or join has ended: well with `output`, or badly with `error`.

    `bound` is that error as templates see it; it names the step where it came from.
    """

    step: StepKey
    attempt: int
    output: Json
    error: StepError | None
    bound: Json
    at: Instant


class FoldLoop(Struct, frozen=True, gc=False):
    """Record what iterations of a loop gave, so that who rebuilds the run need not look at their steps again.

    `results` are for the iterations from `first` on, without a gap: of each when it ended (an Instant) and its entry of
    the loop's output. `prefix` is what the paths of its iterations begin with, up to the index.
    """

    step: StepKey
    attempt: int
    first: int
    results: list[Json]
    prefix: str
    round: int


class SkipStep(Struct, frozen=True, gc=False):
    """Record that a step never runs: its incoming edges are dead, its `when` is false (`declined`), or it was cut off.

    Of a step that was `declined` the outcome `walk.recovery.DECLINED` is recorded: that is what the others follow from.
    """

    step: StepKey
    at: Instant
    declined: bool = False


class CancelStep(Struct, frozen=True, gc=False):
    """Stop a running or waiting step and record it as failed with code `cancelled` and outcome `walk.recovery.CUT`.

    One that has not begun is recorded as skipped instead.
    """

    step: StepKey
    attempt: int
    at: Instant


class EndRun(Struct, frozen=True, gc=False):
    """The run is over: `status` is terminal. It is always the last command of a run."""

    status: ExecutionState
    output: Json
    error: StepError | None
    at: Instant


Command: TypeAlias = StartStep | OpenStep | EndStep | FoldLoop | SkipStep | CancelStep | EndRun
