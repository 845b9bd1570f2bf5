"""The built-in functions that apply a predicate to each item of a list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gorax_engine.core.expressions.errors import invalid_argument
from gorax_engine.core.expressions.functions.lists import canonical_text, sorted_values
from gorax_engine.core.expressions.operations import add
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import expect_bool
from gorax_engine.core.model import Json

Apply: TypeAlias = Callable[[Json, int], Json]
"""The predicate of an item and its index."""


@dataclass(frozen=True, slots=True)
class PredicateBuiltin:
    """`call` gets the items, the predicate, the scope and the values of further arguments.

    `optional`: the predicate may be left out. `extra`: how many arguments may follow it. `fold`: the predicate sees
    `#acc`, so that the call is compiled by its own rule and `call` is not used.
    """

    name: str
    call: Callable[..., Json]
    signature: str
    summary: str
    examples: tuple[tuple[str, Json], ...]
    optional: bool = False
    extra: int = 0
    fold: bool = False


def _holds(name: str, value: Json) -> bool:
    return expect_bool(value, f"The predicate of `{name}`")


def _itself(item: Json, index: int) -> Json:
    return item


def _all(items: list[Json], test: Apply, scope: Scope) -> Json:
    return all(_holds("all", test(item, at)) for at, item in enumerate(items))


def _any(items: list[Json], test: Apply, scope: Scope) -> Json:
    return any(_holds("any", test(item, at)) for at, item in enumerate(items))


def _none(items: list[Json], test: Apply, scope: Scope) -> Json:
    return not any(_holds("none", test(item, at)) for at, item in enumerate(items))


def _one(items: list[Json], test: Apply, scope: Scope) -> Json:
    return sum(_holds("one", test(item, at)) for at, item in enumerate(items)) == 1


def _map(items: list[Json], test: Apply, scope: Scope) -> Json:
    return [test(item, at) for at, item in enumerate(items)]


def _filter(items: list[Json], test: Apply, scope: Scope) -> Json:
    return [item for at, item in enumerate(items) if _holds("filter", test(item, at))]


def _find(items: list[Json], test: Apply, scope: Scope) -> Json:
    return next((item for at, item in enumerate(items) if _holds("find", test(item, at))), None)


def _find_index(items: list[Json], test: Apply, scope: Scope) -> Json:
    return next((at for at, item in enumerate(items) if _holds("findIndex", test(item, at))), -1)


def _find_last(items: list[Json], test: Apply, scope: Scope) -> Json:
    places = range(len(items) - 1, -1, -1)
    return next((items[at] for at in places if _holds("findLast", test(items[at], at))), None)


def _find_last_index(items: list[Json], test: Apply, scope: Scope) -> Json:
    places = range(len(items) - 1, -1, -1)
    return next((at for at in places if _holds("findLastIndex", test(items[at], at))), -1)


def _count(items: list[Json], test: Apply, scope: Scope) -> Json:
    return sum(_holds("count", test(item, at)) for at, item in enumerate(items))


def _sum(items: list[Json], test: Apply, scope: Scope) -> Json:
    total: Json = 0
    for at, item in enumerate(items):
        total = add(total, test(item, at), scope)
    return total


def _group_by(items: list[Json], test: Apply, scope: Scope) -> Json:
    groups: dict[str, Any] = {}
    for at, item in enumerate(items):
        key = test(item, at)
        groups.setdefault(key if type(key) is str else canonical_text(key), []).append(item)
    return groups


def _sort_by(items: list[Json], test: Apply, scope: Scope, order: Json = "asc") -> Json:
    keys = [test(item, at) for at, item in enumerate(items)]
    return sorted_values(items, keys, order, "sortBy", scope)


def fold(items: list[Json], step: Callable[[Json, Json, int], Json], initial: tuple[Json, ...]) -> Json:
    """`reduce`: the accumulator after each item; the first item begins where no initial value is given."""
    if initial:
        total, start = initial[0], 0
    elif items:
        total, start = items[0], 1
    else:
        raise invalid_argument("`reduce` of an empty list needs an initial value.")
    for at in range(start, len(items)):
        total = step(total, items[at], at)
    return total


_PREDICATES: Final = (
    PredicateBuiltin("all", _all, "all(list, predicate)", "Whether every item holds; true of none.",
                     (("all([1, 2], # > 0)", True), ("all([], # > 0)", True))),
    PredicateBuiltin("any", _any, "any(list, predicate)", "Whether an item holds.", (("any([1, 2], # > 1)", True),)),
    PredicateBuiltin("one", _one, "one(list, predicate)", "Whether exactly one item holds.",
                     (("one([1, 2], # > 1)", True),)),
    PredicateBuiltin("none", _none, "none(list, predicate)", "Whether no item holds.",
                     (("none([1, 2], # > 2)", True),)),
    PredicateBuiltin("map", _map, "map(list, predicate)", "What the predicate gives for each item.",
                     (("map([1, 2], # * 2)", [2, 4]), ("map([{a: 1}], .a)", [1]))),
    PredicateBuiltin("filter", _filter, "filter(list, predicate)", "The items that hold.",
                     (("filter([1, 2, 3], {# % 2 == 1})", [1, 3]),)),
    PredicateBuiltin("find", _find, "find(list, predicate)", "The first item that holds, or null.",
                     (("find([1, 2, 3], # > 1)", 2), ("find([], # > 1)", None))),
    PredicateBuiltin("findIndex", _find_index, "findIndex(list, predicate)",
                     "The index of the first item that holds, or -1.", (("findIndex([1, 2, 3], # > 1)", 1),)),
    PredicateBuiltin("findLast", _find_last, "findLast(list, predicate)", "The last item that holds, or null.",
                     (("findLast([1, 2, 3], # > 1)", 3),)),
    PredicateBuiltin("findLastIndex", _find_last_index, "findLastIndex(list, predicate)",
                     "The index of the last item that holds, or -1.", (("findLastIndex([1, 2, 3], # > 1)", 2),)),
    PredicateBuiltin("count", _count, "count(list[, predicate])", "How many items hold (or are true).",
                     (("count([1, 2, 3], # > 1)", 2), ("count([true, false])", 1)), optional=True),
    PredicateBuiltin("sum", _sum, "sum(list[, predicate])", "The sum of the numbers that the predicate gives.",
                     (("sum([1, 2, 3])", 6), ("sum([{n: 1}, {n: 2}], .n)", 3)), optional=True),
    PredicateBuiltin("groupBy", _group_by, "groupBy(list, predicate)",
                     "An object of lists of items; a key that is no string is written as JSON.",
                     (("groupBy([1, 2, 3], # % 2)", {"1": [1, 3], "0": [2]}),)),
    PredicateBuiltin("sortBy", _sort_by, "sortBy(list, predicate[, order])",
                     'Items in the order of the numbers or strings that the predicate gives, "asc" or "desc"; '
                     "in place of the predicate the name of a key will do.",
                     (("sortBy([{n: 2}, {n: 1}], .n)", [{"n": 1}, {"n": 2}]),
                      ('sortBy([{n: 1}, {n: 2}], "n", "desc")', [{"n": 2}, {"n": 1}])), extra=1),
    PredicateBuiltin("reduce", fold, "reduce(list, predicate[, initial])",
                     "One value from all items: the predicate gives the next `#acc` from `#acc`, `#` and `#index`.",
                     (("reduce(1..4, #acc + #)", 10), ("reduce([], #acc + #, 0)", 0)), extra=1, fold=True),
)  # fmt: skip

PREDICATES: Final = {builtin.name: builtin for builtin in _PREDICATES}
"""Every function that takes a predicate, by its camelCase name."""

WITHOUT_PREDICATE: Final[Apply] = _itself
"""The predicate of a call that leaves it out."""
