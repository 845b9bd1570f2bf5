"""Every built-in by its examples, in both spellings, and the faults of its arguments."""

from typing import Any

import pytest

from gorax_engine.core.expressions import ExpressionError, ExpressionSyntaxError, compile_expression
from gorax_engine.core.expressions.functions import builtins
from gorax_engine.core.expressions.functions.builtin import Builtin, snake_case
from gorax_engine.core.expressions.predicates import PREDICATES, PredicateBuiltin

from .conftest import Evaluate

EVERY: dict[str, Builtin | PredicateBuiltin] = {
    **{builtin.name: builtin for builtin in builtins().values()},
    **PREDICATES,
}
EXAMPLES = [(name, source, value) for name, builtin in EVERY.items() for source, value in builtin.examples]

EXPR_LANG_1_17 = """
all any one none map filter find findIndex findLast findLastIndex groupBy sortBy count sum reduce len first last keys
values toPairs fromPairs concat flatten uniq join split splitAfter replace trim trimPrefix trimSuffix upper lower repeat
indexOf lastIndexOf hasPrefix hasSuffix abs ceil floor round max min mean median int float string type toJSON fromJSON
toBase64 fromBase64 now date duration timezone get take reverse sort bitand bitor bitxor bitnand bitnot bitshl bitshr
bitushr
"""
GORAX = """
upper lower trim concat substr now dateFormat dateParse addDays dateAdd round ceil floor abs min max len
"""


def test_every_function_of_expr_lang_and_gorax_is_there() -> None:
    assert set(EVERY) >= {*EXPR_LANG_1_17.split(), *GORAX.split()}


def test_every_function_has_an_example() -> None:
    assert [name for name, builtin in EVERY.items() if not builtin.examples] == []


@pytest.mark.parametrize(("name", "source", "value"), EXAMPLES)
def test_example(evaluate: Evaluate, name: str, source: str, value: Any) -> None:
    for spelling in (name, snake_case(name)):
        result = evaluate(source.replace(f"{name}(", f"{spelling}("))
        assert result == value
        assert type(result) is type(value)


MORE = [
    ('trim("  x\\n")', "x"),
    ('split("abc", "")', ["a", "b", "c"]),
    ('split("abc", "", 2)', ["a", "bc"]),
    ('split("a,b", ",", 0)', []),
    ('split("", ",")', [""]),
    ('replace("aaa", "a", "b", 2)', "bba"),
    ('replace("ab", "", "-")', "-a-b-"),
    ('substr("héllo", 1, 1)', "é"),
    ('upper("straße")', "STRASSE"),
    ('join([], ",")', ""),
    ("concat([])", []),
    ("concat([1], [2], [3])", [1, 2, 3]),
    ('concat("n: ", 3.0)', "n: 3"),
    ("round(0.5)", 1),
    ("round(-0.5)", -1),
    ("round(2.5)", 3),
    ("round(0.49999999999999994)", 0),
    ("round(1234, -2)", 1200),
    ("max(1, 2.5)", 2.5),
    ("min([3, [1]], 2)", 1),
    ("mean(1, 2)", 1.5),
    ("mean([])", 0.0),
    ("median(4)", 4),
    ("sum([0.5, 1])", 1.5),
    ("sum([])", 0),
    ("len(nil ?? [])", 0),
    ("int(2.0)", 2),
    ('int(" 7 ")', 7),
    ("int(1e30)", 1000000000000000019884624838656),
    ('float("1e3")', 1000.0),
    ("float(3)", 3.0),
    ("string(3.0)", "3"),
    ("string(1e21)", "1e+21"),
    ("string(1e-7)", "1e-7"),
    ("string(0.1)", "0.1"),
    ("string(true)", "true"),
    ("string(nil)", "null"),
    ("string({a: nil})", '{"a":null}'),
    ("type([])", "array"),
    ("type({})", "map"),
    ("type(1.0)", "float"),
    ("type(true)", "bool"),
    ("fromJSON(toJSON({a: [1, 2.5, nil, true]}))", {"a": [1, 2.5, None, True]}),
    ("first([])", None),
    ("take([1], 5)", [1]),
    ("get(nil, 'a')", None),
    ("get('abc', 1)", "b"),
    ("flatten([[1], [[2]], 3])", [1, 2, 3]),
    ("uniq([{a: 1}, {a: 1.0}, 1, 1.0, true])", [{"a": 1}, 1, True]),
    ("sort([2, 1.5, 1])", [1, 1.5, 2]),
    ("sort([])", []),
    ("sortBy([], .a)", []),
    ("map([1, 2], #index)", [0, 1]),
    ("map([[1, 2], [3]], map(#, # + 1))", [[2, 3], [4]]),
    ("filter(1..5, # > 2)", [3, 4, 5]),
    ("1..3 | map(# * 2) | sum()", 12),
    ("[3, 1] | sort() | first()", 1),
    ("reduce(1..3, #acc + #index, 10)", 13),
    ("reduce([1], #acc + #)", 1),
    ("groupBy([true, nil], #)", {"true": [True], "null": [None]}),
    ("map([1, 2], {n: #})", [{"n": 1}, {"n": 2}]),
    ("map([1], {#})", [1]),
    ("count([1, 2, 3], {# > 1})", 2),
    ("any([], # > 1)", False),
    ("one([1, 1], # == 1)", False),
    ("find([{a: 1}], .a == 2)?.a", None),
    ("sortBy([{a: 2}, {a: 1}], {-.a})", [{"a": 2}, {"a": 1}]),
    ("all([1, 2], {# > 0 && # < 3})", True),
    ("now()", "2023-11-14T22:13:20Z"),
    ('now("Europe/Zurich")', "2023-11-14T23:13:20+01:00"),
    ('now() - duration("1h")', "2023-11-14T21:13:20Z"),
    ("now() + 0.5", "2023-11-14T22:13:20.5Z"),
    ('date("2024-03-10T00:00:00Z") - date("2024-03-09")', 86400),
    ('now() > date("2023-01-01")', True),
    ('date("Mon, 02 Jan 2006 15:04:05 MST")', "2006-01-02T15:04:05Z"),
    ('date("2024-01-02 03:04:05")', "2024-01-02T03:04:05Z"),
    ('date("2024-07-01", "2006-01-02", "Europe/Zurich")', "2024-07-01T00:00:00+02:00"),
    ('dateAdd("2024-01-31T00:00:00Z", 1, "month")', "2024-03-02T00:00:00Z"),
    ('dateAdd(now(), -1, "years")', "2022-11-14T22:13:20Z"),
    ('dateAdd("2024-01-01T00:00:00Z", 90)', "2024-01-01T00:01:30Z"),
    ('dateAdd("2024-01-01", 2, "weeks")', "2024-01-15T00:00:00Z"),
    ('addDays("2024-03-01T12:00:00+02:00", -1)', "2024-02-29T12:00:00+02:00"),
    ("dateFormat(now())", "2023-11-14T22:13:20Z"),
    ('dateDiff("2024-01-01", "2024-01-01T12:00:00Z", "day")', 0.5),
    ('duration("-1.5h")', -5400),
    ('duration("1h15m30.918s")', 4530.918),
    ("duration(90)", 90),
    ('unix("2024-01-01T00:00:00.25Z")', 1704067200.25),
    ("[random(), random()] == [random(), random()]", False),
]


@pytest.mark.parametrize(("source", "expected"), MORE)
def test_value(evaluate: Evaluate, source: str, expected: Any) -> None:
    value = evaluate(source)
    assert value == expected
    assert type(value) is type(expected)


FAULTS = [
    ("upper(1)", "type_error"),
    ("len(nil)", "type_error"),
    ("len(5)", "type_error"),
    ("join([1])", "type_error"),
    ("first(nil)", "type_error"),
    ("keys([])", "type_error"),
    ("abs('a')", "type_error"),
    ("max('a')", "type_error"),
    ("max(true)", "type_error"),
    ("sum(['a'])", "type_error"),
    ("filter([1], # + 1)", "type_error"),
    ("filter(nil, true)", "type_error"),
    ("all({}, true)", "type_error"),
    ("sort([1, 'a'])", "type_error"),
    ("sort([nil])", "type_error"),
    ("sort([true])", "type_error"),
    ("sortBy([{a: nil}], .a)", "type_error"),
    ("count([1])", "type_error"),
    ("round('1')", "type_error"),
    ("bitand(1.5, 2)", "type_error"),
    ("int(nil)", "type_error"),
    ("int('1.5')", "invalid_argument"),
    ("int('1_0')", "invalid_argument"),
    ("int('x')", "invalid_argument"),
    ("float('nan')", "invalid_argument"),
    ("float('inf')", "invalid_argument"),
    ("float('x')", "invalid_argument"),
    ("fromJSON('{')", "invalid_argument"),
    ("fromJSON('NaN')", "invalid_argument"),
    ("fromBase64('?')", "invalid_argument"),
    (r"fromJSON('\"\\u0000\"')", "invalid_argument"),
    ("fromBase64('AA==')", "invalid_argument"),
    ("substr('a', -1, 1)", "invalid_argument"),
    ("substr('a', 0, -1)", "invalid_argument"),
    ("repeat('a', -1)", "invalid_argument"),
    ("take([1], -1)", "invalid_argument"),
    ("reduce([], #acc)", "invalid_argument"),
    ("sort([1], 'up')", "invalid_argument"),
    ("fromPairs([1])", "invalid_argument"),
    ("date('x')", "invalid_argument"),
    ("date('2024-02-30')", "invalid_argument"),
    ("date('2024-02-30T00:00:00Z')", "invalid_argument"),
    ("duration('1x')", "invalid_argument"),
    ("duration('')", "invalid_argument"),
    ("timezone('Mars/X')", "invalid_argument"),
    ("timezone('../etc/passwd')", "invalid_argument"),
    ("dateAdd(now(), 1, 'eon')", "invalid_argument"),
    ("dateAdd(now(), 99999999999, 'days')", "invalid_argument"),
    ("dateAdd(now(), 999999999, 'years')", "invalid_argument"),
    ("date(1e300)", "invalid_argument"),
    ("dateFormat(nil)", "type_error"),
    ("bitshl(1, -1)", "invalid_argument"),
    ("bitshl(1, 999999999)", "invalid_argument"),
    ("float(10 ** 400)", "limit_exceeded"),
    ("mean([1e308, 1e308])", "limit_exceeded"),
]


@pytest.mark.parametrize(("source", "code"), FAULTS)
def test_fault(evaluate: Evaluate, source: str, code: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert caught.value.code == code


def test_an_unknown_function_names_the_nearest() -> None:
    with pytest.raises(ExpressionSyntaxError, match="did you mean `filter`"):
        compile_expression("filtr([1], # > 1)")


def test_a_wrong_number_of_arguments_shows_the_signature() -> None:
    with pytest.raises(ExpressionSyntaxError, match=r"write `substr\(s, start\[, length\]\)`"):
        compile_expression("substr('a')")


def test_random_repeats_with_the_scope(evaluate: Evaluate) -> None:
    draws = evaluate("map(1..20, random())")
    assert draws == evaluate("map(1..20, random())")
    assert len(set(draws)) == 20
    assert all(0 <= draw < 1 for draw in draws)
