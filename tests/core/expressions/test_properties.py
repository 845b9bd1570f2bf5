"""Properties over thousands of random sources: an oracle of its own, no stray exceptions, JSON in and JSON out."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gorax_engine.core.expressions import (
    Expression,
    ExpressionSyntaxError,
    Scope,
    compile_expression,
    compile_template,
)
from gorax_engine.core.expressions.calls import function_names
from gorax_engine.core.expressions.operators import BINARY, SPELLINGS
from gorax_engine.core.model import Missing

from .conftest import NOW, ROOTS, outcome

# The oracle: trees of tuples, evaluated and printed by rules that are written here a second time.

LEVELS = [["||"], ["&&"], ["==", "!=", "<", "<=", ">", ">=", "in"], ["+", "-"], ["*", "/", "%"]]
LEVEL = {operator: level for level, operators in enumerate(LEVELS) for operator in operators}
NOT_LEVEL = 3.5
ORDERING = {"<", "<=", ">", ">="}

scalars = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-30, 30),
    st.sampled_from([0.5, -1.25, 2.0, 1e3]),
    st.sampled_from(["", "a", "b", "ab"]),
)


def _grow(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("binary"), st.sampled_from(sorted(LEVEL)), children, children),
        st.tuples(st.just("not"), children),
        st.tuples(st.just("if"), children, children, children),
        st.tuples(st.just("list"), st.lists(children, max_size=3)),
        st.tuples(st.just("index"), st.lists(children, min_size=1, max_size=3), st.integers(-3, 2)),
        st.tuples(st.just("or_else"), children, children),
        st.tuples(st.just("map"), st.lists(children, max_size=3), st.sampled_from(["+", "*", "=="]), children),
        st.tuples(st.just("let"), children, children),
    )


trees = st.recursive(st.tuples(st.just("value"), scalars), _grow, max_leaves=8)


def random_tree(random: Random, depth: int) -> Any:
    """A tree of the same kinds, made quickly and without a search for small ones."""
    if depth == 0 or random.random() < 0.15:
        return (
            "value",
            random.choice([True, False, None, 0, 1, 2, 3, -7, 12, 0.5, -1.25, 2.0, 1e3, "", "a", "b", "ab"]),
        )

    def grown() -> Any:
        return random_tree(random, depth - 1)

    kind = random.randrange(14)
    match kind:
        case 0:
            return ("not", grown())
        case 1:
            return ("if", grown(), grown(), grown())
        case 2:
            return ("list", [grown() for _ in range(random.randrange(3))])
        case 3:
            return ("index", [grown() for _ in range(random.randint(1, 3))], random.randint(-3, 2))
        case 4:
            return ("or_else", grown(), grown())
        case 5:
            return ("map", [grown() for _ in range(random.randrange(3))], random.choice("+*"), grown())
        case 6:
            return ("let", grown(), grown())
        case _:
            return ("binary", random.choice(sorted(LEVEL)), grown(), grown())


class _Fault(Exception):
    pass


class _Absent(_Fault):
    pass


def oracle(tree: Any) -> Any:
    match tree:
        case ("value", value):
            return value
        case ("not", operand):
            return not _bool(oracle(operand))
        case ("if", test, then, otherwise):
            return oracle(then) if _bool(oracle(test)) else oracle(otherwise)
        case ("list", items):
            return [oracle(item) for item in items]
        case ("index", items, at):
            values = [oracle(item) for item in items]
            if not -len(values) <= at < len(values):
                raise _Absent
            return values[at]
        case ("or_else", left, right):
            try:
                value = oracle(left)
            except _Absent:
                value = None
            return oracle(right) if value is None else value
        case ("map", items, operator, right):
            values = [oracle(item) for item in items]
            return [_apply(operator, value, oracle(right)) for value in values]
        case ("let", value, body):
            return [oracle(value), oracle(body)]
        case ("binary", "&&", left, right):
            return _bool(oracle(left)) and _bool(oracle(right))
        case ("binary", "||", left, right):
            return _bool(oracle(left)) or _bool(oracle(right))
        case ("binary", operator, left, right):
            return _apply(operator, oracle(left), oracle(right))
        case _:
            raise AssertionError(tree)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Fault
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(left: Any, right: Any) -> bool:
    if _number(left) and _number(right):
        return bool(left == right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and left == right


def _apply(operator: str, left: Any, right: Any) -> Any:
    if operator in ("==", "!="):
        return _same(left, right) is (operator == "==")
    if operator == "in":
        if not isinstance(right, list | None):
            raise _Fault
        return any(_same(left, item) for item in right or [])
    both_numbers = _number(left) and _number(right)
    both_texts = isinstance(left, str) and isinstance(right, str)
    if not (both_numbers or (both_texts and operator in {*ORDERING, "+"})):
        raise _Fault
    if operator in ORDERING:
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
    return _computed(operator, left, right)


def _computed(operator: str, left: Any, right: Any) -> Any:
    if operator in "+-*":
        return left + right if operator == "+" else left - right if operator == "-" else left * right
    if operator == "/" and right != 0:
        return left / right
    if operator == "/" or isinstance(left, float) or isinstance(right, float) or right == 0:
        raise _Fault
    return int(math.copysign(1, left)) * (abs(left) % abs(right))


def printed(tree: Any, level: float = -1) -> str:
    """The source of a tree, with parentheses only where the level around it asks for them."""
    match tree:
        case ("value", value):
            if isinstance(value, str):
                return f'"{value}"'
            text = (
                {True: "true", False: "false", None: "nil"}[value]
                if value is None or value is True or value is False
                else str(value)
            )
            return f"({text})" if text.startswith("-") else text
        case ("not", operand):
            return _grouped(f"!{printed(operand, NOT_LEVEL)}", NOT_LEVEL, level)
        case ("if", test, then, otherwise):
            return f"({printed(test, 0)} ? {printed(then)} : {printed(otherwise)})"
        case ("list", items):
            return f"[{', '.join(printed(item) for item in items)}]"
        case ("index", items, at):
            return f"[{', '.join(printed(item) for item in items)}][{at}]"
        case ("or_else", left, right):
            return f"({printed(left, 99)} ?? {printed(right, 99)})"
        case ("map", items, operator, right):
            return f"map([{', '.join(printed(item) for item in items)}], # {operator} {printed(right, 99)})"
        case ("let", value, body):
            return f"(let x = {printed(value)}; [x, {printed(body)}])"
        case ("binary", operator, left, right):
            own = LEVEL[operator]
            # A row of `<` is a chain, not a nesting to the left.
            left_level = own + 1 if operator in ORDERING else own
            return _grouped(f"{printed(left, left_level)} {operator} {printed(right, own + 1)}", own, level)
        case _:
            raise AssertionError(tree)


def _grouped(text: str, own: float, level: float) -> str:
    return f"({text})" if own < level else text


# `!` binds tighter than `+` but looser than `*`; the oracle's levels say so by NOT_LEVEL between 3 and 4.
@settings(max_examples=300, deadline=None)
@given(trees)
@example(("binary", "*", ("not", ("value", True)), ("value", 2)))
@example(("not", ("binary", "*", ("value", 1), ("value", 2))))
@example(("binary", "-", ("value", 1), ("binary", "-", ("value", 2), ("value", 3))))
def test_a_printed_tree_evaluates_as_the_oracle_says(tree: Any) -> None:
    check_against_the_oracle(tree)


def test_thousands_of_trees_evaluate_as_the_oracle_says() -> None:
    random = Random(20)
    outcomes = [check_against_the_oracle(random_tree(random, random.randint(1, 4))) for _ in range(6000)]
    assert 1000 < sum(outcomes) < 5000  # both kinds of outcome are well covered


def check_against_the_oracle(tree: Any) -> bool:
    """Whether the tree has a value; both sides must agree about it."""
    expression = compile_expression(printed(tree))
    value, error = outcome(expression, Scope({}, 0))
    expected: Any = None
    fault: _Fault | None = None
    try:
        expected = oracle(tree)
    except _Fault as refusal:
        fault = refusal
    assert (error is None) == (fault is None), expression.source
    if error is not None:
        assert (error.code == "missing_path") == isinstance(fault, _Absent), expression.source
    assert repr(value) == repr(expected), expression.source
    return error is None


# Fuzzing

WORDS = sorted(
    {
        *BINARY,
        *SPELLINGS,
        *function_names(),
        "!",
        "not",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ";",
        "?",
        "?.",
        ".",
        "=",
        "#",
        "#acc",
        "#index",
        "let",
        "if",
        "else",
        "true",
        "nil",
        "0",
        "1",
        "-1",
        "2.5",
        "1e300",
        "99999",
        '"a"',
        "'b'",
        "`c`",
        "trigger",
        "steps",
        "steps.s1.n",
        "trigger.list",
        "trigger.people",
        "trigger.nope",
        "trigger.map",
        "x",
        ".name",
        "now()",
        "filter(trigger.people, .age > 1)",
        "map(1..9, # * 2)",
        "reduce(1..5, #acc + #)",
        "{a: 1}",
        "[1, 2]",
    }
)


def is_json(value: Any, depth: int = 0) -> bool:
    if value is None or type(value) in (bool, int, str):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if depth > 100:
        return False
    if type(value) is list:
        return all(is_json(item, depth + 1) for item in value)
    return type(value) is dict and all(type(key) is str and is_json(item, depth + 1) for key, item in value.items())


def _compiled(compile_source: Callable[[str], Expression], source: str) -> Expression | ExpressionSyntaxError:
    try:
        return compile_source(source)
    except ExpressionSyntaxError as error:
        return error


def _run(source: str, missing: Missing) -> None:
    for compile_source in (compile_expression, compile_template):
        compiled = _compiled(compile_source, source)
        if isinstance(compiled, ExpressionSyntaxError):
            assert 0 <= compiled.position <= len(source)
            assert len(compiled.message) < 600
            continue
        value, error = outcome(compiled, Scope(ROOTS, NOW, missing))
        assert error is None or len(error.message) < 1_500
        assert is_json(value)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12), st.sampled_from(["", " "]), st.sampled_from(list(Missing)))
def test_any_row_of_words_is_a_fault_or_a_value(words: list[str], glue: str, missing: Missing) -> None:
    _run(glue.join(words), missing)


def test_thousands_of_rows_of_words_are_faults_or_values() -> None:
    random = Random(21)
    for _ in range(6000):
        words = random.choices(WORDS, k=random.randint(1, 9))
        _run(random.choice(["", " "]).join(words), random.choice(list(Missing)))


@settings(max_examples=500, deadline=None)
@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("latin-1")), st.text("{}$\"'`()[]\\.#/*x1 ")))
def test_any_text_is_a_fault_or_a_value(text: str) -> None:
    _run(text, Missing.ERROR)
    _run("{{" + text + "}}", Missing.NULL)


arguments = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        [
            "2024-02-29T23:59:59Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            "2006-01-02",
            "1h",
            "Europe/Zurich",
            "day",
            "desc",
            "[1]",
            "YQ==",
        ]
    ),
    st.recursive(st.integers(-3, 3), lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)


@settings(max_examples=800, deadline=None)
@given(
    st.sampled_from(sorted(function_names())),
    st.lists(arguments, max_size=4),
    st.sampled_from(["#", "# > 0", ".a", "#index"]),
)
def test_any_call_is_a_fault_or_a_value(name: str, values: list[Any], predicate: str) -> None:
    names = [f"v{at}" for at in range(len(values))]
    for call in (f"{name}({', '.join(names)})", f"{name}({', '.join([*names[:1], predicate, *names[1:2]])})"):
        compiled = _compiled(compile_expression, call)
        if isinstance(compiled, Expression):
            value, _ = outcome(compiled, Scope(dict(zip(names, values, strict=True)), NOW))
            assert is_json(value)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(BINARY.keys() - {"|", "??"})), arguments, arguments)
def test_any_operation_is_a_fault_or_a_value(operator: str, left: Any, right: Any) -> None:
    expression = compile_expression(f"a {operator} b")
    value, _ = outcome(expression, Scope({"a": left, "b": right}, NOW))
    assert is_json(value)


@settings(max_examples=400, deadline=None)
@given(
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        ),
    ),
    st.lists(st.sampled_from(["a", "b", "c", 0, 1, -1]), min_size=1, max_size=4),
)
def test_every_way_to_a_path_agrees(value: Any, keys: list[str | int]) -> None:
    """Quick, soft, optional and computed access find the same value, or the same fault."""
    tail = "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in keys)
    computed = "".join(f'["" + "{key}"]' if isinstance(key, str) else f"[0 + ({key})]" for key in keys)
    sources = [f"v{tail}", f"v{computed}", f"(let w = v; w{tail})", f"map([v], #{tail})[0]", f"(v{tail}) ?? nil"]
    results = []
    for source in sources:
        found, error = outcome(compile_expression(source), Scope({"v": value}, 0, Missing.NULL))
        results.append((found, error.code if error is not None else None))
    assert all(result == results[0] for result in results)
    wanted = value
    for key in keys:
        if wanted is None or (type(wanted) is dict and type(key) is str and key not in wanted):
            wanted = None
            break
        if type(wanted) is dict and type(key) is str:
            wanted = wanted[key]
        elif type(wanted) in (list, str) and type(key) is int:
            wanted = wanted[key] if -len(wanted) <= key < len(wanted) else None
            if wanted is None:
                break
        else:
            assert results[0] == (None, "type_error")
            return
    assert results[0] == (wanted, None)
