"""The clock of recorded times."""

import time

from gorax_engine.engine.clock import DatabaseClock


def test_it_never_goes_backwards() -> None:
    clock = DatabaseClock()
    before = clock.now()
    asked = time.monotonic_ns()
    clock.synchronise(before - 5_000_000, asked, asked)
    assert clock.now() >= before


def test_what_follows_an_event_is_not_earlier_than_it() -> None:
    clock = DatabaseClock()
    ahead = clock.now() + 3_600_000_000
    assert clock.after(ahead) == ahead
    assert clock.now() < ahead
