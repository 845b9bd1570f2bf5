"""Compiling a definition to an immutable plan: numbered nodes and edges, compiled templates, resolved policies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gorax_engine.core.config_template import ConfigTemplate, compile_condition, compile_config, compile_value
from gorax_engine.core.expressions import Expression, ExpressionSyntaxError, Reference
from gorax_engine.core.model import (
    Definition,
    InDoubt,
    Micros,
    Node,
    NodeKind,
    NodeSpec,
    OnError,
    RetryPolicy,
    StepKey,
    WorkflowSettings,
)
from gorax_engine.errors import InvalidDefinition, Problem

ERROR_LABEL = "error"
"""The label of the edges that are live when a node fails."""


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """An edge by node numbers. `label` is None where a label is decoration (types without outcomes, except `error`)."""

    index: int
    source: int
    target: int
    label: str | None


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node ready to run. `incoming` counts its incoming edges; `out` are its outgoing edges in order.

    `key` is its step at the top of a run.
    """

    index: int
    id: str
    key: StepKey
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
    """A compiled workflow version. `index` finds a node's number by its id; `triggers` are the trigger nodes.

    `reads_env` says whether any expression of it looks at `env`, which is not made for runs that don't.
    """

    nodes: tuple[PlanNode, ...]
    edges: tuple[PlanEdge, ...]
    index: Mapping[str, int]
    triggers: tuple[int, ...]
    output: ConfigTemplate | None
    settings: WorkflowSettings
    reads_env: bool


def compile_plan(definition: Definition, specs: Mapping[str, NodeSpec]) -> Plan:
    """Compile a definition that `reading.py` accepted.

    Raises InvalidDefinition if a node's type is not in `specs` (a plug-in that is gone) or a template of it no longer
    parses.
    """
    index = {node.id: number for number, node in enumerate(definition.nodes)}
    node_specs = tuple(_spec_of(node, specs) for node in definition.nodes)
    outcomes = tuple(spec.outcomes(node.config) for node, spec in zip(definition.nodes, node_specs, strict=True))
    edges = tuple(
        PlanEdge(
            index=number,
            source=index[edge.source],
            target=index[edge.target],
            label=edge.label if edge.label == ERROR_LABEL or outcomes[index[edge.source]] else None,
        )
        for number, edge in enumerate(definition.edges)
    )
    incoming = [0] * len(index)
    outgoing: list[list[PlanEdge]] = [[] for _ in index]
    for edge in edges:
        incoming[edge.target] += 1
        outgoing[edge.source].append(edge)
    steps = frozenset(index)
    nodes = tuple(
        _compile_node(
            node,
            node_specs[number],
            steps,
            index=number,
            outcomes=outcomes[number],
            incoming=incoming[number],
            out=tuple(outgoing[number]),
        )
        for number, node in enumerate(definition.nodes)
    )
    output = compile_value(definition.output, steps) if definition.has_output else None
    return Plan(
        nodes=nodes,
        edges=edges,
        index=index,
        triggers=tuple(node.index for node in nodes if node.kind is NodeKind.TRIGGER),
        output=output,
        settings=definition.settings,
        reads_env=any(reference.root == "env" for reference in _references(nodes, output)),
    )


def _references(nodes: tuple[PlanNode, ...], output: ConfigTemplate | None) -> Iterator[Reference]:
    for node in nodes:
        yield from node.config.references
        if node.when is not None:
            yield from node.when.references
    if output is not None:
        yield from output.references


def _spec_of(node: Node, specs: Mapping[str, NodeSpec]) -> NodeSpec:
    spec = specs.get(node.type)
    if spec is None:
        raise InvalidDefinition(
            [Problem("unknown_type", "", f"Node `{node.id}` has the type `{node.type}`, which is not installed here.")]
        )
    return spec


def _compile_node(
    node: Node,
    spec: NodeSpec,
    steps: frozenset[str],
    *,
    index: int,
    outcomes: tuple[str, ...],
    incoming: int,
    out: tuple[PlanEdge, ...],
) -> PlanNode:
    try:
        config = compile_config(node.config, spec.schema, steps)
        when = None if node.when is None else compile_condition(node.when, steps)
    except ExpressionSyntaxError as error:
        problem = Problem("invalid_expression", "", f"Node `{node.id}`: {error.message}")
        raise InvalidDefinition([problem]) from error
    return PlanNode(
        index=index,
        id=node.id,
        key=StepKey(node.id),
        type=node.type,
        kind=spec.kind,
        config=config,
        when=when,
        incoming=incoming,
        out=out,
        outcomes=outcomes,
        has_error_edge=any(edge.label == ERROR_LABEL for edge in out),
        retry=spec.retry if node.retry is None else node.retry,
        timeout=node.timeout,
        on_error=node.on_error,
        in_doubt=node.in_doubt,
    )


def trigger_of(plan: Plan, named: str | None, trigger_type: str) -> str:
    """Return the trigger node of a start: the named one, else the first of the fitting type, else the first."""
    if named is not None and named in plan.index:
        return named
    if len(plan.triggers) == 1:
        return plan.nodes[plan.triggers[0]].id
    fitting = {"webhook": "webhook_trigger", "schedule": "schedule_trigger", "event": "event_trigger"}.get(
        trigger_type, "manual_trigger"
    )
    nodes = [plan.nodes[index] for index in plan.triggers]
    return next((node.id for node in nodes if node.type == fitting), nodes[0].id)
