"""When a schedule occurs: a cron line read on the wall clocks of a time zone, as instants.

A time zone is a sequence of stretches of constant UTC offset. Within one, the wall times that the line matches and the
instants of its occurrences map one to one; two rules say what becomes of the others. Wall times that come twice, since
clocks were set back, count the first time, and again only if `fold` is BOTH or the minute field begins with `*`: a line
that means "every so often" goes on. Those that never come, since clocks were set forward, are dropped, or with `gap`
SHIFT are together one occurrence at the first instant after the gap.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise, takewhile
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

MAX_EXPRESSION: Final = 255
"""Characters of a cron line."""

HORIZON: Final = 50
"""Years: what lies further from the moment that is asked about isn't looked for. Every date comes again sooner."""

_SECOND: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_REACH: Final = timedelta(days=2)
"""No clock was ever set by more than a day, and none twice within two days."""

_YEARS: Final = range(3, 9999)
"""Moments outside count as the first or the end of these, so that no sum of dates overflows."""

_NEVER: Final = datetime.max  # noqa: DTZ901 - a wall time
_NEVER_BEFORE: Final = datetime.min  # noqa: DTZ901 - a wall time

_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, or L for the last day",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7, where 0 and 7 are Sunday, or SUN to SAT; 5L is the last Friday, 1#2 the second Monday",
}
_NAMES: Final = tuple(_FIELDS)
_RANGE_OF_ONE: Final = re.compile(r"(?<![^ ,])(\w+)-\1/0*[1-9][0-9]*(?![^ ,])")
_MONTH: Final = _NAMES.index("month")


class RecurrenceError(ValueError):
    """A recurrence that can't be. `field` is what is wrong; the text says why, and the mend.

    `field` is `cron_expression`, `timezone`, `dst_gap`, `dst_fold`, `starts_at` or `ends_at`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Gap(StrEnum):
    """What becomes of wall times that don't exist: nothing, or one occurrence at the first instant after them."""

    SKIP = "skip"
    SHIFT = "shift"


class Fold(StrEnum):
    """Which of wall times that come twice count: the first, or both. Lines with a minute of `*` always run in both."""

    FIRST = "first"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When something occurs. `read_recurrence` makes and checks it; the constructor trusts its arguments.

    `expression` is in the form that `normal_expression` gives, `timezone` an IANA name; `starts_at` and `ends_at` are
    aware, and both inclusive.
    """

    expression: str
    timezone: str = "UTC"
    gap: Gap = Gap.SHIFT
    fold: Fold = Fold.FIRST
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Iterate over the occurrences strictly later than `moment`, upwards, in UTC; for HORIZON years at most.

        Raises ValueError for a `moment` without a time zone.
        """
        position = _bare(moment)
        if self.starts_at is not None:
            position = max(position, _bare(self.starts_at) - _MICROSECOND)
        last = _NEVER if self.ends_at is None else _bare(self.ends_at)
        return (at.replace(tzinfo=UTC) for at in takewhile(lambda at: at <= last, self._ascending(position)))

    def before(self, moment: datetime) -> Iterator[datetime]:
        """Iterate over the occurrences strictly earlier than `moment`, downwards: the same ones that `after` gives.

        Raises ValueError for a `moment` without a time zone.
        """
        position = _bare(moment)
        if self.ends_at is not None:
            position = min(position, _bare(self.ends_at) + _MICROSECOND)
        first = _NEVER_BEFORE if self.starts_at is None else _bare(self.starts_at)
        return (at.replace(tzinfo=UTC) for at in takewhile(lambda at: at >= first, self._descending(position)))

    def _ascending(self, position: datetime) -> Iterator[datetime]:
        matches = _Matches(self.expression)
        repeats = self._repeats()
        for year in range(position.year, min(position.year + HORIZON + 1, _YEARS.stop)):
            for stretch in _stretches(self.timezone, year):
                if stretch.end <= position:
                    continue
                wall = max(position + stretch.offset, stretch.first_wall(repeats) - _SECOND)
                if (
                    self.gap is Gap.SHIFT
                    and stretch.reached < stretch.wall_start
                    and position < stretch.start
                    and matches.beyond(stretch.reached - _SECOND) < stretch.wall_start
                ):
                    yield stretch.start
                    # Should the line match here too, it is one occurrence.
                    wall = stretch.wall_start
                while (wall := matches.beyond(wall)) < stretch.wall_end:
                    yield wall - stretch.offset

    def _descending(self, position: datetime) -> Iterator[datetime]:
        matches = _Matches(self.expression, backwards=True)
        repeats = self._repeats()
        latest = min(position.year, _YEARS.stop - 1)
        for year in range(latest, max(latest - HORIZON, _YEARS.start) - 1, -1):
            for stretch in reversed(_stretches(self.timezone, year)):
                if position <= stretch.start:
                    continue
                earliest, first_wall = None, stretch.first_wall(repeats)
                wall = min(position + stretch.offset, stretch.wall_end)
                while (wall := matches.beyond(wall)) >= first_wall:
                    earliest = wall
                    yield wall - stretch.offset
                if (
                    self.gap is Gap.SHIFT
                    and stretch.reached < stretch.wall_start
                    and stretch.wall_start != earliest
                    and matches.beyond(stretch.wall_start) >= stretch.reached
                ):
                    yield stretch.start

    def _repeats(self) -> bool:
        minute = self.expression.split()[-5]
        return self.fold is Fold.BOTH or minute.startswith("*")


def read_recurrence(
    expression: str,
    timezone: str = "UTC",
    *,
    gap: str = Gap.SHIFT,
    fold: str = Fold.FIRST,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Recurrence:
    """Return the recurrence that a user has described, checked and in its normal form, its bounds in UTC.

    Raises RecurrenceError for what can't be. That a line is possible is no promise of an occurrence: `ends_at` may come
    first, and what is only ever due within gaps (02:30 on the days when clocks go forward) has none with `gap` SKIP.
    """
    line = normal_expression(expression)
    if timezone not in _timezones():
        raise RecurrenceError("timezone", _unknown_timezone(timezone))
    if gap not in list(Gap):
        raise RecurrenceError("dst_gap", "`dst_gap` is `skip` or `shift`.")
    if fold not in list(Fold):
        raise RecurrenceError("dst_fold", "`dst_fold` is `first` or `both`.")
    start = None if starts_at is None else _bound("starts_at", starts_at)
    end = None if ends_at is None else _bound("ends_at", ends_at)
    if start is not None and end is not None and end <= start:
        raise RecurrenceError("ends_at", "`ends_at` must be later than `starts_at`.")
    return Recurrence(line, timezone, Gap(gap), Fold(fold), start, end)


def normal_expression(text: str) -> str:
    """Return a cron line in its normal form: five fields, or six with leading seconds, by single spaces, in capitals.

    Nicknames (`@daily`) are written out. Raises RecurrenceError, with the reason, for what is no cron line and for one
    that matches no date.
    """
    if len(text) > MAX_EXPRESSION:
        raise _faulty(f"The cron expression is {len(text)} characters long; it may have {MAX_EXPRESSION}.")
    for character in text:
        if not " " <= character <= "~":
            raise _faulty(
                f"The cron expression holds the character U+{ord(character):04X}; "
                "it may hold letters, digits and signs of ASCII, and spaces."
            )
    fields = _written_out(text.strip()).upper().split()
    if not fields:
        raise _faulty("The cron expression is empty; `0 9 * * *` is every day at 9:00.")
    if len(fields) not in {5, 6}:
        raise _faulty(
            f"The cron expression has {len(fields)} field{'' if len(fields) == 1 else 's'}; it needs five (minute, "
            "hour, day of month, month, day of week), or six with the second before them."
        )
    # CronSim would read 5-5/10 as if it were 5/10, which has no end.
    line = _RANGE_OF_ONE.sub(r"\1", " ".join(fields))
    try:
        # Within 28 years from 2000 on, dates and weekdays fall together in every way they can.
        matched = next(CronSim(line, _new_year(2000)), None)
    except CronSimError as error:
        raise _faulty(_fault(["0", *fields][-len(_NAMES) :], str(error))) from None
    if matched is None:
        raise _faulty(f"No date ever matches `{line}`.")
    return line


def _written_out(text: str) -> str:
    if not text.startswith("@"):
        return text
    nickname = text.lower()
    if nickname == "@reboot":
        raise _faulty("`@reboot` is no time: schedules don't depend on when a machine starts. Give a cron line.")
    if nickname.startswith("@every"):
        raise _faulty("`@every` has no fixed times. Give a cron line: `*/15 * * * *` is every 15 minutes.")
    if nickname not in _NICKNAMES:
        raise _faulty(f"`{text}` is no nickname of a cron line; there are {', '.join(_NICKNAMES)}.")
    return _NICKNAMES[nickname]


def _fault(fields: list[str], complaint: str) -> str:
    name = complaint.removeprefix("Bad ")
    text = fields[_NAMES.index(name)]
    if name == "day-of-month" and _readable([*fields[:_MONTH], "*", *fields[_MONTH + 1 :]]):
        return f"No date ever matches: there is no day `{text}` in the month `{fields[_MONTH]}`."
    return (
        f"The {name} field `{text}` can't be read. It takes {_FIELDS[name]}; and `*`, lists (1,2), ranges (1-5, "
        "upwards), and steps of at least 1 (*/2)."
    )


def _readable(fields: list[str]) -> bool:
    try:
        CronSim(" ".join(fields), _new_year(2000))
    except CronSimError:
        return False
    return True


def _faulty(message: str) -> RecurrenceError:
    return RecurrenceError("cron_expression", message)


@lru_cache(maxsize=1)
def _timezones() -> frozenset[str]:
    # The first is whatever this machine is set to, the second stands for "not set".
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _unknown_timezone(name: str) -> str:
    by_lower = {known.lower(): known for known in sorted(_timezones())}
    near = get_close_matches(name[:100].lower(), by_lower, n=1)
    mend = f"did you mean `{by_lower[near[0]]}`?" if near else "give an IANA name such as `Europe/Berlin` or `UTC`."
    return f"{name[:100]!r} is no time zone; {mend}"


def _bound(field: str, moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise RecurrenceError(field, f"`{field}` needs a UTC offset, as in 2026-11-24T11:20:39Z.")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise RecurrenceError(field, f"`{field}` must lie in the years 1 to 9999.") from None


def _bare(moment: datetime) -> datetime:
    """Return `moment` in UTC and without a time zone, as everything here reckons."""
    if moment.utcoffset() is None:
        raise ValueError("A moment needs a time zone.")
    if moment.year not in _YEARS:
        return _new_year(_YEARS.start if moment.year < _YEARS.start else _YEARS.stop)
    return moment.astimezone(UTC).replace(tzinfo=None)


def _new_year(year: int) -> datetime:
    return datetime(year, 1, 1)  # noqa: DTZ001 - a wall time, or bare UTC


class _Matches:
    """The wall times that a cron line matches, in one direction. What lies far ahead is looked for once."""

    __slots__ = ("_asked", "_backwards", "_found", "_line", "_search")

    def __init__(self, line: str, *, backwards: bool = False) -> None:
        self._line = line
        self._backwards = backwards
        self._search: CronSim | None = None
        self._asked = self._found = _NEVER

    def beyond(self, wall: datetime) -> datetime:
        """Return the first match strictly later (backwards: earlier) than `wall`, or _NEVER (_NEVER_BEFORE)."""
        known = self._found < wall <= self._asked if self._backwards else self._asked <= wall < self._found
        if known and self._search is not None:
            return self._found
        if self._search is None or wall != self._found:
            self._search = CronSim(self._line, wall, self._backwards)
        self._asked = wall
        try:
            found = next(self._search, None)
        except OverflowError:
            found = None
        self._found = found or (_NEVER_BEFORE if self._backwards else _NEVER)
        return self._found


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time of constant offset, from `start` up to `end` (bare UTC), and what clocks show in it.

    `reached` is the wall time up to which clocks had come before: what is earlier comes again, what lies between it and
    `wall_start` never comes.
    """

    start: datetime
    end: datetime
    offset: timedelta
    wall_start: datetime
    wall_end: datetime
    reached: datetime

    def first_wall(self, repeats: bool) -> datetime:
        """The first wall time that counts, if those that come again do or don't."""
        return self.wall_start if repeats else max(self.wall_start, self.reached)


@lru_cache(maxsize=4_096)
def _stretches(timezone: str, year: int) -> tuple[_Stretch, ...]:
    """The stretches of a year (in UTC), which is cut at its ends whether or not clocks change there."""
    zone = ZoneInfo(timezone)
    new_year, end = _new_year(year), _new_year(year + 1)
    begin = new_year - _REACH
    reached = begin + _offset(zone, begin)
    stretches = []
    for start, stop in pairwise(sorted({begin, new_year, end, *_changes(zone, begin, end)})):
        offset = _offset(zone, start)
        if start >= new_year:
            stretches.append(_Stretch(start, stop, offset, start + offset, stop + offset, reached))
        reached = max(reached, stop + offset)
    return tuple(stretches)


def _changes(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The instants from which on another offset holds, later than `begin`, up to `end`."""
    offset = _offset(zone, begin)
    while begin < end:
        start, begin = begin, min(begin + _REACH, end)
        if _offset(zone, begin) != offset:
            begin = _change(zone, start, begin)
            offset = _offset(zone, begin)
            yield begin


def _change(zone: ZoneInfo, begin: datetime, end: datetime) -> datetime:
    """The one instant, later than `begin`, up to `end`, from which on the offset isn't that of `begin`."""
    offset = _offset(zone, begin)
    seconds = range((end - begin) // _SECOND)
    return begin + bisect_left(seconds, True, key=lambda n: _offset(zone, begin + n * _SECOND) != offset) * _SECOND


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return zone.fromutc(moment.replace(tzinfo=zone)).utcoffset() or timedelta()
