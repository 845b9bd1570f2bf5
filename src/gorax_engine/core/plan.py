"""Compiling a definition to an immutable plan: bodies of numbered nodes, compiled templates, resolved policies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gorax_engine.core.breaker import BreakerPolicy
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
from gorax_engine.core.scopes import ScopePlan, TryPlan, compile_scope
from gorax_engine.core.structure import SCOPES, GraphEdge, GraphNode, Part, Structure, divide, imply, topological_order
from gorax_engine.errors import InvalidDefinition, Problem

ERROR_LABEL = "error"
"""The label of the edges that are live when a node fails."""


@dataclass(frozen=True, slots=True)
class PlanEdge:
    """An edge by the numbers of its nodes in their body.

    `label` is None where a label is decoration (types without outcomes, except `error`).
    """

    source: int
    target: int
    label: str | None


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node ready to run. `index` is its number in `body`; `out` are its outgoing edges there, in order.

    `incoming` counts its incoming edges; `key` is its step at the top of a run. `scope` is what the walk does itself.
    `unhandled` maps outcomes that no edge names to the error
    codes with which the step then fails. `breaker` is the circuit breaker around its attempts, by name.
    """

    index: int
    body: int
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
    scope: ScopePlan | None
    unhandled: Mapping[str, str]
    has_effects: bool
    sees_roots: bool
    credentials: frozenset[str]
    breaker: tuple[str, BreakerPolicy] | None


@dataclass(frozen=True, slots=True)
class Body:
    """A graph of its own: the top of the workflow (number 0), or what a scope runs. `entries` lead it.

    `incoming` counts the incoming edges of its nodes, `sources` says where each of them comes from.
    """

    number: int
    nodes: tuple[PlanNode, ...]
    incoming: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled workflow version. `nodes` are all nodes by their ids; `triggers` the ids of the trigger nodes.

    `reads_env` says whether any expression of it looks at `env`, which is not made for runs that don't; `unwinds`
    whether something in it must run before a run may end early (`finally`).
    """

    nodes: Mapping[str, PlanNode]
    bodies: tuple[Body, ...]
    triggers: tuple[str, ...]
    output: ConfigTemplate | None
    settings: WorkflowSettings
    reads_env: bool
    unwinds: bool

    @property
    def top(self) -> Body:
        """The graph of the workflow itself, in which scopes are single nodes."""
        return self.bodies[0]


def compile_plan(definition: Definition, specs: Mapping[str, NodeSpec]) -> Plan:
    """Compile a definition that `reading` accepted.

    Raises InvalidDefinition if a node's type is not in `specs` (a plug-in that is gone), a template of it no longer
    parses, or its graph can't be divided into scopes.
    """
    node_specs = [_spec_of(node, specs) for node in definition.nodes]
    structure = _divide(definition)
    compiler = _Compiler(definition, node_specs, structure)
    bodies = tuple(compiler.body(part) for part in structure.parts)
    nodes = {node.id: node for body in bodies for node in body.nodes}
    output = compile_value(definition.output, compiler.steps) if definition.has_output else None
    return Plan(
        nodes=nodes,
        bodies=bodies,
        triggers=tuple(node.id for node in bodies[0].nodes if node.kind is NodeKind.TRIGGER),
        output=output,
        settings=definition.settings,
        reads_env=any(reference.root == "env" for reference in _references(bodies, output))
        or any(node.sees_roots for node in nodes.values()),
        unwinds=any(isinstance(node.scope, TryPlan) and node.scope.final is not None for node in nodes.values()),
    )


def _divide(definition: Definition) -> Structure:
    index = {node.id: at for at, node in enumerate(definition.nodes)}
    nodes = [GraphNode(node.id, node.type, node.config) for node in definition.nodes]
    edges = [
        GraphEdge(index[edge.source], index[edge.target], edge.label, at) for at, edge in enumerate(definition.edges)
    ]
    faults: list[Problem] = []

    def report(code: str, _edge: int | None, _node: int | None, message: str) -> None:
        if code != "edge_ignored":
            faults.append(Problem(code, "", message))

    edges = imply(nodes, edges, report)
    order = topological_order(len(nodes), edges)
    if order is None:
        faults.append(Problem("cycle", "", "The nodes go in circles."))
    structure = divide(nodes, edges, order or range(len(nodes)), report)
    if faults:
        raise InvalidDefinition(faults)
    return structure


def _references(bodies: Sequence[Body], output: ConfigTemplate | None) -> Iterator[Reference]:
    for body in bodies:
        for node in body.nodes:
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


class _Compiler:
    """One compilation: turns the parts of a structure into bodies."""

    def __init__(self, definition: Definition, specs: Sequence[NodeSpec], structure: Structure) -> None:
        self.steps = frozenset(node.id for node in definition.nodes)
        self._nodes = definition.nodes
        self._specs = specs
        self._structure = structure
        self._configs = [self._compiled(node, spec) for node, spec in zip(definition.nodes, specs, strict=True)]
        self._unknown = frozenset(
            str(reference.path[0])
            for config, when in self._configs
            for reference in (*config.references, *(() if when is None else when.references))
            if reference.root == "steps" and reference.path and reference.path[0] not in self.steps
        )

        self._reopening = {
            scope
            for at, node in enumerate(definition.nodes)
            if node.type == "retry" or (node.type in SCOPES and node.retry is not None and node.retry.max_attempts > 1)
            for scope in structure.chain(at)[:-1]
        }

    def _compiled(self, node: Node, spec: NodeSpec) -> tuple[ConfigTemplate, Expression | None]:
        try:
            config = compile_config(node.config, spec.schema, self.steps)
            return config, None if node.when is None else compile_condition(node.when, self.steps)
        except ExpressionSyntaxError as error:
            raise _unreadable(node, error) from error

    def body(self, part: Part) -> Body:
        local = {member: at for at, member in enumerate(part.members)}
        outgoing: list[list[PlanEdge]] = [[] for _ in local]
        sources: list[list[int]] = [[] for _ in local]
        for edge in part.edges:
            outgoing[local[edge.source]].append(self._edge(edge, local))
            sources[local[edge.target]].append(local[edge.source])
        nodes = tuple(
            self._node(member, part, index=at, incoming=len(sources[at]), out=tuple(outgoing[at]))
            for at, member in enumerate(part.members)
        )
        entries = tuple(node.index for node in nodes if node.incoming == 0)
        incoming = tuple(node.incoming for node in nodes)
        return Body(part.number, nodes, incoming, tuple(map(tuple, sources)), entries)

    def _edge(self, edge: GraphEdge, local: Mapping[int, int]) -> PlanEdge:
        node, spec = self._nodes[edge.source], self._specs[edge.source]
        label = edge.label
        if label != ERROR_LABEL:
            label = (label or spec.main_outcome or None) if spec.outcomes(node.config) else None
        return PlanEdge(local[edge.source], local[edge.target], label)

    def _node(self, at: int, part: Part, *, index: int, incoming: int, out: tuple[PlanEdge, ...]) -> PlanNode:
        node, spec = self._nodes[at], self._specs[at]
        config, when = self._configs[at]
        scope = None
        if spec.kind is NodeKind.WALK:
            parts = self._structure.bodies.get(at, ())
            try:
                scope = compile_scope(
                    node, parts, self._nodes, self.steps, self._unknown, reopens=at in self._reopening
                )
            except ExpressionSyntaxError as error:
                raise _unreadable(node, error) from error
        named = {edge.label for edge in out}
        return PlanNode(
            index=index,
            body=part.number,
            id=node.id,
            key=StepKey(node.id),
            type=node.type,
            kind=spec.kind,
            config=config,
            when=when,
            incoming=incoming,
            out=out,
            outcomes=spec.outcomes(node.config),
            has_error_edge=ERROR_LABEL in named,
            retry=spec.retry if node.retry is None else node.retry,
            timeout=node.timeout,
            on_error=node.on_error,
            in_doubt=node.in_doubt,
            scope=scope,
            unhandled={outcome: code for outcome, code in spec.unhandled.items() if outcome not in named},
            has_effects=spec.has_effects,
            sees_roots=spec.sees_roots,
            breaker=None
            if node.circuit_breaker is None
            else (node.circuit_breaker.get("name") or node.id, BreakerPolicy.read(node.circuit_breaker)),
            credentials=config.credential_names,
        )


def _unreadable(node: Node, error: ExpressionSyntaxError) -> InvalidDefinition:
    return InvalidDefinition([Problem("invalid_expression", "", f"Node `{node.id}`: {error.message}")])


def trigger_of(plan: Plan, named: str | None, trigger_type: str) -> str:
    """Return the trigger node of a start: the named one, else the first of the fitting type, else the first."""
    if named is not None and named in plan.nodes:
        return named
    if len(plan.triggers) == 1:
        return plan.triggers[0]
    fitting = {
        "webhook": "webhook_trigger",
        "webhook_replay": "webhook_trigger",
        "schedule": "schedule_trigger",
        "backfill": "schedule_trigger",
        "event": "event_trigger",
    }.get(trigger_type, "manual_trigger")
    return next((node for node in plan.triggers if plan.nodes[node].type == fitting), plan.triggers[0])
