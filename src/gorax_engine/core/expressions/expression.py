"""Compiled expressions: what the rest of the engine holds and calls."""

from collections.abc import Mapping
from typing import Any, Final

from gorax_engine.core.expressions.access import Evaluator
from gorax_engine.core.expressions.compiler import Compiler, Reference
from gorax_engine.core.expressions.errors import ExpressionSyntaxError, limit_exceeded
from gorax_engine.core.expressions.limits import WORK
from gorax_engine.core.expressions.marks import end_of_template
from gorax_engine.core.expressions.parser import parse
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import measure
from gorax_engine.core.model import Json

_NO_FRAME: Final[tuple[Json, ...]] = ()


class Expression:
    """A compiled expression or template. Calling it evaluates it in a scope.

    `source` is what the user wrote; `references` are the roots that it reads, with the keys known beforehand.
    A value may share parts with the scope's values, so callers must not change it in place.
    """

    __slots__ = ("_builds", "_run", "_slots", "references", "source")

    def __init__(
        self, source: str, run: Evaluator, slots: int, builds: bool, references: tuple[Reference, ...]
    ) -> None:
        self.source = source
        self.references = references
        self._run = run
        self._slots = slots
        self._builds = builds

    @property
    def roots(self) -> frozenset[str]:
        """The names of the roots that it reads."""
        return frozenset(reference.root for reference in self.references)

    def __call__(self, scope: Scope) -> Json:
        """The value in `scope`; raises ExpressionError."""
        scope.work = WORK
        return self.evaluate_within(scope)

    def evaluate_within(self, scope: Scope) -> Json:
        """The value in `scope`, out of what its budget still holds; raises ExpressionError."""
        try:
            value = self._run(scope, [None] * self._slots if self._slots else _NO_FRAME)
        except RecursionError:
            raise limit_exceeded("The value is nested too deeply.") from None
        if self._builds:
            measure(value)
        return value

    def bind(self, scope: Scope) -> "BoundExpression":
        """The expression with `scope` around it, to be evaluated many times with local values."""
        return BoundExpression(self, scope)

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"


class BoundExpression:
    """An expression in a scope that waits for local values. All its evaluations share one budget of work."""

    __slots__ = ("_expression", "_outer", "_scope")

    def __init__(self, expression: Expression, scope: Scope) -> None:
        self._expression = expression
        self._outer = scope.roots
        self._scope = scope.child({})

    @property
    def source(self) -> str:
        """What the user wrote."""
        return self._expression.source

    def __call__(self, **locals: Json) -> Json:
        """The value with these local values, which hide roots of the same name; raises ExpressionError."""
        return self.evaluate(locals)

    def evaluate(self, locals: Mapping[str, Json]) -> Json:
        """The value with these local values, which hide roots of the same name; raises ExpressionError."""
        self._scope.roots = {**self._outer, **locals}
        return self._expression.evaluate_within(self._scope)

    def __repr__(self) -> str:
        return f"BoundExpression({self.source!r})"


def compile_expression(
    source: str, *, known_roots: frozenset[str] | None = None, known_steps: frozenset[str] | None = None
) -> Expression:
    """Compile one expression; `{{ }}` or `${ }` around all of it is accepted.

    With `known_roots` any other name is a fault; with `known_steps` a name with hyphens after `steps.` is cut where a
    step's id ends. Raises ExpressionSyntaxError.
    """
    check_source(source)
    start, end = _unwrapped(source)
    compiler, run = compile_part(source[:end], start, known_roots, known_steps)
    return Expression(source, run, compiler.slots, compiler.builds, tuple(compiler.references))


def compile_part(
    source: str, start: int, known_roots: frozenset[str] | None, known_steps: frozenset[str] | None
) -> tuple[Compiler, Evaluator]:
    """Compile `source` from `start` on: the compiler after its work, and the closure."""
    compiler = Compiler(known_roots)
    return compiler, compiler.compile(parse(source, start, known_roots, known_steps))


def check_source(source: Any) -> None:
    """Refuse what is no text."""
    if type(source) is not str:
        raise ExpressionSyntaxError("An expression must be a string.", 0)


def _unwrapped(source: str) -> tuple[int, int]:
    """Where the expression starts and ends: inside the template marks, if they stand around all of it."""
    start = len(source) - len(source.lstrip())
    for opening, closing in (("{{", "}}"), ("${", "}")):
        if source.startswith(opening, start):
            end = end_of_template(source, start + len(opening), closing)
            if end >= 0 and not source[end + len(closing) :].strip():
                return start + len(opening), end
    return 0, len(source)
