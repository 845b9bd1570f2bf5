"""What the tests of the language share: one evaluation in one scope."""

from collections.abc import Callable
from typing import Any

import pytest

from gorax_engine.core.expressions import Expression, ExpressionError, Scope, compile_expression
from gorax_engine.core.model import Missing

NOW = 1_700_000_000_000_000

ROOTS: dict[str, Any] = {
    "trigger": {
        "method": "POST",
        "headers": {"x-request-id": "r1"},
        "body": {
            "n": 5,
            "f": 2.5,
            "s": "text",
            "t": True,
            "z": None,
            "list": [1, 2, 3],
            "people": [{"name": "Ann", "age": 30}, {"name": "Bob", "age": 20}, {"name": "Cid", "age": 25}],
            "map": {"a": 1, "b": {"c": 2}},
            "key": "a",
            "a.b": "dotted",
        },
    },
    "steps": {
        "s1": {"n": 41},
        "http-1": {"status_code": 200, "body": {"x": 7}},
        "has": {"output": {"inner": 3}},
        "number": 10,
        "number-1": 99,
    },
    "env": {"tenant_id": "t1"},
    "vars": {"limit": 3},
    "credentials": {"my-key": {"id": "i", "password": "p", "token": "t"}, "odd": {"user": "u"}, "plain": "text"},
    "item": {"total": 9, "total-fee": 4},
    "fee": 2,
}

Evaluate = Callable[..., Any]


@pytest.fixture
def evaluate() -> Evaluate:
    """Compile and evaluate a source in a scope of ROOTS."""

    def run(source: str, missing: Missing = Missing.ERROR, **locals: Any) -> Any:
        return compile_expression(source)(Scope({**ROOTS, **locals}, NOW, missing, b"seed"))

    return run


def outcome(expression: Expression, scope: Scope) -> tuple[Any, ExpressionError | None]:
    """The value, or the fault."""
    try:
        return expression(scope), None
    except ExpressionError as error:
        return None, error
