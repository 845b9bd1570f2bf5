"""Reading definitions: accepted shapes, the canonical form, and every code of validation with its pointer."""

import copy
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gorax_engine.core.model import SECOND, InDoubt, Missing, NodeKind, NodeSpec, OnError, RetryStrategy
from gorax_engine.core.reading import MAX_NODES, load, read
from gorax_engine.errors import InvalidDefinition
from gorax_engine.nodes.api import Completed
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes


class Caller:
    """A node type that takes secrets, with an open and a closed part."""

    spec = NodeSpec(
        name="caller",
        kind=NodeKind.PURE,
        schema={
            "type": "object",
            "properties": {
                "url": {"type": "string", "x-gorax": "url"},
                "auth": {"type": "object", "x-gorax-secrets": True},
                "script": {"type": "string", "x-gorax": "literal"},
                "page_size": {"type": "integer"},
                "nested_part": {
                    "type": "object",
                    "properties": {"inner_key": {"type": "string"}},
                    "additionalProperties": False,
                },
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Any, context: Any) -> Completed:
        return Completed(None)


TYPES = NodeRegistry([*builtin_nodes(), Caller()])


def node(id: str, type: str = "transform", config: Any = None, **rest: Any) -> dict[str, Any]:
    if config is None:
        config = {"mapping": {}} if type == "transform" else {}
    return {"id": id, "type": type, "config": config, **rest}


def edge(source: str, target: str, **rest: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **rest}


def flow(*nodes: Any, edges: Any = None, **rest: Any) -> dict[str, Any]:
    """A definition of a trigger `t` and `nodes`, in a row unless `edges` are given."""
    ids = ["t", *(each["id"] for each in nodes)]
    if edges is None:
        edges = [edge(first, second) for first, second in itertools.pairwise(ids)]
    return {"nodes": [node("t", "manual_trigger"), *nodes], "edges": edges, **rest}


def found(raw: Any) -> list[tuple[str, str]]:
    return [(problem.code, problem.pointer) for problem in read(raw, TYPES).problems]


def warned(raw: Any) -> list[tuple[str, str]]:
    reading = read(raw, TYPES)
    assert reading.problems == ()
    return [(warning.code, warning.pointer) for warning in reading.warnings]


# Accepted shapes


def test_the_document_s_shape_is_read() -> None:
    raw = {
        "nodes": [
            {"id": "trigger-1", "type": "webhook_trigger", "position": {"x": 100, "y": 100},
             "config": {"path": "/webhooks/orders", "method": "POST"}},
            {"id": "action-1", "type": "caller", "position": {"x": 300, "y": 100},
             "config": {"url": "https://api.example.com/{{ trigger.body.id }}"}},
        ],
        "edges": [{"id": "edge-1", "source": "trigger-1", "target": "action-1"}],
    }  # fmt: skip
    reading = read(raw, TYPES)
    assert reading.problems == reading.warnings == ()
    assert reading.canonical == raw
    assert reading.definition is not None
    assert [each.id for each in reading.definition.nodes] == ["trigger-1", "action-1"]


def test_a_gorax_workflow_becomes_canonical() -> None:
    raw = {
        "nodes": [
            {"id": "w", "type": "trigger:webhook", "position": {"x": 0, "y": 0},
             "data": {"name": "Hook", "config": {"path": "orders"}}},
            {"id": "http-1", "type": "action:transform", "position": {"x": 1, "y": 0},
             "data": {"name": "Build", "label": "kept",
                      "config": {"mapping": {"id": "trigger.body.id"},
                                 "retry": {"enabled": True, "max_retries": 2, "initial_backoff_ms": 1500,
                                           "max_backoff_ms": 9000, "backoff_multiplier": 3}}}},
            {"id": "if", "type": "control:if", "data": {"config": {"condition": "{{ steps.http-1.id > 3 }}"}}},
            {"id": "y", "type": "control:delay", "data": {"config": {"duration": "5s"}}},
        ],
        "edges": [
            {"id": "a", "source": "w", "target": "http-1", "sourceHandle": None},
            {"id": "b", "source": "http-1", "target": "if"},
            {"id": "c", "source": "if", "target": "y", "sourceHandle": "true"},
        ],
    }  # fmt: skip
    before = copy.deepcopy(raw)
    reading = read(raw, TYPES)
    assert raw == before
    assert reading.problems == reading.warnings == ()
    w, http, condition, delay = reading.canonical["nodes"]
    assert w == {"id": "w", "type": "webhook_trigger", "position": {"x": 0, "y": 0}, "name": "Hook",
                 "config": {"path": "orders"}}  # fmt: skip
    assert http["data"] == {"label": "kept"}
    assert http["retry"] == {
        "max_attempts": 3,
        "initial_delay": 1.5,
        "max_delay": 9,
        "multiplier": 3,
        "retry_on": ["transient"],
    }
    assert "retry" not in http["config"]
    assert (condition["type"], delay["type"]) == ("condition", "delay")
    assert reading.canonical["edges"][2]["label"] == "true"
    assert reading.definition is not None
    policy = reading.definition.nodes[1].retry
    assert policy is not None
    assert (policy.max_attempts, policy.initial_delay, policy.max_delay) == (3, 1_500_000, 9 * SECOND)


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("trigger:webhook", "webhook_trigger"), ("webhook", "webhook_trigger"),
        ("trigger:schedule", "schedule_trigger"), ("schedule", "schedule_trigger"),
        ("trigger:manual", "manual_trigger"), ("manual", "manual_trigger"),
        ("action:transform", "transform"), ("action:formula", "formula"),
        ("control:if", "condition"), ("control:conditional", "condition"), ("if", "condition"),
        ("control:delay", "delay"), ("control:wait", "delay"), ("wait", "delay"),
        ("control:switch", "switch"),
    ],
)  # fmt: skip
def test_aliases_are_stored_as_canonical_names(alias: str, canonical: str) -> None:
    assert read({"nodes": [node("a", alias)]}, TYPES).canonical["nodes"][0]["type"] == canonical


def test_camel_case_twins_are_read_and_pointed_at_where_they_stand() -> None:
    raw = flow(node("a", "caller", {"pageSize": "many", "nestedPart": {"innerKey": 3}, "headers": {"xTraceId": "1"}},
                    onError="continue", inDoubt="maybe", retry={"maxAttempts": 0}))  # fmt: skip
    reading = read(raw, TYPES)
    canonical = reading.canonical["nodes"][1]
    assert canonical["config"] == {"page_size": "many", "nested_part": {"inner_key": 3}, "headers": {"xTraceId": "1"}}
    assert canonical["on_error"] == "continue"
    assert found(raw) == [
        ("invalid_config", "/nodes/1/config/pageSize"),
        ("invalid_config", "/nodes/1/config/nestedPart/innerKey"),
        ("invalid_config", "/nodes/1/inDoubt"),
        ("invalid_config", "/nodes/1/retry/maxAttempts"),
    ]


def test_pointers_lead_into_the_shape_that_was_given() -> None:
    config = {"expression": "1 +", "retry": {"max_retries": 1000}}
    raw = flow({"id": "a", "type": "action:formula", "data": {"onError": "explode", "config": config}})
    assert found(raw) == [
        ("invalid_config", "/nodes/1/data/onError"),
        ("invalid_config", "/nodes/1/data/config/retry/max_retries"),
        ("invalid_expression", "/nodes/1/data/config/expression"),
    ]


def test_pointers_are_escaped() -> None:
    raw = flow(node("a", config={"mapping": {"x/y~z": "{{ steps.nope }}"}}))
    assert found(raw) == [("unknown_reference", "/nodes/1/config/mapping/x~1y~0z")]


def test_policies_are_read() -> None:
    raw = flow(
        node("a", timeout="1m30s", on_error="continue", in_doubt="fail", when="trigger.body.n > 0", name="A",
             retry={"max_attempts": 5, "strategy": "fixed", "initial_delay": "PT2S", "max_delay": 4,
                    "retry_on": ["timeout"], "give_up_on": ["^bad"], "status_codes": [500]}),
        node("b", retry={"enabled": False, "maxRetries": 9}, timeout=None, when=True),
        settings={"timeout": "PT1H", "maxConcurrency": 5, "missing": "null", "error_workflow": "alert"},
        output="{{ steps.a }}",
    )  # fmt: skip
    definition = read(raw, TYPES).definition
    assert definition is not None
    _, a, b = definition.nodes
    assert (a.name, a.timeout, a.on_error, a.in_doubt) == ("A", 90 * SECOND, OnError.CONTINUE, InDoubt.FAIL)
    assert a.when == "trigger.body.n > 0"
    assert a.retry is not None
    assert (a.retry.strategy, a.retry.initial_delay) == (RetryStrategy.FIXED, 2 * SECOND)
    assert (a.retry.retry_on, a.retry.give_up_on, a.retry.status_codes) == (("timeout",), ("^bad",), (500,))
    assert b.retry is not None
    assert (b.name, b.timeout, b.when, b.retry.max_attempts) == ("b", None, "true", 1)
    assert (definition.settings.timeout, definition.settings.max_concurrency) == (3600 * SECOND, 5)
    assert (definition.settings.missing, definition.settings.error_workflow) == (Missing.NULL, "alert")
    assert definition.has_output


def test_bad_policies_are_told_one_by_one() -> None:
    raw = flow(
        node("a", timeout="soon", on_error="x", in_doubt=1, when=3, name=4,
             retry={"max_attempts": 0, "strategy": "x", "initial_delay": -1, "max_delay": True, "multiplier": 0,
                    "retry_on": "timeout", "give_up_on": ["("], "status_codes": [99], "max_retries": "x"}),
        node("b", timeout=0, retry=[]),
        settings={"timeout": "x", "max_concurrency": 0, "missing": "x", "error_workflow": 1},
    )  # fmt: skip
    keys = ["name", "timeout", "on_error", "in_doubt", "when"]
    retry = ["max_retries", "max_attempts", "strategy", "initial_delay", "max_delay", "multiplier", "retry_on",
             "give_up_on", "status_codes"]  # fmt: skip
    assert found(raw) == [
        *(("invalid_config", f"/nodes/1/{key}") for key in keys),
        *(("invalid_config", f"/nodes/1/retry/{key}") for key in retry),
        ("invalid_config", "/nodes/2/timeout"),
        ("invalid_config", "/nodes/2/retry"),
        *(
            ("invalid_config", f"/settings/{key}")
            for key in ["timeout", "missing", "max_concurrency", "error_workflow"]
        ),
    ]


# Codes


def test_no_nodes() -> None:
    raws: list[dict[str, Any]] = [{}, {"nodes": []}, {"nodes": None, "edges": []}]
    for raw in raws:
        assert found(raw) == [("no_nodes", "")]


def test_no_trigger() -> None:
    assert found({"nodes": [node("a")]}) == [("no_trigger", "/nodes")]


def test_duplicate_ids_of_nodes_and_edges() -> None:
    raw = flow(node("a"), node("a"), edges=[edge("t", "a", id="e"), edge("a", "a2", id="e")])
    assert found(raw) == [
        ("duplicate_id", "/nodes/2/id"),
        ("duplicate_id", "/edges/1/id"),
        ("edge_to_nowhere", "/edges/1/target"),
    ]


def test_edge_to_nowhere() -> None:
    raw = flow(node("a"), edges=[edge("t", "a"), edge("b", "aa"), {"target": "a"}, {"source": "t", "target": 3}])
    assert found(raw) == [
        ("edge_to_nowhere", "/edges/2/source"),
        ("edge_to_nowhere", "/edges/3/target"),
        ("edge_to_nowhere", "/edges/1/source"),
        ("edge_to_nowhere", "/edges/1/target"),
    ]
    assert "did you mean `a`?" in read(raw, TYPES).problems[3].message


def test_duplicate_edge() -> None:
    raw = flow(node("a"), edges=[edge("t", "a"), edge("t", "a", label="error"), edge("t", "a")])
    assert found(raw) == [("duplicate_edge", "/edges/2")]


def test_cycles_are_all_told_and_named() -> None:
    raw = flow(
        node("a"), node("b"), node("c"), node("d"),
        edges=[edge("t", "a"), edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("d", "d")],
    )  # fmt: skip
    reading = read(raw, TYPES)
    assert found(raw) == [("cycle", "/edges/3"), ("cycle", "/edges/4")]
    assert "`a` → `b` → `c` → `a`" in reading.problems[0].message


def test_a_long_chain_is_no_trouble() -> None:
    many = [node(f"n{number}") for number in range(MAX_NODES - 1)]
    raw = flow(*many)
    raw["edges"].append(edge(many[-1]["id"], "n0"))
    assert found(raw) == [("cycle", f"/edges/{MAX_NODES - 1}")]


def test_unknown_type_names_the_nearest() -> None:
    raw = flow(node("a", "delai"), {"id": "b"}, edges=[])
    assert found(raw) == [("unknown_type", "/nodes/1/type"), ("unknown_type", "/nodes/2/type")]
    assert "`delay`" in read(raw, TYPES).problems[0].message


def test_invalid_config_tells_every_fault() -> None:
    raw = flow(
        node("a", "delay", {}),
        node("b", "transform", {"source": 3, "sort": [{"by": "item", "order": "up"}, {}], "limit": -1}),
        node("c", "caller", "text"),
        node("d", "switch", {"cases": [{"name": "error", "value": 1}]}),
        node("e", "transform", {"mapping": {}, "filter": "true"}),
    )
    assert sorted(found(raw)) == [
        ("invalid_config", "/nodes/1/config"),
        ("invalid_config", "/nodes/2/config/limit"),
        ("invalid_config", "/nodes/2/config/sort/0/order"),
        ("invalid_config", "/nodes/2/config/sort/1"),
        ("invalid_config", "/nodes/2/config/source"),
        ("invalid_config", "/nodes/3/config"),
        ("invalid_config", "/nodes/4/config"),
        ("invalid_config", "/nodes/4/config/cases/0/name"),
        ("invalid_config", "/nodes/5/config"),
    ]


def test_a_fault_inside_a_choice_is_pointed_at() -> None:
    raw = flow(node("a", config={"source": "trigger.x", "mapping": {"a": {"b": ["item", 1, {"c": ""}]}}, "limit": 1.5}))
    assert found(raw) == [
        ("invalid_config", "/nodes/1/config/limit"),
        ("invalid_expression", "/nodes/1/config/mapping/a/b/2/c"),
    ]


def test_messages_say_the_mend() -> None:
    messages = [
        problem.message
        for problem in read(
            flow(node("a", "delay", {}), node("b", "delay", {"duration": "x"}), node("c", "condition", {})), TYPES
        ).problems
    ]
    assert messages == [
        "A delay needs either `duration` or `until`: give one of them, not both.",
        'A duration is a number of seconds, or text such as "1h30m" or "PT1H30M".',
        "`condition` is missing: add it.",
    ]


@pytest.mark.parametrize(
    ("word", "stored"), [("secret", "secret"), ("signature", "secret"), ("api_key", "bearer"), ("bearer", "bearer")]
)
def test_other_words_are_stored_as_their_own(word: str, stored: str) -> None:
    reading = read({"nodes": [node("t", "webhook_trigger", {"auth_type": word})]}, TYPES)
    assert reading.problems == ()
    assert reading.canonical["nodes"][0]["config"] == {"auth_type": stored}
    assert read(reading.canonical, TYPES).canonical == reading.canonical


def test_a_word_is_another_one_only_where_it_stands_for_it() -> None:
    raw = {"nodes": [node("t", "webhook_trigger", {"auth_type": "hmac", "description": "signature"})]}
    assert found(raw) == [("invalid_config", "/nodes/0/config/auth_type")]
    assert read(raw, TYPES).canonical["nodes"][0]["config"]["description"] == "signature"


def test_a_template_may_stand_for_any_type_but_not_for_plain_text() -> None:
    assert found(flow(node("a", "caller", {"page_size": "{{ trigger.body.n }}"}))) == []
    assert found(flow(node("a", "delay", {"duration": "${ trigger.body.n }"}))) == []
    assert found(flow(node("a", "fail", {"code": "{{ trigger.body.n }}"}))) == [
        ("invalid_config", "/nodes/1/config/code")
    ]


def test_literal_text_is_no_template() -> None:
    assert found(flow(node("a", "caller", {"script": "${ nope }"}))) == []


def test_unknown_keys_are_warnings_and_kept() -> None:
    raw = flow(
        node("a", "caller", {"urll": "{{ not.an expression", "nested_part": {"x": 1}, "position": 1}, extra=1),
        settings={"timeuot": 3},
        viewport={"zoom": 1},
    )
    assert sorted(warned(raw)) == [
        ("unknown_key", "/nodes/1/config/nested_part/x"),
        ("unknown_key", "/nodes/1/config/position"),
        ("unknown_key", "/nodes/1/config/urll"),
        ("unknown_key", "/settings/timeuot"),
    ]
    reading = read(raw, TYPES)
    assert any("did you mean `url`?" in warning.message for warning in reading.warnings)
    assert reading.canonical["viewport"] == {"zoom": 1}
    assert reading.canonical["nodes"][1]["extra"] == 1


def test_of_twins_the_snake_case_one_wins() -> None:
    raw = flow(node("a", "caller", {"pageSize": 2, "page_size": 1}))
    assert warned(raw) == [("unknown_key", "/nodes/1/config/pageSize")]
    assert read(raw, TYPES).canonical["nodes"][1]["config"] == {"pageSize": 2, "page_size": 1}


def test_an_expression_is_checked_by_the_schema_too() -> None:
    assert ("invalid_config", "/nodes/1/config/expression") in found(flow(node("a", "formula", {"expression": ""})))


def test_a_second_config_is_not_lost_silently() -> None:
    raw = flow(node("a", "caller", {"url": "x"}, data={"config": {"url": "y"}}))
    assert warned(raw) == [("unknown_key", "/nodes/1/data/config")]


def test_invalid_expression() -> None:
    raw = flow(
        node("a", "formula", {"expression": "1 +"}),
        node("b", config={"mapping": {"x": "{{ trigger. }}", "y": "hello there"}}, when=")"),
        output={"a": ["{{ 1 + }}"]},
    )
    assert found(raw) == [
        ("invalid_expression", "/nodes/1/config/expression"),
        ("invalid_expression", "/nodes/2/config/mapping/x"),
        ("invalid_expression", "/nodes/2/config/mapping/y"),
        ("invalid_expression", "/nodes/2/when"),
        ("invalid_expression", "/output/a/0"),
    ]


def test_unknown_reference() -> None:
    raw = flow(
        node("pay", config={"mapping": {"a": "hello", "b": "{{ steps.pya.x + tigger.y }}"}}),
        node("list", config={"source": "item", "filter": "item.x > index", "mapping": "itm"}),
        output="{{ steps.gone }}",
    )
    assert found(raw) == [
        ("unknown_reference", "/nodes/1/config/mapping/a"),
        ("unknown_reference", "/nodes/1/config/mapping/b"),
        ("unknown_reference", "/nodes/1/config/mapping/b"),
        ("unknown_reference", "/nodes/2/config/source"),
        ("unknown_reference", "/nodes/2/config/mapping"),
        ("unknown_reference", "/output"),
    ]
    messages = " ".join(problem.message for problem in read(raw, TYPES).problems)
    for hint in ("`pay`", "`trigger`", "`item`", "\"'hello'\""):
        assert hint in messages


def test_unknown_env_is_a_warning() -> None:
    assert warned(flow(node("a", config={"mapping": {"x": "env.HOME ?? 1", "y": "env.tenant_id"}}))) == [
        ("unknown_reference", "/nodes/1/config/mapping/x")
    ]


def test_not_before() -> None:
    raw = flow(
        node("a", config={"mapping": {"x": "steps.b"}}),
        node("b", config={"mapping": {"x": "steps.a", "y": "steps.b", "z": "steps.side"}}, when="steps.c.x"),
        node("c", config={"mapping": {"x": "steps.a", "y": "steps.t.body"}}),
        node("side"),
        edges=[edge("t", "a"), edge("a", "b"), edge("b", "c"), edge("t", "side")],
        output="{{ steps.side }}",
    )
    assert found(raw) == [
        ("not_before", "/nodes/1/config/mapping/x"),
        ("not_before", "/nodes/2/config/mapping/y"),
        ("not_before", "/nodes/2/config/mapping/z"),
        ("not_before", "/nodes/2/when"),
    ]


def test_hyphens_in_ids_are_told_apart_from_subtractions() -> None:
    raw = flow(node("n", config={"expression": "3"}), node("http-1", config={"mapping": {"x": "steps.n-1"}}),
               node("end", config={"mapping": {"x": "steps.http-1.x-1"}}))  # fmt: skip
    assert found(raw) == []


def test_credentials_only_where_secrets_are_taken() -> None:
    raw = flow(
        node("a", "caller", {"auth": {"token": "{{ credentials.stripe.token }}"}, "url": "x?{{ credentials.stripe }}"}),
        node("b", "caller", {"auth": {"token": "{{ credentials }}", "key": "{{ credentials.stripe }}"}}),
    )
    assert found(raw) == [
        ("invalid_expression", "/nodes/1/config/url"),
        ("invalid_expression", "/nodes/2/config/auth/token"),
    ]
    told = [problem.message for problem in read(raw, TYPES).problems]
    assert any("Which credential is meant" in message for message in told)
    assert any("leak" in message for message in told)


def test_unknown_outcome() -> None:
    raw = flow(
        node("c", "condition", {"condition": "true"}),
        node("s", "switch", {"value": "trigger.x", "cases": [{"name": "big", "value": 1}]}),
        node("x"),
        edges=[
            edge("t", "c"), edge("t", "s"),
            edge("c", "x", label="maybe"), edge("c", "x", label="Yes", sourceHandle="true"),
            edge("c", "x", label=False), edge("c", "x", label="error"), edge("c", "x"),
            edge("s", "x", label="big"), edge("s", "x", label="default"), edge("s", "x", sourceHandle="small"),
            edge("t", "x", label="decoration"), edge("t", "x", sourceHandle="right"),
        ],
    )  # fmt: skip
    assert found(raw) == [("unknown_outcome", "/edges/2/label"), ("unknown_outcome", "/edges/9/sourceHandle")]
    del raw["edges"][9], raw["edges"][2]
    definition = read(raw, TYPES).definition
    assert definition is not None
    assert [each.label for each in definition.edges] == [
        None, None, "true", "false", "error", None, "big", "default", "decoration", None,
    ]  # fmt: skip


# Scopes


def scoped(edges: str, *nodes: Any, **rest: Any) -> dict[str, Any]:
    """A definition of `t>y y:try>a`; nodes that aren't given are formulas."""
    pairs = [each.partition(">")[::2] for each in edges.split()]
    parts = [(*source.partition(":")[::2], target) for source, target in pairs]
    names = dict.fromkeys(name for source, _, target in parts for name in (source, target))
    given = {name: node(name, "formula", {"expression": "1"}) for name in names}
    given |= {each["id"]: each for each in (node("t", "manual_trigger"), *nodes)}
    links = [edge(source, target, **({"label": label} if label else {})) for source, label, target in parts]
    return {"nodes": list(given.values()), "edges": links, **rest}


def told(raw: Any) -> list[tuple[str, str]]:
    """The problems, by the id of the node that each is in."""
    reading = read(raw, TYPES)
    found = []
    for problem in reading.problems:
        kind, number, *_ = problem.pointer[1:].split("/")
        found.append((problem.code, raw["nodes"][int(number)]["id"] if kind == "nodes" else f"edge {number}"))
    return found


LOOP = node("l", "loop", {"source": "trigger.body"})


def test_scopes_are_read_in_gorax_s_shape() -> None:
    raw = {
        "nodes": [
            {"id": "t", "type": "trigger:webhook", "data": {"config": {"path": "x"}}},
            {"id": "items", "type": "control:loop",
             "data": {"config": {"source": "${trigger.body.items}", "itemVariable": "order"}}},
            {"id": "a", "type": "action:formula", "data": {"config": {"expression": "order.total"}}},
            {"id": "fan", "type": "control:parallel",
             "data": {"config": {"branches": [{"name": "one", "nodes": ["b"]}], "timeout": "30s"}}},
            {"id": "b", "type": "action:formula", "data": {"config": {"expression": "1"}}},
            {"id": "y", "type": "control:try",
             "data": {"config": {"tryNodes": ["c"], "catchNodes": ["d"], "errorBinding": "problem",
                                 "retryConfig": {"max_retries": 1}}}},
            {"id": "c", "type": "action:formula", "data": {"config": {"expression": "1"}}},
            {"id": "d", "type": "action:formula", "data": {"config": {"expression": "problem.code"}}},
        ],
        "edges": [
            {"id": "1", "source": "t", "target": "items"},
            {"id": "2", "source": "items", "target": "a"},
            {"id": "3", "source": "items", "target": "fan"},
            {"id": "4", "source": "fan", "target": "y", "sourceHandle": "done"},
        ],
    }  # fmt: skip
    reading = read(raw, TYPES)
    assert reading.problems == reading.warnings == ()
    nodes = {each["id"]: each for each in reading.canonical["nodes"]}
    assert nodes["items"]["config"]["item_variable"] == "order"
    assert (nodes["fan"]["timeout"], "timeout" in nodes["fan"]["config"]) == ("30s", False)
    assert nodes["y"]["config"] == {"try_nodes": ["c"], "catch_nodes": ["d"], "error_binding": "problem"}
    assert nodes["y"]["retry"]["max_attempts"] == 2
    assert reading.canonical["edges"][3]["label"] == "done"
    assert reading.definition is not None
    assert reading.definition.nodes[3].timeout == 30 * SECOND
    assert reading.definition.edges[3].label == "done"


def test_an_entry_is_read_from_the_source_handle_if_the_label_is_none() -> None:
    raw = scoped("t>y", node("y", "try"), node("a"), node("c"), node("z"), node("w", "parallel"), node("b"))
    raw["edges"] += [
        edge("y", "a", sourceHandle="try"),
        edge("y", "c", label="On error", sourceHandle="catch"),
        edge("y", "z", label="done", sourceHandle="catch"),
        edge("z", "w"),
        edge("w", "b", label="left", sourceHandle="right"),
    ]
    reading = read(raw, TYPES)
    assert reading.problems == reading.warnings == ()
    assert [each.get("label") for each in reading.canonical["edges"]] == [None, "try", "catch", "done", None, "left"]


def test_a_retry_scope_is_read_with_gorax_s_keys() -> None:
    keys = {"maxAttempts": 4, "initial_delay_ms": 500, "max_delay_ms": 9_000, "jitter": False,
            "retryable_errors": ["timeout"], "non_retryable_errors": ["^4"],
            "retryable_status_codes": [503]}  # fmt: skip
    reading = read(scoped("t>r r>a", node("r", "control:retry", keys)), TYPES)
    assert reading.problems == reading.warnings == ()
    canonical = next(each for each in reading.canonical["nodes"] if each["id"] == "r")
    assert canonical["config"] == {
        "max_attempts": 4, "initial_delay": 0.5, "max_delay": 9, "strategy": "exponential", "retry_on": ["timeout"],
        "give_up_on": ["^4"], "status_codes": [503],
    }  # fmt: skip
    assert reading.definition is not None
    rounds = next(each for each in reading.definition.nodes if each.id == "r").rounds
    assert rounds is not None
    assert (rounds.max_attempts, rounds.initial_delay, rounds.give_up_on) == (4, 500_000, ("^4",))
    bad = scoped("t>r r>a", node("r", "retry", {"max_attempts": 0, "give_up_on": ["("]}))
    assert told(bad) == [("invalid_config", "r"), ("invalid_config", "r")]
    assert {problem.pointer.rpartition("/")[2] for problem in read(bad, TYPES).problems} == {
        "max_attempts",
        "give_up_on",
    }


def test_a_scope_that_leaks_is_told_where() -> None:
    assert told(scoped("t>l l:body>a t>a", LOOP)) == [("scope_leak", "edge 2")]
    assert told(scoped("t>y y:try>a y:catch>a", node("y", "try"))) == [("scope_leak", "a")]
    assert told(scoped("t>l l:done>z", LOOP)) == [("invalid_config", "l")]
    assert told(scoped("t>p p:done>z", node("p", "parallel"))) == [("invalid_config", "p")]


def test_a_trigger_in_a_scope_is_told() -> None:
    assert told(scoped("t>l l:body>t2", LOOP, node("t2", "manual_trigger"))) == [("scope_leak", "t2")]


def test_an_ignored_edge_is_a_warning() -> None:
    assert warned(scoped("t>l l:body>a a>z l:done>z", LOOP)) == [("edge_ignored", "/edges/2")]


def test_lists_that_go_in_circles_are_told() -> None:
    raw = scoped("t>y a>b", node("y", "try", {"try_nodes": ["a"], "catch_nodes": ["y"]}))
    assert ("cycle", "/nodes") in found(raw)
    raw = scoped("t>p", node("p", "parallel", {"branches": [{"name": "x", "nodes": ["gone"]}]}))
    assert ("unknown_reference", "p") in told(raw)


def test_a_join_that_can_not_be_satisfied_is_told() -> None:
    def join(count: int) -> Any:
        return node("j", "join", {"join_strategy": "wait_n", "required_count": count})

    assert told(scoped("t>a t>b a>j b>j", join(3))) == [("invalid_config", "j")]
    assert told(scoped("t>a t>b a>j b>j", join(2))) == []
    assert told(scoped("t>l l:body>a a>j l:done>j", LOOP, join(2))) == [("invalid_config", "j")]
    assert told(scoped("t>j", node("j", "join", {"join_strategy": "wait_n"}))) == [("invalid_config", "j")]


def formula(id: str, expression: str, **rest: Any) -> dict[str, Any]:
    return node(id, "formula", {"expression": expression}, **rest)


@pytest.mark.parametrize(
    ("edges", "nodes", "expected"),
    [
        # the names of a loop
        ("t>l l:body>a l:done>z", [LOOP, formula("a", "item + loop.index")], []),
        ("t>l l:body>a l:done>z", [LOOP, formula("z", "item")], [("unknown_reference", "z")]),
        ("t>l l:body>a", [formula("a", "1", when="loop.is_first"), LOOP], []),
        ("t>l l:body>m m:body>a", [LOOP, node("m", "loop", {"source": "item"}), formula("a", "item")], []),
        ("t>l l:body>a", [node("l", "loop", {"source": "item"})], [("unknown_reference", "l")]),
        # the name of an error
        ("t>y y:try>a y:catch>c", [node("y", "try"), formula("c", "error.code")], []),
        ("t>y y:try>a y:catch>c c>d", [node("y", "try"), formula("d", "error.code")], []),
        ("t>y y:try>a y:catch>c", [node("y", "try"), formula("a", "error.code")], [("unknown_reference", "a")]),
        ("t>y y:try>a y:catch>c", [node("y", "try", {"error_binding": "e"}), formula("c", "error.code")],
         [("unknown_reference", "c")]),
        ("t>y y:try>a y:catch>c", [node("y", "try", {"catches": [{"error_binding": "e"}]}),
         formula("c", "e.code")], []),
        ("t>y y:try>a y:catch>k k>c", [node("y", "try"), node("k", "catch", {"error_binding": "e"}),
         formula("c", "e.code")], []),
        ("t>y y:try>a y:finally>f", [node("y", "try"), formula("f", "error.code")], [("unknown_reference", "f")]),
        # steps before, inside and after scopes
        ("t>b b>l l:body>a", [LOOP, formula("a", "steps.b + steps.t.body")], []),
        ("t>l l:body>a l:done>z", [LOOP, formula("z", "steps.l.iterations")], []),
        ("t>l l:body>a l:done>z", [LOOP, formula("z", "steps.a")], [("not_before", "z")]),
        ("t>l l:body>a l:done>z", [LOOP, formula("a", "steps.z")], [("not_before", "a")]),
        ("t>l l:body>a", [LOOP, formula("a", "steps.l")], [("not_before", "a")]),
        ("t>l l:body>a a>b", [LOOP, formula("b", "steps.a")], []),
        ("t>l l:body>a a>b", [LOOP, formula("a", "steps.b")], [("not_before", "a")]),
        ("t>y y:try>a y:done>z", [node("y", "try"), formula("z", "steps.a")], []),
        ("t>y y:try>l l:body>a y:done>z", [node("y", "try"), LOOP, formula("z", "steps.a")], [("not_before", "z")]),
        ("t>l l:body>y y:try>a y:done>b", [node("y", "try"), LOOP, formula("b", "steps.a")], []),
        ("t>y y:try>a y:catch>c y:finally>f", [node("y", "try"), formula("c", "steps.a"), formula("f", "steps.c")], []),
        ("t>y y:try>a y:catch>c", [node("y", "try"), formula("a", "steps.c")], [("not_before", "a")]),
        ("t>y y:try>a y:catch>k y:catch>k2", [node("y", "try"), node("k", "catch"),
         node("k2", "catch", when="steps.k")], [("not_before", "k2")]),
        ("t>p p:x>a p:y>b", [node("p", "parallel"), formula("b", "steps.a")], [("not_before", "b")]),
        ("t>p p:x>a p:done>z", [node("p", "parallel"), formula("z", "steps.a")], []),
        ("t>l l:body>a t>b", [LOOP, formula("b", "steps.a")], [("not_before", "b")]),
        # while and breaks look into the body
        ("t>l l:body>a", [node("l", "loop", {"while": "(steps.a ?? 0) < loop.index + 3"})], []),
        ("t>l l:body>a", [node("l", "loop", {"source": 3, "break_conditions": [{"condition": "steps.a > item"}]})], []),
        ("t>l l:body>a", [node("l", "loop", {"source": 3, "break_conditions":
         [{"operator": "equals", "field": "steps.a", "value": 1}]})], []),
        ("t>l l:body>m m:body>a", [node("l", "loop", {"while": "steps.a"}), node("m", "loop", {"source": 1})],
         [("not_before", "l")]),
        ("t>l l:body>a l:done>z", [node("l", "loop", {"while": "steps.z"})], [("not_before", "l")]),
        ("t>l l:body>a", [node("l", "loop", {"source": "steps.a"})], [("not_before", "l")]),
    ],
)  # fmt: skip
def test_references_in_and_out_of_scopes(edges: str, nodes: list[Any], expected: list[tuple[str, str]]) -> None:
    raw = scoped(edges, *nodes)
    assert told(raw) == expected


def test_an_output_may_look_into_scopes_that_run_once() -> None:
    assert found(scoped("t>y y:try>a", node("y", "try"), output="{{ steps.a }}")) == []
    raw = scoped("t>l l:body>a", LOOP, output="{{ steps.a }}")
    assert found(raw) == [("not_before", "/output")]
    assert "`steps.l.iterations`" in read(raw, TYPES).problems[0].message


def test_unreachable_is_a_warning_and_may_refer_to_anything() -> None:
    raw = flow(node("a"), node("island", config={"mapping": {"x": "steps.a"}}), edges=[edge("t", "a")])
    assert warned(raw) == [("unreachable", "/nodes/2")]


@pytest.mark.parametrize("bad", ["a.b", "a[0]", "a:b", " a", "a\n", "", 3, None, "x" * 256])
def test_ids_that_would_be_ambiguous_are_refused(bad: Any) -> None:
    raw = {"nodes": [node("t", "manual_trigger"), node(bad)]}
    assert ("invalid_id", "/nodes/1/id") in found(raw)


def test_other_ids_are_allowed_with_a_warning() -> None:
    raw = flow(node("Größe 1"), node("b", config={"mapping": {"x": "steps['Größe 1'].y"}}))
    assert warned(raw) == [("awkward_id", "/nodes/1/id")]


def test_caps() -> None:
    assert found({"nodes": [node(f"n{number}") for number in range(MAX_NODES + 1)]}) == [("limit_exceeded", "/nodes")]
    assert found(flow(edges=[edge("t", "t")] * 5_001)) == [("limit_exceeded", "/edges")]
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    assert found(flow(node("a", config={"mapping": deep}))) == [("limit_exceeded", "")]
    assert found(flow(node("a", config={"mapping": 10**400}))) == [("limit_exceeded", "")]
    assert len(read({"nodes": [{"id": "."}] * 1_000}, TYPES).problems) == 1_001


@pytest.mark.parametrize("bad", ["\x00", "\ud800", float("nan"), float("inf"), b"x", {1: 2}])
def test_what_is_not_json_is_refused(bad: Any) -> None:
    assert found({"nodes": [bad]}) == [("malformed_input", "")]


@pytest.mark.parametrize("raw", [None, 3, "x", [], [{}]])
def test_a_definition_is_an_object(raw: Any) -> None:
    assert found(raw) == [("invalid_definition", "")]


def test_parts_of_wrong_types() -> None:
    assert found({"nodes": 3, "edges": 4, "settings": 5}) == [
        ("invalid_definition", "/nodes"),
        ("invalid_definition", "/edges"),
        ("invalid_config", "/settings"),
    ]
    assert found({"nodes": [1, node("t", "manual")], "edges": ["x"]}) == [
        ("invalid_definition", "/nodes/0"),
        ("invalid_definition", "/edges/0"),
    ]


# The canonical form


def test_edges_get_ids_that_are_free() -> None:
    raw = flow(node("a"), node("b"), node("c"), edges=[edge("t", "a"), edge("a", "b", id="edge-2"), edge("b", "c")])
    assert [each["id"] for each in read(raw, TYPES).canonical["edges"]] == ["edge-1", "edge-2", "edge-3"]


def test_load_gives_the_definition_without_checking_again() -> None:
    raw = flow(node("a", "wait", {"duration": "5s"}, timeout="1m"), node("b", "if", {"condition": "true"}))
    reading = read(raw, TYPES)
    assert load(reading.canonical, TYPES) == reading.definition
    lenient = flow(node("a", config={"mapping": {"x": "{{ steps.nope }}"}, "limit": "x"}))
    assert read(lenient, TYPES).definition is None
    assert load(lenient, TYPES).nodes[1].id == "a"
    with pytest.raises(InvalidDefinition):
        load(flow(node("a", "gone")), TYPES)


_IDS = st.sampled_from(["t", "a", "b", "a-1", "x y", ".", ""])
_TEXT = st.sampled_from(
    [
        "",
        "x",
        "{{ trigger.body }}",
        "{{ steps.a.x }}",
        "${ steps.b }",
        "{{",
        "steps.a-1.x",
        "1 + 1",
        "true",
        "error",
        "5s",
    ]
)
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), _TEXT)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(_TEXT, st.text(max_size=3)), inner, max_size=3)
    ),
    max_leaves=8,
)
_CONFIG_KEYS = [
    "mapping", "expression", "source", "default", "filter", "sort", "group", "aggregate", "limit", "condition",
    "stopOnTrue", "cases", "value", "duration", "until", "output", "code", "message", "retry", "pageSize",
    "nested_part",
]  # fmt: skip
_CONFIG = st.dictionaries(
    st.sampled_from(_CONFIG_KEYS),
    st.one_of(
        _JSON,
        st.lists(st.fixed_dictionaries({}, optional={"name": _JSON, "value": _JSON, "condition": _TEXT, "by": _TEXT})),
        st.fixed_dictionaries({}, optional={"maxRetries": _JSON, "max_attempts": _JSON, "enabled": st.booleans(),
                                            "jitter": _JSON, "initialBackoffMs": st.integers(0, 10**6)}),
    ),
    max_size=4,
)  # fmt: skip
_NODE = st.fixed_dictionaries(
    {"id": _IDS, "type": st.sampled_from([*TYPES.specs, "control:if", "trigger:manual", "nope"])},
    optional={
        "config": st.one_of(_CONFIG, _JSON),
        "data": st.one_of(
            st.fixed_dictionaries({}, optional={"name": _JSON, "config": _CONFIG, "onError": _JSON}), _JSON
        ),
        "name": _JSON, "retry": st.one_of(_CONFIG, _JSON), "timeout": _JSON, "onError": _JSON, "on_error": _JSON,
        "when": _TEXT, "position": _JSON,
    },
)  # fmt: skip
_EDGE = st.fixed_dictionaries(
    {"source": _IDS, "target": _IDS}, optional={"id": _JSON, "label": _JSON, "sourceHandle": _JSON}
)
_DEFINITION = st.fixed_dictionaries(
    {"nodes": st.lists(st.one_of(_NODE, _JSON), max_size=5), "edges": st.lists(st.one_of(_EDGE, _JSON), max_size=5)},
    optional={"output": _JSON, "settings": st.one_of(_JSON, st.dictionaries(_TEXT, _JSON))},
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(_DEFINITION, _JSON))
def test_reading_never_raises_and_its_form_is_a_fixed_point(raw: Any) -> None:
    before = repr(raw)
    reading = read(raw, TYPES)
    assert repr(raw) == before
    assert (reading.definition is None) == bool(reading.problems)
    again = read(reading.canonical, TYPES)
    assert json.dumps(again.canonical) == json.dumps(reading.canonical)
    if reading.definition is not None:
        assert again.definition == reading.definition == load(reading.canonical, TYPES)
    for problem in (*reading.problems, *reading.warnings):
        assert _leads_somewhere(raw, problem.pointer), problem


def _leads_somewhere(raw: Any, pointer: str) -> bool:
    """Whether a pointer leads into the document, except for a last token that may be what is missing."""
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    for at, token in enumerate(tokens):
        if isinstance(raw, list):
            raw = raw[int(token)]
        elif isinstance(raw, dict) and token in raw:
            raw = raw[token]
        else:
            return at == len(tokens) - 1
    return True
