"""Which nodes a scope owns: the division of a graph into parts, nested to any depth.

A scope (loop, parallel, try, retry, circuit_breaker) owns what is reached from its entry edges and not from its exits.
Each of its bodies is a part: a graph of its own, in which the scopes inside it are nodes. The top is part 0.

Entry labels: `body` (loop, retry, circuit_breaker); `try`, `catch`, `finally`; the name of a branch (parallel, where an
edge without a label is the branch of its target's id). `done`, `error` and all other labels lead out. Where no edge
has an entry label, the first one without a label is the body. The config of a try or parallel may list the nodes of its
bodies instead; they run in sequence where no edge joins them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from gorax_engine.core.model import Json

SCOPES: Final = frozenset({"loop", "parallel", "try", "retry", "circuit_breaker"})
CATCH: Final = "catch"
EXITS: Final = ("done", "error")
_HANDLER: Final = "\0catch "
"""Begins the label of the edges to a handler that the config lists; its number follows."""

Report = Callable[[str, int | None, int | None, str], None]
"""Takes a fault: its code, the place of the edge or of the node in their lists, and the sentence."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """What the division must know of a node."""

    id: str
    type: str
    config: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """An edge by places in the list of nodes. `at` is its place in the list of edges, None for one that is implied."""

    source: int
    target: int
    label: str | None
    at: int | None


@dataclass(slots=True)
class Part:
    """One body: `owner` is the scope's node (None at the top), `name` which of its bodies, `handler` which catch."""

    number: int
    owner: int | None
    name: str
    parent: int
    handler: int = 0
    members: list[int] = field(default_factory=list)
    edges: list[GraphEdge] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Structure:
    """The division: the parts, which part each node is in, and the parts of each scope by its node."""

    parts: tuple[Part, ...]
    part_of: tuple[int, ...]
    bodies: Mapping[int, tuple[Part, ...]]

    def chain(self, node: int) -> list[int]:
        """Return the node and the scopes around it, from the outermost inwards."""
        chain = [node]
        while (owner := self.parts[self.part_of[chain[-1]]].owner) is not None:
            chain.append(owner)
        return chain[::-1]


def imply(nodes: Sequence[GraphNode], edges: Sequence[GraphEdge], report: Report) -> list[GraphEdge]:
    """Return the edges and those that configs imply: a scope leads to the nodes that it lists, one after the other."""
    index = {node.id: at for at, node in enumerate(nodes)}
    implied = list(edges)
    for at, node in enumerate(nodes):
        for label, where, ids in _lists(node):
            listed = []
            for name in ids:
                found = index.get(name) if isinstance(name, str) else None
                if found is None:
                    report("unknown_reference", None, at, f"`{where}` of `{node.id}` lists `{name}`, which is no node.")
                else:
                    listed.append(found)
            implied += _sequence(at, label, listed, edges)
    return implied


def topological_order(count: int, edges: Iterable[GraphEdge]) -> list[int] | None:
    """Return the nodes, each after all that lead to it; None if some go in circles."""
    waiting = [0] * count
    out: list[list[int]] = [[] for _ in range(count)]
    for edge in edges:
        waiting[edge.target] += 1
        out[edge.source].append(edge.target)
    order = [node for node in range(count) if waiting[node] == 0]
    for node in order:  # grows while it is gone through
        for target in out[node]:
            waiting[target] -= 1
            if waiting[target] == 0:
                order.append(target)
    return order if len(order) == count else None


def divide(nodes: Sequence[GraphNode], edges: Iterable[GraphEdge], order: Sequence[int], report: Report) -> Structure:
    """Divide a graph without cycles, whose edges came from `imply`; `order` is its topological order.

    Faults (`scope_leak`, `invalid_config`) and ignored edges (`edge_ignored`, a warning) are told to `report`. What is
    returned is sound for a graph without faults.
    """
    division = _Division(nodes, edges, report)
    for node in order:
        if nodes[node].type in SCOPES:
            division.divide(node)
    return division.finish()


def _lists(node: GraphNode) -> list[tuple[str, str, list[Json]]]:
    """Return what a scope's config lists: the label of the entry, the config key, and the ids."""
    config = node.config
    match node.type:
        case "parallel":
            found = [(branch["name"], "branches", branch.get("nodes")) for branch in config.get("branches") or []]
        case "try":
            found = [
                ("try", "try_nodes", config.get("try_nodes")),
                *(
                    (f"{_HANDLER}{at}", "catches", one.get("nodes"))
                    for at, one in enumerate(config.get("catches") or [])
                ),
                (CATCH, "catch_nodes", config.get("catch_nodes")),
                ("finally", "finally_nodes", config.get("finally_nodes")),
            ]
        case _:
            return []
    return [(label, where, ids) for label, where, ids in found if ids]


def _sequence(scope: int, label: str, listed: Sequence[int], edges: Sequence[GraphEdge]) -> list[GraphEdge]:
    """Let listed nodes follow each other where no edge joins them, and the scope lead to those that follow none."""
    among = set(listed)
    inner = [(edge.source, edge.target) for edge in edges if edge.source in among and edge.target in among]
    lead, led = {source for source, _ in inner}, {target for _, target in inner}
    steps: list[tuple[int, int]] = []
    for first, second in pairwise(listed):
        if first not in lead and second not in led and not _leads_to(second, first, inner):
            steps.append((first, second))
            inner.append((first, second))
    led |= {target for _, target in steps}
    entries = [GraphEdge(scope, node, label, None) for node in dict.fromkeys(listed) if node not in led]
    return [*entries, *(GraphEdge(source, target, None, None) for source, target in steps)]


def _leads_to(start: int, end: int, edges: Sequence[tuple[int, int]]) -> bool:
    """Say whether a way of edges leads from one node to another, or they are the same."""
    found = {start}
    grew = any(source == start for source, _ in edges)
    while grew and end not in found:
        more = {target for source, target in edges if source in found} - found
        found |= more
        grew = bool(more)
    return end in found


@dataclass(slots=True)
class _Body:
    """A body of a scope on its way to become a part: where it is entered."""

    name: str
    entries: list[int] = field(default_factory=list)
    handler: int = 0


class _Division:
    def __init__(self, nodes: Sequence[GraphNode], edges: Iterable[GraphEdge], report: Report) -> None:
        self.nodes = nodes
        self.report = report
        self.parts = [Part(0, None, "", 0)]
        self.part_of = [0] * len(nodes)
        self.bodies: dict[int, tuple[Part, ...]] = {}
        self.robbed: set[int] = set()  # sources of edges that leak: if one is a scope, its body may be empty for that
        self.out: list[list[GraphEdge]] = [[] for _ in nodes]
        for edge in edges:
            self.out[edge.source].append(edge)

    def finish(self) -> Structure:
        for node, part in enumerate(self.part_of):
            self.parts[part].members.append(node)
        for edges in self.out:
            for edge in edges:
                if self.part_of[edge.source] == self.part_of[edge.target]:
                    self.parts[self.part_of[edge.source]].edges.append(edge)
        return Structure(tuple(self.parts), tuple(self.part_of), self.bodies)

    def divide(self, scope: int) -> None:
        """Find the bodies of one scope; those of the scopes around it are known."""
        around = self.part_of[scope]
        bodies, exits = self._entries(scope)
        within = {node for node, part in enumerate(self.part_of) if part == around}
        outside = self._reached(exits, within)
        found: list[Part] = []
        for body in bodies:
            reached = self._reached(body.entries, within) - outside - {scope}
            part = Part(len(self.parts), scope, body.name, around, body.handler)
            self.parts.append(part)
            found.append(part)
            taken = [node for node in sorted(reached) if self.part_of[node] != around]
            for node in taken:
                self._leak(None, node, f"Node `{self.nodes[node].id}` is in two bodies of `{self.nodes[scope].id}`")
            for node in reached.difference(taken):
                self.part_of[node] = part.number
            if not reached and scope not in self.robbed:
                self.report(
                    "invalid_config", None, scope,
                    f"The {body.name if body.name == 'body' else f'body `{body.name}`'} of `{self.nodes[scope].id}` is "
                    "empty: let an edge lead to its first node.",
                )  # fmt: skip
        if not bodies:
            message = f"`{self.nodes[scope].id}` has no branches: let an edge lead to the first node of each."
            self.report("invalid_config", None, scope, message)
        self.bodies[scope] = tuple(found)
        self._cut(scope, around, outside)

    def _cut(self, scope: int, around: int, outside: set[int]) -> None:
        """Take the edges away that cross the border of the scope's bodies; only its entries may."""
        own = {part.number for part in self.bodies[scope]}
        for source, edges in enumerate(self.out):
            kept = []
            for edge in edges:
                here, there = self.part_of[source], self.part_of[edge.target]
                if here == there or (here not in own and there not in own):
                    kept.append(edge)
                elif source == scope:
                    pass  # an entry: it says what the body is
                elif here in own and edge.target in outside and there == around:
                    self.report(
                        "edge_ignored", edge.at, None,
                        f"This edge leads out of `{self.nodes[scope].id}` past its exit, and is ignored: what comes "
                        "after the scope begins when all of it has ended.",
                    )  # fmt: skip
                else:
                    inside = self.nodes[source if here in own else edge.target].id
                    self.robbed.add(source)
                    self._leak(
                        edge.at,
                        None,
                        f"This edge crosses the border of `{self.nodes[scope].id}`, which `{inside}` is in",
                    )
            self.out[source] = kept

    def _leak(self, edge: int | None, node: int | None, what: str) -> None:
        mend = "lead into a scope by its entries alone, and out of it by an edge labelled `done` from the scope itself."
        self.report("scope_leak", edge, node, f"{what}: {mend}")

    def _reached(self, starts: Iterable[int], within: set[int]) -> set[int]:
        found = {node for node in starts if node in within}
        pending = list(found)
        while pending:
            for edge in self.out[pending.pop()]:
                if edge.target in within and edge.target not in found:
                    found.add(edge.target)
                    pending.append(edge.target)
        return found

    def _entries(self, scope: int) -> tuple[list[_Body], list[int]]:
        """Return the bodies of a scope by their entries, and the targets of its exits."""
        node = self.nodes[scope]
        match node.type:
            case "parallel":
                return self._branches(scope)
            case "try":
                return self._tries(scope)
            case _:
                body = _Body("body")
                exits = self._sort_edges(scope, {"body": body}, body)
                return [body], exits

    def _sort_edges(self, scope: int, bodies: Mapping[str, _Body], main: _Body) -> list[int]:
        """Give edges with entry labels to their bodies; if `main` gets none, the first unlabelled one is its entry."""
        exits: list[int] = []
        bare: list[int] = []
        for edge in self.out[scope]:
            if edge.label in bodies:
                bodies[edge.label or ""].entries.append(edge.target)
            elif edge.label is None:
                bare.append(edge.target)
            else:
                exits.append(edge.target)
        if bare and not main.entries:
            main.entries.append(bare.pop(0))
        return exits + bare

    def _branches(self, scope: int) -> tuple[list[_Body], list[int]]:
        names = [branch["name"] for branch in self.nodes[scope].config.get("branches") or []]
        bodies = {name: _Body(name) for name in names}
        listed = {edge.target for edge in self.out[scope] if edge.at is None}
        exits: list[int] = []
        for edge in self.out[scope]:
            if edge.label in EXITS or (listed and edge.label not in bodies and edge.target not in listed):
                exits.append(edge.target)
            elif edge.label is None and edge.target in listed:
                pass  # the config says which branch it belongs to
            else:
                name = edge.label or self.nodes[edge.target].id
                bodies.setdefault(name, _Body(name)).entries.append(edge.target)
        return list(bodies.values()), exits

    def _tries(self, scope: int) -> tuple[list[_Body], list[int]]:
        config = self.nodes[scope].config
        handlers = [_Body(CATCH, handler=number) for number, _ in enumerate(config.get("catches") or [])]
        main, final, rest = _Body("try"), _Body("finally"), _Body(CATCH)
        labels = {"try": main, "finally": final, CATCH: rest}
        labels.update((f"{_HANDLER}{body.handler}", body) for body in handlers)
        exits = self._sort_edges(scope, labels, main)
        waiting = list(rest.entries)
        for body in handlers:
            if not body.entries and waiting:
                body.entries.append(waiting.pop(0))
        plain = _Body(CATCH)
        for node in waiting:
            if self.nodes[node].type == CATCH:
                handlers.append(_Body(CATCH, [node], len(handlers)))
            else:
                plain.entries.append(node)
        if plain.entries:
            plain.handler = len(handlers)
            handlers.append(plain)
        return [main, *handlers, *([final] if final.entries else [])], exits
