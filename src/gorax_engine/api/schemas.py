"""The shapes of requests and answers, as OpenAPI shows them.

Request models are strict and refuse unknown fields. Answers are encoded from rows without passing these models; tests
hold every answer to its model.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

Item = TypeVar("Item")


def _one_line(text: str) -> str:
    if text != text.strip() or not text.isprintable():
        raise ValueError("must have no control characters and no blanks at its ends")
    return text


Name = Annotated[StrictStr, Field(min_length=1, max_length=255), AfterValidator(_one_line)]
Description = Annotated[StrictStr, Field(max_length=10_000)]


class RequestModel(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class AnswerModel(BaseModel):
    """Part of an answer: exactly the fields that are declared."""

    model_config = ConfigDict(extra="forbid")


class One(AnswerModel, Generic[Item]):
    """An answer with one object."""

    data: Item


class Many(AnswerModel, Generic[Item]):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[Item]
    next_cursor: str | None


class ProblemItem(AnswerModel):
    """One fault of the input. `pointer` is a JSON Pointer into the body, or into the definition that is at fault."""

    pointer: str
    code: str
    message: str


class ProblemDocument(AnswerModel):
    """What every error answers (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemItem]


class WorkflowIn(RequestModel):
    """A workflow file. `settings` are merged into the definition's own and win over them."""

    name: Name
    description: Description | None = None
    definition: Any
    settings: dict[str, Any] | None = None


class WorkflowPatch(RequestModel):
    """A partial change; absent fields stay as they are."""

    name: Name = Field(default="")
    description: Description | None = None
    definition: Any = None
    settings: dict[str, Any] | None = None
    status: Literal["active", "inactive"] | None = None


class DefinitionIn(RequestModel):
    """A definition to be checked."""

    definition: Any


class ExecuteIn(RequestModel):
    """The input of a run; it becomes `trigger.body`."""

    input: Any = None


class ApiKeyIn(RequestModel):
    """A new API key. With a `role` it acts for that role's service user, else for the user of the key that makes it."""

    name: Name
    role: Annotated[StrictStr, Field(min_length=1, max_length=100)] | None = None
    expires_in_days: Annotated[StrictInt, Field(ge=1, le=3650)] | None = None


class WorkflowSummary(AnswerModel):
    """A workflow in a list. `revision` counts every change and is its ETag; `version` is the latest published."""

    id: UUID
    name: str
    description: str | None
    status: Literal["draft", "active", "inactive", "archived"]
    version: int
    published_version: int | None
    revision: int
    created_by: UUID
    created_at: datetime
    updated_at: datetime


class WebhookAddress(AnswerModel):
    """Where a webhook of a published workflow is reached."""

    id: UUID
    node_id: str
    path: str
    url: str
    methods: list[str]
    auth_type: str
    enabled: bool


class Workflow(WorkflowSummary):
    """A workflow with its draft definition and the webhooks of its published version."""

    definition: dict[str, Any]
    settings: dict[str, Any]
    webhooks: list[WebhookAddress]


class WorkflowVersionSummary(AnswerModel):
    """A published version in a list."""

    id: UUID
    workflow_id: UUID
    version: int
    created_by: UUID
    created_at: datetime


class WorkflowVersion(WorkflowVersionSummary):
    """A published version; it never changes."""

    definition: dict[str, Any]


class Validation(AnswerModel):
    """What is wrong (errors) or doubtful (warnings) in a definition; pointers lead into the definition."""

    valid: bool
    errors: list[ProblemItem]
    warnings: list[ProblemItem]


class ExecutionSummary(AnswerModel):
    """A run of a workflow, without its data."""

    id: UUID
    workflow_id: UUID
    workflow_version: int
    status: Literal["pending", "running", "completed", "failed", "cancelled"]
    waiting_for: str | None
    trigger_type: str
    error_message: str | None
    error_code: str | None
    parent_execution_id: UUID | None
    execution_depth: int
    retry_of: UUID | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None


class Execution(ExecutionSummary):
    """A run with its data."""

    trigger_data: Any
    output_data: Any


class Step(AnswerModel):
    """One attempt of a step."""

    id: UUID
    execution_id: UUID
    node_id: str
    node_type: str
    iteration_path: str
    round: int
    attempt: int
    status: Literal["pending", "running", "completed", "failed", "skipped"]
    input_data: Any
    output_data: Any
    error_message: str | None
    error_code: str | None
    retry_count: int
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None


class StartedRun(AnswerModel):
    """A run that was accepted."""

    execution_id: UUID
    status: str


class ExplanationOut(AnswerModel):
    """Why a run stands where it stands."""

    state: str
    blocker: str
    sentence: str
    since: datetime | None
    details: dict[str, Any]


class Tenant(AnswerModel):
    """The tenant of the API key."""

    id: UUID
    name: str
    subdomain: str
    status: str
    tier: str
    settings: dict[str, Any]
    quotas: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class Permission(AnswerModel):
    """Something that may be permitted, and whether the API key has it."""

    permission: str
    granted: StrictBool


class ApiKey(AnswerModel):
    """An API key; its secret is shown once, when it is created."""

    id: UUID
    name: str
    prefix: str
    user_id: UUID
    roles: list[str]
    created_by: UUID
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewApiKey(ApiKey):
    """A fresh API key with its secret: keep it, it is not shown again (a repeated Idempotency-Key gets null)."""

    key: str | None
