"""Nodes and edges on their way from what a user wrote to a definition: as far as they could be read."""

from dataclasses import dataclass

from gorax_engine.core.config_template import Site
from gorax_engine.core.model import Edge, InDoubt, Json, Micros, Node, NodeSpec, OnError, RetryPolicy


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
    rounds: RetryPolicy | None = None
    circuit_breaker: dict[str, Json] | None = None

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
            rounds=self.rounds,
            circuit_breaker=self.circuit_breaker,
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
