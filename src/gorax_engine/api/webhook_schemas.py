"""The shapes of requests and answers about webhooks, their filters and their log. Secrets go in, and come out once."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StrictBool, StrictInt, StrictStr

from gorax_engine.api.schemas import AnswerModel, Description, Name, RequestModel
from gorax_engine.core.ip_ranges import MAX_RANGES

MAX_BULK = 100
"""Deliveries that one request may replay."""

_OTHER_WORDS = {"signature": "secret", "api_key": "bearer"}

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
AuthType = Annotated[
    Literal["none", "secret", "basic", "bearer", "signature", "api_key"],
    AfterValidator(lambda word: _OTHER_WORDS.get(word, word)),
    Field(description="`signature` is another word for secret, `api_key` for bearer."),
]
Scheme = Literal["gorax", "github", "standard", "stripe", "slack"]
Secret = Annotated[StrictStr, Field(min_length=1, max_length=500)]
EventStatus = Literal["processed", "filtered", "failed"]
Headers = Annotated[dict[StrictStr, StrictStr], Field(max_length=100)]


class WebhookSettings(RequestModel):
    """What may be set of a webhook. Absent fields keep what they are, or in a new webhook get their defaults."""

    name: Name | None = None
    description: Description | None = None
    methods: Annotated[list[Method], Field(min_length=1, max_length=7)] = Field(default=["POST"])
    auth_type: AuthType = "none"
    signature_scheme: Scheme = "gorax"
    timestamp_tolerance: Annotated[StrictInt, Field(ge=1, le=86_400, description="Seconds.")] = 300
    allowed_ips: Annotated[list[StrictStr], Field(max_length=MAX_RANGES)] = Field(default_factory=list)
    max_body_bytes: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
    rate_limit: Annotated[StrictInt, Field(ge=1, le=1_000_000, description="Deliveries a minute.")] | None = None
    dedupe_header: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,255}$")] | None = None
    dedupe_path: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = None
    response_mode: Literal["accepted", "result"] = "accepted"
    priority: Annotated[StrictInt, Field(ge=0, le=100)] = 1
    enabled: StrictBool = True


class WebhookIn(WebhookSettings):
    """A webhook that is no node's. Without a `path` it gets a random one, without a `secret` a generated one."""

    workflow_id: UUID | None = None
    workflow: Annotated[StrictStr, Field(min_length=1, max_length=255, description="Its name, or its id.")] | None = (
        None
    )
    node_id: Annotated[StrictStr, Field(min_length=1, max_length=255)] | None = None
    path: StrictStr | None = None
    secret: Secret | None = None


class WebhookChange(WebhookSettings):
    """A change of a webhook. Another `secret` lets the one before be accepted for 24 more hours."""

    path: StrictStr = ""
    secret: Secret = ""


class RotateIn(RequestModel):
    """The next secret, generated if not given. The one before is accepted for `grace` longer; 0 ends it at once."""

    secret: Secret | None = None
    grace: StrictStr | StrictInt = "24h"


class TrialIn(RequestModel):
    """A request as it might come; nobody has to prove anything for it."""

    method: Method = "POST"
    headers: Headers = Field(default_factory=dict)
    query: Headers = Field(default_factory=dict)
    body: Any = None


class FilterIn(RequestModel):
    """A filter. Those of one `logic_group` are alternatives, all groups must hold."""

    field_path: Annotated[StrictStr, Field(min_length=1, max_length=255)]
    operator: Annotated[StrictStr, Field(min_length=1, max_length=20)]
    value: Any = None
    logic_group: Annotated[StrictInt, Field(ge=0, le=10_000)] = 0
    enabled: StrictBool = True


class FilterPatch(RequestModel):
    """A partial change; absent fields stay as they are."""

    field_path: Annotated[StrictStr, Field(min_length=1, max_length=255)] = ""
    operator: Annotated[StrictStr, Field(min_length=1, max_length=20)] = ""
    value: Any = None
    logic_group: Annotated[StrictInt, Field(ge=0, le=10_000)] = 0
    enabled: StrictBool = True


class ReplayManyIn(RequestModel):
    """The deliveries that are meant: by their ids, or those of a status that were not replayed yet, oldest first."""

    event_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_BULK)] | None = None
    status: EventStatus | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[StrictInt, Field(ge=1, le=MAX_BULK)] = MAX_BULK


class Webhook(AnswerModel):
    """A webhook without its secret. `managed` ones follow a node of their workflow; `revision` is the ETag.

    `url` and `id_url` are its two addresses on this server.
    """

    id: UUID
    workflow_id: UUID
    managed: bool
    node_id: str
    name: str | None
    description: str | None
    path: str
    url: str
    id_url: str
    methods: list[str]
    auth_type: Literal["none", "secret", "basic", "bearer"]
    signature_scheme: Scheme
    timestamp_tolerance: int
    allowed_ips: list[str]
    max_body_bytes: int | None
    rate_limit: int | None
    dedupe_header: str | None
    dedupe_path: str | None
    response_mode: Literal["accepted", "result"]
    priority: int
    enabled: bool
    has_secret: bool
    secret_changed_at: datetime | None
    previous_secret_until: datetime | None
    last_triggered_at: datetime | None
    trigger_count: int
    revision: int
    created_at: datetime
    updated_at: datetime


class WebhookHealth(AnswerModel):
    """How the deliveries since a moment went: the last 24 hours, or the last 10,000 of them. Times in milliseconds.

    `success_rate` is the part that did not fail; null without deliveries.
    """

    since: datetime
    total: int
    processed: int
    filtered: int
    duplicates: int
    failed: int
    last_event_at: datetime | None
    avg_processing_time_ms: float | None
    p95_processing_time_ms: float | None
    success_rate: float | None


class WebhookWithHealth(Webhook):
    """A webhook, and how its deliveries went."""

    health: WebhookHealth


class WebhookWithSecret(Webhook):
    """A webhook with the secret that was generated for it, if one was: keep it, it is not shown again."""

    secret: str | None


class WebhookFilter(AnswerModel):
    """A filter of a webhook."""

    id: UUID
    webhook_id: UUID
    field_path: str
    operator: str
    value: Any
    logic_group: int
    enabled: bool
    created_at: datetime
    updated_at: datetime


class RuleOut(AnswerModel):
    """What became of one filter: whether it held, whether its field was found, with which value, and why."""

    id: UUID
    field_path: str
    operator: str
    value: Any
    logic_group: int
    passed: bool
    found: bool
    actual: Any
    reason: str


class FilterVerdict(AnswerModel):
    """Whether a request passes the enabled filters, and if not, which group failed first."""

    passed: bool
    reason: str | None
    rules: list[RuleOut]


class TriedWorkflow(AnswerModel):
    """The workflow that the request would start."""

    id: UUID
    name: str
    status: str
    published_version: int | None


class TrialVerdict(AnswerModel):
    """What would become of a request whose sender has proven itself. Nothing was stored.

    `code` and `reason` say why it would start nothing; `trigger_data` is what its run would get.
    """

    accepted: bool
    code: str | None
    reason: str | None
    filters: FilterVerdict
    trigger_data: dict[str, Any]
    workflow: TriedWorkflow


class EventSummary(AnswerModel):
    """A delivery in the log. `source_event_id` is the delivery that this one replays; `body_bytes` counts what came."""

    id: UUID
    webhook_id: UUID
    execution_id: UUID | None
    request_method: str
    request_path: str | None
    source_ip: str | None
    response_status: int | None
    processing_time_ms: int | None
    status: Literal["received", "processed", "filtered", "failed"]
    filtered_reason: str | None
    error_message: str | None
    dedupe_key: str | None
    replay_count: int
    source_event_id: UUID | None
    created_at: datetime
    body_bytes: int


class Event(EventSummary):
    """A delivery with all that it held; what looked like a secret is masked, `raw_body` is base64."""

    request_query: dict[str, Any] | None
    request_headers: dict[str, Any]
    request_body: Any
    raw_body: str | None


class ReplayedEvent(AnswerModel):
    """A replay: its run, its own delivery in the log, and the first delivery, which counts it."""

    execution_id: UUID
    event_id: UUID | None
    source_event_id: UUID
    status: str


class ReplayedOf(ReplayedEvent):
    """A replay among several, with the delivery that was asked for."""

    requested_event_id: UUID


class RefusedReplay(AnswerModel):
    """A delivery that was not replayed, and why."""

    event_id: UUID
    code: str
    message: str


class ReplayResult(AnswerModel):
    """What became of each delivery; `more` says that the filter fits further ones."""

    replayed: list[ReplayedOf]
    refused: list[RefusedReplay]
    more: bool
