"""Reading the policies of nodes and the settings of a workflow: retry, durations and closed words, with every fault.

Keys are canonical here, but for Gorax's retry keys, which `canonical_retry` maps.
"""

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, TypeAlias, TypeVar

import re2

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.model import (
    Classification,
    Json,
    Micros,
    Missing,
    RetryPolicy,
    RetryStrategy,
    WorkflowSettings,
)
from gorax_engine.core.reading.document import Report
from gorax_engine.core.schemas import Path
from gorax_engine.core.validation import nearest

Complain: TypeAlias = Callable[[str, str], None]
"""Takes a key of the object that is read ("" for the object itself) and a sentence."""

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=Enum)

MAX_ATTEMPTS: Final = 100
RETRY_KEYS: Final = (
    "max_attempts",
    "strategy",
    "initial_delay",
    "max_delay",
    "multiplier",
    "retry_on",
    "give_up_on",
    "status_codes",
)
SETTINGS_KEYS: Final = ("timeout", "max_concurrency", "missing", "error_workflow")

_GORAX_RETRY_NAMES: Final[Mapping[str, str]] = {
    "backoff_multiplier": "multiplier",
    "retryable_errors": "retry_on",
    "non_retryable_errors": "give_up_on",
    "retryable_status_codes": "status_codes",
}
_GORAX_RETRY_MILLISECONDS: Final[Mapping[str, str]] = {
    "initial_backoff_ms": "initial_delay",
    "initial_delay_ms": "initial_delay",
    "max_backoff_ms": "max_delay",
    "max_delay_ms": "max_delay",
}
_EVERYTHING: Final = (Classification.TRANSIENT.value, Classification.PERMANENT.value)
EVERY_ERROR: Final = RetryPolicy(max_attempts=3, retry_on=_EVERYTHING)
"""What a retry scope does that says nothing else: it is there to run its body again, whatever went wrong."""
GORAX_RETRY_KEYS: Final = (
    "enabled",
    "max_retries",
    "jitter",
    *_GORAX_RETRY_NAMES,
    *_GORAX_RETRY_MILLISECONDS,
)


def canonical_retry(retry: Mapping[str, Json]) -> tuple[dict[str, Json], dict[str, str]]:
    """Map Gorax's keys of a retry policy to ours, where ours are absent and the values make sense.

    Returns the canonical object, and for each key that was mapped the one that it was read from.
    """
    result: dict[str, Json] = {}
    origins: dict[str, str] = {}

    def put(key: str, value: Json, origin: str) -> None:
        if key not in retry and key not in result:
            result[key] = value
            origins[key] = origin

    for key, value in retry.items():
        if key in _GORAX_RETRY_NAMES:
            put(_GORAX_RETRY_NAMES[key], value, key)
        elif key in _GORAX_RETRY_MILLISECONDS and _is_number(value):
            put(_GORAX_RETRY_MILLISECONDS[key], value // 1000 if value % 1000 == 0 else value / 1000, key)
        elif key == "max_retries" and isinstance(value, int) and not isinstance(value, bool):
            put("max_attempts", value + 1, key)
        elif key == "enabled" and isinstance(value, bool):
            if not value:
                result["max_attempts"] = 1
                origins["max_attempts"] = key
        elif key == "jitter" and isinstance(value, bool):
            if not value:
                put("strategy", RetryStrategy.EXPONENTIAL.value, key)
        elif key == "max_attempts" and retry.get("enabled") is False:
            continue
        else:
            result[key] = value
    if "max_retries" in retry:
        # Gorax retries transient errors alone; ours says what it means on any node.
        put("retry_on", [Classification.TRANSIENT.value], "max_retries")
    return result, origins


def read_retry(retry: Mapping[str, Json], default: RetryPolicy, complain: Complain) -> RetryPolicy:
    """Read a canonical retry policy; what it doesn't say is taken from `default`.

    Where the type retries nothing by itself, a policy that doesn't say what to retry means every error: who asks for
    three attempts of a pure node must get them.
    """

    def read(key: str, reader: Callable[[Json, str], _T], fallback: _T) -> _T:
        if retry.get(key) is None:
            return fallback
        try:
            return reader(retry[key], key)
        except ValueError as error:
            complain(key, str(error))
            return fallback

    return RetryPolicy(
        max_attempts=read("max_attempts", _attempts, default.max_attempts),
        strategy=read("strategy", lambda value, key: read_word(value, RetryStrategy, key), default.strategy),
        initial_delay=read("initial_delay", _duration, default.initial_delay),
        max_delay=read("max_delay", _duration, default.max_delay),
        multiplier=read("multiplier", _multiplier, default.multiplier),
        retry_on=read("retry_on", _patterns, default.retry_on or (() if default.max_attempts > 1 else _EVERYTHING)),
        give_up_on=read("give_up_on", _patterns, default.give_up_on),
        status_codes=read("status_codes", _status_codes, default.status_codes),
    )


def read_settings(settings: Mapping[str, Json], complain: Complain) -> WorkflowSettings:
    """Read a workflow's settings; null means the default."""
    timeout: Micros | None = None
    missing = Missing.ERROR
    concurrency = settings.get("max_concurrency")
    error_workflow = settings.get("error_workflow")
    try:
        timeout = read_timeout(settings.get("timeout"), "timeout")
    except ValueError as error:
        complain("timeout", str(error))
    try:
        if settings.get("missing") is not None:
            missing = read_word(settings["missing"], Missing, "missing")
    except ValueError as error:
        complain("missing", str(error))
    if concurrency is not None and not (_is_whole(concurrency) and 1 <= concurrency <= 1_000_000):
        complain("max_concurrency", "`max_concurrency` must be a whole number from 1 to 1,000,000.")
        concurrency = None
    if error_workflow is not None and not (isinstance(error_workflow, str) and 0 < len(error_workflow) <= 255):
        complain("error_workflow", "`error_workflow` must be the name or id of a workflow.")
        error_workflow = None
    return WorkflowSettings(timeout, concurrency, missing, error_workflow)


def read_timeout(value: Json, key: str) -> Micros | None:
    """Read a duration above zero, or null for none; raises ValueError."""
    if value is None:
        return None
    micros = _duration(value, key)
    if micros == 0:
        raise ValueError(f"`{key}` must be longer than zero.")
    return micros


def read_word(value: Json, words: type[_Word], key: str) -> _Word:
    """Read one word of a closed set; raises ValueError that lists them."""
    for word in words:
        if word.value == value:
            return word
    listed = ", ".join(f"`{word.value}`" for word in words)
    raise ValueError(f"`{key}` must be one of {listed}.")


def warn_unknown(value: Mapping[str, Json], known: tuple[str, ...], path: Path, where: str, report: Report) -> None:
    """Warn of each key of `value` that nothing reads."""
    for key in value:
        if key not in known:
            report.warning("unknown_key", (*path, key), unknown_key_message(key, known, where))


def unknown_key_message(key: str, known: tuple[str, ...], where: str) -> str:
    """Return the sentence for a key that nothing reads."""
    similar = nearest(key, known)
    hint = f"did you mean `{similar[0]}`?" if similar else "remove it, or correct its name."
    return f"`{key[:255]}` is not a key of {where} and has no effect: {hint}"


def _duration(value: Json, key: str) -> Micros:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"`{key}` can't be read: {error}") from error


def _attempts(value: Json, key: str) -> int:
    if not (_is_whole(value) and 1 <= value <= MAX_ATTEMPTS):
        raise ValueError(f"`{key}` must be a whole number from 1 (no retry) to {MAX_ATTEMPTS}; it counts the first.")
    return int(value)


def _multiplier(value: Json, key: str) -> float:
    if not (_is_number(value) and 1 <= value <= 100):
        raise ValueError(f"`{key}` must be a number from 1 to 100.")
    return float(value)


def _patterns(value: Json, key: str) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(item, str) and 0 < len(item) <= 255 for item in value)):
        raise ValueError(f"`{key}` must be a list of error codes or patterns.")
    options = re2.Options()
    options.log_errors = False
    for pattern in value:
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            raise ValueError(f'`{key}` has a pattern that can\'t be read, "{pattern}"; correct it.') from error
    return tuple(value)


def _status_codes(value: Json, key: str) -> tuple[int, ...]:
    if not (isinstance(value, list) and all(_is_whole(item) and 100 <= item <= 599 for item in value)):
        raise ValueError(f"`{key}` must be a list of HTTP status codes from 100 to 599.")
    return tuple(value)


def _is_whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Json) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))
