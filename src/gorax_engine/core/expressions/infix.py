"""Compiled binary operators, with a quick way for the common case of plain numbers and texts."""

import operator as python
from collections.abc import Callable
from typing import Any, Final

from gorax_engine.core.expressions.access import Evaluator
from gorax_engine.core.expressions.operations import OPERATIONS, Operation
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.model import Json

_SMALL: Final = 1 << 62
_QUICK_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {"+": python.add, "-": python.sub, "*": python.mul}
_QUICK_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": python.lt,
    "<=": python.le,
    ">": python.gt,
    ">=": python.ge,
}


def infix(operator: str, negated: bool, operation: Operation, left: Evaluator, right: Evaluator) -> Evaluator:
    """`left operator right`, or the opposite of it."""
    if negated:
        return lambda scope, frame: not operation(left(scope, frame), right(scope, frame), scope)
    if operator in _QUICK_ARITHMETIC:
        return _arithmetic(_QUICK_ARITHMETIC[operator], operation, left, right)
    if operator in ("==", "!="):
        return _equality(operator == "==", operation, left, right)
    return lambda scope, frame: operation(left(scope, frame), right(scope, frame), scope)


def _arithmetic(quick: Callable[[Any, Any], Any], operation: Operation, left: Evaluator, right: Evaluator) -> Evaluator:
    def run(scope: Scope, frame: Any) -> Json:
        a = left(scope, frame)
        b = right(scope, frame)
        if type(a) is int and type(b) is int and -_SMALL < a < _SMALL and -_SMALL < b < _SMALL:
            # Even the product of two such integers is within every limit.
            return quick(a, b)
        return operation(a, b, scope)

    return run


def _equality(wanted: bool, operation: Operation, left: Evaluator, right: Evaluator) -> Evaluator:
    def run(scope: Scope, frame: Any) -> Json:
        a = left(scope, frame)
        b = right(scope, frame)
        kind = type(a)
        if kind is type(b) and (kind is str or kind is int or kind is bool):
            return (a == b) is wanted
        return operation(a, b, scope)

    return run


def comparison(operator: str, left: Evaluator, right: Evaluator) -> Evaluator:
    """`left < right` and the like."""
    quick, operation = _QUICK_ORDER[operator], OPERATIONS[operator]

    def run(scope: Scope, frame: Any) -> Json:
        a = left(scope, frame)
        b = right(scope, frame)
        if type(a) is int and type(b) is int:
            return quick(a, b)
        return operation(a, b, scope)

    return run
