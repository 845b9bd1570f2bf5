"""The aggregates of a list that `transform` knows: functions from a list of values to one value.

Null is passed over by sum, avg, min and max. Each raises ValueError, with a sentence, for values that it can't take.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gorax_engine.nodes.api import Json
from gorax_engine.nodes.control.values import kind_of


def _numbers(values: Sequence[Json]) -> list[int | float]:
    present = [value for value in values if value is not None]
    for value in present:
        if isinstance(value, bool) or not isinstance(value, int | float):
            # The callers turn ValueError, whatever its cause, into the step's failure
            raise ValueError(f"numbers are needed, but there is {kind_of(value)}.")  # noqa: TRY004
    return present


def _finite(compute: Callable[[], int | float]) -> int | float:
    try:
        value = compute()
        finite = isinstance(value, int) or math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("the result is too large for a number.")
    return value


def _sum(values: Sequence[Json]) -> Json:
    numbers = _numbers(values)
    return _finite(lambda: sum(numbers))


def _average(values: Sequence[Json]) -> Json:
    numbers = _numbers(values)
    return _finite(lambda: sum(numbers) / len(numbers)) if numbers else None


def _comparable(values: Sequence[Json]) -> list[Json]:
    present = [value for value in values if value is not None]
    kinds = {kind_of(value) for value in present}
    if len(kinds) > 1 or not kinds <= {"a number", "text"}:
        raise ValueError(f"only numbers or only text can be compared, but there is {' and '.join(sorted(kinds))}.")
    return present


AGGREGATES: Final[Mapping[str, Callable[[Sequence[Json]], Json]]] = {
    "count": len,
    "sum": _sum,
    "avg": _average,
    "min": lambda values: min(_comparable(values), default=None),
    "max": lambda values: max(_comparable(values), default=None),
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
    "collect": list,
}
