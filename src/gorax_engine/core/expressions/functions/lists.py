"""Functions of lists and objects that take no predicate."""

from typing import Any, Final

import msgspec

from gorax_engine.core.expressions.errors import invalid_argument, limit_exceeded, type_error
from gorax_engine.core.expressions.functions.builtin import Builtin, integer, items, mapping, text
from gorax_engine.core.expressions.limits import LIST_ITEMS, RESULT_DEPTH
from gorax_engine.core.expressions.paths import descend
from gorax_engine.core.expressions.scope import Scope
from gorax_engine.core.expressions.values import described, equal, measure
from gorax_engine.core.model import Json


def _len(scope: Scope, value: Json) -> Json:
    if type(value) in (list, dict, str):
        return len(value)
    raise type_error(f"`len` needs a list, an object or a string, not {described(value)}.")


def _first(scope: Scope, value: Json) -> Json:
    found = items(value, "first")
    return found[0] if found else None


def _last(scope: Scope, value: Json) -> Json:
    found = items(value, "last")
    return found[-1] if found else None


def _get(scope: Scope, value: Json, key: Json, default: Json = None) -> Json:
    try:
        return descend(value, key)
    except (LookupError, TypeError):
        return default


def _take(scope: Scope, value: Json, count: Json) -> Json:
    given, limit = items(value, "take"), integer(count, "take")
    if limit < 0:
        raise invalid_argument("The count of `take` can't be negative.")
    return given[:limit]


def _keys(scope: Scope, value: Json) -> Json:
    found = mapping(value, "keys")
    scope.spend(len(found))
    return list(found)


def _values(scope: Scope, value: Json) -> Json:
    found = mapping(value, "values")
    scope.spend(len(found))
    return list(found.values())


def _to_pairs(scope: Scope, value: Json) -> Json:
    found = mapping(value, "toPairs")
    scope.spend(len(found) * 2)
    return [[key, item] for key, item in found.items()]


def _from_pairs(scope: Scope, value: Json) -> Json:
    pairs = items(value, "fromPairs")
    scope.spend(len(pairs))
    result = {}
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2:
            raise invalid_argument("`fromPairs` needs a list of pairs `[key, value]`.")
        result[text(pair[0], "fromPairs")] = pair[1]
    return result


def _reverse(scope: Scope, value: Json) -> Json:
    given = items(value, "reverse")
    scope.spend(len(given))
    return given[::-1]


def _flatten(scope: Scope, value: Json) -> Json:
    result: list[Json] = []
    _flatten_into(result, items(value, "flatten"), scope, RESULT_DEPTH)
    return result


def _flatten_into(result: list[Json], value: list[Json], scope: Scope, depth: int) -> None:
    if depth == 0:
        raise limit_exceeded("The list is nested too deeply to be flattened.")
    scope.spend(2 * len(value) + 1)
    for item in value:
        if type(item) is list:
            _flatten_into(result, item, scope, depth - 1)
        else:
            result.append(item)
    if len(result) > LIST_ITEMS * 10:
        raise limit_exceeded("The flattened list is too long.")


def _uniq(scope: Scope, value: Json) -> Json:
    given = items(value, "uniq")
    scope.spend(len(given))
    seen: set[Any] = set()
    compound: list[Json] = []
    result: list[Json] = []
    for item in given:
        if type(item) in (list, dict):
            if any(equal(item, other, scope) for other in compound):
                continue
            compound.append(item)
        else:
            # True equals 1 in Python, but not here.
            mark = (item,) if type(item) is bool else item
            if mark in seen:
                continue
            seen.add(mark)
        result.append(item)
    return result


def sorted_values(values: list[Json], keys: list[Json], order: Json, name: str, scope: Scope) -> list[Json]:
    """`values` in the order of `keys`, stably; raises ExpressionError `type_error` if the keys can't be compared."""
    scope.spend(len(values) * max(1, len(values).bit_length()))
    if order not in ("asc", "desc"):
        raise invalid_argument(f'The order of `{name}` is "asc" or "desc".')
    kinds = {float if type(key) is int else type(key) for key in keys}
    if len(kinds) > 1 or not kinds <= {float, str}:
        odd = next(key for key in keys if type(key) not in (int, float, str)) if not kinds <= {float, str} else None
        what = described(odd) if not kinds <= {float, str} else "numbers and strings together"
        raise type_error(f"`{name}` orders numbers or strings, not {what}.")
    places = sorted(range(len(values)), key=keys.__getitem__, reverse=order == "desc")
    return [values[place] for place in places]


def _sort(scope: Scope, value: Json, order: Json = "asc") -> Json:
    given = items(value, "sort")
    return sorted_values(given, given, order, "sort", scope)


def canonical_text(value: Json) -> str:
    """A text that equal values share: the key under which `groupBy` collects what is not a string."""
    measure(value)
    return msgspec.json.encode(value, order="sorted").decode()


BUILTINS: Final = (
    Builtin("len", _len, "len(v)", "Items of a list, keys of an object, characters of a string.", 1, 1,
            (("len([1, 2])", 2), ("len({a: 1})", 1), ('len("Zürich")', 6))),
    Builtin("first", _first, "first(list)", "The first item; null of an empty list.", 1, 1,
            (("first([1, 2])", 1), ("first([])", None))),
    Builtin("last", _last, "last(list)", "The last item; null of an empty list.", 1, 1, (("last([1, 2])", 2),)),
    Builtin("get", _get, "get(v, key[, default])",
            "The item at an index or key; null, or the default, if absent.", 2, 3,
            (("get([1, 2], 1)", 2), ('get({a: 1}, "b")', None), ('get({a: 1}, "b", 0)', 0))),
    Builtin("take", _take, "take(list, n)", "The first n items.", 2, 2, (("take([1, 2, 3], 2)", [1, 2]),)),
    Builtin("keys", _keys, "keys(object)", "The keys, in their order.", 1, 1, (("keys({a: 1, b: 2})", ["a", "b"]),)),
    Builtin("values", _values, "values(object)", "The values, in the order of the keys.", 1, 1,
            (("values({a: 1, b: 2})", [1, 2]),)),
    Builtin("toPairs", _to_pairs, "toPairs(object)", "A list of `[key, value]`.", 1, 1,
            (("toPairs({a: 1})", [["a", 1]]),)),
    Builtin("fromPairs", _from_pairs, "fromPairs(list)", "An object of `[key, value]` pairs.", 1, 1,
            (('fromPairs([["a", 1]])', {"a": 1}),)),
    Builtin("reverse", _reverse, "reverse(list)", "The items backwards.", 1, 1, (("reverse([1, 2])", [2, 1]),)),
    Builtin("flatten", _flatten, "flatten(list)", "Nested lists as one list.", 1, 1,
            (("flatten([1, [2, [3]]])", [1, 2, 3]),)),
    Builtin("uniq", _uniq, "uniq(list)", "Each value once, the first kept.", 1, 1,
            (("uniq([1, 2, 1, true])", [1, 2, True]),)),
    Builtin("sort", _sort, "sort(list[, order])", 'Numbers or strings in order, "asc" or "desc".', 1, 2,
            (("sort([3, 1, 2])", [1, 2, 3]), ('sort(["a", "b"], "desc")', ["b", "a"]))),
)  # fmt: skip
