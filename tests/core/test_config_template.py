"""Configs as templates: the annotations of a schema, folding, binding, and what is recorded."""

from typing import Any

import pytest

from gorax_engine.core.config_template import compile_config, compile_value, find_sites
from gorax_engine.core.expressions import BoundExpression, ExpressionError, ExpressionSyntaxError, Reference, Scope

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "x-gorax": "url"},
        "code": {"type": "string", "x-gorax": "literal"},
        "name": {"type": "string", "x-gorax": "name"},
        "when": {"type": "string", "x-gorax": "expression", "x-gorax-locals": ["item"]},
        "source": {"type": ["string", "array"], "x-gorax": "path"},
        "body": {},
        "auth": {"$ref": "#/$defs/auth"},
        "tree": {"$ref": "#/$defs/tree"},
        "mode": {"type": "string"},
        "text": {"type": "string"},
        "rules": {"type": "array", "prefixItems": [{"x-gorax": "literal"}], "items": {"x-gorax": "path"}},
    },
    "if": {"required": ["mode"], "properties": {"mode": {"const": "raw"}}},
    "then": {"properties": {"text": {"x-gorax": "literal"}}},
    "additionalProperties": False,
    "$defs": {
        "auth": {"type": "object", "x-gorax-secrets": True, "properties": {"token": {"type": "string"}}},
        "tree": {
            "oneOf": [
                {"type": "string", "x-gorax": "path"},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}},
                {"type": "array", "items": {"$ref": "#/$defs/tree"}},
            ]
        },
    },
}


def scope() -> Scope:
    return Scope({"trigger": {"body": {"n": 1, "path": "a b/c"}}, "steps": {"a-1": {"x": [1, 2]}}, "env": {}}, now=0)


def render(config: dict[str, Any]) -> Any:
    return compile_config(config, SCHEMA).render(scope())


@pytest.mark.parametrize(
    ("config", "rendered"),
    [
        ({"body": {"a": "{{ trigger.body.n }}", "b": [1, "n={{ trigger.body.n }}"], "c": None}},
         {"body": {"a": 1, "b": [1, "n=1"], "c": None}}),
        ({"url": "http://x/{{ trigger.body.path }}"}, {"url": "http://x/a%20b%2Fc"}),
        ({"code": "`${ x }`", "name": "{{ y }}"}, {"code": "`${ x }`", "name": "{{ y }}"}),
        ({"source": "steps.a-1.x"}, {"source": [1, 2]}),
        ({"source": "{{ steps.a-1.x }}"}, {"source": [1, 2]}),
        ({"source": ["{{ trigger.body.n }}"]}, {"source": [1]}),
        ({"tree": {"p": {"q": ["trigger.body.n", "<{{ trigger.body.n }}>"]}}}, {"tree": {"p": {"q": [1, "<1>"]}}}),
        ({"mode": "raw", "text": "{{ 1 }}"}, {"mode": "raw", "text": "{{ 1 }}"}),
        ({"mode": "cooked", "text": "{{ 1 }}"}, {"mode": "cooked", "text": 1}),
        ({"rules": ["1 + 1", "1 + 1"]}, {"rules": ["1 + 1", 2]}),
        ({"body": "\\{{ x }}"}, {"body": "{{ x }}"}),
        ({"stray": "{{ nope", "body": 1}, {"body": 1}),
        ({}, {}),
    ],
)  # fmt: skip
def test_what_the_annotations_mean(config: dict[str, Any], rendered: Any) -> None:
    result = render(config)
    assert result == rendered
    assert list(result) == list(rendered)


def test_expressions_arrive_bound_and_are_recorded_by_their_source() -> None:
    template = compile_config({"body": 1, "when": "item + trigger.body.n", "source": "trigger.body.n"}, SCHEMA)
    rendered = template.render(scope())
    assert isinstance(rendered["when"], BoundExpression)
    assert rendered["when"].evaluate({"item": 4}) == 5
    assert template.record(rendered) == {"body": 1, "when": "item + trigger.body.n", "source": 1}
    assert isinstance(rendered["when"], BoundExpression), "recording must not change what the node gets"


def test_bound_expressions_deep_inside_are_recorded_too() -> None:
    schema = {"additionalProperties": {"items": {"properties": {"by": {"x-gorax": "expression"}}}}}
    config = {"sort": [{"by": "item"}, {"by": "item.x", "order": "{{ trigger.body.n }}"}, 3]}
    template = compile_config(config, schema)
    assert template.record(template.render(scope())) == {"sort": [{"by": "item"}, {"by": "item.x", "order": 1}, 3]}


def test_constants_are_folded_and_shared() -> None:
    template = compile_config({"body": {"big": [1, 2, 3]}, "source": "trigger.body.n"}, SCHEMA)
    assert template.render(scope())["body"] is template.render(scope())["body"]
    constant = compile_value({"a": [1, "x"]})
    assert constant.render(scope()) is constant.render(scope())


def test_each_rendering_is_a_value_of_its_own() -> None:
    template = compile_config({"body": ["{{ trigger }}", 1], "source": "trigger", "mode": "x"}, SCHEMA)
    first = template.render(Scope({"trigger": 1}, now=0))
    second = template.render(Scope({"trigger": 2}, now=0))
    assert (first["body"], first["source"], second["body"], second["source"]) == ([1, 1], 1, [2, 1], 2)


def test_a_branch_that_forbids_a_key_is_not_meant_for_an_object_with_it() -> None:
    schema = {
        "oneOf": [
            {"properties": {"raw": False, "text": {"x-gorax": "path"}}},
            {"required": ["raw"], "properties": {"text": {"x-gorax": "literal"}}},
        ]
    }
    for config, expected in (({"text": "0 + 1"}, 1), ({"raw": True, "text": "0 + 1"}, "0 + 1")):
        assert compile_config(config, schema).render(scope())["text"] == expected
        assert len(find_sites(config, schema)) == (1 if expected == 1 else 0)


def test_failures_at_render_are_expression_errors() -> None:
    with pytest.raises(ExpressionError) as caught:
        render({"body": "{{ trigger.body.gone }}"})
    assert caught.value.code == "missing_path"


def test_syntax_errors_are_raised_when_compiling() -> None:
    with pytest.raises(ExpressionSyntaxError):
        compile_config({"body": ["{{ 1 + }}"]}, SCHEMA)


def test_references_are_gathered_once() -> None:
    template = compile_value(["{{ trigger.body.n }}", {"x": "{{ trigger.body.n + vars.y }}"}])
    assert set(template.references) == {Reference("trigger", ("body", "n")), Reference("vars", ("y",))}
    assert len(template.references) == 2


def test_known_steps_tell_hyphens_from_subtractions() -> None:
    sites = find_sites("{{ steps.a-1 }}", None, frozenset({"a"}))
    assert sites[0].expression is not None
    assert sites[0].expression.references[0].path[0] == "a"


def test_sites_say_where_what_is_allowed() -> None:
    config = {"auth": {"token": "{{ credentials.x }}"}, "when": "item", "body": {"a": ["{{ 1 + }}"]}, "code": "{{ x }}"}
    sites = {site.path: site for site in find_sites(config, SCHEMA)}
    assert set(sites) == {("auth", "token"), ("when",), ("body", "a", 0)}
    assert sites["auth", "token"].secrets
    assert not sites["when",].secrets
    assert (sites["when",].bound, sites["when",].locals) == (True, frozenset({"item"}))
    assert sites["body", "a", 0].expression is None
    assert sites["body", "a", 0].error is not None


CREDENTIALS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "credential": {"type": "string", "x-gorax": "credential"},
        "token": {"type": "string", "x-gorax-secrets": True},
        "when": {"type": "string", "x-gorax": "expression", "x-gorax-secrets": True},
    },
}
VAULT = {"my-key": {"name": "my-key", "type": "api_key", "key": "s3cret"}, "odd": {"name": "a", "type": "t", "x": 1}}


def test_a_field_that_names_a_credential_gets_it_and_is_recorded_as_the_name() -> None:
    template = compile_config({"credential": "odd", "token": "t {{ credentials.my-key }}"}, CREDENTIALS)
    assert template.credential_names == {"odd", "my-key"}
    assert Reference("credentials", ("odd",)) in template.references
    rendered = template.render(Scope({"credentials": VAULT}, now=0))
    assert rendered == {"credential": VAULT["odd"], "token": "t s3cret"}
    assert template.record(rendered) == {"credential": "odd", "token": "t s3cret"}


@pytest.mark.parametrize(
    "expression",
    [
        "credentials.my-key",
        "credentials.my-key.key",
        "credentials['my-key'].key",
        "credentials?.my-key?.key",
        "'s3cret'",
    ],
)
def test_names_of_credentials_in_expressions(expression: str) -> None:
    template = compile_config({"when": expression, "token": f"{{{{ {expression} }}}}"}, CREDENTIALS)
    rendered = template.render(Scope({"credentials": VAULT}, now=0))
    assert (rendered["when"](), rendered["token"]) == ("s3cret", "s3cret")
    assert template.credential_names == ({"my-key"} if "credentials" in expression else frozenset())


def test_a_subtraction_from_a_credential_needs_spaces() -> None:
    """Directly after `credentials.` hyphens belong to the name, whichever credentials there are."""
    for source, name in (("credentials.a-1", "a-1"), ("credentials.a - 1", "a"), ("credentials.a.b-1", "a")):
        (site,) = find_sites(source, CREDENTIALS["properties"]["when"], frozenset({"a"}))
        assert site.expression is not None
        assert site.expression.references[0].path[0] == name


@pytest.mark.parametrize(
    ("field", "source"),
    [
        ("when", "credentials"),
        ("when", "keys(credentials)"),
        ("when", "credentials[trigger.body.which].key"),
        ("token", "{{ credentials['a' + 'b'] }}"),
        ("token", "x {{ map([1], credentials[0]) }}"),
        ("credential", "{{ trigger.body.which }}"),
        ("credential", ""),
        ("credential", "a.b"),
    ],
)
def test_which_credentials_are_used_must_be_known_when_it_is_saved(field: str, source: str) -> None:
    (site,) = find_sites({field: source}, CREDENTIALS)
    assert site.path == (field,)
    assert site.error is not None
    assert site.expression is None
    with pytest.raises(ExpressionSyntaxError, match="credential"):
        compile_config({field: source}, CREDENTIALS)


def test_a_credential_that_is_not_at_hand_is_missing() -> None:
    template = compile_config({"credential": "nobodys"}, CREDENTIALS)
    none: dict[str, Any] = {}
    for roots in (none, {"credentials": none}):
        with pytest.raises(ExpressionError) as caught:
            template.render(Scope(roots, now=0))
        assert caught.value.code == "missing_path"
