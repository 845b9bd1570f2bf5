"""What is known of one run on this worker: its claim, plan and state, and what its steps are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gorax_engine.core.events import RunStarted
from gorax_engine.core.instants import format_instant
from gorax_engine.core.plan import trigger_of
from gorax_engine.core.walk import initial, scope_of
from gorax_engine.nodes.api import NodeContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from gorax_engine.core.commands import StartStep
    from gorax_engine.core.expressions import Scope
    from gorax_engine.core.model import Instant, Json, StepKey
    from gorax_engine.core.plan import Plan, PlanNode
    from gorax_engine.engine.breakers import Breakers
    from gorax_engine.engine.clock import DatabaseClock
    from gorax_engine.engine.journal import Journal
    from gorax_engine.engine.lease import Lease
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.queue import Claim
    from gorax_engine.store.session import Session
    from gorax_engine.telemetry import Telemetry
    from gorax_engine.vault.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Engine:
    """What executions of one worker share.

    `secrets` opens credentials, None if there is no vault. `match_event` is called with the step of each wait for an
    event, once it is durable. `crowded` says that no place is free for further runs.
    `look_at_marks` has the queue rows of our runs read again.
    """

    journal: Journal
    lease: Lease
    clock: DatabaseClock
    registry: NodeRegistry
    session: Session
    telemetry: Telemetry
    secrets: Secrets | None
    breakers: Breakers
    match_event: Callable[[UUID], None]
    crowded: Callable[[], bool]
    look_at_marks: Callable[[], None]


class Run:
    """One run in this worker's memory. `state` is what the walk knows, `last` the time of its last event."""

    __slots__ = ("_ids", "_origin", "claim", "engine", "last", "plan", "seed", "state", "trigger")

    def __init__(self, claim: Claim, plan: Plan, engine: Engine) -> None:
        self.claim = claim
        self.plan = plan
        self.engine = engine
        # A retry walks what it has taken over as it was walked before, to the same delays.
        self.seed = (claim.origin_id or claim.execution_id).bytes
        self.trigger: Json = msgspec.json.decode(claim.trigger_data) if claim.trigger_data else {}
        self._ids = (str(claim.execution_id), str(claim.tenant_id), str(claim.workflow_id))
        self._origin = self._ids[0] if claim.origin_id is None else str(claim.origin_id)
        self.state = initial(plan, self._roots(), self.seed)
        self.last: Instant = claim.started

    @property
    def id(self) -> str:
        """The execution's id."""
        return self._ids[0]

    def started(self) -> RunStarted:
        """Return the event with which the run begins."""
        claim = self.claim
        return RunStarted(trigger_of(self.plan, claim.trigger_node, claim.trigger_type), self.trigger, claim.started)

    def tick(self, at: Instant = 0) -> Instant:
        """Return the time of the next event: now, or `at` if that is later, and always after the event before.

        Who rebuilds the run tells the walk its records in the order of their times.
        """
        self.last = max(self.engine.clock.now(), self.last + 1, at)
        return self.last

    def scope(self, node: PlanNode, step: StepKey, at: Instant) -> Scope | None:
        """Return what expressions of a step see, None if its scope is no longer at work."""
        frame = self.state.frame_of(node, step)
        return None if frame is None else scope_of(self.plan, self.state, frame, at)

    def context(self, node: PlanNode, command: StartStep) -> NodeContext:
        """Return what a node is told of the step that it carries out."""
        step = command.step
        execution_id, tenant_id, workflow_id = self._ids
        frame = self.state.frame_of(node, step) if node.sees_roots else None
        return NodeContext(
            execution_id,
            tenant_id,
            workflow_id,
            step.node,
            step.path,
            command.attempt,
            command.at,
            f"{self._origin}:{step.node}:{step.path}",
            self.seed,
            self.trigger,
            {} if frame is None else frame.roots,
        )

    def _roots(self) -> Mapping[str, Json]:
        claim = self.claim
        roots: dict[str, Json] = {
            "trigger": self.trigger,
            "vars": msgspec.json.decode(claim.vars) if claim.vars else {},
        }
        if self.plan.reads_env:
            roots["env"] = {
                "tenant_id": self._ids[1],
                "execution_id": self._ids[0],
                "workflow_id": self._ids[2],
                "workflow_version": claim.workflow_version,
                "started_at": format_instant(claim.started),
            }
        return roots
