"""Definitions as Gorax saves them: each is accepted as it stands, and becomes the canonical form beside it.

A shape in `import_shapes` is `{about, definition, canonical?, bodies?, warnings, problems?}`: `bodies` groups the nodes
that scopes own, `warnings` and `problems` are `[code, pointer]`. The import guide's table of differences is held here,
too.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.workflow_files import WorkflowFile, check_workflows, parse, write_workflows
from gorax_engine.core.config_template import compile_condition, compile_config, compile_value
from gorax_engine.core.expressions import ExpressionError, Scope
from gorax_engine.core.model import NO_RETRY, OUTSIDE_RETRY, NodeKind
from gorax_engine.core.plan import compile_plan
from gorax_engine.core.reading import Reading, read
from gorax_engine.nodes.catalogue import Catalogue, builtin_specs

ROOT = Path(__file__).parents[2]
TYPES = Catalogue(builtin_specs())
SHAPES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "import_shapes").glob("*.json"))
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_becomes_canonical(name: str) -> None:
    shape = SHAPES[name]
    reading = read(shape["definition"], TYPES)
    assert [[each.code, each.pointer] for each in reading.problems] == shape.get("problems", [])
    assert [[each.code, each.pointer] for each in reading.warnings] == shape["warnings"]
    if "canonical" in shape:
        assert [_plain(node) for node in reading.canonical["nodes"]] == [
            _plain(node) for node in shape["canonical"]["nodes"]
        ]
        assert reading.canonical["edges"] == shape["canonical"]["edges"]
    if reading.definition is not None:
        plan = compile_plan(reading.definition, TYPES.specs)
        assert {node.id: node.body for node in plan.nodes.values() if node.body} == shape.get("bodies", {})


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if "problems" not in shape])
def test_the_canonical_form_is_a_fixed_point_and_survives_a_file(name: str) -> None:
    canonical = read(SHAPES[name]["definition"], TYPES).canonical
    again = read(canonical, TYPES)
    assert again.canonical == canonical
    for suffix in ("json", "yaml"):
        text = write_workflows([WorkflowFile(Path(), "", name, canonical)], as_json=suffix == "json")
        (workflow,) = check_workflows(Path(f"x.{suffix}"), parse(Path(f"x.{suffix}"), text))
        assert workflow.definition == canonical


def test_every_type_of_gorax_has_its_shape() -> None:
    used = {node["type"] for shape in SHAPES.values() for node in shape["definition"]["nodes"]}
    assert used >= {
        "trigger:webhook", "trigger:schedule", "trigger:manual", "action:http", "action:transform", "action:formula",
        "action:code", "action:script", "action:email", "slack:send_message", "action:subworkflow",
        "control:sub_workflow", "control:if", "control:conditional", "control:loop", "control:parallel", "control:fork",
        "control:join", "control:delay", "control:wait", "control:try", "control:catch", "control:finally",
        "control:retry", "control:circuit_breaker", "human_task",
    } - {"action:code", "control:if"}  # fmt: skip
    names = {name for spec in TYPES.specs.values() for name in (spec.name, *spec.aliases)}
    assert used - names == set()


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "position"}


# The table of differences


def flow(type: str, config: Any, **rest: Any) -> Reading:
    """Read a workflow of a manual trigger and one node `n`."""
    nodes = [{"id": "t", "type": "trigger:manual"}, {"id": "n", "type": type, "data": {"config": config, **rest}}]
    return read({"nodes": nodes, "edges": [{"source": "t", "target": "n"}]}, TYPES)


def edge(source: str, target: str) -> dict[str, str]:
    return {"source": source, "target": target}


def evaluate(source: str, **roots: Any) -> Any:
    return compile_condition(source, frozenset({"http-1"}))(Scope({"trigger": {}, "steps": {}, **roots}, 0))


def render(value: Any, **roots: Any) -> Any:
    return compile_value(value).render(Scope({"trigger": {}, "steps": {}, **roots}, 0))


def fails(code: str, act: Callable[[], Any]) -> None:
    with pytest.raises(ExpressionError) as caught:
        act()
    assert caught.value.code == code


def codes(reading: Reading) -> set[str]:
    return {each.code for each in (*reading.problems, *reading.warnings)}


def retries() -> None:
    for spec in TYPES.specs.values():
        assert spec.retry in (NO_RETRY, OUTSIDE_RETRY)
        assert spec.retry == NO_RETRY or spec.kind is NodeKind.TASK
    assert TYPES.specs["http_request"].retry == OUTSIDE_RETRY
    assert OUTSIDE_RETRY.max_attempts == 4


def max_retries() -> None:
    reading = flow("action:http", {"url": "https://x.example.com", "retry": {"max_retries": 2}})
    assert reading.definition is not None
    retry = reading.definition.nodes[1].retry
    assert retry is not None
    assert (retry.max_attempts, retry.retry_on) == (3, ("transient",))


def missing_in_a_mapping() -> None:
    config = compile_config({"mapping": {"a": "trigger.absent"}}, TYPES.specs["transform"].schema)
    fails("missing_path", lambda: config.render(Scope({"trigger": {"body": {}}}, 0)))


def whole_template() -> None:
    assert render("{{trigger.body}}", trigger={"body": {"a": 1}}) == {"a": 1}
    assert render("${trigger.n}", trigger={"body": {"n": 7}}) == 7


def parallel_timeout() -> None:
    nodes = [
        {"id": "t", "type": "manual"},
        {"id": "p", "type": "control:parallel"},
        {"id": "n", "type": "formula", "config": {"expression": "1"}},
    ]
    reading = read({"nodes": nodes, "edges": [edge("t", "p"), edge("p", "n")]}, TYPES)
    assert reading.definition is not None
    assert reading.definition.nodes[1].timeout is None


def bodies(*edges: tuple[str, str]) -> dict[str, int]:
    """Return which of the nodes `a` and `b` of a loop `l` are in a body."""
    others = sorted({end for _, end in edges})
    formulas = [{"id": each, "type": "formula", "config": {"expression": "1"}} for each in others]
    nodes = [{"id": "t", "type": "manual"}, {"id": "l", "type": "loop", "config": {"source": "3"}}, *formulas]
    reading = read({"nodes": nodes, "edges": [edge("t", "l"), *(edge(*ends) for ends in edges)]}, TYPES)
    assert reading.definition is not None
    plan = compile_plan(reading.definition, TYPES.specs)
    return {node.id: node.body for node in plan.nodes.values() if node.body}


def loop_body() -> None:
    assert bodies(("l", "a"), ("a", "b"), ("l", "c")) == {"a": 1, "b": 1}


def body_of_one_node() -> None:
    assert bodies(("l", "a")) == {"a": 1}


def unreachable() -> None:
    nodes = [{"id": "t", "type": "manual"}, {"id": "n", "type": "formula", "config": {"expression": "1"}}]
    assert codes(read({"nodes": nodes, "edges": []}, TYPES)) == {"unreachable"}


def no_breaker_unasked() -> None:
    definition = flow("http", {"url": "https://x.example.com"}).definition
    assert definition is not None
    assert [node.breaker for node in compile_plan(definition, TYPES.specs).nodes.values()] == [None, None]


def shape(name: str, *, warnings: list[str] | None = None, problems: list[str] | None = None) -> Callable[[], None]:
    def check() -> None:
        reading = read(SHAPES[name]["definition"], TYPES)
        assert [each.pointer for each in reading.warnings] == (warnings or [])
        assert [each.pointer for each in reading.problems] == (problems or [])

    return check


def codes_of(*found: str, type: str, config: Any) -> Callable[[], None]:
    def check() -> None:
        assert codes(flow(type, config)) == set(found)

    return check


WALK = "tests/core/walk/test_rules.py"
HTTP = "tests/nodes/tasks/test_http_request.py"
HELD: dict[str, Callable[[], None] | str] = {
    "HTTP status": f"{HTTP}::test_success",
    "redirects": f"{HTTP}::test_redirects_are_followed_unless_told_otherwise",
    "retries": retries,
    "max_retries": max_retries,
    "circuit breaker": no_breaker_unasked,
    "missing path in a template": lambda: fails("missing_path", lambda: render("x {{trigger.absent}}")),
    "missing path in a mapping": missing_in_a_mapping,
    "whole template": whole_template,
    "escaped dots": lambda: _is(evaluate('trigger.body["b.c"]', trigger={"body": {"b.c": 1}}), 1),
    "env": codes_of("unknown_reference", type="formula", config={"expression": "env.SLACK_TOKEN"}),
    "credentials in any field": codes_of(
        "invalid_expression", type="action:transform", config={"mapping": {"a": "${credentials.x}"}}
    ),
    "order": f"{WALK}::test_independent_ready_nodes_run_at_the_same_time",
    "branch not taken": f"{WALK}::test_a_node_runs_if_one_edge_is_live_and_dead_paths_are_skipped",
    "node that nothing leads to": unreachable,
    "loop body": loop_body,
    "body of one node": body_of_one_node,
    "parallel timeout": parallel_timeout,
    "manual trigger": codes_of(type="action:formula", config={"expression": "1"}),
    "condition's branches": shape(
        "web_editor", warnings=[f"/nodes/1/data/config/{key}_branch" for key in ("true", "false")]
    ),
    "delay": "tests/acceptance/test_policies.py::test_of_a_delay",
    "output of a run": f"{WALK}::test_the_output_is_of_the_leaves_by_node_id",
    "version of a run": "tests/engine/test_accept.py::test_vars_and_the_version_are_frozen_at_the_start",
    "mail and Slack": shape("messages", problems=[f"/nodes/{at}/data/config" for at in (1, 2, 3)]),
}
"""Each row of the guide's table with what holds it: a check, or the test elsewhere that does."""


def _is(found: Any, wanted: Any) -> None:
    assert found == wanted


def test_every_difference_is_held() -> None:
    page = (ROOT / "docs" / "how-to" / "import-from-gorax.md").read_text(encoding="utf-8")
    section = page.partition("## What means something else")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)[2:] == list(HELD)


@pytest.mark.parametrize("topic", HELD)
def test_a_difference(topic: str) -> None:
    holder = HELD[topic]
    if isinstance(holder, str):
        path, _, name = holder.partition("::")
        assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")
    else:
        holder()
