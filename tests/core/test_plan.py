"""Compiling plans: numbers, labels, policies, and that a large graph compiles fast enough to do it on demand."""

import time
from dataclasses import replace
from typing import Any

import pytest

from gorax_engine.core.expressions import Scope
from gorax_engine.core.model import NO_RETRY, SECOND, Definition, NodeKind, OnError
from gorax_engine.core.plan import compile_plan
from gorax_engine.core.reading import read
from gorax_engine.errors import InvalidDefinition
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes

TYPES = NodeRegistry(builtin_nodes())


def definition(**rest: Any) -> Definition:
    raw = {
        "nodes": [
            {"id": "t", "type": "manual_trigger"},
            {"id": "c", "type": "condition", "config": {"condition": "trigger.n > 1"}, "when": "trigger.n > 0"},
            {"id": "a", "type": "transform", "config": {"mapping": {"n": "{{ trigger.n + 1 }}"}}, "timeout": 5,
             "on_error": "continue", "retry": {"max_attempts": 3}},
            {"id": "b", "type": "stop", "config": {}},
        ],
        "edges": [
            {"source": "t", "target": "c", "label": "decoration"},
            {"source": "c", "target": "a", "label": "true"},
            {"source": "c", "target": "b", "label": "false"},
            {"source": "c", "target": "b", "label": "error"},
            {"source": "a", "target": "b", "label": "error"},
        ],
        **rest,
    }  # fmt: skip
    reading = read(raw, TYPES)
    assert reading.definition is not None, reading.problems
    return reading.definition


def test_a_plan_is_numbered_and_linked() -> None:
    plan = compile_plan(definition(), TYPES.specs)
    assert plan.index == {"t": 0, "c": 1, "a": 2, "b": 3}
    assert [(each.source, each.target, each.label) for each in plan.edges] == [
        (0, 1, None), (1, 2, "true"), (1, 3, "false"), (1, 3, "error"), (2, 3, "error"),
    ]  # fmt: skip
    assert plan.triggers == (0,)
    assert [node.incoming for node in plan.nodes] == [0, 1, 1, 3]
    assert [[each.index for each in node.out] for node in plan.nodes] == [[0], [1, 2, 3], [4], []]
    assert [node.has_error_edge for node in plan.nodes] == [False, True, True, False]
    assert [node.outcomes for node in plan.nodes] == [(), ("true", "false"), (), ()]
    assert [node.kind for node in plan.nodes] == [NodeKind.TRIGGER, NodeKind.CONTROL, NodeKind.PURE, NodeKind.CONTROL]
    assert plan.output is None


def test_policies_reach_the_plan() -> None:
    plan = compile_plan(definition(), TYPES.specs)
    a = plan.nodes[2]
    assert (a.timeout, a.on_error, a.retry.max_attempts) == (5 * SECOND, OnError.CONTINUE, 3)
    assert plan.nodes[1].retry is NO_RETRY


def test_templates_are_compiled() -> None:
    plan = compile_plan(definition(output={"n": "{{ steps.a.n }}"}), TYPES.specs)
    scope = Scope({"trigger": {"n": 4}, "steps": {"a": {"n": 5}}}, now=0)
    assert plan.nodes[2].config.render(scope) == {"mapping": {"n": 5}}
    assert plan.nodes[1].when is not None
    assert plan.nodes[1].when(scope) is True
    assert plan.output is not None
    assert plan.output.render(scope) == {"n": 5}


def test_a_type_that_is_gone_or_an_expression_that_no_longer_parses_is_told() -> None:
    with pytest.raises(InvalidDefinition, match="1 fault") as caught:
        compile_plan(definition(), {})
    assert caught.value.problems[0].code == "unknown_type"
    given = definition()
    broken = replace(given, nodes=(*given.nodes[:3], replace(given.nodes[3], when="1 +")))
    with pytest.raises(InvalidDefinition) as caught:
        compile_plan(broken, TYPES.specs)
    assert caught.value.problems[0].code == "invalid_expression"


def test_a_thousand_nodes_compile_quickly() -> None:
    count = 1_000
    nodes: list[dict[str, Any]] = [{"id": "s0", "type": "manual_trigger"}]
    nodes += [
        {"id": f"s{at}", "type": "transform", "config": {"mapping": {"n": f"{{{{ steps.s{at - 1}.body + 1 }}}}"}}}
        for at in range(1, count)
    ]
    edges = [{"source": f"s{at - 1}", "target": f"s{at}"} for at in range(1, count)]
    given = read({"nodes": nodes, "edges": edges}, TYPES).definition
    assert given is not None
    # CPU time and the best of three: the bound holds on a busy machine too, with room to spare (about 0.12 s alone).
    best = float("inf")
    for _ in range(3):
        begin = time.thread_time()
        compile_plan(given, TYPES.specs)
        best = min(best, time.thread_time() - begin)
    assert best < 0.4
