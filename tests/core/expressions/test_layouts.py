"""Go's reference layouts, by values that Go's own time package gives."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.expressions.layouts import NAMED, format_time, parse_time

MOMENT = datetime(2009, 2, 4, 21, 0, 57, 12_345, timezone(timedelta(hours=-8)))

FORMATS = [
    ("ANSIC", "Wed Feb  4 21:00:57 2009"),
    ("RFC822Z", "04 Feb 09 21:00 -0800"),
    ("RFC1123Z", "Wed, 04 Feb 2009 21:00:57 -0800"),
    ("RFC3339", "2009-02-04T21:00:57-08:00"),
    ("RFC3339Nano", "2009-02-04T21:00:57.012345-08:00"),
    ("Kitchen", "9:00PM"),
    ("3pm", "9pm"),
    ("3PM", "9PM"),
    ("06 01 02", "09 02 04"),
    ("Jan  2 '06 at 3:04pm (MST)", "Feb  4 '09 at 9:00pm (-08)"),
    ("Jan _2 15:04:05.000", "Feb  4 21:00:57.012"),
    ("Jan _2 15:04:05.000000", "Feb  4 21:00:57.012345"),
    ("15:04:05.999999999", "21:00:57.012345"),
    ("15:04:05,000", "21:00:57,012"),
    ("2006-002", "2009-035"),
    ("__2", " 35"),
    ("Monday January Janet Month", "Wednesday February Janet Month"),
    ("2006_2", "2009 4"),
    ("1/2/2006 03:04 pm", "2/4/2009 09:00 pm"),
    ("Z07:00 Z0700 Z07 -07:00:00", "-08:00 -0800 -08 -08:00:00"),
    ("05.0000000", "57.0123450"),
    ("no tokens", "no tokens"),
    ("_2006", "_2009"),
    ("20060102150405", "20090204210057"),
]


@pytest.mark.parametrize(("layout", "expected"), FORMATS)
def test_format(layout: str, expected: str) -> None:
    assert format_time(MOMENT, layout) == expected


def test_utc_is_z_or_a_number_as_the_layout_says() -> None:
    moment = datetime(2024, 1, 2, 0, 5, 6, tzinfo=UTC)
    assert format_time(moment, "Z07:00 -07:00 MST 3 03 15 PM .999") == "Z +00:00 UTC 12 12 00 AM "


@pytest.mark.parametrize(("name", "layout"), NAMED.items())
def test_named_layouts_read_what_they_write(name: str, layout: str) -> None:
    moment = datetime(2024, 3, 5, 14, 7, 9, tzinfo=UTC)
    written = format_time(moment, name)
    assert written == format_time(moment, layout)
    assert format_time(parse_time(written, name), name) == written


PARSES = [
    ("02.01.2006", "14.08.2023", datetime(2023, 8, 14, tzinfo=UTC)),
    ("2/1/06 3:04 PM", "4/2/09 9:05 PM", datetime(2009, 2, 4, 21, 5, tzinfo=UTC)),
    ("2006-01-02 15:04:05", "2023-08-14 01:02:03.25", datetime(2023, 8, 14, 1, 2, 3, 250_000, UTC)),
    ("Jan 2, 2006 at 3:04pm", "Dec 25, 1999 at 12:00am", datetime(1999, 12, 25, tzinfo=UTC)),
    ("2006-002", "2024-060", datetime(2024, 2, 29, tzinfo=UTC)),
    ("06", "69", datetime(1969, 1, 1, tzinfo=UTC)),
    ("06", "68", datetime(2068, 1, 1, tzinfo=UTC)),
    ("RFC3339", "2024-01-02T03:04:05.123456789+01:00", datetime(2024, 1, 2, 2, 4, 5, 123_456, UTC)),
    ("15:04:05.000", "01:02:03.500", datetime(1, 1, 1, 1, 2, 3, 500_000, UTC)),
    ("MONDAY, January 2", "x", None),
    ("2006", "20x6", None),
    ("2006", "2006 ", None),
    ("02", "32", None),
    ("15", "25", None),
    ("2006-01-02", "2023-02-29", None),
    ("Jan", "Foo", None),
    ("3PM", "13PM", None),
    ("-0700", "+2560", None),
    (".000", ".12", None),
    ("a2006", "2006", None),
    ("2006-002", "2023-000", None),
]


@pytest.mark.parametrize(("layout", "text", "expected"), PARSES)
def test_parse(layout: str, text: str, expected: datetime | None) -> None:
    if expected is None:
        with pytest.raises(ExpressionError) as caught:
            parse_time(text, layout)
        assert caught.value.code == "invalid_argument"
    else:
        assert parse_time(text, layout) == expected
