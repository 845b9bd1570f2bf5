"""Recurrences: held to an oracle that knows no cron library, and what is refused.

The oracle counts: it looks at every minute of UTC around a change of the clocks (every second for lines with seconds),
asks `zoneinfo` what clocks show, and has a reader of cron lines of its own.
"""

import zoneinfo
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice, pairwise, product, takewhile

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gorax_engine.core import recurrence as module
from gorax_engine.core.recurrence import (
    HORIZON,
    Fold,
    Gap,
    Recurrence,
    RecurrenceError,
    normal_expression,
    read_recurrence,
)

# What the oracle is made of. Instants are whole seconds since 1970, wall times bare datetimes.

DAY, HOUR = 86_400, 3_600
LOOK_BACK = 26 * HOUR
ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
ODD_ZONES = (
    "Africa/Casablanca", "Africa/Freetown", "Africa/Monrovia", "America/Caracas", "America/Juneau", "America/Sao_Paulo",
    "Antarctica/Troll", "Asia/Gaza", "Asia/Manila", "Asia/Pyongyang", "Australia/Lord_Howe", "Europe/Dublin",
    "Pacific/Apia", "Pacific/Kwajalein",
    # Set back at New Year by UTC, or in the hours before.
    "Africa/Niamey", "Africa/Sao_Tome", "America/Inuvik",
)  # fmt: skip
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
NAMES = {name: str(number) for number, name in (*enumerate(WEEKDAYS), *enumerate(MONTHS, 1))}
LIMITS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def numbers(text: str, low: int, high: int) -> set[int]:
    """The numbers that one field of a cron line means."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            begin, end = low, high
        else:
            first, dash, last = span.partition("-")
            begin = int(NAMES.get(first, first))
            end = int(NAMES.get(last, last)) if dash else high if step else begin
        found.update(range(begin, end + 1, int(step or 1)))
    return found


class Line:
    """A cron line, read by the oracle."""

    def __init__(self, text: str) -> None:
        fields = text.split()
        self.has_seconds = len(fields) == 6
        fields = fields if self.has_seconds else ["0", *fields]
        self.seconds, self.minutes, self.hours, self.days, self.months, weekdays = (
            numbers(field, *limits) for field, limits in zip(fields, LIMITS, strict=True)
        )
        self.weekdays = {number % 7 for number in weekdays}
        self.either_day = not fields[3].startswith("*") and not fields[5].startswith("*")
        self.goes_on = fields[1].startswith("*")

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.second in self.seconds
            and self.matches_date(wall)
        )

    def matches_date(self, day: date) -> bool:
        number, weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and ((number or weekday) if self.either_day else (number and weekday))


@dataclass(frozen=True)
class Change:
    """The first instant of a new offset."""

    at: int
    before: timedelta
    after: timedelta

    @property
    def shape(self) -> tuple[object, ...]:
        """What is the same for changes that look alike on a clock that also shows the weekday."""
        wall = bare(self.at) + self.before
        return self.before, self.after, wall.time(), wall.weekday()


def bare(instant: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(seconds=instant)  # noqa: DTZ001 - bare UTC


def aware(instant: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=instant)


def seconds_of(moment: datetime) -> int:
    return int((moment - aware(0)).total_seconds())


def changes(name: str, begin: int, end: int) -> list[Change]:
    """All changes of the clocks of a zone from `begin` (exclusive) through `end`, in whole days."""
    zone = zoneinfo.ZoneInfo(name)

    def offset(instant: int) -> timedelta:
        return datetime.fromtimestamp(instant, zone).utcoffset() or timedelta()

    def first_other(day: int) -> int:
        return day + bisect_left(range(DAY), True, key=lambda n: offset(day + n) != offset(day))

    days = [(day, offset(day)) for day in range(begin, end + DAY, DAY)]
    return [Change(first_other(day), was, now) for (day, was), (_, now) in pairwise(days) if was != now]


def years(first: int, last: int) -> tuple[int, int]:
    return seconds_of(datetime(first, 1, 1, tzinfo=UTC)), seconds_of(datetime(last + 1, 1, 1, tzinfo=UTC))


class Window:
    """What clocks show from `begin` (exclusive) up to `end` (exclusive), minute by minute or second by second."""

    def __init__(self, name: str, begin: int, end: int, *, step: int = 60) -> None:
        self.name, self.begin, self.end = name, begin, end
        zone = zoneinfo.ZoneInfo(name)
        around = changes(name, begin - begin % DAY - 2 * DAY, end - end % DAY + DAY)
        offsets = {change.before for change in around} | {change.after for change in around}
        offsets.add(datetime.fromtimestamp(begin, zone).utcoffset() or timedelta())
        # Where the offset has seconds, whole minutes of the wall are not whole minutes of UTC.
        whole = {-int(offset.total_seconds()) % step for offset in offsets}
        seen: set[datetime] = set()
        self.walls: list[tuple[int, datetime, bool]] = []
        start = begin - LOOK_BACK
        for instant in sorted(n for first in whole for n in range(start + (first - start) % step, end, step)):
            wall = datetime.fromtimestamp(instant, zone).replace(tzinfo=None)
            if instant > begin:
                self.walls.append((instant, wall, wall in seen))
            seen.add(wall)
        self.gaps: list[tuple[int, list[datetime]]] = []
        for change in around:
            if begin < change.at < end and change.after > change.before:
                first, last = bare(change.at) + change.before, bare(change.at) + change.after
                first += timedelta(seconds=-seconds_of(first.replace(tzinfo=UTC)) % step)
                length = int((last - first).total_seconds())
                self.gaps.append((change.at, [first + timedelta(seconds=n) for n in range(0, length, step)]))

    def check(self, text: str) -> None:
        """Hold the recurrence to the oracle under all policies, upwards and downwards."""
        line = Line("0 * * * *" if text == "@hourly" else text)
        matching = [(instant, again) for instant, wall, again in self.walls if line.matches(wall)]
        shifted = {instant for instant, missing in self.gaps if any(map(line.matches, missing))}
        begin, end = aware(self.begin), aware(self.end)
        for gap, fold in product(Gap, Fold):
            twice = fold is Fold.BOTH or line.goes_on
            counted = {instant for instant, again in matching if twice or not again}
            expected = [aware(instant) for instant in sorted(counted | shifted if gap is Gap.SHIFT else counted)]
            recurrence = read_recurrence(text, self.name, gap=gap, fold=fold)
            case = f"{text!r} in {self.name}, {gap}, {fold}, from {begin} to {end}"
            assert list(takewhile(lambda at: at < end, recurrence.after(begin))) == expected, case
            down = list(takewhile(lambda at: at > begin, recurrence.before(end)))
            assert down[::-1] == expected, case


def hold_around(name: str, change: Change) -> None:
    """Check lines of every kind around one change."""
    shift = abs(int((change.after - change.before).total_seconds()))
    wall = bare(change.at) + max(change.before, change.after)
    near = Window(name, change.at - 2 * HOUR - 1, change.at + shift + 2 * HOUR)
    for text in ("* * * * *", "*/15 * * * *", "0-59/10 * * * *"):
        near.check(text)
    wide = Window(name, change.at - LOOK_BACK, change.at + LOOK_BACK)
    for text in (
        "0 * * * *", "@hourly", "30 2 * * *", "15,45 0-3 * * *", "0 0 * * *", "0 2 * * SUN", "*/20 2 * * *",
        f"30 {wall.hour} {wall.day} {wall.month} *", f"{wall.minute} {wall.hour} * * *",
        f"45 0-23/2 {wall.day} * {(wall.isoweekday() + 1) % 7}",
    ):  # fmt: skip
        wide.check(text)


@pytest.mark.parametrize("half", range(2))
def test_it_is_what_counting_gives_around_every_change_of_every_zone(half: int) -> None:
    begin, end = years(2005, 2030)
    held: set[tuple[object, ...]] = set()
    for name in ZONES[half::2]:
        found = changes(name, begin, end)
        # The clocks are those of the zone, so changes that look alike need to be looked at once.
        stretches = [stretch for year in range(2005, 2031) for stretch in module._stretches(name, year)]
        assert [
            (after.start, before.offset, after.offset)
            for before, after in pairwise(stretches)
            if before.offset != after.offset
        ] == [(bare(change.at), change.before, change.after) for change in found], name
        for change in found:
            if change.shape not in held:
                held.add(change.shape)
                hold_around(name, change)
    assert len(held) > 100


@pytest.mark.parametrize("name", ODD_ZONES)
def test_it_is_what_counting_gives_in_all_of_the_history_of_odd_zones(name: str) -> None:
    held: set[tuple[object, ...]] = set()
    for change in changes(name, *years(1840, 2040)):
        if change.shape not in held:
            held.add(change.shape)
            hold_around(name, change)
    assert held


@pytest.mark.parametrize(
    ("name", "around"),
    [
        ("Europe/Berlin", "2026-03-29T01:00"), ("Europe/Berlin", "2026-10-25T01:00"), ("UTC", "2026-01-01T00:00"),
        ("Australia/Lord_Howe", "2026-10-03T15:30"), ("Australia/Lord_Howe", "2026-04-04T15:00"),
        ("Africa/Monrovia", "1972-01-07T00:44"), ("America/Sao_Paulo", "2017-10-15T03:00"),
    ],
)  # fmt: skip
def test_lines_with_seconds_are_what_counting_gives(name: str, around: str) -> None:
    at = seconds_of(datetime.fromisoformat(around).replace(tzinfo=UTC))
    window = Window(name, at - HOUR - 7, at + 2 * HOUR, step=1)
    wall = aware(at).astimezone(zoneinfo.ZoneInfo(name))
    for text in (
        "*/20 * * * * *", "7 */30 * * * *", "59 59 * * * *", "10-12 30 * * * *", "0,30 15,45 0-3 * * *", "0 0 * * * *",
        f"*/25 {wall.minute} {wall.hour} {wall.day} {wall.month} *", "5 5 2 * * *",
    ):  # fmt: skip
        window.check(text)


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, high)
    part = st.one_of(
        number.map(str), span, st.builds("{}/{}".format, span, step), st.builds("{}/{}".format, number, step)
    )
    return st.one_of(
        st.just("*"),
        st.builds("*/{}".format, step),
        number.map(str),
        st.lists(part, min_size=1, max_size=3).map(",".join),
    )


LINES = st.builds(
    " ".join,
    st.tuples(
        fields(0, 59),
        st.one_of(st.just("*"), fields(0, 23), st.sampled_from(("0", "1", "2", "3", "1-3"))),
        st.one_of(st.just("*"), fields(1, 31)),
        st.one_of(st.just("*"), fields(1, 12)),
        st.one_of(st.just("*"), fields(0, 7), st.sampled_from(("SUN", "MON-FRI", "1,SAT"))),
    ),
)


def readable(text: str) -> bool:
    """Whether the line is taken; if not, the oracle must find no date for it."""
    try:
        normal_expression(text)
    except RecurrenceError:
        line = Line(text)
        assert not any(line.matches_date(date(2000, 1, 1) + timedelta(days=n)) for n in range(28 * 366))
        return False
    return True


@settings(deadline=None)
@given(
    text=LINES,
    name=st.sampled_from(ZONES),
    year=st.integers(1900, 2060),
    choice=st.integers(0, 3),
    shift=st.integers(-20 * HOUR, 20 * HOUR),
    length=st.integers(1, 30 * HOUR),
)
@example(text="* * * * 0-0/1", name="Africa/Abidjan", year=1900, choice=0, shift=0, length=969)
@example(text="*/7 2 * * *", name="Europe/Berlin", year=2026, choice=0, shift=-HOUR, length=5 * HOUR)
def test_any_line_anywhere_is_what_counting_gives(
    text: str, name: str, year: int, choice: int, shift: int, length: int
) -> None:
    assume(readable(text))
    begin, end = years(year, year)
    middle = [change.at for change in changes(name, begin, end)] or [begin, (begin + end) // 2]
    begin = middle[choice % len(middle)] + shift
    Window(name, begin, begin + length).check(text)


@settings(deadline=None)
@given(LINES, st.integers(0, 20 * 366))
def test_any_line_on_any_day_is_what_counting_gives(text: str, day: int) -> None:
    """Far from changes of the clocks: dates, over all kinds of months and years."""
    assume(readable(text))
    line = Line(text)
    begin = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day)
    expected = [at for n in range(400) if line.matches_date(at := begin + timedelta(days=n))]
    days = dict.fromkeys(
        at.replace(hour=0, minute=0)
        for at in takewhile(
            lambda at: at < begin + timedelta(days=400),
            read_recurrence(" ".join(("0 0", *text.split()[2:]))).after(begin - timedelta(seconds=1)),
        )
    )
    assert list(days) == expected


# Examples, to be read.


def local(recurrence: Recurrence, moment: str, count: int) -> list[str]:
    """The next occurrences as a clock on the wall there shows them, with the offset."""
    zone = zoneinfo.ZoneInfo(recurrence.timezone)
    begin = datetime.fromisoformat(moment).replace(tzinfo=zone)
    return [at.astimezone(zone).strftime("%m-%d %H:%M %z") for at in islice(recurrence.after(begin), count)]


def test_the_night_without_an_hour() -> None:
    shift = read_recurrence("30 2 * * *", "Europe/Berlin")
    assert local(shift, "2026-03-28T00:00", 3) == ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]
    skip = read_recurrence("30 2 * * *", "Europe/Berlin", gap="skip")
    assert local(skip, "2026-03-28T00:00", 2) == ["03-28 02:30 +0100", "03-30 02:30 +0200"]
    new_york = read_recurrence("0,30 2,3 * * *", "America/New_York")
    assert local(new_york, "2026-03-08T00:00", 3) == ["03-08 03:00 -0400", "03-08 03:30 -0400", "03-09 02:00 -0400"]


def test_the_night_with_an_hour_twice() -> None:
    first = read_recurrence("30 2 * * *", "Europe/Berlin")
    assert local(first, "2026-10-24T12:00", 2) == ["10-25 02:30 +0200", "10-26 02:30 +0100"]
    both = read_recurrence("30 1 * * *", "America/New_York", fold="both")
    assert local(both, "2026-10-31T12:00", 3) == ["11-01 01:30 -0400", "11-01 01:30 -0500", "11-02 01:30 -0500"]
    wildcard = read_recurrence("*/30 1 * * *", "America/New_York", fold="first")
    assert local(wildcard, "2026-10-31T12:00", 5) == [
        "11-01 01:00 -0400", "11-01 01:30 -0400", "11-01 01:00 -0500", "11-01 01:30 -0500", "11-02 01:00 -0500",
    ]  # fmt: skip


def test_a_day_that_never_was() -> None:
    noon = read_recurrence("0 12 * * *", "Pacific/Apia")
    assert local(noon, "2011-12-29T00:00", 3) == ["12-29 12:00 -1000", "12-31 00:00 +1400", "12-31 12:00 +1400"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 9 * * mon-fri", "0 9 * * MON-FRI"), ("  0  0 1 jan * ", "0 0 1 JAN *"), ("@YEARLY", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"), ("@monthly", "0 0 1 * *"), ("@weekly", "0 0 * * 0"), ("@Daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"), (" @hourly ", "0 * * * *"), ("30 0 0 L * *", "30 0 0 L * *"),
        ("0 0 * * 5l", "0 0 * * 5L"), ("0 0 29 2 *", "0 0 29 2 *"), ("0 0 30 2 1", "0 0 30 2 1"),
        ("0 0 * 2 1#5", "0 0 * 2 1#5"), ("0 0 31 2-4 *", "0 0 31 2-4 *"),
        ("5-5/10,7 0-0/1 3-3/02 * SUN-SUN/2", "5,7 0 3 * SUN"), ("5/20 15-5/2 * * *", None), ("5-5/0 * * * *", None),
        ("5-5-5/2 * * * *", None), ("5-5/2-3 * * * *", None), ("1-15/7 2-22/5 * * *", "1-15/7 2-22/5 * * *"),
    ],
)  # fmt: skip
def test_normal_expressions(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(RecurrenceError):
            normal_expression(text)
    else:
        assert normal_expression(text) == expected
        assert normal_expression(expected) == expected
        assert read_recurrence(text).expression == expected


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("0 0 * * 0", ["03-01", "03-08"]), ("0 0 * * 7", ["03-01", "03-08"]), ("0 0 L * *", ["02-28", "03-31"]),
        ("0 0 LW * *", ["02-27", "03-31"]), ("0 0 * * 5L", ["02-27", "03-27"]), ("0 0 * * 1#2", ["03-09", "04-13"]),
        ("0 0 13 * 5", ["02-27", "03-06", "03-13", "03-20"]), ("0 0 */2 * 5", ["02-27", "03-13"]),
    ],
)  # fmt: skip
def test_days(text: str, dates: list[str]) -> None:
    begin = datetime(2026, 2, 26, tzinfo=UTC)
    assert [at.strftime("%m-%d") for at in islice(read_recurrence(text).after(begin), len(dates))] == dates


# What is refused.

MINUTE = "The minute field `{}` can't be read. It takes 0 to 59; and `*`, lists (1,2), ranges (1-5, upwards), and steps"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The cron expression is empty; `0 9 * * *` is every day at 9:00."),
        ("   ", "The cron expression is empty"),
        (
            "*",
            "The cron expression has 1 field; it needs five (minute, hour, day of month, month, day of week), or six",
        ),
        ("* * * *", "The cron expression has 4 fields; it needs five"),
        ("* * * * * * *", "The cron expression has 7 fields; it needs five"),
        ("* " * 128, "The cron expression is 256 characters long; it may have 255."),
        ("٣ * * * *", "The cron expression holds the character U+0663; it may hold letters, digits and signs of ASCII"),
        ("1\N{EN DASH}5 * * * *", "holds the character U+2013"),
        ("0\t0 * * *", "holds the character U+0009"),
        ("0 0 * * *\n", "holds the character U+000A"),
        ("0 0 * * \x00", "holds the character U+0000"),
        ("0 0 * * \ud800", "holds the character U+D800"),
        ("*/0 * * * *", MINUTE.format("*/0")),
        ("60 * * * *", MINUTE.format("60")),
        ("5-1 * * * *", MINUTE.format("5-1")),
        (", * * * *", MINUTE.format(",")),
        ("-1 * * * *", MINUTE.format("-1")),
        ("0 24 * * *", "The hour field `24` can't be read. It takes 0 to 23;"),
        ("0 0 0 * *", "The day-of-month field `0` can't be read. It takes 1 to 31, or L for the last day;"),
        ("0 0 32 * *", "The day-of-month field `32` can't be read."),
        ("0 0 15W * *", "The day-of-month field `15W` can't be read."),
        ("0 0 * 13 *", "The month field `13` can't be read. It takes 1 to 12, or JAN to DEC;"),
        ("0 0 1 feb-jan *", "The month field `FEB-JAN` can't be read."),
        ("0 0 * * 8", "The day-of-week field `8` can't be read. It takes 0 to 7, where 0 and 7 are Sunday, or SUN to"),
        ("0 0 * * 1#6", "The day-of-week field `1#6` can't be read."),
        ("0 0 ? * *", "The day-of-month field `?` can't be read."),
        ("60 0 0 * * *", "The second field `60` can't be read. It takes 0 to 59;"),
        ("0 0 30 2 *", "No date ever matches: there is no day `30` in the month `2`."),
        ("0 0 31 4 *", "No date ever matches: there is no day `31` in the month `4`."),
        ("0 0 0 30-31 feb *", "No date ever matches: there is no day `30-31` in the month `FEB`."),
        ("0 0 */30 * 1#2", "No date ever matches `0 0 */30 * 1#2`."),
        ("@reboot", "`@reboot` is no time: schedules don't depend on when a machine starts. Give a cron line."),
        ("@every 15m", "`@every` has no fixed times. Give a cron line: `*/15 * * * *` is every 15 minutes."),
        ("@fortnightly", "`@fortnightly` is no nickname of a cron line; there are @yearly, @annually, @monthly,"),
    ],
)
def test_refused_lines(text: str, reason: str) -> None:
    with pytest.raises(RecurrenceError) as caught:
        read_recurrence(text)
    assert reason in str(caught.value)
    assert caught.value.field == "cron_expression"


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"@[a-z]+|([0-9A-Z*#/,LW-]{1,5} ){4,5}[0-9A-Z*#/,LW-]{1,5}", fullmatch=True)))
def test_any_text_occurs_or_is_refused(text: str) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    with suppress(RecurrenceError):
        assert next(read_recurrence(text).after(begin)) > begin


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("europe/berlin", "'europe/berlin' is no time zone; did you mean `Europe/Berlin`?"),
        ("Europe/Berln", "did you mean `Europe/Berlin`?"),
        ("utc", "did you mean `UTC`?"),
        (
            "Mars/Olympus_Mons",
            "'Mars/Olympus_Mons' is no time zone; give an IANA name such as `Europe/Berlin` or `UTC`.",
        ),
        ("", "'' is no time zone; give an IANA name"),
        ("+02:00", "give an IANA name"),
        ("localtime", "is no time zone"),
        ("Factory", "is no time zone"),
        ("Europe", "is no time zone"),
        ("../etc/passwd", "is no time zone"),
        ("/usr/share/zoneinfo/Europe/Berlin", "is no time zone"),
        ("Europe/../Europe/Berlin", "is no time zone"),
        ("Europe/Berlin\x00", r"'Europe/Berlin\x00' is no time zone"),
        ("x" * 10_000, "x' is no time zone"),
    ],
)
def test_refused_time_zones(name: str, reason: str) -> None:
    with pytest.raises(RecurrenceError) as caught:
        read_recurrence("@daily", name)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250
    assert caught.value.field == "timezone"


def test_refused_policies_and_bounds() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    refused: list[tuple[str, str, Callable[[], Recurrence]]] = [
        ("dst_gap", "`dst_gap` is `skip` or `shift`.", lambda: read_recurrence("@daily", gap="both")),
        ("dst_fold", "`dst_fold` is `first` or `both`.", lambda: read_recurrence("@daily", fold="skip")),
        (
            "ends_at",
            "`ends_at` must be later than `starts_at`.",
            lambda: read_recurrence("@daily", starts_at=at, ends_at=at),
        ),
        ("starts_at", "needs a UTC offset", lambda: read_recurrence("@daily", starts_at=at.replace(tzinfo=None))),
        ("ends_at", "needs a UTC offset", lambda: read_recurrence("@daily", ends_at=at.replace(tzinfo=None))),
        (
            "ends_at",
            "must lie in the years 1 to 9999",
            lambda: read_recurrence("@daily", ends_at=datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
        ),
    ]
    for field, reason, read in refused:
        with pytest.raises(RecurrenceError, match=reason) as caught:
            read()
        assert caught.value.field == field
    with pytest.raises(ValueError, match="needs a time zone"):
        read_recurrence("@daily").after(at.replace(tzinfo=None))
    with pytest.raises(ValueError, match="needs a time zone"):
        read_recurrence("@daily").before(at.replace(tzinfo=None))


# Bounds and ends.


def test_both_bounds_are_inclusive() -> None:
    first, last = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    days = [first, first + timedelta(days=1), last]
    second = timedelta(seconds=1)
    for start, end, expected in (
        (first, last, days),
        (first - second, last + second, days),
        (first + second, last - second, days[1:2]),
        (first, None, days),
        (None, last, days),
    ):
        recurrence = read_recurrence("@daily", starts_at=start, ends_at=end)
        begin = first - timedelta(days=400) if start else first - second
        assert list(islice(recurrence.after(begin), len(expected))) == expected
        beyond = last + timedelta(days=400) if end else last + second
        assert list(islice(recurrence.before(beyond), len(expected))) == expected[::-1]
        if end is not None:
            assert len(list(recurrence.after(begin))) == len(expected) or start is None
            assert next(recurrence.after(last), None) is None
        if start is not None:
            assert next(recurrence.before(first), None) is None


def test_bounds_are_kept_in_utc() -> None:
    recurrence = read_recurrence("@daily", ends_at=datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")))
    assert recurrence.ends_at == datetime(2025, 12, 31, 15, tzinfo=UTC)
    assert recurrence.ends_at.tzinfo is UTC


def test_a_start_within_a_gap_counts_what_is_shifted() -> None:
    end_of_gap = datetime(2026, 3, 29, 1, tzinfo=UTC)
    recurrence = read_recurrence("30 2 * * *", "Europe/Berlin", starts_at=end_of_gap, ends_at=end_of_gap + timedelta(1))
    assert next(recurrence.after(end_of_gap - timedelta(days=9))) == end_of_gap
    assert next(recurrence.before(end_of_gap + timedelta(hours=9))) == end_of_gap
    assert next(recurrence.after(end_of_gap)) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    assert next(recurrence.before(end_of_gap), None) is None


def test_moments_are_exclusive_to_the_microsecond() -> None:
    at, tick = datetime(2026, 3, 1, 12, 30, tzinfo=UTC), timedelta(microseconds=1)
    recurrence = read_recurrence("30 * * * *")
    hour = timedelta(hours=1)
    for moment, later, earlier in ((at - tick, at, at - hour), (at, at + hour, at - hour), (at + tick, at + hour, at)):
        assert next(recurrence.after(moment)) == later
        assert next(recurrence.before(moment)) == earlier


def ends(occurrences: Iterator[datetime]) -> int:
    return sum(1 for _ in islice(occurrences, 10_000))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/Los_Angeles"])
@pytest.mark.parametrize("text", ["0 0 1 1 *", "0 0 29 2 *", "30 2 * * *", "59 59 23 31 12 *"])
def test_the_ends_of_the_calendar(zone: str, text: str) -> None:
    recurrence = read_recurrence(text, zone, ends_at=datetime.max.replace(tzinfo=UTC))
    assert recurrence.ends_at == datetime.max.replace(tzinfo=UTC)
    for year in (1, 2, 3, 4, 1583, 1899, 9900, 9998, 9999):
        for moment in (datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)):
            for at in islice(recurrence.after(moment), 30):
                assert moment < at
            for at in islice(recurrence.before(moment), 30):
                assert at < moment
    assert ends(recurrence.after(datetime(9998, 6, 1, tzinfo=UTC))) < 220
    for offset in (-12, 14):
        edge = timezone(timedelta(hours=offset))
        assert ends(recurrence.after(datetime.max.replace(tzinfo=edge))) == 0
        assert ends(recurrence.before(datetime.min.replace(tzinfo=edge))) == 0


def test_what_lies_too_far_is_not_looked_for() -> None:
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    yearly = list(read_recurrence("@yearly").after(begin))
    assert [at.year for at in yearly] == list(range(2027, 2027 + HORIZON))
    assert len(list(read_recurrence("@yearly").before(begin))) == HORIZON + 1
    # At 02:30 on the last Sunday of March there never is such a time, since 1981.
    never = read_recurrence("30 2 * 3 7L", "Europe/Berlin", gap="skip")
    assert list(never.after(begin)) == []
    assert len(list(islice(read_recurrence("30 2 * 3 7L", "Europe/Berlin").after(begin), 3))) == 3


def test_rare_dates_are_found() -> None:
    leap_monday = read_recurrence("0 0 * 2 1#5", "Europe/Berlin")
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    assert next(leap_monday.after(datetime(2072, 3, 1, tzinfo=UTC))).astimezone(berlin).date() == date(2112, 2, 29)
