"""Circuit breakers as a state machine over outcomes and moments; who keeps one says what time it is.

The rule is Gorax's: a breaker opens after `max_failures` failures in a row, or when a share of `threshold` or more of
the last `window` calls has failed. Open, it lets nothing through for `open_for`; then it lets `trials` calls through,
and closes when all of them have succeeded; any failure of them opens it again.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from gorax_engine.core.model import SECOND, Instant, Json, Micros


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens and closes."""

    max_failures: int = 5
    threshold: float = 0.5
    window: int = 10
    open_for: Micros = 60 * SECOND
    trials: int = 3
    enabled: bool = True

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The config keys that `read` knows."""
        return (
            "max_failures", "failure_threshold", "sliding_window_size", "timeout_ms", "max_requests", "enabled",
        )  # fmt: skip

    @classmethod
    def read(cls, config: Mapping[str, Json]) -> "BreakerPolicy":
        """Read the config keys of the type circuit_breaker."""
        return cls(
            max_failures=config.get("max_failures", 5),
            threshold=config.get("failure_threshold", 0.5),
            window=config.get("sliding_window_size", 10),
            open_for=config.get("timeout_ms", 60_000) * 1_000,
            trials=config.get("max_requests", 3),
            enabled=config.get("enabled", True),
        )


class Breaker:
    """One breaker. `admit` asks it; each call that it admitted is told to it, as succeeded, failed or abandoned."""

    __slots__ = ("_calls", "_in_a_row", "_opened", "_passed", "_policy", "_trying")

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._calls: deque[bool] = deque(maxlen=policy.window)
        self._in_a_row = 0
        self._opened: Instant | None = None
        self._trying = 0
        self._passed = 0

    @property
    def is_open(self) -> bool:
        """Is it open, or trying whether it may close?"""
        return self._opened is not None

    def admit(self, now: Instant) -> bool:
        """Say whether a call may be made now."""
        if not self._policy.enabled or self._opened is None:
            return True
        if now - self._opened < self._policy.open_for or self._trying + self._passed >= self._policy.trials:
            return False
        self._trying += 1
        return True

    def succeeded(self) -> None:
        """A call that was admitted ended well."""
        self._in_a_row = 0
        if self._opened is None:
            self._calls.append(True)
            return
        self._trying = max(0, self._trying - 1)
        self._passed += 1
        if self._passed >= self._policy.trials:
            self._reset(None)

    def failed(self, now: Instant) -> None:
        """A call that was admitted ended badly."""
        if self._opened is not None:
            self._reset(now)
            return
        self._calls.append(False)
        self._in_a_row += 1
        full = len(self._calls) == self._policy.window
        too_many = full and self._calls.count(False) >= self._policy.threshold * len(self._calls)
        if self._in_a_row >= self._policy.max_failures or too_many:
            self._reset(now)

    def abandoned(self) -> None:
        """A call that was admitted was cut off, and says nothing."""
        self._trying = max(0, self._trying - 1)

    def _reset(self, opened: Instant | None) -> None:
        self._opened = opened
        self._calls.clear()
        self._in_a_row = self._trying = self._passed = 0
