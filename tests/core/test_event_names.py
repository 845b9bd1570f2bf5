"""Names of events, and the patterns that fit them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.event_names import NAME, PATTERN, correlation_key, event_name, event_ttl, patterns_of
from gorax_engine.core.model import SECOND

NAMES = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name) <= 255 and "\n" not in name)


def fits(pattern: str, name: str) -> bool:
    """The rule as the page has it: itself, or what begins with what stands before the star."""
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def test_patterns_of_a_name() -> None:
    assert patterns_of("order.paid:eu") == ["order.paid:eu", "*", "order.*", "order.paid:*"]


@given(NAMES, NAMES)
def test_a_pattern_is_found_exactly_if_it_fits(name: str, other: str) -> None:
    for pattern in patterns_of(other) + patterns_of(name):
        assert re.fullmatch(PATTERN, pattern)
        assert (pattern in patterns_of(name)) == fits(pattern, name)


def test_names() -> None:
    for name in ("a", "order.paid", "gorax.execution_failed", "a/b:c-d_e", "x" * 255):
        assert event_name(name) == name
    for bad in ("", "a.", "a\n", "a*", "x" * 256, None):
        with pytest.raises(ValueError, match="name of an event"):
            event_name(bad)


def test_keys() -> None:
    assert [correlation_key(key) for key in ("é 1", 7, -7)] == ["é 1", "7", "-7"]
    for bad in ("", "\x00", "\ud800", None, 1.0):
        with pytest.raises(ValueError, match="correlation key"):
            correlation_key(bad)


def test_lifetimes() -> None:
    assert event_ttl("30d") == 30 * 86_400 * SECOND
    for bad in ("30d1s", 0.5, 0):
        with pytest.raises(ValueError, match="1 second to 30 days"):
            event_ttl(bad)
