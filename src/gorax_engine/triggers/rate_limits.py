"""How many deliveries a minute: a token bucket per key, in this process alone.

The generic cell rate algorithm (ITU-T I.371): of each key only the moment is kept at which its bucket will be full
again. A key that has rested for a minute may send a whole minute's worth at once. N processes let N times as much pass.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MINUTE: Final = 60.0
MAX_KEYS: Final = 100_000


class RateLimits:
    """Counts what passes. The keys that have rested longest are forgotten first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, per_minute: int) -> int:
        """Let one pass and return 0, or return in how many seconds the next one may come (1 or more)."""
        now = self._clock()
        interval = MINUTE / per_minute
        full_at = max(self._full_at.get(key, now), now) + interval
        excess = full_at - now - MINUTE
        if excess > 1e-9 * MINUTE:
            return max(1, math.ceil(excess))
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        while len(self._full_at) > MAX_KEYS:
            self._full_at.popitem(last=False)
        return 0
