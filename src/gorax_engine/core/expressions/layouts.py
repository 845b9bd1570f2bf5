"""Go's reference layouts (`2006-01-02 15:04:05`): formatting and parsing times by example, as Go does."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from gorax_engine.core.expressions.errors import invalid_argument

NAMED: Final = {
    "ANSIC": "Mon Jan _2 15:04:05 2006",
    "UnixDate": "Mon Jan _2 15:04:05 MST 2006",
    "RFC822": "02 Jan 06 15:04 MST",
    "RFC822Z": "02 Jan 06 15:04 -0700",
    "RFC850": "Monday, 02-Jan-06 15:04:05 MST",
    "RFC1123": "Mon, 02 Jan 2006 15:04:05 MST",
    "RFC1123Z": "Mon, 02 Jan 2006 15:04:05 -0700",
    "RFC3339": "2006-01-02T15:04:05Z07:00",
    "RFC3339Nano": "2006-01-02T15:04:05.999999999Z07:00",
    "Kitchen": "3:04PM",
    "DateTime": "2006-01-02 15:04:05",
    "DateOnly": "2006-01-02",
    "TimeOnly": "15:04:05",
}
"""Go's names for common layouts, accepted in place of a layout."""

_MONTHS: Final = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
                  "November", "December")  # fmt: skip
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# In the order in which Go tries them at one place.
_CHUNK: Final = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST"
    r"|002|01|02|03|04|05|06"
    r"|15|1|2006|__2|_2(?!006)|2|3|4|5|PM|pm"
    r"|[-Z]07:00:00|[-Z]070000|[-Z]07:00|[-Z]0700|[-Z]07"
    r"|[.,](?:0+|9+)(?![0-9])"
)
_ZONE_ABBREVIATION: Final = re.compile(r"[A-Z]{3,4}|[+-][0-9]{2}")


_WRITERS: Final[dict[str, Callable[[datetime], str]]] = {
    "2006": lambda at: f"{at.year:04d}",
    "06": lambda at: f"{at.year % 100:02d}",
    "January": lambda at: _MONTHS[at.month - 1],
    "Jan": lambda at: _MONTHS[at.month - 1][:3],
    "01": lambda at: f"{at.month:02d}",
    "1": lambda at: str(at.month),
    "Monday": lambda at: _DAYS[at.weekday()],
    "Mon": lambda at: _DAYS[at.weekday()][:3],
    "02": lambda at: f"{at.day:02d}",
    "_2": lambda at: f"{at.day:2d}",
    "2": lambda at: str(at.day),
    "002": lambda at: f"{at.timetuple().tm_yday:03d}",
    "__2": lambda at: f"{at.timetuple().tm_yday:3d}",
    "15": lambda at: f"{at.hour:02d}",
    "03": lambda at: f"{at.hour % 12 or 12:02d}",
    "3": lambda at: str(at.hour % 12 or 12),
    "04": lambda at: f"{at.minute:02d}",
    "4": lambda at: str(at.minute),
    "05": lambda at: f"{at.second:02d}",
    "5": lambda at: str(at.second),
    "PM": lambda at: "PM" if at.hour >= 12 else "AM",
    "pm": lambda at: "pm" if at.hour >= 12 else "am",
}
"""How each chunk is written; fractions and zones have their own functions."""

_NUMBERS: Final = {
    "2006": ("year", "[0-9]{4}"),
    "01": ("month", "[0-9]{2}"),
    "1": ("month", "[0-9]{1,2}"),
    "02": ("day", "[0-9]{2}"),
    "_2": ("day", " ?[0-9]{1,2}"),
    "2": ("day", " ?[0-9]{1,2}"),
    "002": ("yearday", "[0-9]{3}"),
    "__2": ("yearday", " {0,2}[0-9]{1,3}"),
    "15": ("hour", "[0-9]{1,2}"),
    "03": ("hour", "[0-9]{2}"),
    "3": ("hour", "[0-9]{1,2}"),
    "04": ("minute", "[0-9]{2}"),
    "4": ("minute", "[0-9]{1,2}"),
    "05": ("second", "[0-9]{2}"),
    "5": ("second", "[0-9]{1,2}"),
}
"""The field that a number chunk sets, and how it may be written."""

_NAMES: Final = {
    "January": ("month", _MONTHS),
    "Jan": ("month", tuple(month[:3] for month in _MONTHS)),
    "Monday": ("weekday", _DAYS),
    "Mon": ("weekday", tuple(day[:3] for day in _DAYS)),
}
"""The field that a word chunk sets, and the words."""


def format_time(moment: datetime, layout: str) -> str:
    """`moment` written as the reference time is written in `layout`."""
    layout = NAMED.get(layout, layout)
    return _CHUNK.sub(lambda match: _format_chunk(moment, match[0]), layout)


def _format_chunk(moment: datetime, chunk: str) -> str:
    writer = _WRITERS.get(chunk)
    if writer is not None:
        return writer(moment)
    if chunk == "MST":
        return _zone_name(moment)
    return _fraction(moment, chunk) if chunk[0] in ".," else _offset(moment, chunk)


def _zone_name(moment: datetime) -> str:
    name = moment.tzname() or "UTC"
    return (
        _offset(moment, "-0700" if _minutes(moment) % 60 else "-07")
        if name.startswith("UTC") and name != "UTC"
        else name
    )


def _minutes(moment: datetime) -> int:
    return int((moment.utcoffset() or timedelta()).total_seconds()) // 60


def _offset(moment: datetime, chunk: str) -> str:
    seconds = int((moment.utcoffset() or timedelta()).total_seconds())
    if chunk[0] == "Z" and seconds == 0:
        return "Z"
    sign = "-" if seconds < 0 else "+"
    hours, rest = divmod(abs(seconds), 3600)
    colon = ":" if ":" in chunk else ""
    text = f"{sign}{hours:02d}"
    pairs = (len(chunk) - 1 - chunk.count(":")) // 2
    if pairs > 1:
        text += f"{colon}{rest // 60:02d}"
    if pairs > 2:
        text += f"{colon}{rest % 60:02d}"
    return text


def _fraction(moment: datetime, chunk: str) -> str:
    digits = f"{moment.microsecond:06d}000"[: len(chunk) - 1].ljust(len(chunk) - 1, "0")
    if chunk[1] == "9":
        digits = digits.rstrip("0")
        return chunk[0] + digits if digits else ""
    return chunk[0] + digits


class _Reader:
    """Reads one text along one layout."""

    def __init__(self, text: str, layout: str) -> None:
        self.text = text
        self.layout = layout
        self.rest = text
        self.fields: dict[str, int] = {}
        self.afternoon: bool | None = None
        self.zone: tzinfo | None = None

    def fail(self) -> Exception:
        return invalid_argument(f"`{self.text[:60]}` is not a time of the layout `{self.layout[:60]}`.")

    def take(self, pattern: str) -> str:
        match = re.match(pattern, self.rest)
        if match is None:
            raise self.fail()
        self.rest = self.rest[match.end() :]
        return match[0]

    def word(self, field: str, words: tuple[str, ...]) -> None:
        lowered = self.rest.lower()
        for index, word in enumerate(words):
            if lowered.startswith(word.lower()):
                self.fields[field] = index + 1
                self.rest = self.rest[len(word) :]
                return
        raise self.fail()

    def literal(self, text: str) -> None:
        if not self.rest.startswith(text):
            raise self.fail()
        self.rest = self.rest[len(text) :]

    def chunk(self, chunk: str, next_is_fraction: bool) -> None:
        if chunk in _NUMBERS:
            field, pattern = _NUMBERS[chunk]
            self.fields[field] = int(self.take(pattern))
            # Go takes a fraction after the seconds even where the layout has none.
            if field == "second" and not next_is_fraction and re.match(r"[.,][0-9]", self.rest):
                self.fraction(self.take(r"[.,][0-9]+"))
        elif chunk in _NAMES:
            self.word(*_NAMES[chunk])
        elif chunk == "06":
            year = int(self.take("[0-9]{2}"))
            self.fields["year"] = year + (1900 if year >= 69 else 2000)
        elif chunk in ("PM", "pm"):
            self.afternoon = self.take("[AP]M" if chunk == "PM" else "[ap]m").lower() == "pm"
        elif chunk == "MST":
            self.zone_name()
        elif chunk[0] in ".,":
            self.fraction(self.take(rf"[.,][0-9]{{{len(chunk) - 1}}}" if chunk[1] == "0" else r"(?:[.,][0-9]+)?"))
        else:
            self.offset(chunk)

    def fraction(self, text: str) -> None:
        self.fields["microsecond"] = int(text[1:7].ljust(6, "0")) if text else 0

    def offset(self, chunk: str) -> None:
        if chunk[0] == "Z" and self.rest.startswith("Z"):
            self.rest = self.rest[1:]
            self.zone = UTC
            return
        pairs = (len(chunk) - 1 - chunk.count(":")) // 2
        text = self.take("[+-]" + (":" if ":" in chunk else "").join(["[0-9]{2}"] * pairs))
        digits = text[1:].replace(":", "")
        hours, minutes, seconds = int(digits[:2]), int(digits[2:4] or 0), int(digits[4:6] or 0)
        if hours > 23 or minutes > 59 or seconds > 59:
            raise self.fail()
        length = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        self.zone = timezone(-length if text[0] == "-" else length)

    def zone_name(self) -> None:
        match = _ZONE_ABBREVIATION.match(self.rest)
        if match is None:
            raise self.fail()
        self.rest = self.rest[match.end() :]
        # Go knows no offset for a foreign abbreviation either; it takes it as UTC.
        self.zone = UTC if match[0][0] not in "+-" else timezone(timedelta(hours=int(match[0])))

    def moment(self, zone: tzinfo) -> datetime:
        if self.rest:
            raise self.fail()
        fields = self.fields
        hour = fields.get("hour", 0)
        if self.afternoon is not None:
            if not 1 <= hour <= 12:
                raise self.fail()
            hour = hour % 12 + (12 if self.afternoon else 0)
        try:
            moment = datetime(
                fields.get("year", 1),
                fields.get("month", 1),
                fields.get("day", 1),
                hour,
                fields.get("minute", 0),
                fields.get("second", 0),
                fields.get("microsecond", 0),
                self.zone if self.zone is not None else zone,
            )
            if "yearday" in fields and "month" not in fields:
                moment = moment.replace(month=1, day=1) + timedelta(days=fields["yearday"] - 1)
                if moment.year != fields.get("year", 1):
                    raise ValueError
        except (ValueError, OverflowError):
            raise self.fail() from None
        return moment


def parse_time(text: str, layout: str, zone: tzinfo = UTC) -> datetime:
    """The time that `text` says, read as `layout`; in `zone` where the text names none.

    Raises ExpressionError `invalid_argument`.
    """
    layout = NAMED.get(layout, layout)
    reader = _Reader(text, layout)
    at = 0
    chunks = list(_CHUNK.finditer(layout))
    for index, match in enumerate(chunks):
        reader.literal(layout[at : match.start()])
        at = match.end()
        following = chunks[index + 1] if index + 1 < len(chunks) else None
        next_is_fraction = following is not None and following.start() == at and following[0][0] in ".,"
        reader.chunk(match[0], next_is_fraction)
    reader.literal(layout[at:])
    return reader.moment(zone)
