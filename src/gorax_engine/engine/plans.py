"""Compiled workflow versions, kept by (workflow, version): a version never changes, so an entry never goes stale."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import anyio

from gorax_engine.core.plan import Plan, compile_plan
from gorax_engine.core.reading import load
from gorax_engine.errors import InvalidDefinition
from gorax_engine.store import runs

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.store.session import Session

CAPACITY: Final = 500


class UnsupportedVersion(Exception):
    """This worker can't compile the version: it is gone, or uses node types that are not installed here."""


class Plans:
    """A cache of plans with the least recently used one leaving first."""

    def __init__(self, session: Session, registry: NodeRegistry) -> None:
        self._session = session
        self._registry = registry
        self._plans: OrderedDict[tuple[UUID, int], Plan] = OrderedDict()
        self._lock = anyio.Lock()

    def cached(self, workflow_id: UUID, version: int) -> Plan | None:
        """Return the plan if it is at hand."""
        key = (workflow_id, version)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
        return plan

    async def get(self, workflow_id: UUID, version: int) -> Plan:
        """Return the plan, loading and compiling it once. Raises UnsupportedVersion or Unavailable."""
        async with self._lock:
            plan = self.cached(workflow_id, version)
            if plan is None:
                plan = await self._load(workflow_id, version)
                self._plans[workflow_id, version] = plan
                if len(self._plans) > CAPACITY:
                    self._plans.popitem(last=False)
            return plan

    async def _load(self, workflow_id: UUID, version: int) -> Plan:
        definition = await runs.definition(self._session, workflow_id, version)
        if definition is None:
            raise UnsupportedVersion(f"version {version} of workflow {workflow_id} is not in the database")
        try:
            return compile_plan(load(definition, self._registry), self._registry.specs)
        except InvalidDefinition as error:
            faults = "; ".join(f"{problem.pointer}: {problem.message}" for problem in error.problems[:3])
            message = f"version {version} of workflow {workflow_id} can't run here: {faults}"
            raise UnsupportedVersion(message) from error
