"""The circuit breakers of one worker, by tenant and name, and the scopes of a run that they have let begin.

Their state is the worker's own, and gone with it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gorax_engine.core.breaker import Breaker, BreakerPolicy

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.commands import EndStep
    from gorax_engine.core.model import Instant, StepKey
    from gorax_engine.core.scopes import BreakerPlan

CAPACITY: Final = 10_000
"""How many breakers are kept; the one that was asked longest ago goes first, and begins anew as closed."""


class Breakers:
    """All breakers of a worker."""

    def __init__(self) -> None:
        self._breakers: OrderedDict[tuple[UUID, str, BreakerPolicy], Breaker] = OrderedDict()

    def get(self, tenant_id: UUID, name: str, policy: BreakerPolicy) -> Breaker:
        """Return the breaker of this name; one with another policy is another one."""
        key = (tenant_id, name, policy)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker(policy)
            if len(self._breakers) > CAPACITY:
                self._breakers.popitem(last=False)
        else:
            self._breakers.move_to_end(key)
        return breaker


class Admissions:
    """The circuit-breaker scopes of one run: those that a breaker has let begin, and is to hear of."""

    __slots__ = ("_admitted", "_breakers", "_tenant_id", "_unopened")

    def __init__(self, breakers: Breakers, tenant_id: UUID) -> None:
        self._breakers = breakers
        self._tenant_id = tenant_id
        self._admitted: set[StepKey] = set()
        self._unopened: set[tuple[StepKey, int]] = set()  # those that may begin, and have not

    def admit(self, plan: BreakerPlan, step: StepKey, attempt: int, at: Instant) -> bool:
        """Ask the breaker of a scope whether its body may run."""
        if not self._of(plan).admit(at):
            return False
        self._admitted.add(step)
        self._unopened.add((step, attempt))
        return True

    def opened(self, step: StepKey, attempt: int) -> None:
        """A scope, of whatever kind, has begun."""
        self._unopened.discard((step, attempt))

    def is_unopened(self, step: StepKey, attempt: int) -> bool:
        """Say whether the scope may begin, and has not."""
        return (step, attempt) in self._unopened

    def ended(self, plan: BreakerPlan, command: EndStep) -> None:
        """Tell the breaker how the scope has ended."""
        if command.step not in self._admitted:
            return
        self._admitted.discard(command.step)
        breaker = self._of(plan)
        if command.error is None:
            breaker.succeeded()
        else:
            breaker.failed(command.at)

    def cut(self, plan: BreakerPlan, step: StepKey) -> None:
        """Tell the breaker that nothing will be known of the scope, which was cut off."""
        if step in self._admitted:
            self._admitted.discard(step)
            self._of(plan).abandoned()

    def _of(self, plan: BreakerPlan) -> Breaker:
        return self._breakers.get(self._tenant_id, plan.name, plan.policy)
