"""The values that a test file is read into: cases, what their mocks answer, and what they expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json, Micros, StepError

ANYWHERE: Final = "*"
"""The key of the answers that hold at every place that is not named."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mocked step comes to, `after` so long; `never` means not at all.

    With an `error` it fails. Else it ends with `outcome` and `output`, which for some types is made of other keys:
    `response` and `by` of a human_task, `body` of a wait_for_event, `steps` (those of the child) of a sub_workflow.
    """

    output: Json = None
    has_output: bool = False
    error: StepError | None = None
    outcome: str | None = None
    after: Micros = 0
    never: bool = False
    response: Mapping[str, Json] | None = None
    by: str | None = None
    body: Json = None
    steps: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a mock at one place. A single one is given to every call, several one to each in turn."""

    listed: tuple[Answer, ...]
    repeats: bool

    def of_call(self, number: int) -> Answer | None:
        """Return the answer to a call, counted from 1; None if there is none left."""
        if self.repeats:
            return self.listed[0]
        return self.listed[number - 1] if number <= len(self.listed) else None


Mock = Mapping[str, Answers]
"""The answers of one node by iteration path, `ANYWHERE` for all others."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run may take, both ends included."""

    at_least: Micros = 0
    at_most: Micros | None = None


@dataclass(frozen=True, slots=True)
class StepExpectation:
    """What is expected of the steps at one place; keys as in the file, only those that stand there."""

    place: str
    wanted: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a case expects of its run. `wanted` has the keys of the file that are plain values."""

    status: str = "completed"
    wanted: Mapping[str, Json] = field(default_factory=dict)
    steps: tuple[StepExpectation, ...] = ()
    not_run: tuple[str, ...] = ()
    duration: Length | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One run and what is expected of it. `pointer` says where in the file it stands."""

    name: str
    pointer: str
    now: Instant
    trigger: Json
    trigger_type: str
    trigger_node: str | None
    vars: Mapping[str, Json]
    env: Mapping[str, Json]
    cancel_after: Micros | None
    mocks: Mapping[str, Mock]
    expect: Expectation


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases of a file."""

    cases: tuple[Case, ...]
