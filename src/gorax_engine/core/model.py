"""The canonical values that all of the engine shares: JSON, instants, definitions, node specs, policies, outcomes.

Every value is frozen. `reading.py` turns what users write into a `Definition`; `plan.py` turns that into a `Plan`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import Struct

Json: TypeAlias = Any
"""None, bool, int, float (finite), str, list[Json] or dict[str, Json]; nothing else ever."""

Instant: TypeAlias = int
"""A point in time: whole microseconds since 1970-01-01T00:00:00Z (integers compare, add and encode fast)."""

Micros: TypeAlias = int
"""A length of time in microseconds."""

SECOND: Final[Micros] = 1_000_000


class NodeKind(StrEnum):
    """What the engine may do with a node: TRIGGER, CONTROL and PURE run inline; TASK runs as a task of its own.

    WALK is for the types that `core.walk` itself carries out: scopes and joins.
    """

    TRIGGER = "trigger"
    CONTROL = "control"
    PURE = "pure"
    TASK = "task"
    WALK = "walk"


class OnError(StrEnum):
    FAIL = "fail"
    CONTINUE = "continue"


class InDoubt(StrEnum):
    """What to do with a step that was running when its worker died."""

    RETRY = "retry"
    FAIL = "fail"
    ASK = "ask"


class Missing(StrEnum):
    """What a missing path in a template does: fail the step, or become null."""

    ERROR = "error"
    NULL = "null"


class Classification(StrEnum):
    TRANSIENT = "transient"
    PERMANENT = "permanent"


class RetryStrategy(StrEnum):
    FIXED = "fixed"
    EXPONENTIAL = "exponential"
    EXPONENTIAL_JITTER = "exponential_jitter"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how a failed attempt is repeated; `max_attempts` counts the first."""

    max_attempts: int = 1
    strategy: RetryStrategy = RetryStrategy.EXPONENTIAL_JITTER
    initial_delay: Micros = SECOND
    max_delay: Micros = 60 * SECOND
    multiplier: float = 2.0
    retry_on: tuple[str, ...] = ()
    give_up_on: tuple[str, ...] = ()
    status_codes: tuple[int, ...] = ()


NO_RETRY: Final = RetryPolicy()
OUTSIDE_RETRY: Final = RetryPolicy(max_attempts=4)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What `core` must know of a node type to read, check and compile its nodes.

    `schema` is a JSON Schema (2020-12) of the node's config. A string in it may carry the annotation `x-gorax`:
    `expression` (compiled, reaches the node unevaluated), `path` (a template if it has one, else an expression),
    `bound_path` (the same, but reaches the node unevaluated),
    `literal` (code: never templated), `url` (templates in it are percent-encoded), `name` (an identifier, never
    templated), `credential` (the name of a credential; the node gets the credential itself, an object with `type` and
    its fields). Strings without it are templates. Any subschema may carry `"x-gorax-secrets": true`: `credentials.*`
    may be used there; and `"x-gorax-locals": ["item"]`: names that the node itself gives to the expressions there.
    `x-gorax-aliases` beside an `enum` has other words for its own: `{"word": "its word"}`; these are what is stored.
    `x-gorax-message` replaces the sentence of a fault of that subschema; the formats `gorax-duration` and
    `gorax-instant` are known.

    `outcomes(config)` gives the labels that edges may name besides `error`; empty means that labels are decoration.
    `main_outcome` is what an edge without a label stands for ("": any outcome); `unhandled` maps outcomes to the error
    codes with which the step fails if no edge names them. `has_effects` says whether a task acts on the outside, so
    that all it depends on must be durable before. `sees_roots` asks for `NodeContext.roots`.
    """

    name: str
    kind: NodeKind
    schema: Mapping[str, Json]
    aliases: tuple[str, ...] = ()
    outcomes: Callable[[Mapping[str, Json]], tuple[str, ...]] = lambda config: ()
    retry: RetryPolicy = NO_RETRY
    title: str = ""
    description: str = ""
    main_outcome: str = ""
    unhandled: Mapping[str, str] = field(default_factory=dict)
    has_effects: bool = True
    sees_roots: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node as stored: canonical type, snake_case config, policies read and checked.

    `rounds` is the policy by which a scope of type retry runs its body again; `circuit_breaker` the config of a breaker
    around the node's attempts.
    """

    id: str
    type: str
    name: str
    config: Mapping[str, Json]
    retry: RetryPolicy | None = None
    timeout: Micros | None = None
    on_error: OnError = OnError.FAIL
    in_doubt: InDoubt = InDoubt.RETRY
    when: str | None = None
    rounds: RetryPolicy | None = None
    circuit_breaker: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge as stored; `label` is the outcome (or None), read from `label` or `sourceHandle`."""

    id: str
    source: str
    target: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowSettings:
    timeout: Micros | None = None
    max_concurrency: int | None = None
    missing: Missing = Missing.ERROR
    error_workflow: str | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow definition that was read and found free of errors."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    output: Json | None = None
    has_output: bool = False
    settings: WorkflowSettings = field(default_factory=WorkflowSettings)


class StepKey(NamedTuple):
    """Which step of an execution: its node, the iteration path ("" at the top) and the round of a retry scope."""

    node: str
    path: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True)
class StepError:
    """Why an attempt failed.

    `code` is stable and snake_case. `details` are further JSON fields of the bound error (`http_status_code`,
    `response`, ...). `retry_after` is what the other side asked for, if it did.
    """

    code: str
    message: str
    classification: Classification = Classification.PERMANENT
    details: Mapping[str, Json] = field(default_factory=dict)
    retry_after: Micros | None = None


class Completed(Struct, frozen=True, gc=False):
    """The attempt succeeded. `outcome` names the live label of a type with outcomes; `stop` ends the run."""

    output: Json
    outcome: str | None = None
    stop: bool = False


class Failed(Struct, frozen=True, gc=False):
    """The attempt failed."""

    error: StepError


class TaskWait(Struct, frozen=True, gc=False):
    """The step waits for people: a human task is opened with this content (see `people.content.TaskContent`)."""

    content: Mapping[str, Json]


class EventWait(Struct, frozen=True, gc=False):
    """The step waits for an event of this name and, if one is given, this correlation key."""

    name: str
    correlation_key: str | None = None


class ChildWait(Struct, frozen=True, gc=False):
    """The step starts a run of another workflow (its id or name); if `is_sync` it waits for the end of it.

    `output_mapping` is looked up in what the child gave. `abandon` lets the child go on when the step is cancelled.
    """

    workflow: str
    input: Json
    is_sync: bool = True
    output_mapping: Mapping[str, Json] | None = None
    abandon: bool = False


class Suspended(Struct, frozen=True, gc=False):
    """The step waits; nothing is held in memory meanwhile.

    Without `wait` it waits for the moment `due_at`, and then completes with `output`. With `wait` it waits for that,
    and fails with `timeout` at `due_at`, if there is one.
    """

    due_at: Instant | None = None
    output: Json = None
    wait: TaskWait | EventWait | ChildWait | None = None


Outcome: TypeAlias = Completed | Failed | Suspended
