"""Compiling a definition to an immutable plan: numbered nodes and edges, compiled templates, resolved policies."""

from collections.abc import Mapping
from dataclasses import dataclass

from gorax_engine.core.expressions import Expression
from gorax_engine.core.config_template import ConfigTemplate
from gorax_engine.core.model import InDoubt, Micros, NodeKind, OnError, RetryPolicy, WorkflowSettings


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """An edge by node numbers. `label` is None where a label is decoration (types without outcomes, except `error`)."""

    index: int
    source: int
    target: int
    label: str | None


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node ready to run. `incoming` counts its incoming edges; `out` are its outgoing edges in order."""

    index: int
    id: str
    type: str
    kind: NodeKind
    config: ConfigTemplate
    when: Expression | None
    incoming: int
    out: tuple[PlanEdge, ...]
    outcomes: tuple[str, ...]
    has_error_edge: bool
    retry: RetryPolicy
    timeout: Micros | None
    on_error: OnError
    in_doubt: InDoubt


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled workflow version. `index` finds a node's number by its id; `triggers` are the trigger nodes."""

    nodes: tuple[PlanNode, ...]
    edges: tuple[PlanEdge, ...]
    index: Mapping[str, int]
    triggers: tuple[int, ...]
    output: ConfigTemplate | None
    settings: WorkflowSettings
