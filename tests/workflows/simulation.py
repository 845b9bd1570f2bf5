"""Short ways to write a workflow and a case, and to run it as `gorax workflow test` would."""

from __future__ import annotations

from typing import Any

from gorax_engine.core.plan import Plan, compile_plan
from gorax_engine.core.reading import read
from gorax_engine.nodes.catalogue import Catalogue, builtin_specs
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.sandbox.pool import Sandbox, SandboxOptions
from gorax_engine.nodes.tasks.code import Code
from gorax_engine.people.forms import fill_in
from gorax_engine.workflows.testing import Simulated, Surroundings, judge, read_suite, shape_faults, simulate

TYPES = Catalogue(builtin_specs())
REGISTRY = NodeRegistry(builtin_nodes())


def definition(nodes: dict[str, Any], edges: str, **more: Any) -> dict[str, Any]:
    """Return a definition: `nodes` are (type, config, policies) by id, `edges` words like `a:label>b`.

    There is a manual trigger `t`.
    """
    listed: list[Any] = [{"id": "t", "type": "manual_trigger"}]
    for name, given in nodes.items():
        type_name, config, policies = (*given, {}, {})[:3]
        listed.append({"id": name, "type": type_name, "config": config, **policies})
    drawn = []
    for edge in edges.split():
        source, target = edge.split(">")
        source, _, label = source.partition(":")
        drawn.append({"source": source, "target": target, **({"label": label} if label else {})})
    return {"nodes": listed, "edges": drawn, **more}


def plan_of(raw: dict[str, Any]) -> Plan:
    reading = read(raw, TYPES)
    assert reading.definition is not None, reading.problems
    return compile_plan(reading.definition, TYPES.specs)


def faults_of(raw: dict[str, Any], document: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with a test file, by pointer."""
    document = {"workflow": "w.yaml", **document}
    problems = shape_faults(document) or read_suite(document, plan_of(raw))[1]
    return {problem.pointer: problem.message for problem in problems}


async def run(raw: dict[str, Any], **case: Any) -> tuple[Simulated, dict[str, str]]:
    """Run a case; return what it did, and its mismatches by their pointers below the case."""
    plan = plan_of(raw)
    document = {"workflow": "w.yaml", "cases": [{"name": "case", **case}]}
    assert shape_faults(document) == []
    suite, problems = read_suite(document, plan)
    assert suite is not None, problems
    async with Sandbox(SandboxOptions(processes=1)) as sandbox:
        done = await simulate(plan, suite.cases[0], Surroundings(REGISTRY, fill_in, Code(sandbox)))
    return done, {each.pointer.removeprefix("/cases/0"): each.message for each in judge(suite.cases[0], done)}


async def passes(raw: dict[str, Any], **case: Any) -> Simulated:
    """Run a case that must pass."""
    done, mismatches = await run(raw, **case)
    assert mismatches == {}
    return done
