"""Reading edges: their ends, and the outcome that each stands for."""

from collections.abc import Mapping, Sequence

from gorax_engine.core.model import Json
from gorax_engine.core.plan import ERROR_LABEL
from gorax_engine.core.reading.document import MAX_ID, Report
from gorax_engine.core.reading.drafts import DraftEdge, DraftNode
from gorax_engine.core.schemas import Path
from gorax_engine.core.structure import EXITS, SCOPES
from gorax_engine.core.validation import nearest


def read_edges(
    raw: Sequence[Json], nodes: Mapping[str, DraftNode], report: Report
) -> tuple[list[Json], list[DraftEdge]]:
    """Return the canonical edges, and drafts of those that are objects; `nodes` are those of the definition, by id."""
    taken = {edge["id"] for edge in raw if isinstance(edge, dict) and isinstance(edge.get("id"), str)}
    number = 0
    edges: list[Json] = []
    drafts: list[DraftEdge] = []
    for at, item in enumerate(raw):
        if not isinstance(item, dict):
            message = "An edge must be an object with `source` and `target`."
            report.problem("invalid_definition", ("edges", at), message)
            edges.append(item)
            continue
        edge = dict(item)
        if edge.get("id") is None:
            number = next(free for free in range(number + 1, len(raw) + len(taken) + 2) if f"edge-{free}" not in taken)
            edge["id"] = f"edge-{number}"
        edges.append(edge)
        drafts.append(_EdgeReader(edge, ("edges", at), nodes, report).read())
    return edges, drafts


class _EdgeReader:
    """Reads one edge; what it finds out about it is written to `edge`, the canonical one."""

    def __init__(self, edge: dict[str, Json], path: Path, nodes: Mapping[str, DraftNode], report: Report) -> None:
        self._edge = edge
        self._path = path
        self._nodes = nodes
        self._report = report

    def read(self) -> DraftEdge:
        edge_id = self._edge["id"]
        if not (isinstance(edge_id, str) and 0 < len(edge_id) <= MAX_ID):
            self._report.problem(
                "invalid_id", (*self._path, "id"), f"An `id` must be text of 1 to {MAX_ID} characters."
            )
            edge_id = None
        source, target = self._end("source"), self._end("target")
        label = self._label(self._nodes.get(source or ""))
        return DraftEdge(int(self._path[1]), edge_id, source, target, label)

    def _end(self, key: str) -> str | None:
        end = self._edge.get(key)
        if isinstance(end, str):
            return end
        self._report.problem("edge_to_nowhere", (*self._path, key), f"An edge needs a `{key}`: the id of a node.")
        return None

    def _label(self, source: DraftNode | None) -> str | None:
        """Choose the edge's outcome: its label, or its `sourceHandle` if the label is none."""
        label = self._word("label")
        handle_key = "source_handle" if "source_handle" in self._edge else "sourceHandle"
        handle = self._word(handle_key)
        if source is not None and source.type in SCOPES:
            return self._entry(source, label, handle)
        if source is None or not source.is_valid:
            return label or handle
        allowed = (*source.outcomes, ERROR_LABEL)
        if label is None and handle in allowed:
            self._edge["label"] = handle
            return handle
        if not source.outcomes or label in allowed:
            return label
        if handle in allowed:
            return handle  # the label is a decoration of the editor's, the handle says the outcome
        if label is not None:
            self._unknown_outcome("label", label, source, allowed)
        elif handle is not None:
            self._unknown_outcome(handle_key, handle, source, allowed)
        return label

    def _entry(self, scope: DraftNode, label: str | None, handle: str | None) -> str | None:
        """Choose which body of a scope the edge leads to, or that it leads out: by its label, else by its handle."""
        words = ("try", "catch", "finally", *EXITS) if scope.type == "try" else ("body", *EXITS)
        if scope.type == "parallel":
            branches = (scope.config or {}).get("branches") if scope.is_valid else None
            words = (*(branch["name"] for branch in branches or ()), *EXITS)
        if handle is not None and (label is None or (label not in words and handle in words)):
            self._edge["label"] = label = handle
        if label is not None and label not in words and scope.type != "parallel":
            similar = nearest(label, words)
            hint = f"did you mean `{similar[0]}`?" if similar else "write `done`, or no label, if that is meant."
            listed = ", ".join(f"`{word}`" for word in words)
            message = f"`{label[:100]}` is none of {listed}, so this edge leads out of `{scope.id}`: {hint}"
            self._report.warning("unknown_outcome", (*self._path, "label"), message)
        return label

    def _unknown_outcome(self, key: str, outcome: str, source: DraftNode, allowed: Sequence[str]) -> None:
        listed = ", ".join(f"`{known}`" for known in allowed)
        message = f"`{outcome[:100]}` is no outcome of node `{source.id}`: use one of {listed}, or no label."
        self._report.problem("unknown_outcome", (*self._path, key), message)

    def _word(self, key: str) -> str | None:
        value = self._edge.get(key)
        if isinstance(value, bool):  # YAML reads a bare true as a boolean
            value = self._edge[key] = "true" if value else "false"
        if isinstance(value, str) and len(value) <= MAX_ID:
            return value or None
        if value is not None:
            message = f"An edge's `{key}` must be text of up to {MAX_ID} characters."
            self._report.problem("invalid_definition", (*self._path, key), message)
        return None
