"""Checks of a definition as a whole: ids, edges, cycles, reachability, and what its expressions refer to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gorax_engine.core.config_template import Site
from gorax_engine.core.expressions import Reference
from gorax_engine.core.model import Edge, InDoubt, Json, Micros, Node, NodeKind, NodeSpec, OnError, RetryPolicy
from gorax_engine.core.reading.document import Report
from gorax_engine.core.schemas import Path
from gorax_engine.core.validation import nearest

ROOTS: Final = ("trigger", "steps", "env", "vars", "credentials")
ENV_KEYS: Final = ("tenant_id", "execution_id", "workflow_id", "workflow_version", "started_at")


@dataclass(slots=True)
class DraftNode:
    """A node as far as it could be read. `is_valid` says that its config fits its type, so that outcomes are known."""

    at: int
    id: str | None = None
    type: str | None = None
    spec: NodeSpec | None = None
    name: str = ""
    config: dict[str, Json] | None = None
    is_valid: bool = False
    outcomes: tuple[str, ...] = ()
    sites: tuple[Site, ...] = ()
    when: str | None = None
    when_site: Site | None = None
    retry: RetryPolicy | None = None
    timeout: Micros | None = None
    on_error: OnError = OnError.FAIL
    in_doubt: InDoubt = InDoubt.RETRY

    def finish(self) -> Node:
        """Return the node; only for one without problems."""
        if self.id is None or self.type is None or self.config is None:
            raise ValueError("the node could not be read")
        return Node(
            id=self.id,
            type=self.type,
            name=self.name or self.id,
            config=self.config,
            retry=self.retry,
            timeout=self.timeout,
            on_error=self.on_error,
            in_doubt=self.in_doubt,
            when=self.when,
        )


@dataclass(frozen=True, slots=True)
class DraftEdge:
    """An edge as far as it could be read."""

    at: int
    id: str | None
    source: str | None
    target: str | None
    label: str | None

    def finish(self) -> Edge:
        """Return the edge; only for one without problems."""
        if self.id is None or self.source is None or self.target is None:
            raise ValueError("the edge could not be read")
        return Edge(self.id, self.source, self.target, self.label)


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
    ancestors = graph.ancestors()
    if ancestors is None:
        for cycle in graph.cycles():
            names = " → ".join(f"`{nodes[links[at][0]].id}`" for at in (*cycle, cycle[0]))
            message = f"These nodes wait for each other: {names}. Remove one of the edges."
            report.problem("cycle", ("edges", links[cycle[-1]][2]), message)
    reachable = graph.reachable(
        node.at for node in nodes if node.spec is not None and node.spec.kind is NodeKind.TRIGGER
    )
    for node in nodes:
        if has_trigger and node.at not in reachable and node.spec is not None:
            message = f"No way leads from a trigger to node `{node.id}`, so it never runs: connect or remove it."
            report.warning("unreachable", ("nodes", node.at), message)
    references = _ReferenceCheck(index, ancestors, reachable, report)
    for node in nodes:
        for site in node.sites:
            references.check(site, ("nodes", node.at, "config", *site.path), node)
        if node.when_site is not None:
            references.check(node.when_site, ("nodes", node.at, "when"), node)
    for site in output_sites:
        references.check(site, ("output", *site.path), None)


def _check_edges(edges: Sequence[DraftEdge], index: Mapping[str, int], report: Report) -> list[tuple[int, int, int]]:
    """Report faulty edges; return the sound ones as (source, target, place in the list)."""
    links: list[tuple[int, int, int]] = []
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
        links.append((index[edge.source], index[edge.target], edge.at))
    return links


class _Graph:
    """Nodes by number and the links between them."""

    def __init__(self, size: int, links: Sequence[tuple[int, int, int]]) -> None:
        self._size = size
        self._links = links
        self._out: list[list[int]] = [[] for _ in range(size)]  # numbers of links by source
        for number, (source, _, _) in enumerate(links):
            self._out[source].append(number)

    def ancestors(self) -> list[int] | None:
        """Return for each node the set of those that come before it, as bits; None if there is a cycle."""
        waiting = [0] * self._size
        for _, target, _ in self._links:
            waiting[target] += 1
        before = [0] * self._size
        ready = [node for node in range(self._size) if waiting[node] == 0]
        for node in ready:  # grows while it is gone through
            for number in self._out[node]:
                target = self._links[number][1]
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
                target = self._links[number][1]
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
                    node = self._links[trail.pop()][1] if trail else root
                    depth_of.pop(node)
                    done.add(node)
                    continue
                target = self._links[number][1]
                if target in depth_of:
                    found.append([*trail[depth_of[target] :], number])
                elif target not in done:
                    trail.append(number)
                    depth_of[target] = len(trail)
                    pending.append(iter(self._out[target]))
        return found


@dataclass(frozen=True, slots=True)
class _ReferenceCheck:
    """Checks what expressions refer to, as far as it can be known before a run."""

    index: Mapping[str, int]
    ancestors: Sequence[int] | None
    reachable: set[int]
    report: Report

    def check(self, site: Site, path: Path, node: DraftNode | None) -> None:
        if site.error is not None:
            message = f"This can't be read: {site.error.message} (at character {site.error.position + 1})."
            self.report.problem("invalid_expression", path, message)
        if site.expression is None:
            return
        for reference in site.expression.references:
            if reference.root not in site.locals:
                self._check_reference(reference, site, path, node)

    def _check_reference(self, reference: Reference, site: Site, path: Path, node: DraftNode | None) -> None:
        match reference.root:
            case "steps":
                if reference.path and isinstance(reference.path[0], str):
                    self._check_step(reference.path[0], path, node)
            case "env":
                if reference.path and reference.path[0] not in ENV_KEYS:
                    message = f"`env` has no `{reference.path[0]}`, only {', '.join(ENV_KEYS)}."
                    self.report.warning("unknown_reference", path, message)
            case "credentials":
                if not site.secrets:
                    message = (
                        "Credentials can't be used in this field, where they would leak: "
                        "use them in a field that takes secrets, such as `auth`."
                    )
                else:
                    message = "There is no vault for credentials in this release: it comes in a later one."
                self.report.problem("invalid_expression", path, message)
            case "trigger" | "vars":
                pass
            case root:
                known = (*ROOTS, *sorted(site.locals))
                similar = nearest(root, known)
                hint = f"did you mean `{similar[0]}`?" if similar else f"write \"'{root}'\" if plain text is meant."
                message = f"`{root[:100]}` is not known here, where there are {', '.join(known)}: {hint}"
                self.report.problem("unknown_reference", path, message)

    def _check_step(self, step: str, path: Path, node: DraftNode | None) -> None:
        at = self.index.get(step)
        if at is None:
            similar = nearest(step, self.index)
            hint = f"did you mean `{similar[0]}`?" if similar else "correct the id."
            message = f"There is no step `{step[:255]}`: {hint}"
            self.report.problem("unknown_reference", path, message)
        elif node is not None and node.at in self.reachable and not self._is_before(at, node.at):
            message = (
                f"Step `{step}` doesn't come before `{node.id}`, so its output can't be used here: "
                "add a way of edges from it, or refer to another step."
            )
            self.report.problem("not_before", path, message)

    def _is_before(self, first: int, second: int) -> bool:
        """Say whether one node comes before another; where nodes go in circles, all may."""
        return self.ancestors is None or bool(self.ancestors[second] >> first & 1)
