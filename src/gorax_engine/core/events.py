"""What can happen to an execution: the input of `walk.advance`. Times come with the event; core has no clock."""

from dataclasses import dataclass
from typing import TypeAlias

from gorax_engine.core.model import Instant, Json, StepError, StepKey


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run begins at trigger node `trigger`; `output` is the trigger data."""

    trigger: str
    output: Json
    at: Instant


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """An attempt ended well. `outcome` is its label; `stop` ends the run as completed with `output`."""

    step: StepKey
    output: Json
    at: Instant
    outcome: str | None = None
    stop: bool = False


@dataclass(frozen=True, slots=True)
class StepFailed:
    """Attempt number `attempt` (from 1) ended badly."""

    step: StepKey
    attempt: int
    error: StepError
    at: Instant


@dataclass(frozen=True, slots=True)
class StepDeclined:
    """The node's `when` was false: the step is skipped."""

    step: StepKey
    at: Instant


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """Somebody asked for the end of the run."""

    at: Instant
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run ends from without: its deadline passed, it was quarantined, or a record of it was refused."""

    error: StepError
    at: Instant


Event: TypeAlias = RunStarted | StepSucceeded | StepFailed | StepDeclined | RunCancelled | RunFailed
