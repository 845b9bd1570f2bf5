"""Templates in text: types, marks inside marks, escapes, URLs."""

from typing import Any

import pytest

from gorax_engine.core.expressions import (
    ExpressionError,
    ExpressionSyntaxError,
    Reference,
    Scope,
    compile_template,
    is_template,
)

from .conftest import NOW, ROOTS


def render(source: str, **options: Any) -> Any:
    return compile_template(source, **options)(Scope(ROOTS, NOW))


VALUES = [
    ("{{ trigger.n }}", 5),
    ("${trigger.n}", 5),
    ("{{trigger.map}}", {"a": 1, "b": {"c": 2}}),
    ("{{ trigger.z }}", None),
    ("{{ 1.0 }}", 1.0),
    ("{{ true }}", True),
    ("{{ [] }}", []),
    ("n={{ trigger.n }}", "n=5"),
    ("{{ trigger.n }}{{ trigger.n }}", "55"),
    (" {{ trigger.n }}", " 5"),
    ("{{ trigger.n }}-${trigger.f}", "5-2.5"),
    ("<{{ trigger.z }}>", "<>"),
    ("<{{ true }}>", "<true>"),
    ("<{{ trigger.list }}>", "<[1,2,3]>"),
    ("<{{ trigger.map }}>", '<{"a":1,"b":{"c":2}}>'),
    ("<{{ 3.0 }}>", "<3>"),
    ("<{{ 1e21 }}>", "<1e+21>"),
    ("<{{ 12345678901234567890 }}>", "<12345678901234567890>"),
    ("<{{ 'é' }}>", "<é>"),
    ("{{ {a: {b: 1}} }}", {"a": {"b": 1}}),
    ("{{ {a: 1}}}", {"a": 1}),
    ("{{{a: 1}}}", {"a": 1}),
    ("x{{ '}}' }}y", "x}}y"),
    ('${ "}" }', "}"),
    ("${ {a: '}'}.a }", "}"),
    ("{{ `{{` }}", "{{"),
    ("{{ 1 /* }} */ }}", 1),
    ("x{{ '\\'}}' }}", "x'}}"),
    ("{{ filter(trigger.list, {# > 1}) }}", [2, 3]),
    ("${map([1], {n: #})}", [{"n": 1}]),
    ("{{ trigger.list[0] }}", 1),
    ("plain", "plain"),
    ("", ""),
    ("}} { } $", "}} { } $"),
    (r"\{{ x }}", "{{ x }}"),
    (r"\${x}", "${x}"),
    (r"\{{ x }} {{ trigger.n }} \${y}", "{{ x }} 5 ${y}"),
    (r"{{ trigger.n }} \{{", "5 {{"),
    ("$ {x}", "$ {x}"),
    ("{{ '{{ trigger.n }}' }}", "{{ trigger.n }}"),
    ("<{{ '${trigger.n}' }}>", "<${trigger.n}>"),
    ("{{ let x = 1; x }} {{ let y = 2; let z = 3; y + z }}", "1 5"),
    ("a\n{{ trigger.n\n}}\nb", "a\n5\nb"),
]


@pytest.mark.parametrize(("source", "expected"), VALUES)
def test_value(source: str, expected: Any) -> None:
    value = render(source)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("source", "position"),
    [
        ("{{ x", 0),
        ("a ${x", 2),
        ("{{ }}", 2),
        ("ab {{ 1 + }} c", 10),
        ("{{ ) }}", 3),
        ("a {{ 'x }}", 2),
        ("{{ {a: 1 }}", 0),
    ],
)
def test_unreadable(source: str, position: int) -> None:
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_template(source)
    assert caught.value.position == position


def test_a_value_is_rendered_once() -> None:
    roots = {"trigger": {"body": {"x": "{{ trigger.body.secret }}", "secret": "s"}}}
    assert compile_template("{{ trigger.x }}")(Scope(roots, 0)) == "{{ trigger.body.secret }}"
    assert compile_template("-{{ trigger.x }}-")(Scope(roots, 0)) == "-{{ trigger.body.secret }}-"


URLS = [
    ("https://h/a/{{ 'b c/d' }}?q={{ 'ä&=' }}#{{ '#' }}", "https://h/a/b%20c%2Fd?q=%C3%A4%26%3D#%23"),
    ("{{ 'https://h:8080/base' }}/x/{{ '../y' }}", "https://h:8080/base/x/..%2Fy"),
    ("{{ 'https://h/a?b=c d' }}", "https://h/a?b=c d"),
    ("https://{{ 'h.example:80' }}/{{ 1 }}", "https://h.example:80/1"),
    ("{{ 'https' }}://{{ 'h' }}?q={{ 'a b' }}", "https://h?q=a%20b"),
    ("https://h/{{ trigger.z }}x{{ trigger.list }}", "https://h/x%5B1%2C2%2C3%5D"),
    ("/relative/{{ 'a/b' }}", "/relative/a%2Fb"),
]


@pytest.mark.parametrize(("source", "expected"), URLS)
def test_url(source: str, expected: str) -> None:
    assert render(source, url=True) == expected


def test_is_template() -> None:
    assert [source for source in ("a", "{{ a }}", "x ${a}", r"\{{", "{ {", "$x", "") if is_template(source)] == [
        "{{ a }}",
        "x ${a}",
        r"\{{",
    ]


def test_references_and_source() -> None:
    template = compile_template("{{ steps.http-1.body }} ${credentials.my-key} {{ steps.http-1.body }}")
    assert template.references == (Reference("steps", ("http-1", "body")), Reference("credentials", ("my-key",)))
    assert template.source.startswith("{{ steps")
    assert compile_template("plain").references == ()


def test_errors_come_through() -> None:
    with pytest.raises(ExpressionError, match=r"`trigger\.nope` does not exist"):
        render("a {{ trigger.nope }}")


def test_long_text_around_short_templates() -> None:
    text = "x" * 50_000
    assert render(text + "{{ trigger.n }}" + text) == text + "5" + text
