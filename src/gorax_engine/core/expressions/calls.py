"""Compiled calls: the built-ins that take values, and those that take a predicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gorax_engine.core.expressions.access import Evaluator
from gorax_engine.core.expressions.errors import ExpressionSyntaxError
from gorax_engine.core.expressions.functions import builtins
from gorax_engine.core.expressions.functions.builtin import Builtin, items, snake_case
from gorax_engine.core.expressions.nodes import Access, Call, Key, Literal, Node, Pointer
from gorax_engine.core.expressions.parser import suggestion
from gorax_engine.core.expressions.predicates import PREDICATES, WITHOUT_PREDICATE, PredicateBuiltin, fold
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.model import Json

if TYPE_CHECKING:
    from gorax_engine.core.expressions.compiler import Compiler

_PREDICATES_BY_NAME = {name: builtin for key, builtin in PREDICATES.items() for name in (key, snake_case(key))}


def function_names() -> frozenset[str]:
    """Every name that may be called, in each spelling."""
    return frozenset(builtins()) | frozenset(_PREDICATES_BY_NAME)


def compile_call(compiler: Compiler, call: Call) -> Evaluator:
    """The closure of a call; raises ExpressionSyntaxError for an unknown function or a wrong number of arguments."""
    predicate = _PREDICATES_BY_NAME.get(call.name)
    if predicate is not None:
        return _predicate_call(compiler, call, predicate)
    builtin = builtins().get(call.name)
    if builtin is None:
        hint = suggestion(call.name, function_names()) or "."
        raise ExpressionSyntaxError(
            f"Unknown function `{call.name}` at character {call.position + 1}{hint}", call.position
        )
    count = len(call.arguments)
    if count < builtin.minimum or (builtin.maximum is not None and count > builtin.maximum):
        raise _wrong_count(call, builtin.signature)
    return _value_call(builtin, [compiler.compile(argument) for argument in call.arguments])


def _wrong_count(call: Call, signature: str) -> ExpressionSyntaxError:
    count = len(call.arguments)
    return ExpressionSyntaxError(
        f"`{call.name}` at character {call.position + 1} can't take {count} argument{'s' if count != 1 else ''}: "
        f"write `{signature}`.",
        call.position,
    )


def _value_call(builtin: Builtin, arguments: list[Evaluator]) -> Evaluator:
    function = builtin.call
    if len(arguments) == 1:
        (only,) = arguments
        return lambda scope, frame: function(scope, only(scope, frame))
    if len(arguments) == 2:
        first, second = arguments
        return lambda scope, frame: function(scope, first(scope, frame), second(scope, frame))
    return lambda scope, frame: function(scope, *[argument(scope, frame) for argument in arguments])


def _predicate_call(compiler: Compiler, call: Call, builtin: PredicateBuiltin) -> Evaluator:
    count = len(call.arguments)
    least = 1 if builtin.optional else 2
    if not least <= count <= 2 + builtin.extra:
        raise _wrong_count(call, builtin.signature)
    source = compiler.compile(call.arguments[0])
    extra = [compiler.compile(argument) for argument in call.arguments[2:]]
    if count == 1:
        return _without_predicate(builtin, source)
    if builtin.fold:
        return _fold_call(compiler, builtin, source, call.arguments[1], extra)
    body = _predicate_body(builtin, call.arguments[1])
    frame_slots, test, cost = compiler.predicate(body, folds=False)
    item_slot, index_slot, name, function = frame_slots.item, frame_slots.place, builtin.name, builtin.call

    def run(scope: Scope, frame: Any) -> Json:
        values = items(source(scope, frame), name)
        further = [argument(scope, frame) for argument in extra]
        scope.spend(len(values) * cost)

        def apply(item: Json, index: int) -> Json:
            frame[item_slot] = item
            frame[index_slot] = index
            return test(scope, frame)

        return function(values, apply, scope, *further)

    return run


def _predicate_body(builtin: PredicateBuiltin, node: Node) -> Node:
    """`sortBy(list, "key")` means `sortBy(list, .key)`."""
    if builtin.name == "sortBy" and isinstance(node, Literal) and type(node.value) is str:
        return Access(Pointer("", 0), (Key(node.value, False),))
    return node


def _without_predicate(builtin: PredicateBuiltin, source: Evaluator) -> Evaluator:
    def run(scope: Scope, frame: Any) -> Json:
        values = items(source(scope, frame), builtin.name)
        scope.spend(len(values))
        return builtin.call(values, WITHOUT_PREDICATE, scope)

    return run


def _fold_call(
    compiler: Compiler, builtin: PredicateBuiltin, source: Evaluator, body: Node, extra: list[Evaluator]
) -> Evaluator:
    slots, step, cost = compiler.predicate(body, folds=True)
    item_slot, index_slot, accumulator_slot, name = slots.item, slots.place, slots.accumulator, builtin.name

    def run(scope: Scope, frame: Any) -> Json:
        values = items(source(scope, frame), name)
        initial = tuple(argument(scope, frame) for argument in extra)
        scope.spend(len(values) * cost)

        def apply(total: Json, item: Json, index: int) -> Json:
            frame[accumulator_slot] = total
            frame[item_slot] = item
            frame[index_slot] = index
            return step(scope, frame)

        return fold(values, apply, initial)

    return run
