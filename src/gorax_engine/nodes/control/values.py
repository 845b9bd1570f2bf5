"""Checks of rendered values, and the equality of values, that the pure nodes share.

What a template gives is known at run time only, so each node checks what it gets and fails with `type_error`.
"""

from collections.abc import Hashable

from gorax_engine.nodes.api import Failed, Json, StepError


def type_error(field: str, expected: str, value: Json) -> Failed:
    """Return the failure of a step whose field has a value of a wrong type."""
    return Failed(StepError("type_error", f"`{field}` must give {expected}, but it is {kind_of(value)}."))


def boolean(field: str, value: Json) -> Failed | None:
    """Return the failure if `value` is neither true nor false."""
    return None if isinstance(value, bool) else type_error(field, "true or false", value)


def kind_of(value: Json) -> str:
    """Return the kind of a JSON value in words, without the value itself, which may be long or private."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def identity(value: Json) -> Hashable:
    """Return a hashable value that is equal for equal JSON values: 1 and 1.0 are equal, 1 and true are not."""
    match value:
        case bool():
            return ("boolean", value)
        case list():
            return ("list", tuple(identity(item) for item in value))
        case dict():
            return ("object", frozenset((key, identity(member)) for key, member in value.items()))
        case _:
            scalar: Hashable = value
            return scalar
