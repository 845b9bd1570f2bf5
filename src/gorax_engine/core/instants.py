"""Instants as text: RFC 3339 in UTC, both ways."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from gorax_engine.core.model import SECOND, Instant

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def format_instant(at: Instant) -> str:
    """Write `at` as `2026-11-24T11:20:39.123456Z`, or without the fraction where that is zero.

    Raises OverflowError outside the years 1 to 9999.
    """
    return (_EPOCH + timedelta(microseconds=at)).isoformat().removesuffix("+00:00") + "Z"


def parse_instant(text: str) -> Instant:
    """Read an RFC 3339 time with an offset. Digits beyond microseconds are dropped, a leap second is the next second.

    Raises ValueError for anything else.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2026-11-24T11:20:39Z")
    date, clock, second, fraction, offset = match.groups()
    leap = SECOND if second == "60" else 0
    moment = datetime.fromisoformat(f"{date}T{clock}:{'59' if leap else second}{offset.replace('z', 'Z')}")
    return (moment - _EPOCH) // _MICROSECOND + leap + int((fraction or "0")[:6].ljust(6, "0"))
