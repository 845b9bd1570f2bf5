"""Functions of numbers. Whole results are integers, which are exact."""

import hashlib
import math
from typing import Any, Final

from gorax_engine.core.expressions.errors import invalid_argument, limit_exceeded
from gorax_engine.core.expressions.functions.builtin import Builtin, integer, number
from gorax_engine.core.expressions.operations import add
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import finite, sized_integer
from gorax_engine.core.model import Json

_SHIFT_LIMIT: Final = 16_384
_UNSIGNED: Final = 1 << 64


def _abs(scope: Scope, value: Json) -> Json:
    return abs(number(value, "abs"))


def _ceil(scope: Scope, value: Json) -> Json:
    return math.ceil(number(value, "ceil"))


def _floor(scope: Scope, value: Json) -> Json:
    return math.floor(number(value, "floor"))


def _round(scope: Scope, value: Json, digits: Json = 0) -> Json:
    places = integer(digits, "round")
    given = number(value, "round")
    if type(given) is int and places >= 0:
        return given
    if not -400 <= places <= 400:
        raise invalid_argument("`round` takes at most 400 digits.")
    if places == 0:
        whole = math.floor(abs(given))
        rounded = whole + (1 if abs(given) - whole >= 0.5 else 0)
        return -rounded if given < 0 else rounded
    return round(given, places)


def flat_numbers(values: tuple[Json, ...], name: str, scope: Scope) -> list[Any]:
    """Numbers and the numbers of lists, at any depth."""
    found: list[Any] = []
    stack: list[Json] = list(reversed(values))
    while stack:
        value = stack.pop()
        if type(value) is list:
            scope.spend(len(value))
            stack.extend(reversed(value))
        else:
            found.append(number(value, name))
    return found


def _max(scope: Scope, *values: Json) -> Json:
    return max(flat_numbers(values, "max", scope), default=None)


def _min(scope: Scope, *values: Json) -> Json:
    return min(flat_numbers(values, "min", scope), default=None)


def _mean(scope: Scope, *values: Json) -> Json:
    numbers = flat_numbers(values, "mean", scope)
    if not numbers:
        return 0.0
    total: Any = 0
    for value in numbers:
        total = add(total, value, scope)
    return _quotient(total, len(numbers))


def _median(scope: Scope, *values: Json) -> Json:
    numbers = sorted(flat_numbers(values, "median", scope))
    if not numbers:
        return 0.0
    middle = len(numbers) // 2
    if len(numbers) % 2:
        return numbers[middle]
    return _quotient(add(numbers[middle - 1], numbers[middle], scope), 2)


def _quotient(total: Any, count: int) -> float:
    try:
        return finite(total / count)
    except OverflowError:
        raise limit_exceeded("The result is too large for a number.") from None


def _bits(name: str, *values: Json) -> list[int]:
    return [integer(value, name) for value in values]


def _bitand(scope: Scope, left: Json, right: Json) -> Json:
    a, b = _bits("bitand", left, right)
    return a & b


def _bitor(scope: Scope, left: Json, right: Json) -> Json:
    a, b = _bits("bitor", left, right)
    return a | b


def _bitxor(scope: Scope, left: Json, right: Json) -> Json:
    a, b = _bits("bitxor", left, right)
    return a ^ b


def _bitnand(scope: Scope, left: Json, right: Json) -> Json:
    a, b = _bits("bitnand", left, right)
    return a & ~b


def _bitnot(scope: Scope, value: Json) -> Json:
    return ~integer(value, "bitnot")


def _distance(value: Json, name: str) -> int:
    distance = integer(value, name)
    if not 0 <= distance <= _SHIFT_LIMIT:
        raise invalid_argument(f"`{name}` shifts by 0 to {_SHIFT_LIMIT} bits.")
    return distance


def _bitshl(scope: Scope, value: Json, distance: Json) -> Json:
    return sized_integer(integer(value, "bitshl") << _distance(distance, "bitshl"), scope)


def _bitshr(scope: Scope, value: Json, distance: Json) -> Json:
    return integer(value, "bitshr") >> _distance(distance, "bitshr")


def _bitushr(scope: Scope, value: Json, distance: Json) -> Json:
    given = integer(value, "bitushr")
    return (given % _UNSIGNED if given < 0 else given) >> _distance(distance, "bitushr")


def _random(scope: Scope) -> Json:
    draw = hashlib.blake2b(scope.draws.to_bytes(8, "big"), key=scope.seed[:64], digest_size=8).digest()
    scope.draws += 1
    return (int.from_bytes(draw, "big") >> 11) / (1 << 53)


BUILTINS: Final = (
    Builtin("abs", _abs, "abs(n)", "The absolute value.", 1, 1, (("abs(-5)", 5), ("abs(-0.5)", 0.5))),
    Builtin("ceil", _ceil, "ceil(n)", "The least integer not below n.", 1, 1, (("ceil(1.2)", 2),)),
    Builtin("floor", _floor, "floor(n)", "The greatest integer not above n.", 1, 1, (("floor(1.8)", 1),)),
    Builtin("round", _round, "round(n[, digits])",
            "The nearest integer, halves away from zero; or so many decimal places.", 1, 2,
            (("round(1.5)", 2), ("round(-2.5)", -3), ("round(2.345, 1)", 2.3))),
    Builtin("max", _max, "max(n, ...)", "The greatest number; lists count with all their items.", 1, None,
            (("max(5, 7)", 7), ("max([1, 3], 2)", 3), ("max([])", None))),
    Builtin("min", _min, "min(n, ...)", "The least number; lists count with all their items.", 1, None,
            (("min(5, 7)", 5), ("min([1, 3], 2)", 1))),
    Builtin("mean", _mean, "mean(n, ...)", "The average; 0 of nothing.", 1, None, (("mean([1, 2, 3])", 2.0),)),
    Builtin("median", _median, "median(n, ...)", "The middle value; 0 of nothing.", 1, None,
            (("median([3, 1, 2])", 2), ("median([1, 2])", 1.5))),
    Builtin("bitand", _bitand, "bitand(a, b)", "Bitwise and.", 2, 2, (("bitand(0b1010, 0b1100)", 8),)),
    Builtin("bitor", _bitor, "bitor(a, b)", "Bitwise or.", 2, 2, (("bitor(0b1010, 0b1100)", 14),)),
    Builtin("bitxor", _bitxor, "bitxor(a, b)", "Bitwise exclusive or.", 2, 2, (("bitxor(0b1010, 0b1100)", 6),)),
    Builtin("bitnand", _bitnand, "bitnand(a, b)", "Bitwise and not.", 2, 2, (("bitnand(0b1010, 0b1100)", 2),)),
    Builtin("bitnot", _bitnot, "bitnot(a)", "Bitwise not.", 1, 1, (("bitnot(0b1010)", -11),)),
    Builtin("bitshl", _bitshl, "bitshl(a, n)", "Shifted left.", 2, 2, (("bitshl(0b101101, 2)", 180),)),
    Builtin("bitshr", _bitshr, "bitshr(a, n)", "Shifted right.", 2, 2, (("bitshr(0b101101, 2)", 11),)),
    Builtin("bitushr", _bitushr, "bitushr(a, n)", "Shifted right as an unsigned 64-bit integer.", 2, 2,
            (("bitushr(-0b101, 2)", 4611686018427387902),)),
    Builtin("random", _random, "random()",
            "A number from 0 to below 1; the same again when the step is evaluated again.", 0, 0,
            (("random() < 1", True),)),
)  # fmt: skip
