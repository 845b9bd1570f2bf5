"""Deliveries a minute: a burst of one minute's worth, then evenly, for each key alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.triggers.rate_limits import MINUTE, RateLimits


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_at_once_then_evenly() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    assert [limits.take("a", 6) for _ in range(6)] == [0] * 6
    assert limits.take("a", 6) == 10
    assert limits.take("b", 6) == 0
    clock.now += 9.5
    assert limits.take("a", 6) == 1
    clock.now += 0.5
    assert limits.take("a", 6) == 0
    assert limits.take("a", 6) == 10
    clock.now += MINUTE
    assert [limits.take("a", 6) for _ in range(7)] == [0] * 6 + [10]


def test_who_comes_when_told_is_let_in() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    for per_minute in (1, 7, 59, 61, 1_000):
        while not (wait := limits.take(per_minute, per_minute)):
            pass
        clock.now += wait
        assert limits.take(per_minute, per_minute) == 0


@given(st.lists(st.floats(0, 30), min_size=1, max_size=200), st.integers(1, 20))
def test_never_more_than_two_minutes_worth_in_a_minute(pauses: list[float], per_minute: int) -> None:
    clock = Clock()
    limits = RateLimits(clock)
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        if not limits.take("k", per_minute):
            passed.append(clock.now)
    for at in passed:
        assert sum(at <= other < at + MINUTE for other in passed) <= 2 * per_minute
