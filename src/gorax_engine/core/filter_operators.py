"""The operators of filters: whether one holds for a value.

- A number equals a string that is written as that number in JSON: 5, 5.0 and "5" are equal, "05" is text. Numbers are
  compared as they are written, without loss. Booleans equal booleans only; objects and lists are equal part by part.
- `gt`, `gte`, `lt`, `lte` and `between` compare numbers if their bound is one or a string that is written as one, else
  text by code points, which puts dates and times of one form in order.
- `contains` looks for text in a string, an element in a list, a name in an object. Regular expressions are RE2, found
  anywhere in the text.
"""

import operator as compare
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, TypeAlias

from gorax_engine.core.expressions.errors import ExpressionError
from gorax_engine.core.expressions.regex import compile_pattern
from gorax_engine.core.json_paths import Budget
from gorax_engine.core.model import Json

MAX_PATTERNS: Final = 50
MAX_INSTRUCTIONS: Final = 2_000
"""Instructions of a regular expression as RE2 compiles it."""

_STEPS_PER_UNIT: Final = 64
"""Characters times instructions that a search may visit for one unit of work (some 0.4 µs at worst)."""

_CHARACTERS_PER_UNIT: Final = 64
"""Characters that a search for text may pass for one unit of work."""
_NUMBER_UNITS: Final = 4
"""Units for reading a number that is written as text."""

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,63})(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,3})?")

Holds: TypeAlias = Callable[[Json, Budget], bool | None]
"""Whether an operator holds for a value; None for a value of a type that it doesn't look at. Raises TooMuchWork."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An operator with its value. `needs` are the types that it looks at, in words."""

    holds: Holds
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator without a value: `build` raises ValueError, in a sentence, for a value that it can't have."""

    build: Callable[[Json], Comparison]
    negated: bool = False
    has_value: bool = True


def _number(value: Json) -> Decimal | None:
    """Return what is a number, or a string that is written as one, as it is written."""
    kind = type(value)
    if kind is int:
        return Decimal(value)
    if kind is float:
        return Decimal(repr(value))
    if kind is str and _NUMBER.fullmatch(value):
        return Decimal(value)
    return None


def _same(value: Json) -> Holds:
    kind = type(value)
    if kind is dict:
        members = {name: _same(member) for name, member in value.items()}

        def same_object(actual: Json, budget: Budget) -> bool:
            if type(actual) is not dict or len(actual) != len(members):
                return False
            budget.spend(len(members))
            return all(name in actual and same(actual[name], budget) for name, same in members.items())

        return same_object
    if kind is list:
        elements = [_same(element) for element in value]

        def same_list(actual: Json, budget: Budget) -> bool:
            if type(actual) is not list or len(actual) != len(elements):
                return False
            budget.spend(len(elements))
            return all(same(element, budget) for same, element in zip(elements, actual, strict=True))

        return same_list
    number = _number(value)

    def same_scalar(actual: Json, _budget: Budget) -> bool:
        if type(actual) is kind:
            return bool(actual == value)
        return number is not None and _number(actual) == number

    return same_scalar


def _equals(value: Json) -> Comparison:
    return Comparison(_same(value))


def _in(value: Json) -> Comparison:
    if type(value) is not list or not value:
        raise ValueError("The value must be a list with at least one element.")
    choices = [_same(element) for element in value]

    def holds(actual: Json, budget: Budget) -> bool:
        budget.spend(len(choices))
        return any(same(actual, budget) for same in choices)

    return Comparison(holds)


def _contains(value: Json) -> Comparison:
    same = _same(value)
    is_text = type(value) is str

    def holds(actual: Json, budget: Budget) -> bool | None:
        kind = type(actual)
        if kind is list:
            budget.spend(len(actual))
            return any(same(element, budget) for element in actual)
        if is_text and kind is str:
            budget.spend(len(actual) // _CHARACTERS_PER_UNIT)
        return value in actual if is_text and (kind is str or kind is dict) else None

    return Comparison(holds, "strings, lists and objects" if is_text else "lists, with such a value")


def _affix(method: Callable[[str, str], bool]) -> Callable[[Json], Comparison]:
    def build(value: Json) -> Comparison:
        if type(value) is not str:
            raise ValueError("The value must be a string.")
        return Comparison(lambda actual, _budget: method(actual, value) if type(actual) is str else None, "strings")

    return build


def _ordered(holds: Callable[[Json, Json], bool]) -> Callable[[Json], Comparison]:
    def build(value: Json) -> Comparison:
        number = _bound(value)
        if number is None:
            return Comparison(lambda actual, _budget: holds(actual, value) if type(actual) is str else None, "strings")

        def compare_numbers(actual: Json, budget: Budget) -> bool | None:
            budget.spend(_NUMBER_UNITS)
            other = _number(actual)
            return None if other is None else holds(other, number)

        return Comparison(compare_numbers, "numbers, also as text")

    return build


def _bound(value: Json) -> Decimal | None:
    """Return the bound as a number, or None if it is other text. Raises ValueError."""
    if type(value) not in (int, float, str):
        raise ValueError("The value must be a number or a string.")
    return _number(value)


def _between(value: Json) -> Comparison:
    if type(value) is not dict or value.keys() != {"min", "max"}:
        raise ValueError('The value must be an object: {"min": ..., "max": ...}.')
    low, high = _bound(value["min"]), _bound(value["max"])
    if (low is None) is not (high is None):
        raise ValueError("Both `min` and `max` must be numbers, or both other strings.")
    if (value["min"] > value["max"]) if low is None or high is None else low > high:
        raise ValueError("`min` must not be above `max`.")
    above, below = _ordered(compare.ge)(value["min"]), _ordered(compare.le)(value["max"])

    def holds(actual: Json, budget: Budget) -> bool | None:
        return above.holds(actual, budget) and below.holds(actual, budget)

    return Comparison(holds, above.needs)


def _search(pattern: Json) -> Holds:
    if type(pattern) is not str:
        raise ValueError("A regular expression must be a string.")
    try:
        compiled = compile_pattern(pattern)
    except ExpressionError as error:
        raise ValueError(error.message) from None
    if compiled.programsize > MAX_INSTRUCTIONS:
        raise ValueError(f"`{pattern[:60]}` is too large: use smaller counts, and fewer classes of characters.")

    def found(actual: Json, budget: Budget) -> bool | None:
        if type(actual) is not str:
            return None
        budget.spend(len(actual) * compiled.programsize // _STEPS_PER_UNIT + 1)
        return compiled.search(actual) is not None

    return found


def _regex(value: Json) -> Comparison:
    return Comparison(_search(value), "strings")


def _patterns(combine: Callable[[Iterable[bool | None]], bool]) -> Callable[[Json], Comparison]:
    def build(value: Json) -> Comparison:
        if type(value) is not list or not 1 <= len(value) <= MAX_PATTERNS:
            raise ValueError(f"The value must be a list of 1 to {MAX_PATTERNS} regular expressions.")
        searches = [_search(pattern) for pattern in value]

        def holds(actual: Json, budget: Budget) -> bool | None:
            if type(actual) is not str:
                return None
            return combine(search(actual, budget) for search in searches)

        return Comparison(holds, "strings")

    return build


def _exists(_value: Json) -> Comparison:
    return Comparison(lambda _actual, _budget: True)


def _is_empty(_value: Json) -> Comparison:
    return Comparison(lambda actual, _budget: actual is None or (type(actual) in (str, list, dict) and not actual))


BY_NAME: Final[Mapping[str, Operator]] = MappingProxyType({
    "equals": Operator(_equals),
    "not_equals": Operator(_equals, negated=True),
    "contains": Operator(_contains),
    "not_contains": Operator(_contains, negated=True),
    "starts_with": Operator(_affix(str.startswith)),
    "ends_with": Operator(_affix(str.endswith)),
    "regex": Operator(_regex),
    "matches_any": Operator(_patterns(any)),
    "matches_all": Operator(_patterns(all)),
    "gt": Operator(_ordered(compare.gt)),
    "gte": Operator(_ordered(compare.ge)),
    "lt": Operator(_ordered(compare.lt)),
    "lte": Operator(_ordered(compare.le)),
    "between": Operator(_between),
    "in": Operator(_in),
    "not_in": Operator(_in, negated=True),
    "exists": Operator(_exists, has_value=False),
    "not_exists": Operator(_exists, negated=True, has_value=False),
    "is_empty": Operator(_is_empty, has_value=False),
    "is_not_empty": Operator(_is_empty, negated=True, has_value=False),
})  # fmt: skip
