"""Instants as RFC 3339 text, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.instants import format_instant, parse_instant

YEAR_1 = -62_135_596_800_000_000
YEAR_9999_END = 253_402_300_799_999_999


@given(st.integers(YEAR_1, YEAR_9999_END))
def test_every_instant_comes_back(at: int) -> None:
    assert parse_instant(format_instant(at)) == at


def test_text() -> None:
    assert format_instant(0) == "1970-01-01T00:00:00Z"
    assert format_instant(1_764_000_000_000_001) == "2025-11-24T16:00:00.000001Z"
    assert format_instant(-1) == "1969-12-31T23:59:59.999999Z"


def test_offsets_fractions_and_leap_seconds() -> None:
    assert parse_instant("1970-01-01T01:00:00+01:00") == 0
    assert parse_instant("1970-01-01 00:00:00.5z") == 500_000
    assert parse_instant("1970-01-01T00:00:00.1234569Z") == 123_456
    assert parse_instant("2016-12-31T23:59:60Z") == parse_instant("2017-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "text",
    ["", "1970-01-01", "1970-01-01T00:00:00", "19700101T000000Z", "1970-13-01T00:00:00Z", "1970-01-01T25:00:00Z",
     "1970-01-01T00:00:00Z ", "1970-W01-1T00:00:00Z", "1970-01-01T00:00:61Z", "1970-01-01T00:00:00,5Z",
     "٢٠٢٦-01-01T00:00:00Z"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_instant(text)


def test_years_out_of_range_are_refused() -> None:
    with pytest.raises(OverflowError):
        format_instant(YEAR_9999_END + 1)
