"""The values of a form: checked against its fields, with every fault at once."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from gorax_engine.core.instants import parse_instant
from gorax_engine.core.model import Json
from gorax_engine.errors import Problem
from gorax_engine.nodes.control.values import identity

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

ROOT: Final = "/data"
"""Where the values stand in the body of a request; problems point below it."""


def fill_in(fields: Sequence[Mapping[str, Json]], data: Mapping[str, Json]) -> tuple[dict[str, Json], list[Problem]]:
    """Return the values of the form, with defaults for what is left out, and what is wrong with them.

    `fields` are `form_fields` as nodes/control/human_task.py leaves them. Null and "" count as left out; what is left
    out and has no default is not among the values, but for an empty text. Without fields any data is right.
    """
    if not fields:
        return dict(data), []
    values: dict[str, Json] = {}
    problems: list[Problem] = []
    for field in fields:
        name = field["name"]
        value = data.get(name)
        if _is_left_out(field, value) and "default" in field:
            value = field["default"]
        if _is_left_out(field, value):
            if field["required"]:
                problems.append(Problem("required_field", _pointer(name), f"`{name}` ({field['label']}) is needed."))
            elif value == "" and field["type"] == "text":
                values[name] = value
        elif (expected := _fault(field, value)) is not None:
            problems.append(Problem("wrong_value", _pointer(name), f"`{name}` must be {expected}."))
        else:
            values[name] = value
    known = [field["name"] for field in fields]
    problems.extend(
        Problem("unknown_field", _pointer(name), f"The form has no field `{name}`; it has {', '.join(known)}.")
        for name in data
        if name not in known
    )
    return values, problems


def defaults(fields: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Return the values of a form that nobody has filled in."""
    return {field["name"]: field["default"] for field in fields if "default" in field}


def _is_left_out(field: Mapping[str, Json], value: Json) -> bool:
    return value is None or (value == "" and "" not in field["options"])


def _fault(field: Mapping[str, Json], value: Json) -> str | None:
    """Return what the value should be, None if it is."""
    match field["type"]:
        case "number":
            return None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
        case "checkbox":
            return None if isinstance(value, bool) else "true or false"
        case "select":
            options = field["options"]
            if identity(value) in map(identity, options):
                return None
            return f"one of {', '.join(str(option) for option in options[:20])}"
        case "date":
            return (
                None if isinstance(value, str) and _is_date(value) else "a date such as 2030-01-31, or an RFC 3339 time"
            )
        case _:
            return None if isinstance(value, str) else "text"


def _is_date(text: str) -> bool:
    for read in (_day, parse_instant):
        try:
            read(text)
        except (ValueError, OverflowError):
            continue
        return True
    return False


def _day(text: str) -> date:
    if _DAY.fullmatch(text) is None:
        raise ValueError(text)
    return date.fromisoformat(text)


def _pointer(name: str) -> str:
    return f"{ROOT}/{name.replace('~', '~0').replace('/', '~1')}"
