"""The shapes of requests and answers about schedules.

Bodies are described here and read in `triggers.schedules`, which tells every fault at once.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StrictInt, WithJsonSchema

from gorax_engine.api.schemas import AnswerModel, RequestModel
from gorax_engine.triggers.backfills import LIMIT
from gorax_engine.triggers.schedules import MAX_PREVIEW

_DURATION: Final = "Seconds, `1h30m` or `PT1H30M`."


def _described(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


_Text = Annotated[Any, _described(type="string")]
_Name = Annotated[Any, _described(type="string", maxLength=255, description="Unique within the workflow.")]
_WorkflowId = Annotated[Any, _described(type="string", format="uuid")]
_WorkflowName = Annotated[Any, _described(type="string", description="The workflow's name, in place of its id.")]
_Cron = Annotated[
    Any,
    _described(
        type="string",
        maxLength=255,
        examples=["0 9 * * MON-FRI"],
        description="Five fields, or six with leading seconds.",
    ),
]
_Zone = Annotated[Any, _described(type="string", default="UTC", description="An IANA time zone.")]
_Dst = Annotated[
    Any,
    _described(
        type="object",
        properties={"gap": {"enum": ["skip", "shift"]}, "fold": {"enum": ["first", "both"]}},
        additionalProperties=False,
        default={"gap": "shift", "fold": "first"},
    ),
]
_Moment = Annotated[Any, _described(type=["string", "null"], format="date-time")]
_Jitter = Annotated[Any, _described(type=["string", "number"], default="0s", description=_DURATION)]
_Window = Annotated[Any, _described(type=["string", "number"], default="24h", description=_DURATION)]
_Misfire = Annotated[Any, _described(enum=["none", "last", "all"], default="last")]
_Limit = Annotated[Any, _described(type="integer", minimum=1, maximum=1000, default=100)]
_Overlap = Annotated[Any, _described(enum=["skip", "queue", "cancel_running", "allow"], default="skip")]
_Input = Annotated[Any, _described(description="What each run is given as `trigger.body`; any JSON.", default={})]
_Priority = Annotated[Any, _described(type="integer", minimum=0, maximum=100, default=1)]
_Enabled = Annotated[Any, _described(type="boolean", default=True)]


class PreviewIn(RequestModel):
    """A recurrence to look ahead at, from now on or from `from`."""

    cron_expression: _Cron = None
    timezone: _Zone = None
    dst: _Dst = None
    starts_at: _Moment = None
    ends_at: _Moment = None
    count: Annotated[StrictInt, Field(ge=1, le=MAX_PREVIEW)] = 10
    begin: Annotated[AwareDatetime | None, Field(alias="from")] = None


class SchedulePatch(RequestModel):
    """A partial change; absent fields stay as they are, null is the default."""

    workflow_id: _WorkflowId = None
    workflow: _WorkflowName = None
    name: _Name = None
    description: _Text = None
    cron_expression: _Cron = None
    timezone: _Zone = None
    dst: _Dst = None
    starts_at: _Moment = None
    ends_at: _Moment = None
    jitter: _Jitter = None
    catchup_window: _Window = None
    misfire_policy: _Misfire = None
    misfire_limit: _Limit = None
    overlap_policy: _Overlap = None
    input: _Input = None
    priority: _Priority = None
    enabled: _Enabled = None


class ScheduleIn(SchedulePatch):
    """A schedule of a workflow; `cron_expression` and the workflow are needed."""


class TriggerIn(RequestModel):
    """What the run is given; if it is left out, the schedule's own input."""

    input: Any = None


class BackfillIn(RequestModel):
    """A stretch of the past, both ends included."""

    start: AwareDatetime
    end: AwareDatetime
    limit: Annotated[StrictInt, Field(ge=1, le=LIMIT)] = LIMIT


class Dst(AnswerModel):
    """What becomes of wall times that don't exist, and of those that come twice."""

    gap: Literal["skip", "shift"]
    fold: Literal["first", "both"]


class Schedule(AnswerModel):
    """A schedule. `node_id` names the trigger node that it follows; `revision` counts changes, and is its ETag."""

    id: UUID
    workflow_id: UUID
    node_id: str | None
    name: str
    description: str | None
    cron_expression: str
    timezone: str
    dst: Dst
    starts_at: datetime | None
    ends_at: datetime | None
    jitter: str
    catchup_window: str
    misfire_policy: Literal["none", "last", "all"]
    misfire_limit: int
    overlap_policy: Literal["skip", "queue", "cancel_running", "allow"]
    input: Any
    priority: int
    enabled: bool
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_execution_id: UUID | None
    revision: int
    created_by: UUID
    created_at: datetime
    updated_at: datetime


class Preview(AnswerModel):
    """The next occurrences, in UTC."""

    occurrences: list[datetime]


class Occurrence(AnswerModel):
    """What became of an occurrence, or of a stretch of `count` missed ones from `scheduled_for` through `through`."""

    schedule_id: UUID
    scheduled_for: datetime
    status: Literal["started", "queued", "skipped", "missed", "failed"]
    reason: str | None
    execution_id: UUID | None
    backfill: bool
    through: datetime | None
    count: int | None
    decided_at: datetime


class FilledOccurrence(AnswerModel):
    """An occurrence within a stretch that was filled; one that is queued has no run yet."""

    scheduled_for: datetime
    execution_id: UUID | None


class FilledStretch(AnswerModel):
    """How many runs a backfill has started, and how many were there already."""

    started: int
    already: int
    occurrences: list[FilledOccurrence]
