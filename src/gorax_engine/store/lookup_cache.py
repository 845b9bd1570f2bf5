"""A short-lived cache of look-ups: at most one load of a key at a time, everybody else waits for it.

It is for what is asked at every request and may be stale for a moment (an API key, a webhook's path); whatever must
not be stale is checked again in the transaction that acts on it.
"""

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import anyio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight:
    """A load under way: its end, and the error in which it ended."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done: Final = anyio.Event()
        self.error: Exception | None = None


class LookupCache(Generic[K, V]):
    """Remembers what `load` answered for `ttl` seconds, for at most `max_entries` keys (the oldest go first)."""

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        ttl: float,
        max_entries: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._ttl = ttl
        self._max_entries = max_entries
        self._clock = clock
        self._entries: dict[K, tuple[float, V]] = {}
        self._flights: dict[K, _Flight] = {}

    async def get(self, key: K) -> V:
        """Return the value of `key`, loading it if it is not fresh. Raises what `load` raises; errors aren't kept."""
        while True:
            entry = self._entries.get(key)
            if entry is not None and entry[0] > self._clock():
                return entry[1]
            flight = self._flights.get(key)
            if flight is None:
                return await self._fly(key)
            await flight.done.wait()
            if flight.error is not None:
                raise flight.error
            # The flight has landed, or its owner was cancelled; then one of those who waited flies again.

    def forget(self, key: K) -> None:
        """Drop what is known of `key`."""
        self._entries.pop(key, None)

    async def _fly(self, key: K) -> V:
        flight = self._flights[key] = _Flight()
        # Counted from before the question was sent: an answer is never older than it is believed to be.
        expires = self._clock() + self._ttl
        try:
            value = await self._load(key)
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.done.set()
        self._entries.pop(key, None)
        while len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (expires, value)
        return value
