"""The public API of node types: what a node is given and what it returns. Plug-ins build on this module alone.

A node type is an object with a `spec` and one method: `evaluate` for the kinds trigger, control and pure (runs inline,
must not wait), `run` for the kind task (runs as a task of its own, may wait). In `config` a string that the schema
annotates with `x-gorax: expression` arrives as a `BoundExpression`; everything else is rendered already.

Timeouts, retries, error edges and the recording of results are the engine's affair.

What stands here is kept: names are added, never changed or taken away, as long as plug-ins register in the group
`gorax_engine.nodes`. What would break them comes with a group of another name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from msgspec import Struct

from gorax_engine.core.expressions import BoundExpression, ExpressionError
from gorax_engine.core.model import (
    NO_RETRY,
    OUTSIDE_RETRY,
    SECOND,
    ChildWait,
    Classification,
    Completed,
    EventWait,
    Failed,
    Instant,
    Json,
    Micros,
    NodeKind,
    NodeSpec,
    Outcome,
    RetryPolicy,
    RetryStrategy,
    StepError,
    Suspended,
    TaskWait,
)
from gorax_engine.nodes.outbound_errors import OutboundError
from gorax_engine.nodes.outbound_request import Call

__all__ = [
    "NO_RETRY",
    "OUTSIDE_RETRY",
    "SECOND",
    "BoundExpression",
    "Call",
    "ChildWait",
    "Classification",
    "Completed",
    "EventWait",
    "ExpressionError",
    "Failed",
    "HttpAnswer",
    "HttpClient",
    "Instant",
    "Json",
    "Micros",
    "NodeContext",
    "NodeKind",
    "NodeSpec",
    "OutboundError",
    "Outcome",
    "PluginResources",
    "PureNode",
    "RetryPolicy",
    "RetryStrategy",
    "StepError",
    "Suspended",
    "TaskNode",
    "TaskWait",
    "WalkNode",
]


class NodeContext(Struct, frozen=True, gc=False):
    """What a node may know of the step that it carries out.

    `path` is the iteration path ("" at the top); `attempt` counts from 1; `now` is the recorded time of the event that
    enabled the step, so that an evaluation can be repeated; `idempotency_key` is the same for all attempts of a step;
    `seed` feeds deterministic randomness; `trigger` is the trigger data of the run. `roots` are what expressions of the
    step see (`trigger`, `steps`, `env`, `vars`, loop variables), for types whose spec says `sees_roots`; else empty.
    """

    execution_id: str
    tenant_id: str
    workflow_id: str
    node_id: str
    path: str
    attempt: int
    now: Instant
    idempotency_key: str
    seed: bytes
    trigger: Json
    roots: Mapping[str, Json] = {}


@runtime_checkable
class PureNode(Protocol):
    """A node of kind trigger, control or pure: a function of its config and context, evaluated inline."""

    @property
    def spec(self) -> NodeSpec:
        """The description of the type."""

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        """Return the outcome; ExpressionError may be raised, and fails the step with its code."""


@runtime_checkable
class TaskNode(Protocol):
    """A node of kind task: it talks to the outside, and may be run again after a crash."""

    @property
    def spec(self) -> NodeSpec:
        """The description of the type."""

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        """Return the outcome; exceptions other than cancellation become `Failed` in the engine."""


class HttpAnswer(Protocol):
    """One HTTP response, inflated. `headers` have lower case names in the order of the wire; `url` is the last one."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def url(self) -> str: ...


class HttpClient(Protocol):
    """The engine's HTTP client: it reaches what `outbound.allow` and `outbound.deny` let it reach, and nothing else."""

    async def send(self, call: Call) -> HttpAnswer:
        """Carry out one call. Any status is an answer; raises OutboundError, whose `step_error()` fails a step well."""


@dataclass(frozen=True, slots=True)
class PluginResources:
    """What the engine lends to the node types of a plug-in. It works while the daemon runs, not before."""

    http: HttpClient


@runtime_checkable
class WalkNode(Protocol):
    """A node of kind walk: the engine's own scopes and joins, which have no code of their own."""

    @property
    def spec(self) -> NodeSpec:
        """The description of the type."""
