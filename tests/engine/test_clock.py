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


def test_a_slow_answer_does_not_spoil_what_a_quick_one_told() -> None:
    clock = DatabaseClock()
    asked = time.monotonic_ns()
    database_now = clock.now() + 50_000_000
    clock.synchronise(database_now, asked, asked)
    # The same time, told by an exchange of two seconds whose delay was all on one side.
    clock.synchronise(database_now + 2_000_000, asked, asked + 2_000_000_000)
    assert abs(clock.now() - database_now) < 1_000_000
