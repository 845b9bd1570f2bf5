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


class SkipStep(Struct, frozen=True, gc=False):
    """Record that a step never runs: its incoming edges are dead, its `when` is false, or the run has ended."""

    step: StepKey
    at: Instant


class CancelStep(Struct, frozen=True, gc=False):
    """Stop a running or waiting step and record it as failed with code `cancelled`."""

    step: StepKey
    attempt: int
    at: Instant


class EndRun(Struct, frozen=True, gc=False):
    """The run is over: `status` is terminal. It is always the last command of a run."""

    status: ExecutionState
    output: Json
    error: StepError | None
    at: Instant


Command: TypeAlias = StartStep | SkipStep | CancelStep | EndRun
