"""Reading what users write: any accepted shape becomes the canonical definition, and every fault is told at once.

Only this package knows aliases, camelCase, `data.config` and the retry keys of Gorax. What is stored is canonical:
canonical types, snake_case keys, the config at the node's top level; unknown editor keys (such as `position`) are
kept as they are. The canonical form is a fixed point of `read`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gorax_engine.core.config_template import Site, find_sites
from gorax_engine.core.model import Definition, Json, WorkflowSettings
from gorax_engine.core.reading.checks import check_graph
from gorax_engine.core.reading.document import Origins, Report, fold_keys
from gorax_engine.core.reading.drafts import DraftEdge, DraftNode
from gorax_engine.core.reading.edges import read_edges
from gorax_engine.core.reading.nodes import NodesReader, NodeTypes
from gorax_engine.core.reading.policies import SETTINGS_KEYS, read_settings, warn_unknown
from gorax_engine.core.reading.storable import find_malformed
from gorax_engine.errors import InvalidDefinition, Problem

__all__ = ["MAX_EDGES", "MAX_NODES", "NodeTypes", "Reading", "load", "read"]

MAX_NODES: Final = 2_000
MAX_EDGES: Final = 5_000

_TOP_KEYS: Final = ("nodes", "edges", "output", "settings")


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a definition.

    `canonical` is what is to be stored; `definition` is None if there are `problems`. Pointers lead into the document
    as the user wrote it; `origins` says where a canonical place was there.
    """

    canonical: dict[str, Json]
    definition: Definition | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    origins: Origins


def read(raw: Json, types: NodeTypes) -> Reading:
    """Read and check a definition; never raises, whatever the JSON value is."""
    malformed = find_malformed(raw)
    if malformed is not None:
        return Reading({}, None, (malformed,), (), Origins())
    reader = _Reader(types, checked=True)
    reader.read(raw)
    check_graph(reader.nodes, reader.edges, reader.output_sites, reader.report)
    problems = reader.report.problems
    definition = None if problems else reader.definition()
    return Reading(reader.canonical, definition, problems, reader.report.warnings, reader.origins)


def load(stored: Json, types: NodeTypes) -> Definition:
    """Turn a stored definition, which was checked when it was saved, into values.

    Configs, expressions and the graph are not checked again: a version that was once accepted keeps running under
    releases that check more. Raises InvalidDefinition if the definition can't be understood at all.
    """
    reader = _Reader(types, checked=False)
    reader.read(stored)
    if reader.report.problems:
        raise InvalidDefinition(reader.report.problems, reader.report.warnings)
    return reader.definition()


class _Reader:
    """One reading: goes through the document once, and gathers its canonical form and drafts of what is in it."""

    def __init__(self, types: NodeTypes, *, checked: bool) -> None:
        self.canonical: dict[str, Json] = {}
        self.nodes: list[DraftNode] = []
        self.edges: list[DraftEdge] = []
        self.output_sites: tuple[Site, ...] = ()
        self._checked = checked
        self.origins = Origins()
        self.report = Report(self.origins)
        self._types = types
        self._steps: frozenset[str] = frozenset()
        self._settings = WorkflowSettings()

    def read(self, raw: Json) -> None:
        if not isinstance(raw, dict):
            self.report.problem("invalid_definition", (), "A definition must be an object with `nodes` and `edges`.")
            return
        self.canonical = fold_keys(raw, _TOP_KEYS, (), self.origins)
        self._read_nodes()
        self._read_edges()
        if self._checked and self.canonical.get("output") is not None:
            self.output_sites = find_sites(self.canonical["output"], known_steps=self._steps)
        self._read_settings()

    def definition(self) -> Definition:
        """Return the definition; only for a document without problems."""
        output = self.canonical.get("output")
        return Definition(
            nodes=tuple(node.finish() for node in self.nodes),
            edges=tuple(edge.finish() for edge in self.edges),
            output=output,
            has_output=output is not None,
            settings=self._settings,
        )

    def _read_nodes(self) -> None:
        nodes = self._list("nodes", MAX_NODES)
        if nodes is None:
            return
        if not nodes:
            self.report.problem("no_nodes", (), "There are no nodes: add a trigger and at least one step.")
            return
        self._steps = frozenset(
            node["id"] for node in nodes if isinstance(node, dict) and isinstance(node.get("id"), str)
        )
        reader = NodesReader(self._types, self._steps, self.origins, self.report, checked=self._checked)
        read_nodes = [reader.read(node, at) for at, node in enumerate(nodes)]
        self.canonical["nodes"] = [node for node, _ in read_nodes]
        self.nodes = [draft for _, draft in read_nodes]

    def _read_edges(self) -> None:
        edges = self._list("edges", MAX_EDGES)
        if edges:
            by_id = {node.id: node for node in reversed(self.nodes) if node.id is not None}
            self.canonical["edges"], self.edges = read_edges(edges, by_id, self.report)

    def _list(self, key: str, most: int) -> list[Json] | None:
        value = self.canonical.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.report.problem("invalid_definition", (key,), f"`{key}` must be a list.")
            return None
        if len(value) > most:
            message = f"There are {len(value)} {key}, but {most} at most are allowed: split the workflow."
            self.report.problem("limit_exceeded", (key,), message)
            return None
        return value

    def _read_settings(self) -> None:
        settings = self.canonical.get("settings")
        if settings is None:
            return
        if not isinstance(settings, Mapping):
            self.report.problem("invalid_config", ("settings",), "`settings` must be an object.")
            return
        settings = self.canonical["settings"] = fold_keys(settings, SETTINGS_KEYS, ("settings",), self.origins)
        warn_unknown(settings, SETTINGS_KEYS, ("settings",), "the settings", self.report)
        self._settings = read_settings(
            settings, lambda key, message: self.report.problem("invalid_config", ("settings", key), message)
        )
