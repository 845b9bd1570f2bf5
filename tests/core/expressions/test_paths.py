"""Roots, paths, hyphens, absence, references."""

from typing import Any

import pytest

from gorax_engine.core.expressions import (
    ExpressionError,
    ExpressionSyntaxError,
    Reference,
    Scope,
    compile_expression,
)
from gorax_engine.core.model import Missing

from .conftest import NOW, ROOTS, Evaluate

VALUES = [
    ("steps.s1.n", 41),
    ("steps['s1'].n", 41),
    ("steps.s1['n'] + 1", 42),
    ("steps.http-1.body.x", 7),
    ("steps['http-1'].body.x", 7),
    ("steps.http-1?.body.x", 7),
    ("steps.http-1.status_code - 1", 199),
    ("steps.s1.output.n", 41),
    ("steps.has.output", {"inner": 3}),
    ("steps.has.output.inner", 3),
    ("steps.has.inner ?? 0", 0),
    ("steps.http-1.output.body.x", 7),
    ("steps['http-1'].output.body.x", 7),
    ("steps[trigger.sid ?? 's1'].output.n", 41),
    ("steps.number.output", 10),
    ("steps.s1?.output.n", 41),
    ("trigger.body.n", 5),
    ("trigger.n", 5),
    ("trigger.map.b.c", 2),
    ("trigger['n']", 5),
    ("trigger['n'] ?? 0", 5),
    ("trigger.n ?? 0", 5),
    ("trigger?.n", 5),
    ("trigger.method", "POST"),
    ("trigger[trigger.key + ''] ?? 'no'", "no"),
    ("trigger['s' + '']", "text"),
    ("trigger.list[-1]", 3),
    ("trigger.list[trigger.vars ?? 1]", 2),
    ("trigger.headers.x-request-id", "r1"),
    ("trigger.headers['x-request-id']", "r1"),
    (r"trigger.body.a\.b", "dotted"),
    ("trigger.map[trigger.key]", 1),
    ("trigger.people[0].name", "Ann"),
    ("len(keys(steps))", 5),
    ("'s1' in steps", True),
    ("'zz' in steps", False),
    ("vars.limit", 3),
    ("env.tenant_id", "t1"),
    ("item.total-fee", 7),
    ("item['total-fee']", 4),
    ("item.total - fee", 7),
    ("credentials.my-key", "t"),
    ("credentials.my-key.id", "i"),
    ("credentials.odd.user", "u"),
    ("credentials.plain", "text"),
    ("credentials['my-key']", "t"),
    ("credentials['my' + '-key']", "t"),
    ("credentials.my-key ?? 1", "t"),
    ("credentials.nope ?? 'none'", "none"),
    ("trigger.s[0]", "t"),
    ("trigger.s[1:3]", "ex"),
    ("trigger.people | map(.age) | max()", 30),
    ("filter(trigger.people, .name startsWith 'A')[0].age", 30),
    ("find(trigger.people, .age == 25)?.name", "Cid"),
    ("sum(trigger.people, .age) / len(trigger.people)", 25.0),
    ("let p = trigger.people; p[1].name", "Bob"),
    ("let p = trigger; p.body.n", 5),
    ("let steps = {a: {b: 1}}; steps.a.b", 1),
]

COALESCED = [
    ("trigger.nope ?? 1", 1),
    ("trigger.nope.deep.er ?? 1", 1),
    ("trigger.z ?? 1", 1),
    ("trigger.z.deep ?? 1", 1),
    ("trigger.list[9] ?? 1", 1),
    ("steps.zz.body.x ?? 1", 1),
    ("steps.zz ?? steps.s1.n", 41),
    ("nothing.at.all ?? 1", 1),
    ("(trigger.nope + 1) ?? 1", 1),
    ("upper(trigger.nope) ?? 'x'", "x"),
    ("[trigger.nope] ?? 'x'", "x"),
    ("map(trigger.people, .salary) ?? 'x'", "x"),
    ("steps.zz.output ?? 1", 1),
    ("steps.zz.output.x ?? 1", 1),
    ("trigger.map[trigger.nope] ?? 1", 1),
    ("trigger.nope?.a", None),
    ("trigger.nope?.a.b.c", None),
    ("trigger.map?.zz", None),
    ("trigger.map?.zz.y", None),
    ("trigger.map?.b.c", 2),
    ("trigger.z?.a", None),
    ("trigger.z?.a.b", None),
    ("trigger.nope.deep?.x", None),
    ("trigger.list?.[9]", None),
    ("trigger.list?.[0]", 1),
    ("trigger.map?.[trigger.key]", 1),
    ("trigger.nope?.[0].x", None),
    ("nothing?.x", None),
    ("(trigger.nope ?? nil)?.x", None),
    ("trigger.nope?.a ?? 2", 2),
    ("trigger.a ?? trigger.b ?? trigger.n", 5),
    ("let x = trigger.nope ?? 3; x", 3),
    ("trigger.t ?? 1", True),
    ("map([{}, {a: 1}], .a ?? 0)", [0, 1]),
    ("map([{}, {a: 1}], #?.a)", [None, 1]),
]


@pytest.mark.parametrize(("source", "expected"), VALUES + COALESCED)
def test_value(evaluate: Evaluate, source: str, expected: Any) -> None:
    assert evaluate(source) == expected


@pytest.mark.parametrize(("source", "expected"), VALUES + COALESCED)
def test_value_where_missing_is_null(evaluate: Evaluate, source: str, expected: Any) -> None:
    assert evaluate(source, Missing.NULL) == expected


@pytest.mark.parametrize(
    "source", ["credentials.odd", "credentials['odd']", "credentials['o' + 'dd']", "credentials.odd ?? 1"]
)
@pytest.mark.parametrize("missing", list(Missing))
def test_a_credential_without_a_usual_field_needs_one_named(evaluate: Evaluate, source: str, missing: Missing) -> None:
    with pytest.raises(ExpressionError, match="none of the fields api_key, token, secret, key, password") as caught:
        evaluate(source, missing)
    assert caught.value.code == "type_error"


ABSENT = [
    ("trigger.nope", "trigger.nope", ["`body`", "`headers`", "`people`"]),
    ("trigger.body.nope", "trigger.body.nope", ["`trigger.body`", "`people`"]),
    ("trigger.map.b.zz.deep", "trigger.map.b.zz", ["`c`"]),
    ("trigger.z.a", "trigger.z.a", ["null"]),
    ("trigger.list[7]", "trigger.list[7]", ["3 items"]),
    ("trigger.list[-4]", "trigger.list[-4]", ["3 items"]),
    ("steps.zz.body", "steps.zz", ["`http-1`", "`s1`"]),
    ("steps.gone.body", "steps.gone", ["skipped"]),
    ("steps.s1.body", "steps.s1.body", ["only the key `n`"]),
    ("nothing", "nothing", ["`trigger`"]),
    ("nothing.x", "nothing", ["`trigger`"]),
    ("vars.x", "vars.x", ["`limit`"]),
    ("map(trigger.people, .salary)", "#.salary", ["`age`", "`name`"]),
    ("let p = trigger.map; p.zz", "p.zz", ["`a`", "`b`"]),
    ("trigger.map[trigger.key + 'x']", "trigger.map.ax", ["`a`", "`b`"]),
    ("trigger.map?.b.zz", "trigger.map.b.zz", ["`c`"]),
    ("trigger.map.b.zz + 1", "trigger.map.b.zz", []),
    ("trigger.z[1:]", "trigger.z", ["null"]),
]


@pytest.mark.parametrize(("source", "path", "words"), ABSENT)
def test_absence_names_the_path_and_the_keys(source: str, path: str, words: list[str]) -> None:
    scope = Scope(ROOTS, NOW, skipped=frozenset({"gone"}))
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source)(scope)
    assert (caught.value.code, caught.value.path) == ("missing_path", path)
    assert all(word in caught.value.message for word in [path, *words])


@pytest.mark.parametrize("source", [source for source, _, _ in ABSENT if "+ 1" not in source and "map(" not in source])
def test_absence_is_null_where_the_scope_says_so(evaluate: Evaluate, source: str) -> None:
    assert evaluate(source, Missing.NULL) is None


def test_absence_inside_a_predicate_is_null_where_the_scope_says_so(evaluate: Evaluate) -> None:
    assert evaluate("map(trigger.people, .salary)", Missing.NULL) == [None, None, None]


TYPE_FAULTS = [
    "trigger.n.x ?? 1",
    "trigger.s.x ?? 1",
    "trigger.t.x ?? 1",
    "trigger.list.x ?? 1",
    "trigger.map[0] ?? 1",
    "(trigger.s + 1) ?? 1",
    "trigger.n?.x",
    "trigger.list?.x",
    "trigger.n.x",
    "steps.number.x ?? 1",
    "steps.s1.n[0] ?? 1",
    "steps[0] ?? 1",
    "trigger[0] ?? 1",
]


@pytest.mark.parametrize("source", TYPE_FAULTS)
@pytest.mark.parametrize("missing", list(Missing))
def test_type_faults_are_not_absence(evaluate: Evaluate, source: str, missing: Missing) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, missing)
    assert caught.value.code == "type_error"


def test_the_body_does_not_hide_the_trigger(evaluate: Evaluate) -> None:
    trigger = {"method": None, "body": {"method": "inner", "x": 1}}
    assert evaluate("trigger.method", trigger=trigger) is None
    assert evaluate("trigger.body.method", trigger=trigger) == "inner"
    for body in ([1], "text", None, 3):
        assert evaluate("trigger.x ?? 'absent'", trigger={"body": body}) == "absent"
        with pytest.raises(ExpressionError, match=r"`trigger\.x` does not exist"):
            evaluate("trigger.x", trigger={"body": body})


def test_known_steps_cut_names_with_hyphens() -> None:
    scope = Scope(ROOTS, NOW)
    steps = frozenset({"number", "http-1", "s1"})
    assert compile_expression("steps.number-1", known_steps=steps)(scope) == 9
    assert compile_expression("steps.number-1", known_steps=steps | {"number-1"})(scope) == 99
    assert compile_expression("steps.number-1")(scope) == 99
    assert compile_expression("steps.number-steps.s1.n", known_steps=steps)(scope) == -31
    assert compile_expression("steps.http-1.body.x-2", known_steps=steps)(scope) == 5


def test_known_roots_decide_about_hyphens_elsewhere() -> None:
    roots = frozenset({"trigger", "item", "fee"})
    scope = Scope(ROOTS, NOW)
    assert compile_expression("item.total-fee", known_roots=roots)(scope) == 7
    assert compile_expression("item.total-fee", known_roots=roots - {"fee"})(scope) == 4
    assert compile_expression("let fee = 1; item.total-fee", known_roots=roots - {"fee"})(scope) == 8
    assert compile_expression("item.total-len('ab')", known_roots=roots)(scope) == 7
    assert compile_expression("item.total-1", known_roots=roots)(scope) == 8


def test_unknown_roots_are_faults_where_they_are_known() -> None:
    with pytest.raises(ExpressionSyntaxError, match=r"Unknown name `trigge` at character 5; did you mean `trigger`"):
        compile_expression("1 + trigge.x", known_roots=frozenset({"trigger", "steps"}))
    compile_expression("let x = 1; x + filter([1], # > x)[0]", known_roots=frozenset())


def test_references() -> None:
    expression = compile_expression(
        "steps.http-1.body[0].x + trigger?.a.b[steps.s2.i] - credentials.key + (let v = vars.q; v.w) + len(steps)"
    )
    assert set(expression.references) == {
        Reference("steps", ("http-1", "body", 0, "x")),
        Reference("trigger", ("a", "b")),
        Reference("steps", ("s2", "i")),
        Reference("credentials", ("key",)),
        Reference("vars", ("q",)),
        Reference("steps", ()),
    }
    assert expression.roots == {"steps", "trigger", "credentials", "vars"}
    assert compile_expression("trigger.x ?? steps.a.b").references == (
        Reference("trigger", ("x",)),
        Reference("steps", ("a", "b")),
    )


def test_bound_expressions_see_local_values() -> None:
    expression = compile_expression("item.n > limit && trigger.n == 5")
    bound = expression.bind(Scope({**ROOTS, "limit": 3}, NOW))
    assert bound(item={"n": 4}) is True
    assert bound.evaluate({"item": {"n": 2}}) is False
    assert bound.evaluate({"item": {"n": 2}, "limit": 1}) is True
    assert bound.evaluate({"item": {"n": 2}}) is False
    assert bound.source == expression.source == "item.n > limit && trigger.n == 5"


def test_a_child_scope_hides_and_keeps() -> None:
    parent = Scope(ROOTS, NOW)
    child = parent.child({"item": 1})
    assert compile_expression("[item, vars.limit, now()]")(child) == [1, 3, "2023-11-14T22:13:20Z"]
    assert compile_expression("item.total")(parent) == 9


@pytest.mark.parametrize("source", ["{{ trigger.n }}", "${trigger.n}", "  {{trigger.n}}  ", "trigger.n"])
def test_template_marks_around_an_expression_are_accepted(evaluate: Evaluate, source: str) -> None:
    assert evaluate(source) == 5


def test_nothing_of_python_can_be_reached(evaluate: Evaluate) -> None:
    for name in ("__class__", "__init__", "append", "keys", "items", "format", "__globals__"):
        for base in ("trigger", "trigger.s", "trigger.list", "trigger.n", "steps", "(1)", "'a'", "[]", "{}"):
            with pytest.raises(ExpressionError) as caught:
                evaluate(f"{base}.{name}")
            assert caught.value.code in ("missing_path", "type_error")
