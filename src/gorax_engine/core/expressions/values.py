"""JSON values as the language sees them: type names, equality, order, text, and the bounds of what may be built."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gorax_engine.core.expressions.errors import limit_exceeded, type_error
from gorax_engine.core.expressions.limits import (
    CHARACTERS_PER_UNIT,
    INTEGER_BITS,
    INTEGER_DIGITS,
    LIST_ITEMS,
    RESULT_DEPTH,
    RESULT_SIZE,
    STRING_CHARACTERS,
)
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.model import Json

_TYPE_NAMES = {
    type(None): "nil",
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
    list: "array",
    dict: "map",
}
_SCALARS = frozenset({type(None), bool, int, float, str})
_EXPONENT = re.compile(r"e([+-])0+(?=\d)")
_WORDS = {"nil": "null", "bool": "a boolean", "int": "an integer", "float": "a number", "string": "a string",
          "array": "a list", "map": "an object"}  # fmt: skip


def type_name(value: Json) -> str:
    """The expr-lang name of a value's type."""
    return _TYPE_NAMES.get(type(value), "map")


def described(value: Json) -> str:
    """A value's type in the words of an error message."""
    return _WORDS[type_name(value)]


def equal(left: Json, right: Json, scope: Scope) -> bool:
    """Deep equality: numbers by value, and a boolean is no number. Values of different types are unequal."""
    kind = type(left)
    if kind in _SCALARS:
        other = type(right)
        if kind is other:
            return bool(left == right)
        return kind in (int, float) and other in (int, float) and bool(left == right)
    return _equal_containers(left, right, scope, RESULT_DEPTH * 2)


def _equal_containers(left: Any, right: Any, scope: Scope, depth: int) -> bool:
    if type(left) is not type(right) or len(left) != len(right):
        return False
    if depth == 0:
        raise limit_exceeded("The values are nested too deeply to be compared.")
    scope.spend(len(left) + 1)
    if type(left) is list:
        pairs: Iterable[tuple[Any, Any]] = zip(left, right, strict=True)
    else:
        if left.keys() != right.keys():
            return False
        pairs = ((value, right[key]) for key, value in left.items())
    for a, b in pairs:
        if type(a) in _SCALARS:
            if not equal(a, b, scope):
                return False
        elif not _equal_containers(a, b, scope, depth - 1):
            return False
    return True


def is_number(value: Json) -> bool:
    """Whether a value is an int or a float (a boolean is neither)."""
    kind = type(value)
    return kind is int or kind is float


def number_text(value: float) -> str:
    """A number as JavaScript writes it: `3`, `0.5`, `1e+21`."""
    if type(value) is int:
        return str(value)
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return _EXPONENT.sub(r"e\1", repr(value))


def json_text(value: Json) -> str:
    """Compact JSON; raises ExpressionError `limit_exceeded` for values that are too deep or too large."""
    measure(value)
    return msgspec.json.encode(value).decode()


def text_of(value: Json) -> str:
    """A value inside text: null is nothing, strings are themselves, lists and objects are compact JSON."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if value is None:
        return ""
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return number_text(value)
    return json_text(value)


def sized_text(value: str, scope: Scope) -> str:
    """A string that was built; pays for it and refuses one above the limit."""
    size = len(value)
    if size > STRING_CHARACTERS:
        raise too_long()
    scope.spend(size // CHARACTERS_PER_UNIT)
    return value


def too_long() -> Exception:
    """A string is about to exceed the limit."""
    return limit_exceeded(f"The string would be longer than {STRING_CHARACTERS:,} characters.")


def sized_items(count: int, scope: Scope) -> None:
    """Pay for a list about to be built; refuses one above the limit."""
    if count > LIST_ITEMS:
        raise limit_exceeded(f"The list would have {count:,} items; at most {LIST_ITEMS:,} are allowed.")
    scope.spend(count)


def sized_integer(value: int, scope: Scope) -> int:
    """An integer that was computed; pays for a long one and refuses one above the limit."""
    bits = value.bit_length()
    if bits > 256:
        if bits > INTEGER_BITS:
            raise limit_exceeded(f"The integer would have more than {INTEGER_DIGITS:,} digits.")
        scope.spend(bits >> 6)
    return value


def finite(value: float) -> float:
    """A float that was computed; JSON has no infinity and no NaN."""
    if value - value != 0.0:
        raise limit_exceeded("The result is too large for a number.")
    return value


def expect_bool(value: Json, what: str) -> bool:
    """The value if it is a boolean; raises ExpressionError `type_error` that names `what` otherwise."""
    if value is True or value is False:
        return value
    raise type_error(f"{what} must be a boolean, not {described(value)}.")


def measure(value: Json) -> None:
    """Refuse a value whose JSON text would be too large or too deep.

    What an expression builds may share parts, so that a few objects can stand for a huge text: each visit counts.
    """
    size = 0
    stack: list[tuple[Json, int]] = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        kind = type(item)
        size += 4
        if kind is str:
            size += len(item)
        elif kind is list or kind is dict:
            if depth >= RESULT_DEPTH:
                raise limit_exceeded(f"The value is nested deeper than {RESULT_DEPTH} levels.")
            size += len(item)
            if size <= RESULT_SIZE:
                if kind is dict:
                    size += sum(map(len, item))
                    stack.extend([(child, depth + 1) for child in item.values()])
                else:
                    stack.extend([(child, depth + 1) for child in item])
        if size > RESULT_SIZE:
            raise limit_exceeded(f"The value would be larger than {RESULT_SIZE:,} characters.")
