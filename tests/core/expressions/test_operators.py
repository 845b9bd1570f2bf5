"""Every operator on every kind of operand, and the precedence of every pair."""

import itertools
import math
from typing import Any

import pytest

from gorax_engine.core.expressions import ExpressionError, ExpressionSyntaxError, compile_expression
from gorax_engine.core.expressions.operators import BINARY, RIGHT_ASSOCIATIVE, SPELLINGS, UNARY
from gorax_engine.core.expressions.parser import parse

from .conftest import Evaluate

VALUES = [
    ("1 + 2", 3),
    ("1 + 2.5", 3.5),
    ('"a" + "b"', "ab"),
    ("3 - 5", -2),
    ("2.5 * 2", 5.0),
    ("6 / 2", 3.0),
    ("7 / 2", 3.5),
    ("7 % 3", 1),
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("2 ** 10", 1024),
    ("2 ^ 3", 8),
    ("2 ** -1", 0.5),
    ("0 ** 0", 1),
    ("(-1) ** 100001", -1),
    ("4 ** 0.5", 2.0),
    ("9007199254740993 + 0", 9007199254740993),
    ("123456789012345678901234567890 * 10", 1234567890123456789012345678900),
    ("1..4", [1, 2, 3, 4]),
    ("3..1", []),
    ("-1..1", [-1, 0, 1]),
    ("1 .. 2", [1, 2]),
    ("1 == 1.0", True),
    ("1 == true", False),
    ("0 == false", False),
    ('1 == "1"', False),
    ("nil == nil", True),
    ("null == nil", True),
    ("nil == false", False),
    ("[1, [true]] == [1.0, [true]]", True),
    ("[1] == [true]", False),
    ("{a: 1} == {a: 1.0}", True),
    ("{a: 1} == {b: 1}", False),
    ("{} == []", False),
    ("1 != 2", True),
    ("[1, 2] != [1]", True),
    ("9007199254740993 == 9007199254740992.0", False),
    ("1 < 2", True),
    ("2 <= 2.0", True),
    ('"a" < "b"', True),
    ('"b" >= "a"', True),
    ("1 > 1", False),
    ("1 < 2 < 3", True),
    ("3 > 2 > 2", False),
    ("1 < 2 == true", True),
    ("5 > 3 >= 3 > 2", True),
    ('"2024-01-01T00:00:00.5Z" > "2024-01-01T00:00:00Z"', True),
    ('"2024-01-01T02:00:00+02:00" <= "2024-01-01T00:00:00Z"', True),
    ("true && false", False),
    ("true and true", True),
    ("false || true", True),
    ("false or false", False),
    ("!true", False),
    ("not false", True),
    ("not not true", True),
    ("false && 1 / 0 == 1", False),
    ("true || 1 / 0 == 1", True),
    ("1 in [1, 2]", True),
    ("1.0 in [1]", True),
    ("true in [1]", False),
    ("3 not in [1, 2]", True),
    ('"a" in {a: 1}', True),
    ('"x" not in {a: 1}', True),
    ("1 in nil", False),
    ("[1] in [[1]]", True),
    ('"hello" contains "ell"', True),
    ('"hello" not contains "x"', True),
    ("[1, 2] contains 2", True),
    ('"hello" startsWith "he"', True),
    ('"hello" starts_with "he"', True),
    ('"hello" endsWith "lo"', True),
    ('"hello" ends_with "x"', False),
    ('"hello" not startsWith "x"', True),
    ('nil contains "a"', False),
    ('"hello" matches "^h.*o$"', True),
    ('"hello" not matches "x"', True),
    (r'"a1" matches "\\d"', True),
    (r"'a1' matches `\d`", True),
    ("nil matches 'a'", False),
    ("not (nil matches 'a')", True),
    ("true ? 1 : 2", 1),
    ("false ? 1 : 2", 2),
    ("false ? 1 : true ? 2 : 3", 2),
    ("true ? false ? 1 : 2 : 3", 2),
    ("true ?: false", True),
    ("false ?: 7", 7),
    ("if true { 1 } else { 2 }", 1),
    ("if false { 1 } else if false { 2 } else { 3 }", 3),
    ("nil ?? 1", 1),
    ("0 ?? 1", 0),
    ("false ?? 1", False),
    ("nil ?? nil ?? 3", 3),
    ("[][0] ?? 1", 1),
    ("-3", -3),
    ("+3", 3),
    ("- -3", 3),
    ("-2 ** 2", -4),
    ("(-2) ** 2", 4),
    ("2 ** 3 ** 2", 512),
    ("10 - 2 - 3", 5),
    ("100 / 10 / 2", 5.0),
    ("2 + 3 * 4", 14),
    ("(2 + 3) * 4", 20),
    ("1 + 2 | max(5) + 1", 6),
    ("-1..1 | len()", 3),
    ("let x = 2; x * x", 4),
    ("let x = 1; let y = x + 1; [x, y]", [1, 2]),
    ("let x = 1; true ? (let x = 2; x) : x", 2),
    ("1 + (let x = 2; x) + 3", 6),
    ("map([1, 2], let d = # * 2; d + 1)", [3, 5]),
    ("[1, 2, 3][0]", 1),
    ("[1, 2, 3][-1]", 3),
    ("[1, 2, 3][1:]", [2, 3]),
    ("[1, 2, 3][:1]", [1]),
    ("[1, 2][:]", [1, 2]),
    ("[1, 2, 3][-2:-1]", [2]),
    ("[1, 2][5:9]", []),
    ('"hello"[1:3]', "el"),
    ('"hello"[-1]', "o"),
    ("{a: {b: 1}}.a.b", 1),
    ('{"x y": 1}["x y"]', 1),
    ('{("a" + "b"): 1}', {"ab": 1}),
    ("{1: 2,}", {"1": 2}),
    ("[1, 2,]", [1, 2]),
    ("nil?.a", None),
    ("{a: nil}.a?.b.c", None),
    ("{a: {}}.a?.b", None),
    ("0x2A", 42),
    ("0o52", 42),
    ("0b101010", 42),
    ("1_000", 1000),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("1.5e-1", 0.15),
    (r'"\n\t\\\"\u00e9\x41\101\U0001F600"', '\n\t\\"éAA😀'),
    (r'"\ud83d\ude00"', "😀"),
    (r"'it\'s'", "it's"),
    ("`raw \\n`", "raw \\n"),
    ("1 /* one */ + // two\n 2", 3),
]

FAULTS = [
    ("1 + true", "type_error"),
    ('"a" + 1', "type_error"),
    ('1 - "a"', "type_error"),
    ("nil * 2", "type_error"),
    ("[1] + [2]", "type_error"),
    ("1.5 % 2", "type_error"),
    ('"a" < 1', "type_error"),
    ("true < false", "type_error"),
    ("nil < 1", "type_error"),
    ("[1] < [2]", "type_error"),
    ("1 && true", "type_error"),
    ("true && nil", "type_error"),
    ("false || 1", "type_error"),
    ("!1", "type_error"),
    ("not nil", "type_error"),
    ('-"a"', "type_error"),
    ("+true", "type_error"),
    ("1 ? 2 : 3", "type_error"),
    ("nil ?: 3", "type_error"),
    ("1.0..2", "type_error"),
    ('"a" in "abc"', "type_error"),
    ("1 in {a: 1}", "type_error"),
    ("1 contains 1", "type_error"),
    ("1 matches `a`", "type_error"),
    ("[1].a", "type_error"),
    ("{a: 1}[0]", "type_error"),
    ("(1).a", "type_error"),
    ("[1][true]", "type_error"),
    ("[1][1.0]", "type_error"),
    ("{a: 1}[nil]", "type_error"),
    ("{(1): 2}", "type_error"),
    ("[1][nil:]", "type_error"),
    ("(1)[1:]", "type_error"),
    ("true.a ?? 1", "type_error"),
    ("1 / 0", "division_by_zero"),
    ("1 / 0.0", "division_by_zero"),
    ("1 % 0", "division_by_zero"),
    ("0 ** -1", "division_by_zero"),
    ("(-8) ** 0.5", "invalid_argument"),
    ("1e308 * 10", "limit_exceeded"),
    ("1e200 ** 2", "limit_exceeded"),
    ("10 ** 4001", "limit_exceeded"),
    ("10 ** 400 / 3", "limit_exceeded"),
    ("10 ** 400 * 1.5", "limit_exceeded"),
    ('"a" matches ("(" + "")', "invalid_regex"),
    ("[1][1]", "missing_path"),
    ("{a: 1}.b", "missing_path"),
    ("nil.a", "missing_path"),
    ("{a: nil}.a.b", "missing_path"),
]

UNREADABLE = [
    "",
    "  ",
    "1 +",
    "+",
    "a b",
    "(1",
    "1)",
    "[1",
    "{a 1}",
    "{a: }",
    "f(",
    "a.",
    "a..b.",
    "'abc",
    '"a\nb"',
    "`abc",
    "1x",
    "0x",
    "a @ b",
    "a = 1",
    "let x = 1",
    "let x 1; x",
    "if true {1}",
    "if true {1} else 2",
    "a ?? b + 1",
    "a ?? b == 1",
    "1 + ?",
    "a ? b",
    "# > 1",
    ".a",
    "#acc",
    "filter([1], #foo)",
    "map([1], #acc)",
    "nope(1)",
    "len()",
    "len(1, 2)",
    "filter([1])",
    "reduce([1])",
    "a | b",
    "a | 1",
    r'"\q"',
    r'"\u12"',
    r'"\ud800"',
    r'"\x00"',
    "/* open",
    "a.b()",
    "a?.",
    "a[",
    "a[]",
    "1 not 2",
    "x not and y",
    "in",
    "9" * 4001,
    "1e999",
    "'a' matches '('",
    "a\\b",
    "$env",
]


@pytest.mark.parametrize(("source", "expected"), VALUES)
def test_value(evaluate: Evaluate, source: str, expected: Any) -> None:
    value = evaluate(source)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(("source", "code"), FAULTS)
def test_fault(evaluate: Evaluate, source: str, code: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert caught.value.code == code
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("source", UNREADABLE)
def test_unreadable(source: str) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source, known_roots=frozenset("abxy"))
    assert 0 <= caught.value.position <= len(source)
    assert caught.value.message[0].isupper() or caught.value.message[0] == "`"
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("source", "position"), [("1 + + ]", 6), ("foo(a, nope(1))", 7), ("{{ a + }}", 7), ("  ${ 1 ! }", 7)]
)
def test_position(source: str, position: int) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_expression(source.replace("foo", "max"))
    assert caught.value.position == position


PLAIN = [operator for operator in BINARY if operator not in ("|", "??")]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(PLAIN, PLAIN)))
def test_precedence_of_a_pair(first: str, second: str) -> None:
    """`a first b second c` groups by the table, and among equals to the left (`**` to the right)."""
    left = BINARY[first] > BINARY[second] or (BINARY[first] == BINARY[second] and first not in RIGHT_ASSOCIATIVE)
    flat = parse(f"a {first} b {second} c")
    orders = {"<", "<=", ">", ">="}
    if first in orders and second in orders:
        assert _shape(flat) == _shape(parse(f"a {first} b {second} c"))  # a chain, tested by value above
        return
    grouped = parse(f"(a {first} b) {second} c" if left else f"a {first} (b {second} c)")
    assert _shape(flat) == _shape(grouped)


def _shape(node: Any) -> Any:
    """The tree without positions, chains written as nested pairs."""
    from gorax_engine.core.expressions.nodes import Between, Chain, Name, Power, Unary

    match node:
        case Name():
            return node.name
        case Power():
            return ("**", _shape(node.base), _shape(node.exponent))
        case Unary():
            return (node.operator, _shape(node.operand))
        case Chain() | Between():
            shape = _shape(node.first)
            for operation in node.rest:
                shape = (operation.operator, shape, _shape(operation.operand))
            return shape
        case _:
            raise AssertionError(node)


@pytest.mark.parametrize(("prefix", "operator"), list(itertools.product(UNARY, PLAIN)))
def test_precedence_of_a_prefix(prefix: str, operator: str) -> None:
    inside = BINARY[operator] >= UNARY[prefix]
    grouped = f"{prefix}(a {operator} b)" if inside else f"({prefix}a) {operator} b"
    assert _shape(parse(f"{prefix}a {operator} b")) == _shape(parse(grouped))


@pytest.mark.parametrize(("spelling", "operator"), SPELLINGS.items())
def test_spellings(spelling: str, operator: str) -> None:
    if operator in UNARY:
        assert _shape(parse(f"{spelling} a")) == _shape(parse(f"{operator}a"))
    else:
        assert _shape(parse(f"a {spelling} b")) == _shape(parse(f"a {operator} b"))


def test_the_precedence_table_itself() -> None:
    """Values in which another grouping would show."""
    assert compile_expression("not 1 in [1]").source  # parses as (not 1) in [1]
    assert BINARY["??"] > BINARY["**"] > UNARY["-"] > BINARY["*"] > UNARY["!"] > BINARY["+"] > BINARY[".."]
    assert BINARY[".."] > BINARY["=="] > BINARY["&&"] > BINARY["||"] > BINARY["|"]


def test_integers_stay_exact(evaluate: Evaluate) -> None:
    assert evaluate("10 ** 3999") == 10**3999
    assert math.isclose(evaluate("10 ** 300 / 10 ** 299"), 10)
