"""Checks of a definition as a whole: ids, edges, cycles, reachability, and what its expressions refer to."""

from collections.abc import Iterable, Mapping, Sequence

from gorax_engine.core.config_template import Site
from gorax_engine.core.model import NodeKind
from gorax_engine.core.reading.document import Report
from gorax_engine.core.reading.drafts import DraftEdge, DraftNode
from gorax_engine.core.reading.references import ReferenceCheck
from gorax_engine.core.schemas import Path
from gorax_engine.core.structure import GraphEdge, GraphNode, Structure, divide, imply, topological_order
from gorax_engine.core.validation import nearest


def check_graph(
    nodes: Sequence[DraftNode], edges: Sequence[DraftEdge], output_sites: Sequence[Site], report: Report
) -> None:
    """Report all faults that are not of one node or edge alone."""
    index: dict[str, int] = {}
    for node in nodes:
        if node.id is not None and index.setdefault(node.id, node.at) != node.at:
            message = f"The id `{node.id}` is taken by node {index[node.id] + 1} of the list: rename one of them."
            report.problem("duplicate_id", ("nodes", node.at, "id"), message)
    has_trigger = any(node.spec is not None and node.spec.kind is NodeKind.TRIGGER for node in nodes)
    if nodes and not has_trigger:
        report.problem("no_trigger", ("nodes",), "There is no trigger: add a node such as `webhook_trigger`.")
    links = _check_edges(edges, index, report)
    graph = _Graph(len(nodes), links)
    if graph.ancestors() is None:
        for cycle in graph.cycles():
            names = " → ".join(f"`{nodes[links[at].source].id}`" for at in (*cycle, cycle[0]))
            message = f"These nodes wait for each other: {names}. Remove one of the edges."
            report.problem("cycle", ("edges", links[cycle[-1]].at or 0), message)
    links, structure = _divide(nodes, links, report)
    graph = _Graph(len(nodes), links)
    reachable = graph.reachable(
        node.at for node in nodes if node.spec is not None and node.spec.kind is NodeKind.TRIGGER
    )
    for node in nodes:
        if has_trigger and node.at not in reachable and node.spec is not None:
            message = f"No way leads from a trigger to node `{node.id}`, so it never runs: connect or remove it."
            report.warning("unreachable", ("nodes", node.at), message)
        if structure is not None:
            _check_place(node, structure, report)
    references = ReferenceCheck(nodes, index, graph.ancestors(), reachable, structure, report)
    for node in nodes:
        for site in node.sites:
            references.check(site, ("nodes", node.at, "config", *site.path), node)
        if node.when_site is not None:
            references.check(node.when_site, ("nodes", node.at, "when"), node)
    for site in output_sites:
        references.check(site, ("output", *site.path), None)


def _divide(
    nodes: Sequence[DraftNode], links: list[GraphEdge], report: Report
) -> tuple[list[GraphEdge], Structure | None]:
    """Divide the graph into scopes; return the edges with those that configs imply, and the division, if it has one."""

    def tell(code: str, edge: int | None, node: int | None, message: str) -> None:
        path: Path = ("edges", edge) if edge is not None else ("nodes", node or 0)
        if code == "edge_ignored":
            report.warning(code, path, message)
        else:
            report.problem(code, path, message)

    graph = [GraphNode(node.id or "", node.type or "", (node.config or {}) if node.is_valid else {}) for node in nodes]
    implied = imply(graph, links, tell)
    order = topological_order(len(graph), implied)
    if order is None:
        if topological_order(len(graph), links) is not None:
            report.problem("cycle", ("nodes",), "A scope lists nodes that lead back to each other: correct its list.")
        return implied, None
    return implied, divide(graph, implied, order, tell)


def _check_place(node: DraftNode, structure: Structure, report: Report) -> None:
    """Refuse a trigger inside a scope, and a join that needs more arrivals than there are ways to it."""
    config = node.config or {}
    part = structure.parts[structure.part_of[node.at]]
    if node.spec is not None and node.spec.kind is NodeKind.TRIGGER and part.owner is not None:
        message = f"Trigger `{node.id}` is in a scope, where no run can start: remove the edge that leads to it."
        report.problem("scope_leak", ("nodes", node.at), message)
    if node.type != "join" or not node.is_valid or config.get("join_strategy") != "wait_n":
        return
    incoming = sum(edge.target == node.at for edge in part.edges)
    if config.get("required_count", 0) > incoming:
        message = (
            f"This join waits for {config['required_count']} arrivals, but the edges that lead to it are {incoming}: "
            "lower `required_count`, or connect more branches."
        )
        report.problem("invalid_config", ("nodes", node.at, "config", "required_count"), message)


def _check_edges(edges: Sequence[DraftEdge], index: Mapping[str, int], report: Report) -> list[GraphEdge]:
    """Report faulty edges; return the sound ones."""
    links: list[GraphEdge] = []
    ids: dict[str, int] = {}
    seen: dict[tuple[str | None, str | None, str | None], int] = {}
    for edge in edges:
        if edge.id is not None and ids.setdefault(edge.id, edge.at) != edge.at:
            message = f"The id `{edge.id}` is taken by edge {ids[edge.id] + 1} of the list: rename one of them."
            report.problem("duplicate_id", ("edges", edge.at, "id"), message)
        for key, end in (("source", edge.source), ("target", edge.target)):
            if end is not None and end not in index:
                similar = nearest(end, index)
                hint = f"did you mean `{similar[0]}`?" if similar else "correct it or remove the edge."
                message = f"There is no node with the id `{end[:255]}`: {hint}"
                report.problem("edge_to_nowhere", ("edges", edge.at, key), message)
        if edge.source is None or edge.target is None or edge.source not in index or edge.target not in index:
            continue
        first = seen.setdefault((edge.source, edge.target, edge.label), edge.at)
        if first != edge.at:
            message = f"Edge {first + 1} of the list has the same source, target and label: remove one of them."
            report.problem("duplicate_edge", ("edges", edge.at), message)
        links.append(GraphEdge(index[edge.source], index[edge.target], edge.label, edge.at))
    return links


class _Graph:
    """Nodes by number and the links between them."""

    def __init__(self, size: int, links: Sequence[GraphEdge]) -> None:
        self._size = size
        self._links = links
        self._out: list[list[int]] = [[] for _ in range(size)]  # numbers of links by source
        for number, link in enumerate(links):
            self._out[link.source].append(number)

    def ancestors(self) -> list[int] | None:
        """Return for each node the set of those that come before it, as bits; None if there is a cycle."""
        waiting = [0] * self._size
        for link in self._links:
            waiting[link.target] += 1
        before = [0] * self._size
        ready = [node for node in range(self._size) if waiting[node] == 0]
        for node in ready:  # grows while it is gone through
            for number in self._out[node]:
                target = self._links[number].target
                before[target] |= before[node] | 1 << node
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
        return before if len(ready) == self._size else None

    def reachable(self, roots: Iterable[int]) -> set[int]:
        """Return the nodes that some way leads to from `roots`, with the roots."""
        pending = list(roots)
        found = set(pending)
        while pending:
            for number in self._out[pending.pop()]:
                target = self._links[number].target
                if target not in found:
                    found.add(target)
                    pending.append(target)
        return found

    def cycles(self) -> list[list[int]]:
        """Return one cycle, as numbers of links in order, for each back link of a depth-first search."""
        found: list[list[int]] = []
        done: set[int] = set()
        for root in range(self._size):
            if root in done:
                continue
            trail: list[int] = []  # links from the root to the node at hand
            depth_of = {root: 0}
            pending = [iter(self._out[root])]
            while pending:
                number = next(pending[-1], None)
                if number is None:
                    pending.pop()
                    node = self._links[trail.pop()].target if trail else root
                    depth_of.pop(node)
                    done.add(node)
                    continue
                target = self._links[number].target
                if target in depth_of:
                    found.append([*trail[depth_of[target] :], number])
                elif target not in done:
                    trail.append(number)
                    depth_of[target] = len(trail)
                    pending.append(iter(self._out[target]))
        return found
