"""Retry policies as pure functions: what kind of failure it is, whether to try again, and after how long.

Jitter is drawn from a seed, so that a replay of the same failure comes to the same delay.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import re2

from gorax_engine.core.instants import format_instant
from gorax_engine.core.model import (
    SECOND,
    Classification,
    Instant,
    Json,
    Micros,
    RetryPolicy,
    RetryStrategy,
    StepError,
)

TRANSIENT_CODES: Final = frozenset({"timeout", "connection_failed"})
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
JITTER: Final = 0.25
RETRY_AFTER_CAP: Final[Micros] = 3600 * SECOND
"""How long a `Retry-After` is obeyed at most, where the policy's own `max_delay` is not longer."""


def classify(code: str, http_status: int | None = None) -> Classification:
    """Say whether a failure may pass by itself: timeouts, failed connections, 408, 425, 429 and 5xx are transient.

    The status decides if there is one.
    """
    if http_status is not None:
        transient = http_status in TRANSIENT_STATUSES or 500 <= http_status <= 599
    else:
        transient = code in TRANSIENT_CODES
    return Classification.TRANSIENT if transient else Classification.PERMANENT


def should_retry(policy: RetryPolicy, error: StepError, attempt: int) -> bool:
    """Say whether attempt number `attempt` (from 1), which ended with `error`, is followed by another.

    `give_up_on` beats everything. `retry_on` and `status_codes`, if given, say what is retried: an error that one of
    them names. `status_codes` alone leaves errors without a status to the default. The default is: transient ones.
    """
    if attempt >= policy.max_attempts or _matches(policy.give_up_on, error):
        return False
    status = error.details.get("http_status_code")
    if policy.retry_on:
        return _matches(policy.retry_on, error) or status in policy.status_codes
    if policy.status_codes and status is not None:
        return status in policy.status_codes
    return error.classification is Classification.TRANSIENT


def retry_delay(policy: RetryPolicy, error: StepError, attempt: int, seed: bytes) -> Micros:
    """Return how long to wait after attempt number `attempt` (from 1) before the next.

    Never above `max_delay`, except that a longer `Retry-After` is obeyed up to an hour. The same seed and attempt give
    the same delay.
    """
    asked = min(error.retry_after or 0, max(RETRY_AFTER_CAP, policy.max_delay))
    return max(_own_delay(policy, attempt, seed), asked)


def step_error_json(
    error: StepError, node_id: str, node_type: str, attempt: int, max_attempts: int, at: Instant
) -> dict[str, Json]:
    """Return the error as templates see it (`error` of a catch, of an error edge, of `on_error: continue`).

    `retry_attempt` counts the retries before this failure, `max_retries` those that were allowed.
    """
    bound: dict[str, Json] = dict(error.details)
    bound.update(
        code=error.code,
        error_type=error.code,
        error_message=error.message,
        message=error.message,
        classification=error.classification.value,
        node_id=node_id,
        node_type=node_type,
        retry_attempt=attempt - 1,
        max_retries=max_attempts - 1,
        timestamp=format_instant(at),
    )
    return bound


def matches_error(entry: str, error: StepError) -> bool:
    """Say whether an entry of `retry_on`, `give_up_on` or a catch names the error.

    It does as the error's code, as its class (`transient`, `permanent`), or as a pattern (RE2) that fits the whole code
    or is found in the message. A plain word that is the code of some other error is therefore also looked for in the
    message. An entry that is no valid pattern is only compared.
    """
    if entry in (error.code, error.classification.value):
        return True
    pattern = _compile(entry)
    return pattern is not None and bool(pattern.fullmatch(error.code) or pattern.search(error.message))


def catches_error(types: tuple[str, ...], patterns: tuple[str, ...], error: StepError) -> bool:
    """Say whether a handler takes an error: by its code or class, or a pattern (RE2) found in its code or message.

    A handler that names neither takes every error.
    """
    if not types and not patterns:
        return True
    if error.code in types or error.classification.value in types:
        return True
    compiled = [_compile(pattern) for pattern in patterns]
    return any(each is not None and (each.search(error.message) or each.search(error.code)) for each in compiled)


def _matches(entries: tuple[str, ...], error: StepError) -> bool:
    return any(matches_error(entry, error) for entry in entries)


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def _own_delay(policy: RetryPolicy, attempt: int, seed: bytes) -> Micros:
    if policy.strategy is RetryStrategy.FIXED:
        return min(policy.initial_delay, policy.max_delay)
    try:
        delay = policy.initial_delay * policy.multiplier ** (attempt - 1)
    except OverflowError:
        delay = float(policy.max_delay)
    delay = min(delay, policy.max_delay)
    if policy.strategy is RetryStrategy.EXPONENTIAL_JITTER:
        digest = blake2b(attempt.to_bytes(8, "big") + seed, digest_size=8).digest()
        fraction = int.from_bytes(digest, "big") / 2**64
        delay = min(delay * (1 - JITTER + 2 * JITTER * fraction), policy.max_delay)
    return round(delay)
