"""What each binary operator does to two values. Every function takes the scope, to pay for what it builds."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from gorax_engine.core.expressions import dates
from gorax_engine.core.expressions.errors import (
    DIVISION_BY_ZERO,
    ExpressionError,
    invalid_argument,
    limit_exceeded,
    type_error,
)
from gorax_engine.core.expressions.limits import INTEGER_BITS, INTEGER_DIGITS
from gorax_engine.core.expressions.regex import matches
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import (
    described,
    equal,
    finite,
    is_number,
    sized_integer,
    sized_items,
    sized_text,
)
from gorax_engine.core.model import Json

Operation: TypeAlias = Callable[[Json, Json, Scope], Json]


def _mismatch(operator: str, left: Json, right: Json) -> ExpressionError:
    return type_error(f"`{operator}` can't be applied to {described(left)} and {described(right)}.")


def add(left: Json, right: Json, scope: Scope) -> Json:
    """Numbers are added, strings joined, a number of seconds is added to a date."""
    if is_number(left) and is_number(right):
        return _number(left, right, scope, "+")
    if type(left) is str:
        if type(right) is str:
            return sized_text(left + right, scope)
        if is_number(right) and dates.looks_like_date(left):
            return dates.shifted(left, right)
    if type(right) is str and is_number(left) and dates.looks_like_date(right):
        return dates.shifted(right, left)
    raise _mismatch("+", left, right)


def subtract(left: Json, right: Json, scope: Scope) -> Json:
    """Numbers are subtracted; a date less seconds is a date, a date less a date is seconds."""
    if is_number(left) and is_number(right):
        return _number(left, right, scope, "-")
    if type(left) is str and dates.looks_like_date(left):
        if is_number(right):
            return dates.shifted(left, -right)
        if type(right) is str and dates.looks_like_date(right):
            return dates.seconds_between(right, left)
    raise _mismatch("-", left, right)


def multiply(left: Json, right: Json, scope: Scope) -> Json:
    """The product of two numbers."""
    if is_number(left) and is_number(right):
        return _number(left, right, scope, "*")
    raise _mismatch("*", left, right)


def _number(left: Any, right: Any, scope: Scope, operator: str) -> Json:
    try:
        if operator == "+":
            result = left + right
        elif operator == "-":
            result = left - right
        else:
            result = left * right
    except OverflowError:
        raise limit_exceeded("The result is too large for a number.") from None
    return sized_integer(result, scope) if type(result) is int else finite(result)


def divide(left: Json, right: Json, scope: Scope) -> Json:
    """The quotient of two numbers, always a float."""
    if not (is_number(left) and is_number(right)):
        raise _mismatch("/", left, right)
    if right == 0:
        raise ExpressionError(DIVISION_BY_ZERO, "Division by zero.")
    try:
        return finite(left / right)
    except OverflowError:
        raise limit_exceeded("The result is too large for a number.") from None


def remainder(left: Json, right: Json, scope: Scope) -> Json:
    """The remainder of two integers; it has the sign of the left one, as in Go."""
    if type(left) is not int or type(right) is not int:
        raise _mismatch("%", left, right)
    if right == 0:
        raise ExpressionError(DIVISION_BY_ZERO, "Division by zero.")
    result = abs(left) % abs(right)
    return sized_integer(-result if left < 0 else result, scope)


def power(left: Json, right: Json, scope: Scope) -> Json:
    """An integer to an integer that is not negative is an exact integer; all else is a float."""
    if not (is_number(left) and is_number(right)):
        raise _mismatch("**", left, right)
    if type(left) is int and type(right) is int and right >= 0:
        if abs(left) > 1 and (left.bit_length() - 1) * right > INTEGER_BITS:
            raise limit_exceeded(f"The integer would have more than {INTEGER_DIGITS:,} digits.")
        return sized_integer(left**right if abs(left) > 1 else _unit_power(left, right), scope)
    try:
        result = float(left) ** float(right)
    except ZeroDivisionError:
        raise ExpressionError(DIVISION_BY_ZERO, "Zero can't be raised to a negative power.") from None
    except OverflowError:
        raise limit_exceeded("The result is too large for a number.") from None
    if isinstance(result, complex):
        raise invalid_argument("A negative number can't be raised to a fractional power.")
    return finite(result)


def _unit_power(base: int, exponent: int) -> int:
    if base >= 0:
        return 1 if exponent == 0 else base
    return -1 if exponent % 2 else 1


def span(left: Json, right: Json, scope: Scope) -> Json:
    """The integers from left to right, both included; none if left is greater."""
    if type(left) is not int or type(right) is not int:
        raise _mismatch("..", left, right)
    count = max(0, right - left + 1)
    sized_items(count, scope)
    return list(range(left, right + 1))


def same(left: Json, right: Json, scope: Scope) -> Json:
    """Deep equality."""
    return equal(left, right, scope)


def different(left: Json, right: Json, scope: Scope) -> Json:
    """The opposite of deep equality."""
    return not equal(left, right, scope)


def contained(left: Json, right: Json, scope: Scope) -> Json:
    """Whether a list holds a value, or an object a key. Nothing is in null."""
    if right is None:
        return False
    if type(right) is list:
        scope.spend(len(right))
        return any(equal(left, item, scope) for item in right)
    if type(right) is dict:
        if type(left) is not str:
            raise type_error(f"The key looked for with `in` must be a string, not {described(left)}.")
        return left in right
    hint = "; use `contains` for text" if type(right) is str else ""
    raise type_error(f"`in` needs a list or an object on its right, not {described(right)}{hint}.")


def contains(left: Json, right: Json, scope: Scope) -> Json:
    """Whether a string holds another, or a list a value."""
    if type(left) is list:
        return contained(right, left, scope)
    texts = _texts("contains", left, right, scope)
    return texts is not None and texts[1] in texts[0]


def starts_with(left: Json, right: Json, scope: Scope) -> Json:
    """Whether a string begins with another."""
    texts = _texts("startsWith", left, right, scope)
    return texts is not None and texts[0].startswith(texts[1])


def ends_with(left: Json, right: Json, scope: Scope) -> Json:
    """Whether a string ends with another."""
    texts = _texts("endsWith", left, right, scope)
    return texts is not None and texts[0].endswith(texts[1])


def matches_pattern(left: Json, right: Json, scope: Scope) -> Json:
    """Whether a regular expression is found in a string."""
    texts = _texts("matches", left, right, scope)
    return texts is not None and matches(texts[0], texts[1], scope)


def _texts(operator: str, left: Json, right: Json, scope: Scope) -> tuple[str, str] | None:
    """Both strings; None if either is null, which never matches (as in expr-lang)."""
    if type(left) is str and type(right) is str:
        scope.spend(len(left) >> 10)
        return left, right
    if (left is None or type(left) is str) and (right is None or type(right) is str):
        return None
    raise _mismatch(operator, left, right)


def less(left: Json, right: Json, scope: Scope) -> bool:
    """Order of numbers, of dates (as moments), or of strings (by code point)."""
    return _order("<", left, right) < 0


def less_or_equal(left: Json, right: Json, scope: Scope) -> bool:
    """See `less`."""
    return _order("<=", left, right) <= 0


def greater(left: Json, right: Json, scope: Scope) -> bool:
    """See `less`."""
    return _order(">", left, right) > 0


def greater_or_equal(left: Json, right: Json, scope: Scope) -> bool:
    """See `less`."""
    return _order(">=", left, right) >= 0


def _order(operator: str, left: Any, right: Any) -> int:
    if is_number(left) and is_number(right):
        return int(left > right) - int(left < right)
    if type(left) is str and type(right) is str:
        if dates.looks_like_date(left) and dates.looks_like_date(right):
            left, right = dates.moment(left), dates.moment(right)
        return int(left > right) - int(left < right)
    raise _mismatch(operator, left, right)


OPERATIONS: Final[dict[str, Operation]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "**": power,
    "..": span,
    "==": same,
    "!=": different,
    "<": less,
    "<=": less_or_equal,
    ">": greater,
    ">=": greater_or_equal,
    "in": contained,
    "contains": contains,
    "startsWith": starts_with,
    "endsWith": ends_with,
    "matches": matches_pattern,
}
"""Every binary operator that evaluates both sides."""
