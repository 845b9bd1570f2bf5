"""What can happen to an execution: the input of `walk.advance`. Times come with the event; core has no clock.

The events of one execution are told in order, each later than the one before: their times say what came first, also to
who rebuilds the run from its records.
"""

from typing import TypeAlias

from msgspec import Struct

from gorax_engine.core.model import Instant, Json, StepError, StepKey


class RunStarted(Struct, frozen=True, gc=False):
    """The run begins at trigger node `trigger`; `output` is the trigger data."""

    trigger: str
    output: Json
    at: Instant


class StepSucceeded(Struct, frozen=True, gc=False):
    """An attempt ended well. `outcome` is its label; `stop` ends the run as completed with `output`."""

    step: StepKey
    output: Json
    at: Instant
    outcome: str | None = None
    stop: bool = False


class StepFailed(Struct, frozen=True, gc=False):
    """Attempt number `attempt` (from 1) ended badly."""

    step: StepKey
    attempt: int
    error: StepError
    at: Instant


class StepAdmitted(Struct, frozen=True, gc=False):
    """The engine lets a scope begin that it has to be asked for (circuit_breaker)."""

    step: StepKey
    attempt: int
    at: Instant


class StepDeclined(Struct, frozen=True, gc=False):
    """The node's `when` was false: the step is skipped."""

    step: StepKey
    at: Instant


class IterationKept(Struct, frozen=True, gc=False):
    """Iteration `index` of a loop has ended with this entry of its output, as the loop has recorded it (`FoldLoop`).

    Told only to who rebuilds a run: what happened in the iteration is not told then.
    """

    step: StepKey
    attempt: int
    index: int
    entry: Json
    at: Instant


class RunCancelled(Struct, frozen=True, gc=False):
    """Somebody asked for the end of the run. With `force` nothing more is run, not even a `finally`."""

    at: Instant
    reason: str = ""
    force: bool = False


class RunFailed(Struct, frozen=True, gc=False):
    """The run ends from without: its deadline passed, it was quarantined, or a record of it was refused.

    With `force` nothing more is run, not even a `finally`.
    """

    error: StepError
    at: Instant
    force: bool = False


class TimePassed(Struct, frozen=True, gc=False):
    """Nothing happened but that it is `at`: timers that are due by then fire."""

    at: Instant


Event: TypeAlias = (
    RunStarted
    | StepSucceeded
    | StepFailed
    | StepAdmitted
    | StepDeclined
    | IterationKept
    | RunCancelled
    | RunFailed
    | TimePassed
)
