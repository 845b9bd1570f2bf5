"""JSON values as parameters of a SQL statement, and what Postgres gives back as JSON values.

The driver wants values of the types that the statement's parameters have, hence the conversions here. On the way
back what JSON has is kept; `numeric` is text, for a float would change it; times are ISO 8601 (a `timestamptz` is in
UTC); `bytea` is base64; an `interval` is seconds. What JSON can't say at all is refused, by the name of its column.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from math import isfinite
from typing import Any, Final
from uuid import UUID

from asyncpg import BitString, Range, Record

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.instants import format_instant, parse_instant
from gorax_engine.core.json_edge import encode, parse
from gorax_engine.core.model import Json
from gorax_engine.errors import MalformedInput, PayloadTooLarge
from gorax_engine.nodes.http_content import RESPONSE_LIMITS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ARRAY: Final = "[]"
_NUMERIC_DIGITS: Final = 131_072
"""What Postgres's numeric has before its point."""
_WRITTEN: Final = (UUID, IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network)


class Unconvertible(ValueError):
    """A value has no counterpart on the other side; the message says why, and ends without a stop."""


def to_parameter(value: Json, type_name: str) -> Any:
    """Return what the driver takes for a parameter of a Postgres type; null is NULL. Raises Unconvertible."""
    if value is None:
        return None
    if type_name.endswith(_ARRAY):
        if not isinstance(value, list):
            raise Unconvertible("must be a list")
        return [to_parameter(item, type_name.removesuffix(_ARRAY)) for item in value]
    convert = _PARAMETERS.get(type_name)
    if convert is None:
        return value  # an enum, a domain …: the driver judges it
    try:
        return convert(value)
    except (ValueError, TypeError, OverflowError, ArithmeticError):
        raise Unconvertible(f"is no {type_name}: {_EXPECTED[convert]} is needed") from None


def to_json(value: Any, type_name: str = "") -> Json:
    """Return a value of a column as JSON. Raises Unconvertible."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return _parse_json(value) if type_name in {"json", "jsonb"} else value
        case float() | Decimal():
            return _number(value)
        case datetime() | date() | time() | timedelta():
            return _time_to_json(value)
        case bytes():
            return b64encode(value).decode()
        case list() | tuple():
            return [to_json(item, type_name.removesuffix(_ARRAY)) for item in value]
        case Record():
            return {name: to_json(item) for name, item in value.items()}
        case Range():
            return _range(value)
        case BitString():
            return value.as_string().replace(" ", "")
        case _ if isinstance(value, _WRITTEN):
            return str(value)
        case _:
            raise Unconvertible(f"is of the type {type_name}, which can't be shown as JSON: cast it to text")


def _number(value: float | Decimal) -> float | str:
    finite = isfinite(value) if isinstance(value, float) else value.is_finite()
    if not finite:
        raise Unconvertible(f"is {value}, which JSON doesn't have")
    return value if isinstance(value, float) else format(value, "f")


def _time_to_json(value: datetime | date | time | timedelta) -> Json:
    if isinstance(value, timedelta):
        seconds = value / timedelta(seconds=1)
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_instant((value - _EPOCH) // timedelta(microseconds=1))
    return value.isoformat()


def _range(value: Range[Any]) -> Json:
    if value.isempty:
        return {"empty": True}
    return {
        "lower": to_json(value.lower),
        "upper": to_json(value.upper),
        "lower_inclusive": value.lower_inc,
        "upper_inclusive": value.upper_inc,
    }


def _parse_json(text: str) -> Json:
    try:
        return parse(text.encode(), RESPONSE_LIMITS)
    except (MalformedInput, PayloadTooLarge) as error:
        raise Unconvertible(f"holds JSON that can't be kept ({error.message})") from None


def _integer(value: Json) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise TypeError
    return int(value)


def _float(value: Json) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _decimal(value: Json) -> Decimal:
    if isinstance(value, bool):
        raise TypeError
    number = Decimal(str(value))
    if number.is_finite() and not -_NUMERIC_DIGITS <= number.adjusted() <= _NUMERIC_DIGITS:
        raise OverflowError
    return number


def _boolean(value: Json) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _string(value: Json) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    return value


def _bytes(value: Json) -> bytes:
    return b64decode(_string(value), validate=True)


def _with_zone(value: Json) -> datetime:
    return _EPOCH + timedelta(microseconds=parse_instant(_string(value)))


def _without_zone(value: Json) -> datetime:
    moment = datetime.fromisoformat(_string(value))
    if moment.tzinfo is not None:
        raise ValueError
    return moment


def _date(value: Json) -> date:
    return date.fromisoformat(_string(value))


def _time(value: Json) -> time:
    return time.fromisoformat(_string(value))


def _interval(value: Json) -> timedelta:
    return timedelta(microseconds=parse_duration(value))


_PARAMETERS: Final[Mapping[str, Callable[[Json], Any]]] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), _integer),
    **dict.fromkeys(("float4", "float8"), _float),
    "numeric": _decimal,
    "bool": _boolean,
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "uuid", "inet", "cidr"), _string),
    "bytea": _bytes,
    "timestamptz": _with_zone,
    "timestamp": _without_zone,
    "date": _date,
    **dict.fromkeys(("time", "timetz"), _time),
    "interval": _interval,
    **dict.fromkeys(("json", "jsonb"), encode),
}
_EXPECTED: Final[Mapping[Callable[[Json], Any], str]] = {
    _integer: "a whole number",
    _float: "a number",
    _decimal: "a number, or the text of one",
    _boolean: "true or false",
    _string: "text",
    _bytes: "base64",
    _with_zone: "a moment with its offset, such as 2030-01-31T09:00:00Z,",
    _without_zone: "a moment without an offset, such as 2030-01-31T09:00:00,",
    _date: "a date such as 2030-01-31",
    _time: "a time such as 09:00:00",
    _interval: "a duration",
    encode: "JSON",
}
