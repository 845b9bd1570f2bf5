"""The built-in functions: every one with its arguments, a sentence and examples that the tests run."""

from functools import cache

from gorax_engine.core.expressions.functions import conversion, lists, numbers, strings, times
from gorax_engine.core.expressions.functions.builtin import Builtin, snake_case


@cache
def builtins() -> dict[str, Builtin]:
    """Every function that takes values, by each of its names."""
    table: dict[str, Builtin] = {}
    for module in (strings, numbers, lists, times, conversion):
        for builtin in module.BUILTINS:
            for name in (builtin.name, snake_case(builtin.name), *builtin.aliases):
                table[name] = builtin
    return table
