"""The expression and template language: one language for conditions, formulas and templates.

`docs/expressions.md` is its reference. Sources are compiled to closures over JSON values; nothing of Python can be
reached from them, and size, depth and work are bounded.
"""

from gorax_engine.core.expressions.compiler import Reference
from gorax_engine.core.expressions.errors import ExpressionError, ExpressionSyntaxError
from gorax_engine.core.expressions.expression import BoundExpression, Expression, compile_expression
from gorax_engine.core.expressions.marks import without_marks
from gorax_engine.core.expressions.paths import CREDENTIALS, whole_credential
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.templates import compile_template, is_template
from gorax_engine.core.expressions.values import expect_bool

__all__ = [
    "CREDENTIALS",
    "BoundExpression",
    "Expression",
    "ExpressionError",
    "ExpressionSyntaxError",
    "Reference",
    "Scope",
    "compile_expression",
    "compile_template",
    "expect_bool",
    "is_template",
    "whole_credential",
    "without_marks",
]
