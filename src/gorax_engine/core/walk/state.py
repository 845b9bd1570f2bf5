"""What the walk knows of one run: which nodes are decided, what they gave, and what still runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

from gorax_engine.core.expressions import Scope
from gorax_engine.core.states import ExecutionState

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json
    from gorax_engine.core.plan import Plan


class NodeState(IntEnum):
    """Where a node of a run stands. READY waits for a free place under `max_concurrency`."""

    UNDECIDED = 0
    READY = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    SKIPPED = 5


UNDECIDED, READY, RUNNING, SUCCEEDED, FAILED, SKIPPED = (int(state) for state in NodeState)
DECIDED = SUCCEEDED
"""States from here on are final."""


class WalkState:
    """The state of one run, by node number. Only the walk changes it.

    nodes: bytearray of NodeState.   pending: undecided incoming edges.   live: 1 where an incoming edge is live.
    enabled_at: when the last incoming edge was decided.   attempts: running node -> its attempt.
    latest: the latest moment at which a node was decided.
    continues: 1 where the node ended with a live outgoing edge (such a node is no leaf).
    outputs: node id -> output, the `steps` root of expressions.   roots: all roots; the others are frozen at the start.
    """

    __slots__ = (
        "attempts",
        "continues",
        "enabled_at",
        "latest",
        "live",
        "nodes",
        "outputs",
        "pending",
        "ready",
        "remaining",
        "roots",
        "seed",
        "status",
    )

    def __init__(self, plan: Plan, roots: Mapping[str, Json], seed: bytes) -> None:
        count = len(plan.nodes)
        self.status = ExecutionState.RUNNING
        self.nodes = bytearray(count)
        self.pending = [node.incoming for node in plan.nodes]
        self.live = bytearray(count)
        self.continues = bytearray(count)
        self.enabled_at: list[Instant] = [0] * count
        self.latest: Instant = 0
        self.attempts: dict[int, int] = {}
        self.ready: list[int] = []
        self.remaining = count
        self.outputs: dict[str, Json] = {}
        self.roots = {**roots, "steps": self.outputs}
        self.seed = seed

    def copy(self) -> WalkState:
        """Return an independent copy; values inside (outputs) are shared, since nobody changes them."""
        twin = WalkState.__new__(WalkState)
        twin.status = self.status
        twin.nodes = self.nodes[:]
        twin.pending = self.pending[:]
        twin.live = self.live[:]
        twin.continues = self.continues[:]
        twin.enabled_at = self.enabled_at[:]
        twin.latest = self.latest
        twin.attempts = self.attempts.copy()
        twin.ready = self.ready[:]
        twin.remaining = self.remaining
        twin.outputs = self.outputs.copy()
        twin.roots = {**self.roots, "steps": twin.outputs}
        twin.seed = self.seed
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WalkState):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # a state compares by value and holds lists


def scope_of(plan: Plan, state: WalkState, now: Instant) -> Scope:
    """Return what expressions of this run see at this moment; `now` is what `now()` gives."""
    return Scope(state.roots, now, plan.settings.missing, state.seed)
