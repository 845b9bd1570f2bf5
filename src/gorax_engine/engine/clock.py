"""The time that is recorded: the database's clock, carried forward by this machine's monotonic one."""

import time

from gorax_engine.core.model import Instant


class DatabaseClock:
    """Gives the database's time without asking it each time. It never goes backwards.

    Until the first `synchronise` it is the machine's wall clock. Only recorded times come from it; ownership and
    deadlines are judged in the database.
    """

    __slots__ = ("_latest", "_offset")

    def __init__(self) -> None:
        self._offset = (time.time_ns() - time.monotonic_ns()) // 1000
        self._latest: Instant = 0

    def now(self) -> Instant:
        """Microseconds since the epoch by the database's clock, as last seen."""
        self._latest = max(self._latest, time.monotonic_ns() // 1000 + self._offset)
        return self._latest

    def after(self, instant: Instant) -> Instant:
        """Now, or `instant` if later: what follows an event is never earlier, whoever's clock timed the event."""
        return max(self.now(), instant)

    def synchronise(self, database_now: Instant, asked_at_ns: int, answered_at_ns: int) -> None:
        """Take the database's time, which was read between two monotonic instants (nanoseconds).

        The answer bounds the offset, and only what is out of bounds is corrected: a slow exchange tells little, and
        must not spoil what a quick one told.
        """
        least, most = database_now - answered_at_ns // 1000, database_now - asked_at_ns // 1000
        self._offset = min(max(self._offset, least), most)
