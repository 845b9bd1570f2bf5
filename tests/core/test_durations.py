"""Durations: every accepted way to write one, and what is refused."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.durations import LONGEST, parse_duration
from gorax_engine.core.model import SECOND


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0), (30, 30), (1.5, 1.5), ("30", 30), ("2.25", 2.25), (" 5s ", 5), ("1h30m", 5400), ("1m30.5s", 90.5),
        ("250ms", 0.25), ("10us", 0.00001), ("2d", 172_800), ("1w", 604_800), ("PT1H30M", 5400), ("P1DT12H", 129_600),
        ("P2W", 1_209_600), ("PT0.5S", 0.5),
    ],
)  # fmt: skip
def test_accepted(value: Any, seconds: float) -> None:
    assert parse_duration(value) == round(seconds * SECOND)


@pytest.mark.parametrize(
    "value",
    [
        None, True, [], {}, "", "x", "5 s", "-5s", "5s5", "1h 30m", "P", "PT", "P1Y", "P1M", "PT1", "1e3", -1, -0.5,
        LONGEST, 10**400, "9" * 18 + "w", "1" * 200, float("inf"), float("nan"), "٣s",
    ],
)  # fmt: skip
def test_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="A duration"):
        parse_duration(value)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.from_regex(r"P?T?([0-9.]{1,4}[dhmsDHMS]{1,2}){1,4}")))
def test_it_raises_value_errors_only_and_stays_in_bounds(value: Any) -> None:
    with suppress(ValueError):
        assert 0 <= parse_duration(value) <= LONGEST
