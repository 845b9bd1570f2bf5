"""A case runs in virtual time as the engine runs it in earnest: the same steps, attempts, outputs and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any, cast

import pytest

from gorax_engine.core.model import Json
from gorax_engine.core.plan import compile_plan
from gorax_engine.core.policies import classify
from gorax_engine.core.reading import read
from gorax_engine.nodes.api import Completed, Failed, NodeContext, Outcome, StepError
from gorax_engine.nodes.catalogue import Catalogue, builtin_specs
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.people.forms import fill_in
from gorax_engine.workflows.testing import Surroundings, read_suite, simulate
from tests.engine.harness import Probe, World
from tests.workflows.simulation import definition

TYPES = Catalogue([*builtin_specs(), Probe.spec])
MOMENTS = frozenset({"timestamp", "duration_ms"})
"""What depends on when something happens."""
AT_ONCE = {"strategy": "fixed", "initial_delay": "1ms"}
ITEMS = {"source": "trigger.body"}


def formula(text: str, **policies: Any) -> Any:
    return ("formula", {"expression": text}, policies)


WORKFLOWS: dict[str, Any] = {
    "a chain": definition(
        {
            "a": formula("len(trigger.body)"),
            "c": ("condition", {"condition": "steps.a > 2"}),
            "yes": ("transform", {"mapping": {"n": "{{ steps.a }}"}}),
            "no": formula("0"),
            "end": formula("steps.yes.n * 2"),
        },
        "t>a a>c c:true>yes c:false>no yes>end",
        output={"twice": "{{ steps.end }}"},
    ),
    "a loop in a loop": definition(
        {"o": ("loop", ITEMS), "i": ("loop", {"source": 2}), "f": formula("item + loop.index")}, "t>o o:body>i i:body>f"
    ),
    "a loop that breaks": definition(
        {
            "o": ("loop", {**ITEMS, "item_variable": "x", "break_conditions": [{"condition": "steps.f == 2"}]}),
            "f": formula("x"),
            "after": formula("steps.o.iteration_count"),
        },
        "t>o o:body>f o:done>after",
    ),
    "a loop with failures": definition(
        {"o": ("loop", {**ITEMS, "on_error": "continue"}), "f": formula("6 / (item - 2)")}, "t>o o:body>f"
    ),
    "a loop that fails": definition(
        {"o": ("loop", ITEMS), "f": formula("6 / (item - 2)"), "n": formula("1")}, "t>o o:body>f o:done>n"
    ),
    "a while": definition(
        {"w": ("loop", {"while": "(steps.f ?? 0) < 3"}), "f": formula("loop.index + 1")}, "t>w w:body>f"
    ),
    "a while without end": definition(
        {"w": ("loop", {"while": "true", "max_iterations": 5}), "f": formula("1")}, "t>w w:body>f"
    ),
    "try, catch and finally": definition(
        {
            "y": ("try", {}),
            "a": ("fail", {"code": "boom", "message": "bad"}),
            "h": formula("error.code + error.message"),
            "z": formula("1"),
            "after": formula("steps.y.catch_output"),
        },
        "t>y y:try>a y:catch>h y:finally>z y:done>after",
    ),
    "a stop within a try": definition(
        {"y": ("try", {}), "s": ("stop", {"output": "{{ 1 + 1 }}"}), "z": formula("1"), "n": formula("2")},
        "t>y y:try>s y:finally>z y:done>n",
    ),
    "parallel branches": definition(
        {
            "p": ("parallel", {"failure_mode": "continue"}),
            "a": formula("1 / 0"),
            "d": ("delay", {"duration": "20ms"}),
            "b": formula("steps.d.completed"),
            "after": formula("steps.p.completed_branches"),
        },
        "t>p p:left>a p:right>d d>b p:done>after",
    ),
    "the first branch": definition(
        {"p": ("parallel", {"wait_mode": "first"}), "a": formula("1"), "d": ("delay", {"duration": "3s"})},
        "t>p p:slow>d p:fast>a",
    ),
    "fork and join": definition(
        {
            "k": ("fork", {}),
            "a": formula("1"),
            "d": ("delay", {"duration": "3s"}),
            "j": ("join", {"join_strategy": "wait_n", "required_count": 1}),
            "z": formula("steps.j.branch_outputs.a"),
        },
        "t>k k>a k>d a>j d>j j>z",
    ),
    "a retry scope": definition(
        {
            "r": ("retry", {"max_attempts": 3, "strategy": "fixed", "initial_delay_ms": 1}),
            "a": ("fail", {"code": "boom", "message": "bad"}),
        },
        "t>r r:body>a",
    ),
    "a breaker": definition(
        {
            "o": ("loop", {"source": 4, "on_error": "continue"}),
            "b": ("circuit_breaker", {"max_failures": 2}),
            "a": ("fail", {"code": "boom", "message": "bad"}),
        },
        "t>o o:body>b b:body>a",
    ),
    "policies": definition(
        {
            "e": formula("trigger.missing", on_error="continue"),
            "seen": formula("steps.e.error.code"),
            "w": formula("1", when="false"),
            "bad": formula("1", when="1"),
        },
        "t>e e>seen seen>w t>bad",
    ),
    "what happens at once": definition(
        {"a": formula("1"), "c": formula("1"), "b": ("fail", {"code": "x", "message": "x"}), "d": formula("1")},
        "t>a a>c t>b t>d",
    ),
    "a stop beside a step": definition({"s": ("stop", {}), "a": formula("1")}, "t>s t>a"),
    "a delay that is too long": definition({"d": ("delay", {"duration": "1h"}, {"timeout": "10ms"})}, "t>d"),
    "outside steps": definition(
        {
            "call": ("probe", {"n": "{{ len(trigger.body) }}"}, {"retry": {"max_attempts": 3, **AT_ONCE}}),
            "lost": ("probe", {}, {"on_error": "continue"}),
            "f": formula("steps.call + len(steps.lost.error.message)"),
        },
        "t>call call>lost lost>f",
    ),
    "a breaker around attempts": definition(
        {"down": ("probe", {}, {"retry": {"max_attempts": 5, **AT_ONCE}, "circuit_breaker": {"max_failures": 2}})},
        "t>down",
    ),
}
MOCKS: dict[str, Any] = {
    "call": [{"error": {"code": "timeout", "message": "late"}}, {"output": 3}],
    "lost": {"error": {"code": "lost", "message": "gone", "details": {"where": [1]}}},
    "down": {"error": {"code": "timeout", "message": "late"}},
}


async def _act(config: Mapping[str, Json], context: NodeContext) -> Outcome:
    """Do what the mocks say."""
    mock = MOCKS[context.node_id]
    answer = mock[context.attempt - 1] if isinstance(mock, list) else mock
    if "error" not in answer:
        return Completed(answer["output"])
    error = answer["error"]
    return Failed(StepError(error["code"], error["message"], classify(error["code"]), error.get("details", {})))


def timeless(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if key not in MOMENTS}
    return [timeless(each) for each in value] if isinstance(value, list) else value


async def in_earnest(world: World, raw: Json) -> tuple[Json, Json]:
    member = world.members[0] if world.members else await world.member()
    world.probe.acts = dict.fromkeys(MOCKS, _act)
    started = await member.start(await world.flow(raw), [1, 2, 3])
    end = await world.ended(started.execution_id)
    rows = await world.sql.fetch("SELECT * FROM step_executions WHERE execution_id = $1", started.execution_id)
    steps = {
        (row["node_id"], row["iteration_path"], row["round"], row["retry_count"] + 1): (
            row["status"],
            row["error_code"],
            row["error_message"],
            timeless(json.loads(row["input_data"] or "null")),
            timeless(json.loads(row["output_data"] or "null")) if row["status"] == "completed" else None,
        )
        for row in rows
    }
    return (end["status"], end["error_code"], timeless(json.loads(end["output_data"] or "null"))), steps


async def in_virtual_time(raw: Json) -> tuple[Json, Json]:
    reading = read(raw, TYPES)
    assert reading.definition is not None, reading.problems
    plan = compile_plan(reading.definition, TYPES.specs)
    mocks = {name: mock for name, mock in MOCKS.items() if name in plan.nodes}
    case = {"name": "case", "trigger": {"body": [1, 2, 3]}, "mocks": mocks}
    suite, problems = read_suite({"workflow": "w", "cases": [case]}, plan)
    assert suite is not None, problems
    around = Surroundings(NodeRegistry(builtin_nodes()), fill_in, cast("Any", None))
    run = await simulate(plan, suite.cases[0], around)
    assert run.end is not None, run.stuck
    steps = {
        (attempt.step.node, attempt.step.path, attempt.step.round, attempt.number): (
            attempt.state.value,
            None if attempt.error is None else attempt.error.code,
            None if attempt.error is None else attempt.error.message,
            timeless(attempt.given),
            timeless(attempt.output) if attempt.state.value == "completed" else None,
        )
        for attempt in run.trace.attempts.values()
    }
    error = None if run.end.error is None else run.end.error.code
    return (run.end.status.value, error, timeless(run.end.output)), steps


async def agree(world: World, raw: Json) -> None:
    end, steps = await in_earnest(world, raw)
    simulated_end, simulated = await in_virtual_time(raw)
    assert simulated_end == end
    assert simulated.keys() == steps.keys()
    assert simulated == steps


@pytest.mark.parametrize("name", WORKFLOWS)
async def test_a_case_agrees_with_the_engine(name: str, world: World) -> None:
    await agree(world, WORKFLOWS[name])


async def test_random_workflows_agree_with_the_engine(world: World) -> None:
    for seed in range(25):
        nodes, edges = _grown(Random(seed))
        await agree(world, definition(nodes, edges))


def _grown(rng: Random) -> tuple[dict[str, Any], str]:
    """Return nodes and edges of chains nested in scopes: nothing in them depends on who comes first."""
    nodes: dict[str, Any] = {}
    edges: list[str] = []
    kinds = ("formula", "formula", "formula", "condition", "fail", "loop", "try", "parallel", "retry", "breaker")

    def body(source: str, depth: int) -> None:
        for at in range(rng.choice((1, 2, 3))):
            name = f"n{len(nodes)}"
            kind = rng.choice(kinds if depth < 3 else kinds[:5])
            policies = {"on_error": "continue"} if rng.random() < 0.3 else {}
            edges.append(f"{source}>{name}")
            label = {"condition": rng.choice(("true", "false"))}.get(kind)
            inner: tuple[str, ...] = ()
            match kind:
                case "formula":
                    nodes[name] = formula(f"len(trigger.body) + {at}", **policies)
                case "condition":
                    nodes[name] = ("condition", {"condition": f"{rng.random()} < 0.7"})
                case "fail":
                    nodes[name] = ("fail", {"code": rng.choice(("timeout", "boom")), "message": name}, policies)
                case "loop":
                    on_error = rng.choice(("stop", "continue"))
                    nodes[name] = ("loop", {"source": rng.randint(0, 3), "on_error": on_error}, policies)
                    inner, label = ("body",), "done"
                case "try":
                    nodes[name] = ("try", {}, policies)
                    inner = ("try", *(each for each in ("catch", "finally") if rng.random() < 0.6))
                    label = "done"
                case "parallel":
                    nodes[name] = ("parallel", {"failure_mode": "continue"}, policies)
                    inner, label = ("left", "right"), "done"
                case "retry":
                    nodes[name] = ("retry", {"max_attempts": 2, "strategy": "fixed", "initial_delay_ms": 1}, policies)
                    inner, label = ("body",), "done"
                case _:
                    nodes[name] = ("circuit_breaker", {"name": name, "max_failures": 1}, policies)
                    inner, label = ("body",), "done"
            for each in inner:
                body(f"{name}:{each}", depth + 1)
            source = name if label is None else f"{name}:{label}"

    body("t", 0)
    return nodes, " ".join(edges)
