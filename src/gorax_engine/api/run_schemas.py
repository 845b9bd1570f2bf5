"""The shapes of requests and answers about what is done with runs, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StrictBool, StrictStr

from gorax_engine.api.schemas import AnswerModel, RequestModel

MAX_BULK = 100
"""Runs that one request may act on."""

Version = Annotated[
    Literal["same", "current"],
    Field(description="`same` is the version that the run had, `current` the published one."),
]


class SignalIn(RequestModel):
    """An event for one run alone: its waits for an event of this name get it, whatever their correlation key."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=255)]
    payload: Any = None


class AgainIn(RequestModel):
    """How a run is run again. Without `input` it is that of the old run; `from_step` and all after it begin anew."""

    version: Version = "same"
    input: Any = None
    from_step: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = None


class RunFilter(RequestModel):
    """Which runs are meant, as in the list of runs; the newest first."""

    workflow_id: UUID | None = None
    status: Literal["pending", "running", "failed", "cancelled"] | None = None
    trigger_type: StrictStr | None = None
    start_date: AwareDatetime | None = None
    end_date: AwareDatetime | None = None
    error_search: Annotated[StrictStr, Field(max_length=200)] | None = None
    waiting_for: StrictStr | None = None


class BulkIn(RequestModel):
    """The runs that are meant: either by id, or by a filter, of which the newest up to `limit` are taken."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_BULK)] | None = None
    filter: RunFilter | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_BULK)] = MAX_BULK


class BulkCancelIn(BulkIn):
    """Runs to be cancelled. A filter without a status means all that live."""

    force: StrictBool = False


class BulkRetryIn(BulkIn):
    """Runs to be retried, each with its own input. A filter without a status means those that failed."""

    version: Version = "same"


class RunState(AnswerModel):
    """How a run stands after what was asked. `running` after a cancel: its `finally` parts run first."""

    execution_id: UUID
    status: str


class Paused(AnswerModel):
    """Whether a run is paused now."""

    execution_id: UUID
    paused: bool


class Signalled(AnswerModel):
    """How many waits of a run got the event."""

    execution_id: UUID
    delivered: int


class NewRun(AnswerModel):
    """A run that follows from another one."""

    execution_id: UUID
    status: str
    retry_of: UUID


class BulkItem(AnswerModel):
    """What became of one run: `status` is null and `code` says why, or the other way round.

    `new_execution_id` is the run that a retry has started, and then `status` is that run's.
    """

    execution_id: UUID
    status: str | None
    new_execution_id: UUID | None
    code: str | None
    detail: str | None


class BulkResult(AnswerModel):
    """What became of each run. `more`: the filter found others, too; ask again."""

    results: list[BulkItem]
    succeeded: int
    failed: int
    more: bool


class ChildRun(AnswerModel):
    """A run that a step has started."""

    id: UUID
    workflow_id: UUID
    status: str
    waiting_for: str | None
    error_code: str | None


class TreeStep(AnswerModel):
    """The latest attempt of a step, with what it has started and, if it is a scope, what runs in it."""

    id: UUID
    node_id: str
    node_type: str
    iteration_path: str
    round: int
    attempt: int
    status: Literal["pending", "running", "completed", "failed", "skipped"]
    error_code: str | None
    error_message: str | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    bodies: list["TreeBody"]
    children: list[ChildRun]


class TreeBody(AnswerModel):
    """One iteration, branch or round of a scope."""

    path: str
    round: int
    steps: list[TreeStep]


class RunTree(AnswerModel):
    """The steps of a run, nested. `truncated`: there are more steps, or more children, than are shown."""

    execution_id: UUID
    status: str
    steps: list[TreeStep]
    truncated: bool


TreeStep.model_rebuild()
