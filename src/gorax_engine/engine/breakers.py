"""The circuit breakers of one worker, by tenant and name. Their state is the worker's own, and gone with it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gorax_engine.core.breaker import Breaker, BreakerPolicy

if TYPE_CHECKING:
    from uuid import UUID

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
