"""Lengths of time as text: read from seconds as a number, "1h30m" as in Go, or ISO 8601 "PT1H30M"; written as in Go."""

import math
import re
from decimal import Decimal
from typing import Final

from gorax_engine.core.model import SECOND, Json, Micros

LONGEST: Final[Micros] = 36_525 * 86_400 * SECOND
"""A hundred years: what is longer is a mistake, and sums with a time of today stay within what Postgres knows."""

_UNITS: Final[dict[str, int]] = {
    "us": 1,
    "µs": 1,
    "μs": 1,
    "ms": 1_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 7 * 86_400 * SECOND,
}
_NUMBER: Final = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_PART: Final = re.compile(rf"({_NUMBER})(us|µs|μs|ms|s|m|h|d|w)")
_PARTS: Final = re.compile(rf"(?:{_NUMBER}(?:us|µs|μs|ms|s|m|h|d|w))+")
_BARE: Final = re.compile(_NUMBER)
_ISO: Final = re.compile(
    rf"P(?=.)(?:(?P<w>{_NUMBER})W)?(?:(?P<d>{_NUMBER})D)?"
    rf"(?:T(?=.)(?:(?P<h>{_NUMBER})H)?(?:(?P<m>{_NUMBER})M)?(?:(?P<s>{_NUMBER})S)?)?"
)


def parse_duration(value: Json) -> Micros:
    """Return the length of time that `value` names, in microseconds.

    Raises ValueError, with a sentence that says what is accepted, for anything else, for a negative duration, and for
    one above a hundred years.
    """
    if isinstance(value, str):
        micros = _parse_text(value.strip())
    elif (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    ):
        # Comparing before multiplying keeps huge integers and floats cheap and free of overflow.
        micros = LONGEST + 1 if value > LONGEST else -1 if value < 0 else round(value * SECOND)
    else:
        raise ValueError('A duration is a number of seconds, or text such as "1h30m" or "PT1H30M".')
    if micros < 0:
        raise ValueError("A duration can't be negative.")
    if micros > LONGEST:
        raise ValueError("A duration can't be longer than 100 years.")
    return micros


def format_duration(micros: Micros) -> str:
    """Write a length of time as `24h`, `1h30m` or `0s`; `parse_duration` reads it back unchanged."""
    parts = []
    for unit in ("h", "m", "s", "ms", "us"):
        count, micros = divmod(micros, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _parse_text(text: str) -> Micros:
    if len(text) <= 100:
        if _BARE.fullmatch(text):
            return round(Decimal(text) * SECOND)
        if _PARTS.fullmatch(text):
            return round(sum(Decimal(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
        if (iso := _ISO.fullmatch(text)) is not None:
            parts = iso.groupdict()
            return round(sum(Decimal(number) * _UNITS[unit] for unit, number in parts.items() if number))
    raise ValueError('A duration is a number of seconds, or text such as "1h30m" or "PT1H30M".')
