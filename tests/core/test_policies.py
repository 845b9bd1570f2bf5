"""Retry policies: classes, the decision, the delay and the bound error."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.model import (
    NO_RETRY,
    OUTSIDE_RETRY,
    SECOND,
    Classification,
    RetryPolicy,
    RetryStrategy,
    StepError,
)
from gorax_engine.core.policies import (
    RETRY_AFTER_CAP,
    classify,
    matches_error,
    retry_delay,
    should_retry,
    step_error_json,
)

TRANSIENT = StepError("timeout", "The request took longer than 30 s.", Classification.TRANSIENT)
PERMANENT = StepError("type_error", "can't add text to a number")


def http(status: int) -> StepError:
    return StepError("http_status", f"answered {status}", classify("http_status", status), {"http_status_code": status})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599])
def test_transient_statuses(status: int) -> None:
    assert classify("http_status", status) is Classification.TRANSIENT


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 422, 499, 600])
def test_permanent_statuses(status: int) -> None:
    assert classify("http_status", status) is Classification.PERMANENT


def test_codes_without_a_status() -> None:
    assert classify("timeout") is classify("connection_failed") is Classification.TRANSIENT
    assert classify("outbound_denied") is classify("type_error") is Classification.PERMANENT


def test_max_attempts_counts_the_first() -> None:
    assert [should_retry(OUTSIDE_RETRY, TRANSIENT, attempt) for attempt in range(1, 6)] == [True] * 3 + [False] * 2
    assert not should_retry(NO_RETRY, TRANSIENT, 1)


def test_default_is_transient_only() -> None:
    assert should_retry(OUTSIDE_RETRY, http(503), 1)
    assert not should_retry(OUTSIDE_RETRY, http(404), 1)
    assert not should_retry(OUTSIDE_RETRY, PERMANENT, 1)


def test_retry_on_says_all_that_is_retried() -> None:
    policy = RetryPolicy(max_attempts=2, retry_on=("type_error",))
    assert should_retry(policy, PERMANENT, 1)
    assert not should_retry(policy, TRANSIENT, 1)
    assert should_retry(replace(policy, retry_on=("type_error", "transient")), TRANSIENT, 1)
    assert should_retry(replace(policy, status_codes=(404,)), http(404), 1)
    assert not should_retry(replace(policy, status_codes=(404,)), http(503), 1)


def test_give_up_on_beats_everything() -> None:
    policy = RetryPolicy(max_attempts=2, retry_on=("transient",), give_up_on=("took longer",), status_codes=(503,))
    assert not should_retry(policy, TRANSIENT, 1)
    assert should_retry(policy, http(503), 1)
    assert not should_retry(replace(policy, give_up_on=("http_.*",)), http(503), 1)


def test_status_codes_alone_leave_other_errors_to_the_default() -> None:
    policy = RetryPolicy(max_attempts=2, status_codes=(404, 429))
    assert [should_retry(policy, http(status), 1) for status in (404, 429, 503)] == [True, True, False]
    assert should_retry(policy, TRANSIENT, 1)
    assert not should_retry(policy, PERMANENT, 1)


def test_patterns() -> None:
    error = StepError("http_status", "POST https://x.test answered 503 (rate limit exceeded)")
    assert matches_error("http_status", error)
    assert matches_error("permanent", error)
    assert matches_error("http_.+", error)
    assert matches_error("(?i)RATE limit", error)
    assert not matches_error("status", replace(error, message=""))
    assert not matches_error("(unclosed", error)
    assert matches_error("(unclosed", replace(error, code="(unclosed"))


def test_hostile_pattern_is_linear() -> None:
    assert not matches_error("^(a+)+$", StepError("x", "a" * 50_000 + "!"))


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [(RetryStrategy.FIXED, [2, 2, 2, 2]), (RetryStrategy.EXPONENTIAL, [2, 6, 18, 20])],
)
def test_delays(strategy: RetryStrategy, delays: list[int]) -> None:
    policy = RetryPolicy(9, strategy, initial_delay=2 * SECOND, max_delay=20 * SECOND, multiplier=3)
    assert [retry_delay(policy, TRANSIENT, n, b"") for n in range(1, 5)] == [delay * SECOND for delay in delays]


@given(
    st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 100),
        strategy=st.sampled_from(RetryStrategy),
        initial_delay=st.integers(0, 10**12),
        max_delay=st.integers(0, 10**12),
        multiplier=st.floats(1, 1e9),
    ),
    st.integers(1, 10**6),
    st.binary(max_size=20),
)
def test_no_delay_exceeds_its_maximum(policy: RetryPolicy, attempt: int, seed: bytes) -> None:
    delay = retry_delay(policy, TRANSIENT, attempt, seed)
    assert 0 <= delay <= policy.max_delay
    assert delay == retry_delay(policy, TRANSIENT, attempt, seed)


def test_jitter_spreads_by_a_quarter_both_ways() -> None:
    delays = [retry_delay(OUTSIDE_RETRY, TRANSIENT, 1, seed.to_bytes(2, "big")) for seed in range(2_000)]
    assert 0.75 * SECOND <= min(delays) < 0.76 * SECOND
    assert 1.24 * SECOND < max(delays) <= 1.25 * SECOND
    first, second = (retry_delay(OUTSIDE_RETRY, TRANSIENT, attempt, b"s") for attempt in (1, 2))
    assert abs(first * 2 - second) > 1_000  # drawn anew for each attempt


def test_retry_after_is_obeyed_up_to_a_cap() -> None:
    def delay(asked: int, policy: RetryPolicy = OUTSIDE_RETRY) -> int:
        return retry_delay(policy, replace(TRANSIENT, retry_after=asked), 1, b"")

    assert delay(120 * SECOND) == 120 * SECOND
    assert delay(10**15) == RETRY_AFTER_CAP
    assert delay(10**15, replace(OUTSIDE_RETRY, max_delay=7200 * SECOND)) == 7200 * SECOND
    assert delay(0) == delay(1) >= 0.75 * SECOND


def test_bound_error() -> None:
    error = StepError("http_status", "answered 503", Classification.TRANSIENT, {"http_status_code": 503, "code": "no"})
    assert step_error_json(error, "charge", "http_request", 2, 4, 0) == {
        "code": "http_status",
        "error_type": "http_status",
        "error_message": "answered 503",
        "message": "answered 503",
        "classification": "transient",
        "node_id": "charge",
        "node_type": "http_request",
        "retry_attempt": 1,
        "max_retries": 3,
        "http_status_code": 503,
        "timestamp": "1970-01-01T00:00:00Z",
    }
