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


class _Flight(Generic[V]):
    """A load under way: its end, and the answer or the error in which it ended (neither if its owner was cancelled)."""

    __slots__ = ("answer", "done", "error")

    def __init__(self) -> None:
        self.done: Final = anyio.Event()
        self.error: Exception | None = None
        self.answer: tuple[V] | None = None


class LookupCache(Generic[K, V]):
    """Remembers what `load` answered for `ttl` seconds, for at most `max_entries` keys (the oldest go first).

    An answer that `keep` refuses is forgotten at once: whoever asks later asks anew.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        ttl: float,
        max_entries: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        keep: Callable[[V], bool] = lambda _value: True,
    ) -> None:
        self._load = load
        self._keep = keep
        self._ttl = ttl
        self._max_entries = max_entries
        self._clock = clock
        self._entries: dict[K, tuple[float, V]] = {}
        self._flights: dict[K, _Flight[V]] = {}

    async def get(self, key: K) -> V:
        """Return the value of `key`, loading it if it is not fresh. Raises what `load` raises; errors aren't kept."""
        first = True
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
            # The flight has landed, or its owner was cancelled; then one of those who waited flies again. An answer
            # that isn't kept is believed only if its flight began after this call, and the first one met did not.
            if flight.answer is not None and not first:
                return flight.answer[0]
            first = False

    def forget(self, key: K) -> None:
        """Drop what is known of `key`."""
        self._entries.pop(key, None)

    async def _fly(self, key: K) -> V:
        flight: _Flight[V] = _Flight()
        self._flights[key] = flight
        # Counted from before the question was sent: an answer is never older than it is believed to be.
        expires = self._clock() + self._ttl
        try:
            value = await self._load(key)
        except Exception as error:
            flight.error = error
            raise
        else:
            flight.answer = (value,)
        finally:
            del self._flights[key]
            flight.done.set()
        self._entries.pop(key, None)
        if not self._keep(value):
            return value
        while len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (expires, value)
        return value
