"""The node type `code`: its config, what a script sees, and how it ends. The sandbox has tests of its own."""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from gorax_engine.core.config_template import compile_config
from gorax_engine.core.expressions import Scope
from gorax_engine.core.reading import read
from gorax_engine.nodes.api import NO_RETRY, Completed, Failed, Json, NodeContext, Outcome, TaskNode
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.sandbox.pool import MIB, Sandbox, SandboxOptions
from gorax_engine.nodes.tasks.code import Code, parse_size

pytestmark = pytest.mark.anyio

ROOTS = {"trigger": {"body": {"n": 5}}, "steps": {"one": {"x": 1}}, "env": {"tenant_id": "t1"}, "vars": {"v": 2}}


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(processes=1, heap=64 * MIB)) as running:
        yield running


async def run(sandbox: Sandbox, config: Mapping[str, Json], roots: Mapping[str, Json] = ROOTS) -> Outcome:
    """Render a config as the engine does, and run the node."""
    scope = Scope(dict(roots) if roots else {"trigger": {}}, now=0)
    rendered = compile_config(config, Code.spec.schema).render(scope)
    context = NodeContext("e1", "t1", "w1", "c", "", 1, 0, "e1:c:", b"seed", {"body": "own"}, roots)
    return await Code(sandbox).run(rendered, context)


async def test_a_script_computes_from_what_expressions_see(sandbox: Sandbox) -> None:
    script = (
        "const {trigger, steps, env, vars, input} = context\nreturn [trigger, steps, env, vars, input, item, index]"
    )
    config = {"script": script, "input": {"n": "{{ trigger.body.n + 1 }}"}}
    assert await run(sandbox, config, {**ROOTS, "item": {"id": 7}, "index": 0}) == Completed(
        [*ROOTS.values(), {"n": 6}, {"id": 7}, 0]
    )


async def test_views_of_values_are_objects_too(sandbox: Sandbox) -> None:
    roots = MappingProxyType({**ROOTS, "steps": MappingProxyType({"a": MappingProxyType({"b": 1})})})
    assert await run(sandbox, {"script": "return ctx.steps.a.b"}, roots) == Completed(1)


async def test_without_roots_there_is_the_trigger_data(sandbox: Sandbox) -> None:
    assert await run(sandbox, {"script": "return context"}, {}) == Completed(
        {"trigger": {"body": "own"}, "steps": {}, "env": {}, "vars": {}, "input": None}
    )


async def test_no_script_sees_a_secret(sandbox: Sandbox) -> None:
    roots = {**ROOTS, "credentials": {"db": {"password": "hunter2"}}}
    script = "return [ctx.credentials, typeof credentials]"
    assert await run(sandbox, {"script": script}, roots) == Completed([None, "undefined"])


async def test_a_script_is_never_a_template(sandbox: Sandbox) -> None:
    script = "const n = 1; return `${n} {{ trigger.body.n }} ${ctx.trigger.body.n}`"
    assert await run(sandbox, {"script": script}) == Completed("1 {{ trigger.body.n }} 5")


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"script": "throw new Error('no')"}, "script_error"),
        ({"script": "for (;;);", "timeout": "100ms"}, "script_timeout"),
        ({"script": "return new Uint8Array(20e6).length", "memory_limit": "16MB"}, "script_memory"),
        ({"script": "return 1", "memory_limit": "{{ 1 }}"}, "type_error"),
        ({"script": "return 1", "timeout": "{{ trigger.body }}"}, "type_error"),
    ],
)
async def test_what_fails_has_a_code(sandbox: Sandbox, config: dict[str, Json], code: str) -> None:
    outcome = await run(sandbox, config)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == code, outcome


async def test_limits_above_the_most_mean_the_most() -> None:
    class Fake:
        async def run(self, script: Any) -> Json:
            return [script.seconds, script.memory]

    fake: Any = Fake()
    assert await run(fake, {"script": "x"}) == Completed([30.0, 64 * MIB])
    assert await run(fake, {"script": "x", "timeout": "5m", "memory_limit": "2GB"}) == Completed([60.0, 2048 * MIB])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (2 << 20, 2 << 20),
        ("64MB", 64 << 20),
        ("64 mb", 64 << 20),
        ("4096KB", 4 << 20),
        ("1GiB", 1 << 30),
        ("5000000", 5_000_000),
    ],
)
def test_sizes(text: Json, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "64", "1MB", 0, -1, True, None, 1.5, "64 M", "1e9", "-64MB", "64MBB", [], "9" * 20]
)
def test_no_sizes(text: Json) -> None:
    with pytest.raises(ValueError, match=r'`memory_limit` must be bytes or text such as "64MB", and at least 2 MB\.'):
        parse_size(text)


def test_the_type() -> None:
    spec = Code.spec
    assert isinstance(Code(Sandbox()), TaskNode)
    assert (spec.retry, spec.has_effects, spec.sees_roots) == (NO_RETRY, False, True)


@pytest.mark.parametrize(
    ("config", "faults"),
    [
        ({"script": "return {{ 1 }}"}, 0),
        ({"script": "return 1", "input": {"any": ["{{ trigger.body }}", 1]}, "timeout": 5, "memory_limit": "64MB"}, 0),
        ({"script": "return 1", "memory_limit": 67108864, "timeout": "PT1M"}, 0),
        ({}, 1),
        ({"script": ""}, 1),
        ({"script": "x" * (MIB + 1)}, 1),
        ({"script": 5}, 1),
        ({"script": "x", "timeout": "soon"}, 1),
        ({"script": "x", "memory_limit": 1000}, 1),
    ],
)
@pytest.mark.parametrize("name", ["code", "action:code", "action:script", "script"])
def test_configs_are_judged_on_save(config: dict[str, Json], faults: int, name: str) -> None:
    nodes = [{"id": "start", "type": "manual"}, {"id": "c", "type": name, "config": config}]
    reading = read(
        {"nodes": nodes, "edges": [{"source": "start", "target": "c"}]}, NodeRegistry(builtin_nodes([Code(Sandbox())]))
    )
    assert len(reading.problems) == faults, reading.problems


async def test_the_example_of_the_page_does_what_it_says(sandbox: Sandbox) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "code.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    document = yaml.safe_load(example)
    reading = read(document, NodeRegistry(builtin_nodes([Code(Sandbox())])))
    assert (reading.problems, reading.warnings) == ((), ())
    (config,) = [node["config"] for node in document["nodes"] if node["type"] == "code"]

    def roots(price: int) -> dict[str, Json]:
        return {**ROOTS, "trigger": {"body": {"customer": "Ada", "lines": [{"count": 2, "price": price}]}}}

    assert await run(sandbox, config, roots(5)) == Completed({"total": 10, "lines": 1, "customer": "Ada"})
    failed = await run(sandbox, config, roots(-5))
    assert isinstance(failed, Failed)
    assert failed.error.message == "The script threw in line 2: Error: The total is -10."
    assert failed.error.details == {"line": 2}
