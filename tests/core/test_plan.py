"""Compiling plans: numbers, labels, policies, and that a large graph compiles fast enough to do it on demand."""

import time
from dataclasses import replace
from typing import Any

import pytest

from gorax_engine.core.expressions import Scope
from gorax_engine.core.model import NO_RETRY, SECOND, Definition, Edge, NodeKind, OnError
from gorax_engine.core.plan import compile_plan, trigger_of
from gorax_engine.core.reading import read
from gorax_engine.core.scopes import BreakerPlan, JoinPlan, LoopPlan, ParallelPlan, RetryPlan, TryPlan
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
    assert list(plan.nodes) == ["t", "c", "a", "b"]
    nodes = plan.top.nodes
    assert nodes == tuple(plan.nodes.values())
    assert [(node.index, node.body, node.key.node) for node in nodes] == [
        (0, 0, "t"),
        (1, 0, "c"),
        (2, 0, "a"),
        (3, 0, "b"),
    ]
    assert [[(each.source, each.target, each.label) for each in node.out] for node in nodes] == [
        [(0, 1, None)], [(1, 2, "true"), (1, 3, "false"), (1, 3, "error")], [(2, 3, "error")], [],
    ]  # fmt: skip
    assert plan.triggers == ("t",)
    assert plan.top.entries == (0,)
    assert plan.top.incoming == (0, 1, 1, 3)
    assert plan.top.sources == ((), (0,), (1,), (1, 1, 2))
    assert [node.incoming for node in nodes] == [0, 1, 1, 3]
    assert [node.has_error_edge for node in nodes] == [False, True, True, False]
    assert [node.outcomes for node in nodes] == [(), ("true", "false"), (), ()]
    assert [node.kind for node in nodes] == [NodeKind.TRIGGER, NodeKind.CONTROL, NodeKind.PURE, NodeKind.CONTROL]
    assert [node.scope for node in nodes] == [None] * 4
    assert plan.output is None
    assert not plan.unwinds


def test_policies_reach_the_plan() -> None:
    plan = compile_plan(definition(), TYPES.specs)
    a = plan.nodes["a"]
    assert (a.timeout, a.on_error, a.retry.max_attempts) == (5 * SECOND, OnError.CONTINUE, 3)
    assert plan.nodes["c"].retry is NO_RETRY


def test_templates_are_compiled() -> None:
    plan = compile_plan(definition(output={"n": "{{ steps.a.n }}"}), TYPES.specs)
    scope = Scope({"trigger": {"n": 4}, "steps": {"a": {"n": 5}}}, now=0)
    assert plan.nodes["a"].config.render(scope) == {"mapping": {"n": 5}}
    assert plan.nodes["c"].when is not None
    assert plan.nodes["c"].when(scope) is True
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


def scoped(*nodes: dict[str, Any], edges: str) -> Definition:
    """A definition of `t>y y:try>a`, with more nodes than formulas if they are given."""
    pairs = [edge.partition(">")[::2] for edge in edges.split()]
    parts = [(*source.partition(":")[::2], target) for source, target in pairs]
    given = {node["id"]: node for node in nodes}
    names = dict.fromkeys(name for source, _, target in parts for name in (source, target))
    plain = {name: {"id": name, "type": "formula", "config": {"expression": "1"}} for name in names}
    raw = {
        "nodes": list({**plain, "t": {"id": "t", "type": "manual_trigger"}, **given}.values()),
        "edges": [{"source": source, "target": target, "label": label or None} for source, label, target in parts],
    }
    reading = read(raw, TYPES)
    assert reading.definition is not None, reading.problems
    return reading.definition


def test_a_scope_is_a_node_of_its_body_and_has_bodies_of_its_own() -> None:
    given = scoped({"id": "y", "type": "try"}, edges="t>y y:try>a a>b y:catch>c y:finally>f y:done>z y:error>e")
    plan = compile_plan(given, TYPES.specs)
    assert [[node.id for node in body.nodes] for body in plan.bodies] == [
        ["t", "y", "z", "e"], ["a", "b"], ["c"], ["f"],
    ]  # fmt: skip
    assert [body.entries for body in plan.bodies] == [(0,), (0,), (0,), (0,)]
    y = plan.nodes["y"]
    assert isinstance(y.scope, TryPlan)
    assert (y.scope.body, [catch.body for catch in y.scope.catches], y.scope.final) == (1, [2], 3)
    assert [(plan.top.nodes[edge.target].id, edge.label) for edge in y.out] == [("z", None), ("e", "error")]
    assert y.has_error_edge
    assert plan.nodes["b"].incoming == 1
    assert (plan.nodes["a"].body, plan.nodes["a"].index, plan.nodes["c"].body) == (1, 0, 2)
    assert plan.unwinds
    assert plan.triggers == ("t",)


def test_scopes_are_compiled_with_what_their_configs_say() -> None:
    again = {"max_attempts": 5, "strategy": "fixed", "initial_delay": 2}
    given = scoped(
        {"id": "l", "type": "loop", "config": {"source": 3, "index_variable": "n", "max_concurrency": 4}},
        {"id": "p", "type": "parallel", "config": {"wait_mode": "first", "timeout": "5s", "failure_mode": "continue"}},
        {"id": "r", "type": "retry", "config": again, "retry": {"max_attempts": 2}, "timeout": 60},
        {"id": "x", "type": "circuit_breaker"},
        {"id": "j", "type": "join", "config": {"join_strategy": "wait_n", "required_count": 1, "timeout_ms": 1500}},
        edges="t>l l:body>p p:one>a p:two>r r:body>x x:body>b l:done>j",
    )
    plan = compile_plan(given, TYPES.specs)
    loop, fan, rounds, breaker, join = (plan.nodes[name].scope for name in ("l", "p", "r", "x", "j"))
    assert isinstance(loop, LoopPlan)
    assert (loop.item, loop.index, loop.key, loop.max_iterations, loop.max_concurrency) == ("item", "n", None, 1_000, 4)
    assert (loop.stops, loop.condition, loop.breaks) == (True, None, ())
    assert isinstance(fan, ParallelPlan)
    assert [name for name, _ in fan.branches] == ["one", "two"]
    assert (fan.wants_first, fan.max_concurrency, fan.stops) == (True, None, False)
    assert plan.nodes["p"].timeout == 5 * SECOND
    assert isinstance(rounds, RetryPlan)
    assert (rounds.policy.max_attempts, rounds.policy.initial_delay) == (5, 2 * SECOND)
    assert plan.nodes["r"].retry.max_attempts == 2
    assert isinstance(breaker, BreakerPlan)
    assert breaker.name == "x"
    assert join == JoinPlan(1, 1_500_000, goes_on=False, cancels=True)
    assert not plan.unwinds


def test_a_graph_that_can_not_be_divided_is_told() -> None:
    given = scoped({"id": "y", "type": "try"}, edges="t>y y:try>a a>b y:done>z")
    leaking = replace(given, edges=(*given.edges, Edge("more", "t", "b")))
    with pytest.raises(InvalidDefinition) as caught:
        compile_plan(leaking, TYPES.specs)
    assert [problem.code for problem in caught.value.problems] == ["scope_leak"]
    circular = replace(given, edges=(*given.edges, Edge("more", "b", "a")))
    with pytest.raises(InvalidDefinition) as caught:
        compile_plan(circular, TYPES.specs)
    assert "cycle" in [problem.code for problem in caught.value.problems]
    ignored = replace(given, edges=(*given.edges, Edge("more", "b", "z")))
    assert compile_plan(ignored, TYPES.specs).nodes["z"].incoming == 1


def test_the_trigger_of_a_start() -> None:
    given = scoped({"id": "w", "type": "webhook_trigger"}, {"id": "s", "type": "schedule_trigger",
                   "config": {"cron": "0 0 * * *"}}, edges="t>a w>a s>a")  # fmt: skip
    plan = compile_plan(given, TYPES.specs)
    assert trigger_of(plan, "w", "api") == "w"
    assert trigger_of(plan, "gone", "schedule") == "s"
    assert [trigger_of(plan, None, kind) for kind in ("webhook", "schedule", "api", "event")] == ["w", "s", "t", "t"]
    assert trigger_of(plan, None, "backfill") == "s"
    assert trigger_of(compile_plan(definition(), TYPES.specs), None, "webhook") == "t"


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
