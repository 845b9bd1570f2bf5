"""Dates as RFC 3339 strings: reading, writing and moving them."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gorax_engine.core.expressions.errors import ExpressionError, invalid_argument
from gorax_engine.core.expressions.layouts import parse_time
from gorax_engine.core.model import Instant

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DEFAULT_LAYOUTS = (
    "2006-01-02",
    "15:04:05",
    "2006-01-02 15:04:05",
    "2006-01-02T15:04:05Z07:00",
    "2006-01-02T15:04:05",
    "02 Jan 06 15:04 MST",
    "Monday, 02-Jan-06 15:04:05 MST",
    "Mon, 02 Jan 2006 15:04:05 MST",
)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d)")
_UNIT_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
                     "h": 3600 * 10**9, "d": 86400 * 10**9}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def looks_like_date(text: str) -> bool:
    """Whether a string is a full RFC 3339 date with time and offset."""
    return 20 <= len(text) <= 35 and text[4] == "-" and text[10] in "Tt" and _RFC3339.fullmatch(text) is not None


@lru_cache(maxsize=256)
def moment(text: str) -> datetime:
    """The moment of an RFC 3339 string; raises ExpressionError `invalid_argument`."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise invalid_argument(f"`{text[:60]}` is not an RFC 3339 date such as `2006-01-02T15:04:05Z`.")
    year, month, day, hour, minute, second, fraction, zone, sign, hours, minutes = match.groups()
    offset: tzinfo = UTC
    try:
        if zone not in "Zz":
            length = timedelta(hours=int(hours), minutes=int(minutes))
            offset = timezone(-length if sign == "-" else length) if length else UTC
        micros = int((fraction or "0")[:6].ljust(6, "0"))
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micros, offset)
    except (ValueError, OverflowError):
        raise invalid_argument(f"`{text[:60]}` is not a date that exists.") from None


def read(text: str, zone: tzinfo = UTC) -> datetime:
    """A date in RFC 3339 or one of expr-lang's usual layouts; raises ExpressionError `invalid_argument`."""
    if looks_like_date(text):
        return moment(text)
    for layout in _DEFAULT_LAYOUTS:
        try:
            return parse_time(text, layout, zone)
        except ExpressionError:
            continue
    raise invalid_argument(f"`{text[:60]}` is not a date; give its layout, such as `2006-01-02`.")


def written(at: datetime) -> str:
    """RFC 3339, with the fraction only if there is one, and Z for UTC."""
    text = at.replace(tzinfo=None).isoformat(timespec="seconds")
    if at.microsecond:
        text += f".{at.microsecond:06d}".rstrip("0")
    seconds = int((at.utcoffset() or timedelta()).total_seconds())
    if seconds == 0:
        return text + "Z"
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{text}{'-' if seconds < 0 else '+'}{hours:02d}:{minutes:02d}"


def of_instant(instant: Instant) -> datetime:
    """The UTC date of microseconds since 1970; raises ExpressionError `invalid_argument` outside years 1 to 9999."""
    try:
        return _EPOCH + timedelta(microseconds=instant)
    except OverflowError:
        raise invalid_argument("The date is outside the years 1 to 9999.") from None


def shifted(text: str, seconds: float) -> str:
    """An RFC 3339 string moved by seconds."""
    return written(moved(moment(text), seconds=seconds))


def moved(at: datetime, *, days: float = 0, seconds: float = 0) -> datetime:
    """A date moved by a length of time; raises ExpressionError `invalid_argument` outside years 1 to 9999."""
    try:
        return at + timedelta(days=days, seconds=seconds)
    except (OverflowError, ValueError):
        raise invalid_argument("The date is outside the years 1 to 9999.") from None


def add_months(at: datetime, months: int) -> datetime:
    """The same day some months later; a day that the month lacks overflows into the next one, as Go's AddDate does."""
    count = at.year * 12 + at.month - 1 + months
    if not 12 <= count < 120_000:
        raise invalid_argument("The date is outside the years 1 to 9999.")
    return moved(at.replace(year=count // 12, month=count % 12 + 1, day=1), days=at.day - 1)


def seconds_between(start: str, end: str) -> float:
    """The seconds from one RFC 3339 string to another; an int where it is whole."""
    return _whole((moment(end) - moment(start)) / timedelta(seconds=1))


def unix_seconds(at: datetime) -> float:
    """Seconds since 1970; an int where it is whole."""
    return _whole((at - _EPOCH) / timedelta(seconds=1))


def _whole(seconds: float) -> float:
    return int(seconds) if seconds.is_integer() else seconds


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name; raises ExpressionError `invalid_argument`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise invalid_argument(f"`{name[:60]}` is not a time zone such as `Europe/Zurich`.") from None


def duration_seconds(text: str) -> float:
    """The seconds of a Go duration such as `1h30m` (days `d` are allowed too); an int where it is whole."""
    body = text[1:] if text[:1] in ("+", "-") else text
    nanoseconds = 0.0
    at = 0
    for match in _DURATION_PART.finditer(body):
        if match.start() != at:
            break
        nanoseconds += float(match[1]) * _UNIT_NANOSECONDS[match[2]]
        at = match.end()
    if body == "0":
        return 0
    if not body or at != len(body) or nanoseconds > 2**63:
        raise invalid_argument(f"`{text[:60]}` is not a duration such as `1h30m`.")
    return _whole(nanoseconds / 1e9 * (-1 if text[0] == "-" else 1))
