"""Functions of dates, which are RFC 3339 strings, and of durations, which are numbers of seconds."""

from datetime import UTC, datetime, tzinfo
from typing import Final

from gorax_engine.core.expressions import dates
from gorax_engine.core.expressions.errors import invalid_argument, type_error
from gorax_engine.core.expressions.functions.builtin import Builtin, integer, number, text
from gorax_engine.core.expressions.layouts import format_time, parse_time
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import described, is_number, sized_text
from gorax_engine.core.model import Json

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_SHORT_UNITS: Final = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "y": "year"}


def _date_of(value: Json, name: str, zone: tzinfo = UTC) -> datetime:
    if type(value) is str:
        return dates.read(value, zone)
    if type(value) is int or type(value) is float:
        if abs(value) > 1e12:
            raise invalid_argument(f"`{name}` takes a number as seconds since 1970; this one is too large.")
        return dates.of_instant(round(value * 1_000_000))
    raise type_error(f"`{name}` needs a date (an RFC 3339 string), not {described(value)}.")


def _now(scope: Scope, zone: Json = None) -> Json:
    at = dates.of_instant(scope.now)
    return dates.written(at if zone is None else _in_zone(at, dates.zone(text(zone, "now"))))


def _in_zone(at: datetime, zone: tzinfo) -> datetime:
    try:
        return at.astimezone(zone)
    except (OverflowError, ValueError):
        raise invalid_argument("The date is outside the years 1 to 9999.") from None


def _date(scope: Scope, value: Json, layout: Json = None, zone: Json = None) -> Json:
    place = UTC if zone is None else dates.zone(text(zone, "date"))
    if layout is None:
        return dates.written(_date_of(value, "date", place))
    return dates.written(parse_time(text(value, "date"), text(layout, "date"), place))


def _date_format(scope: Scope, value: Json, layout: Json = "RFC3339", zone: Json = None) -> Json:
    at = _date_of(value, "dateFormat")
    pattern = text(layout, "dateFormat")
    if len(pattern) > 1_000:
        raise invalid_argument("The layout of `dateFormat` is longer than 1,000 characters.")
    if zone is not None:
        at = _in_zone(at, dates.zone(text(zone, "dateFormat")))
    return sized_text(format_time(at, pattern), scope)


def _date_add(scope: Scope, value: Json, amount: Json, unit: Json = None) -> Json:
    at = _date_of(value, "dateAdd")
    if unit is None:
        seconds = dates.duration_seconds(amount) if type(amount) is str else number(amount, "dateAdd")
        return dates.written(dates.moved(at, seconds=seconds))
    name = text(unit, "dateAdd").lower()
    name = _SHORT_UNITS.get(name, name.removesuffix("s"))
    if name in _UNITS:
        return dates.written(dates.moved(at, seconds=number(amount, "dateAdd") * _UNITS[name]))
    if name in ("month", "year"):
        months = integer(amount, "dateAdd") * (12 if name == "year" else 1)
        return dates.written(dates.add_months(at, months))
    raise invalid_argument(f"The unit of `dateAdd` is one of {', '.join([*_UNITS, 'month', 'year'])}.")


def _add_days(scope: Scope, value: Json, days: Json) -> Json:
    return dates.written(dates.moved(_date_of(value, "addDays"), days=integer(days, "addDays")))


def _date_diff(scope: Scope, start: Json, end: Json, unit: Json = "second") -> Json:
    name = text(unit, "dateDiff").lower()
    name = _SHORT_UNITS.get(name, name.removesuffix("s"))
    if name not in _UNITS:
        raise invalid_argument(f"The unit of `dateDiff` is one of {', '.join(_UNITS)}.")
    seconds = dates.seconds_between(
        dates.written(_date_of(start, "dateDiff")), dates.written(_date_of(end, "dateDiff"))
    )
    result = seconds / _UNITS[name]
    return int(result) if result == int(result) else result


def _duration(scope: Scope, value: Json) -> Json:
    return value if is_number(value) else dates.duration_seconds(text(value, "duration"))


def _timezone(scope: Scope, name: Json) -> Json:
    dates.zone(text(name, "timezone"))
    return name


def _unix(scope: Scope, value: Json) -> Json:
    return dates.unix_seconds(_date_of(value, "unix"))


BUILTINS: Final = (
    Builtin("now", _now, "now([zone])", "The time of the step's start; it stands still within a step.", 0, 1,
            (("now() == now()", True),)),
    Builtin("date", _date, "date(v[, layout[, zone]])",
            "An RFC 3339 date from text in a usual form or in a Go layout, or from seconds since 1970.", 1, 3,
            (('date("2023-08-14")', "2023-08-14T00:00:00Z"), ("date(0)", "1970-01-01T00:00:00Z"),
             ('date("2023-08-14 00:00:00", "2006-01-02 15:04:05", "Europe/Zurich")', "2023-08-14T00:00:00+02:00"))),
    Builtin("dateParse", _date, "dateParse(s[, layout[, zone]])", "Another name of `date`.", 1, 3,
            (('dateParse("14.08.2023", "02.01.2006")', "2023-08-14T00:00:00Z"),)),
    Builtin("dateFormat", _date_format, "dateFormat(t[, layout[, zone]])",
            "A date as text: a Go layout or the name of one, RFC 3339 by default.", 1, 3,
            (('dateFormat("2023-08-14T15:04:05Z", "Mon, 2 Jan 2006 3:04PM")', "Mon, 14 Aug 2023 3:04PM"),
             ('dateFormat("2023-08-14T22:00:00Z", "DateOnly", "Europe/Zurich")', "2023-08-15"))),
    Builtin("dateAdd", _date_add, "dateAdd(t, amount[, unit])",
            "A date moved by seconds, by a duration such as `1h30m`, or by so many seconds, minutes, hours, days, "
            "weeks, months or years.", 2, 3,
            (('dateAdd("2024-01-31T00:00:00Z", -1, "month")', "2023-12-31T00:00:00Z"),
             ('dateAdd("2024-01-31T00:00:00Z", "1h30m")', "2024-01-31T01:30:00Z"))),
    Builtin("addDays", _add_days, "addDays(t, n)", "A date moved by days.", 2, 2,
            (('addDays("2024-02-28T00:00:00Z", 2)', "2024-03-01T00:00:00Z"),)),
    Builtin("dateDiff", _date_diff, "dateDiff(start, end[, unit])",
            "The length from one date to another in seconds, minutes, hours, days or weeks.", 2, 3,
            (('dateDiff("2024-01-01", "2024-01-03", "days")', 2),)),
    Builtin("duration", _duration, "duration(s)", "The seconds of a duration such as `1h30m`.", 1, 1,
            (('duration("1h30m")', 5400), ('duration("250ms")', 0.25))),
    Builtin("timezone", _timezone, "timezone(name)", "The name of a time zone, checked.", 1, 1,
            (('timezone("Europe/Zurich")', "Europe/Zurich"),)),
    Builtin("unix", _unix, "unix(t)", "The seconds since 1970 of a date.", 1, 1,
            (('unix("1970-01-01T00:01:00Z")', 60),)),
)  # fmt: skip
