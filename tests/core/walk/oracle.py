"""The rules of the graph once more, slow and by definition: a node's fate follows from those of its predecessors."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from gorax_engine.core.model import Json
from tests.core.walk.driver import START
from tests.core.walk.graphs import BACKOFF, Arrow, Graph, Scripted

End = Literal["completed", "failed", "skipped", "running", "undecided"]


@dataclass(frozen=True)
class Fate:
    """How a node ended, or where it stands. `enabled` is when its last edge was decided, `at` when it was itself."""

    end: End
    enabled: int = 0
    at: int = 0
    output: Json = None
    attempts: int = 0


class Oracle:
    """Judges a graph. `ended` are the nodes whose last attempt has ended; without it, all that can have."""

    def __init__(self, graph: Graph, ended: Collection[str] | None = None) -> None:
        self.graph = graph
        self.ended = ended
        self.fates: dict[str, Fate] = {}
        for node in graph.nodes:
            self.fate(node.id)

    def fate(self, name: str) -> Fate:
        if name not in self.fates:
            self.fates[name] = self._judge(self.graph.node(name))
        return self.fates[name]

    def _judge(self, node: Scripted) -> Fate:
        if node.id == self.graph.trigger:
            return self._ran(node, START)
        incoming = self.graph.into(node.id)
        sources = [self.fate(arrow.source) for arrow in incoming]
        if any(source.end in ("running", "undecided") for source in sources):
            return Fate("undecided")
        enabled = max((source.at for source in sources), default=START)
        if not any(self.live(arrow) for arrow in incoming):
            return Fate("skipped", enabled, enabled)
        return self._ran(node, enabled)

    def _ran(self, node: Scripted, enabled: int) -> Fate:
        if self.ended is not None and node.id not in self.ended:
            return Fate("running", enabled)
        if node.declines:
            at = enabled + node.used[0].duration
            return Fate("skipped", at, at)
        used = node.used
        at = enabled + sum(result.duration for result in used) + BACKOFF * (len(used) - 1)
        if used[-1].ok:
            return Fate("completed", enabled, at, used[-1].output, len(used))
        return Fate("failed", enabled, at, self._bound(node, at), len(used))

    def live(self, arrow: Arrow) -> bool:
        """Whether an edge of a decided node is live."""
        node, fate = self.graph.node(arrow.source), self.fate(arrow.source)
        if fate.end == "skipped":
            return False
        if fate.end == "completed":
            if arrow.label == "error":
                return False
            return not node.labels or arrow.label in (None, node.used[-1].outcome)
        has_error_edge = any(other.label == "error" for other in self.graph.out_of(node.id))
        if has_error_edge:
            return arrow.label == "error"
        return node.goes_on and (arrow.label is None or not node.labels)

    @property
    def leaves(self) -> dict[str, Json]:
        """The run's output: of the nodes that ended with no live outgoing edge, by node id."""
        return {
            name: fate.output
            for name, fate in self.fates.items()
            if fate.end in ("completed", "failed") and not any(self.live(arrow) for arrow in self.graph.out_of(name))
        }

    @property
    def outputs(self) -> dict[str, Json]:
        return {name: fate.output for name, fate in self.fates.items() if fate.end in ("completed", "failed")}

    @property
    def last_moment(self) -> int:
        return max(fate.at for fate in self.fates.values())

    def _bound(self, node: Scripted, at: int) -> Json:
        last = node.used[-1]
        code = "timeout" if last.transient else "broken"
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
        return {
            "error": {
                "more": 1,
                "code": code,
                "error_type": code,
                "error_message": f"after {last.duration}",
                "message": f"after {last.duration}",
                "classification": "transient" if last.transient else "permanent",
                "node_id": node.id,
                "node_type": node.type,
                "retry_attempt": len(node.used) - 1,
                "max_retries": len(node.results) - 1,
                "timestamp": moment.isoformat().replace("+00:00", "Z"),
            }
        }
