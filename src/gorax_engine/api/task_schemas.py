"""The shapes of requests and answers about tasks and notifications, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StrictStr

from gorax_engine.api.schemas import AnswerModel, RequestModel

Remark = Annotated[StrictStr, Field(max_length=10_000)]
Form = Annotated[dict[str, Any], Field(description="The values of the form, by field.")]


class ApproveIn(RequestModel):
    """An approval. Its response is the comment with the data's fields beside it."""

    comment: Remark | None = None
    data: Form | None = None


class RejectIn(RequestModel):
    """A rejection. Its response is the reason with the data's fields beside it."""

    reason: Remark | None = None
    data: Form | None = None


class SubmitIn(RequestModel):
    """A form that is filled in; the task is approved with it."""

    data: Form | None = None


class AssigneeIn(RequestModel):
    """A user by id, or a role by name."""

    type: Literal["user", "role"]
    id: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = None
    name: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = None


class DelegateIn(RequestModel):
    """Who is asked instead: a user's id, a role's name, or `{type, id or name}`."""

    to: Annotated[StrictStr, Field(min_length=1, max_length=255)] | AssigneeIn
    comment: Remark | None = None


class TaskSummary(AnswerModel):
    """A human task in a list."""

    id: UUID
    execution_id: UUID
    workflow_id: UUID | None
    step_id: str
    node_id: str | None
    iteration_path: str
    task_type: Literal["approval", "input", "review"]
    title: str
    description: str | None
    assignees: list[dict[str, Any]]
    status: Literal["pending", "approved", "rejected", "expired", "cancelled"]
    due_date: datetime | None
    overdue: bool
    escalation_level: int
    completed_at: datetime | None
    completed_by: UUID | None
    created_at: datetime
    updated_at: datetime


class Task(TaskSummary):
    """A human task with its form, its configuration, what happened to it, and the response."""

    form_fields: list[dict[str, Any]]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    response_data: dict[str, Any] | None


class Notification(AnswerModel):
    """Something that the user of the API key was told."""

    id: UUID
    title: str
    message: str
    type: Literal["info", "warning", "error", "success"]
    link: str | None
    metadata: dict[str, Any] | None
    is_read: bool
    read_at: datetime | None
    created_at: datetime
