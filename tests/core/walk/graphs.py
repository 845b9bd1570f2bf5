"""Random graphs with a script: what every attempt of every node will come to, whenever it is run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from gorax_engine.core.commands import StartStep
from gorax_engine.core.model import (
    Definition,
    Edge,
    Json,
    Node,
    NodeKind,
    NodeSpec,
    OnError,
    RetryPolicy,
    RetryStrategy,
    WorkflowSettings,
)
from gorax_engine.core.plan import Plan, compile_plan
from tests.core.walk.driver import Result, Run

BACKOFF: Final = 7
"""Microseconds between two attempts of a scripted node."""

SPECS: Final = {
    "trigger": NodeSpec("trigger", NodeKind.TRIGGER, {}),
    "plain": NodeSpec("plain", NodeKind.TASK, {}),
    "choice": NodeSpec("choice", NodeKind.CONTROL, {}, outcomes=lambda config: tuple(config["labels"])),
}


@dataclass(frozen=True)
class Scripted:
    """A node and its fortunes. `labels` are its outcomes; a node that `declines` has a false `when`."""

    id: str
    type: str = "plain"
    labels: tuple[str, ...] = ()
    results: tuple[Result, ...] = (Result(ok=True, duration=1),)
    goes_on: bool = False
    declines: bool = False

    @property
    def used(self) -> tuple[Result, ...]:
        """The attempts that are made: up to the first that succeeds or is not worth repeating."""
        for count, result in enumerate(self.results, 1):
            if result.ok or not result.transient:
                return self.results[:count]
        return self.results


@dataclass(frozen=True)
class Arrow:
    source: str
    target: str
    label: str | None = None


@dataclass(frozen=True)
class Graph:
    nodes: tuple[Scripted, ...]
    arrows: tuple[Arrow, ...]
    trigger: str
    limit: int | None = None
    output: Json = None

    def node(self, name: str) -> Scripted:
        return next(node for node in self.nodes if node.id == name)

    def into(self, name: str) -> list[Arrow]:
        return [arrow for arrow in self.arrows if arrow.target == name]

    def out_of(self, name: str) -> list[Arrow]:
        return [arrow for arrow in self.arrows if arrow.source == name]

    def result(self, run: Run, start: StartStep) -> Result:
        """What an attempt of a node comes to."""
        node = self.node(start.step.node)
        return replace(node.results[start.attempt - 1], declines=node.declines)

    def run(self) -> GraphRun:
        """A run of it that has begun."""
        run = GraphRun(self)
        run.begin(self.trigger)
        return run

    def ends_the_run(self, node: Scripted) -> bool:
        """Does this node, once it ran, end the run: by `stop`, or by a failure that nobody handles?"""
        last = node.used[-1]
        if node.declines:
            return False
        handled = node.goes_on or any(arrow.label == "error" for arrow in self.out_of(node.id))
        return last.stop if last.ok else not handled

    @property
    def calm(self) -> bool:
        return not any(self.ends_the_run(node) for node in self.nodes)

    def plan(self) -> Plan:
        nodes = tuple(
            Node(
                node.id,
                node.type,
                node.id,
                {"labels": list(node.labels)},
                retry=RetryPolicy(len(node.results), RetryStrategy.FIXED, initial_delay=BACKOFF),
                on_error=OnError.CONTINUE if node.goes_on else OnError.FAIL,
                when="false" if node.declines else None,
            )
            for node in self.nodes
        )
        edges = tuple(
            Edge(f"e{number}", arrow.source, arrow.target, arrow.label) for number, arrow in enumerate(self.arrows)
        )
        settings = WorkflowSettings(max_concurrency=self.limit)
        definition = Definition(nodes, edges, self.output, self.output is not None, settings)
        return compile_plan(definition, SPECS)


class GraphRun(Run):
    """A run of a graph."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.plan(), graph)
        self.graph = graph


def random_graph(rng: Random, size: int, *, calm: bool = False, limited: bool | None = None) -> Graph:
    """A graph of `size` nodes, numbered across the order in which they run. `calm`: nothing ends the run early."""
    names = [f"n{number}" for number in range(size)]
    rng.shuffle(names)
    roots = 1 + (size > 3 and rng.random() < 0.3)
    nodes = [_scripted(rng, name, trigger=place < roots, calm=calm) for place, name in enumerate(names)]
    arrows = []
    for place, node in enumerate(nodes):
        if place == 0 or (place < roots and rng.random() < 0.5):
            continue
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3))):
            source = nodes[rng.randrange(place)]
            label = rng.choice((None, None, "error", "decoration", *source.labels, *source.labels))
            if label == "decoration" and source.labels:
                label = None
            arrows.append(Arrow(source.id, node.id, label))
    rng.shuffle(arrows)
    wants_limit = rng.random() < 0.5 if limited is None else limited
    graph = Graph(
        tuple(sorted(nodes, key=lambda node: node.id)),
        tuple(dict.fromkeys(arrows)),
        trigger=names[rng.randrange(roots)],
        limit=rng.choice((1, 2, 3)) if wants_limit else None,
    )
    if calm:
        graph = replace(
            graph, nodes=tuple(replace(node, goes_on=node.goes_on or graph.ends_the_run(node)) for node in graph.nodes)
        )
    return graph


def _scripted(rng: Random, name: str, *, trigger: bool, calm: bool) -> Scripted:
    if trigger:
        return Scripted(name, "trigger", results=(Result(ok=True, duration=_duration(rng), output={"from": name}),))
    labels = rng.choice(((), (), ("true", "false"), ("a", "b", "default")))
    results = []
    for attempt in range(rng.choice((1, 1, 2, 3))):
        ok = rng.random() < 0.65
        stop = ok and not calm and rng.random() < 0.06
        outcome = rng.choice(labels) if labels and ok else None
        output = {"from": name, "attempt": attempt + 1}
        results.append(Result(ok, _duration(rng), output, outcome, stop, transient=rng.random() < 0.7))
    return Scripted(
        name,
        "choice" if labels else "plain",
        labels,
        tuple(results),
        goes_on=rng.random() < 0.5,
        declines=rng.random() < 0.1,
    )


def _duration(rng: Random) -> int:
    """So long that no two moments of a run are the same by chance."""
    return rng.randrange(1, 10**9)
