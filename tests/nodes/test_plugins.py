"""Plug-ins: what is loaded and under which names, what is refused, and what the guard makes of their faults."""

import re
import runpy
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import yaml

from gorax_engine.core.config_template import compile_config
from gorax_engine.core.expressions import Scope
from gorax_engine.core.model import OUTSIDE_RETRY
from gorax_engine.core.reading import read
from gorax_engine.errors import ConfigurationError
from gorax_engine.nodes import plugins
from gorax_engine.nodes.api import (
    Call,
    Completed,
    ExpressionError,
    Failed,
    HttpClient,
    NodeContext,
    NodeKind,
    NodeSpec,
    PluginResources,
    PureNode,
    StepError,
)
from gorax_engine.nodes.plugins import RESERVED, installed_plugins, load_plugins, open_plugins
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.spec_checks import ANNOTATIONS, FORMATS, spec_faults
from tests.nodes.plugin_packages import EXAMPLE, importable, install_example, write_package

CONTEXT = NodeContext("e1", "t1", "w1", "n", "", 1, 0, "e1:n:", b"seed", {})
RESOURCES = PluginResources(cast("HttpClient", None))

HEAD = """
    from gorax_engine.nodes.api import Completed, NodeKind, NodeSpec
    SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
    class Thing:
        def __init__(self, name="acme:thing", aliases=(), **rest):
            given = {"kind": NodeKind.PURE, "schema": SCHEMA, "title": "Thing", "description": "Does it.", **rest}
            self.spec = NodeSpec(name=name, aliases=aliases, **given)
        def evaluate(self, config, context):
            return Completed(1)
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with importable(tmp_path):
        yield tmp_path


def write(site: Path, rest: str, package: str = "acme-nodes") -> None:
    """Write a package whose entry point `it` is `make`, or `Thing`."""
    target = "make" if "make" in rest else "Thing"
    write_package(site, package, {"it": f"{package.replace('-', '_')}:{target}"}, HEAD + rest)


def names(*allowed: str) -> list[str]:
    return [node.spec.name for plugin in load_plugins(allowed, RESOURCES) for node in plugin.nodes]


def refusal(*allowed: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_plugins(allowed, RESOURCES)
    assert caught.value.code == "invalid_plugin"
    return caught.value.message


# What is loaded


def test_only_what_is_allowed_is_imported(site: Path) -> None:
    write(site, "")
    write(site, "    raise RuntimeError('imported')", "evil-nodes")
    assert names("acme-nodes") == ["acme:thing"]
    assert names() == []
    assert installed_plugins() == {"acme-nodes": "1.0", "evil-nodes": "1.0"}


def test_a_package_is_named_as_packaging_tools_compare_names(site: Path) -> None:
    write(site, "")
    assert names("Acme_Nodes", "acme.nodes") == ["acme:thing"]


@pytest.mark.parametrize(
    "make",
    [
        "def make(): return Thing()",
        "def make(resources): return Thing()",
        "def make(resources=None): return [Thing()]",
        "make = lambda *given: (Thing(),)",
    ],
)
def test_a_factory_takes_the_resources_if_it_wants_and_gives_one_or_several(site: Path, make: str) -> None:
    write(site, f"    {make}")
    assert names("acme-nodes") == ["acme:thing"]


def test_the_resources_reach_the_factory(site: Path) -> None:
    write(site, "    def make(resources): assert resources.http is None; return [Thing(), Thing('acme:other')]")
    assert names("acme-nodes") == ["acme:thing", "acme:other"]


# What is refused, always with the package's name


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ("    import absent_module", "entry point `it` failed: ModuleNotFoundError: No module named 'absent_module'"),
        ("    raise SystemExit(0)", "entry point `it` failed: SystemExit"),
        ("    make = 7", "it is not a function|is not a function or class"),
        ("    def make(a, b): return Thing()", "failed: TypeError"),
        ("    def make(): return []", "gives no node type"),
        ("    def make(): return 'node'", "gives a str without a `spec`"),
        ("    def make(): return [Thing(), Thing()]", "claims the name `acme:thing` twice"),
        ("    def make(): return Thing(aliases=('acme:thing',))", "claims the name `acme:thing` twice"),
        ("    def make(): return Thing('thing')", "`thing` must have a namespace"),
        ("    def make(): return Thing('http_request')", "must have a namespace"),
        ("    def make(): return Thing('Acme:thing')", "must have a namespace"),
        ("    def make(): return Thing('action:http')", "namespace `action`, which is the engine's own"),
        ("    def make(): return Thing(aliases=('slack:send',))", "namespace `slack`"),
        ("    def make(): return Thing(aliases=(7,))", "`7` must have a namespace"),
        ("    def make(): return Thing(kind=NodeKind.TRIGGER)", "kind must be one of control, pure, task"),
        ("    def make(): return Thing(kind=NodeKind.TASK)", "of kind task needs a method `run`"),
        ("    def make(): return Thing(kind='pure')", "kind must be a NodeKind"),
        ("    def make(): return Thing(title='')", "has no title"),
        ("    def make(): return Thing(description='does it')", "description must be a sentence"),
        ("    def make(): return Thing(retry={'max_attempts': 3})", "retry must be a RetryPolicy"),
        ("    def make(): return Thing(schema={'type': 'object'})", '"additionalProperties": false'),
        ("    def make(): return Thing(schema=SCHEMA | {'properties': {'a': {'type': 'sting'}}})", "no JSON Schema"),
    ],
)
def test_what_is_wrong_refuses_the_start(site: Path, rest: str, says: str) -> None:
    write(site, rest)
    message = refusal("acme-nodes")
    assert message.startswith("The plug-in package acme-nodes can't be used: ")
    assert any(part in message for part in says.split("|")), message


def test_a_package_that_is_not_there(site: Path) -> None:
    write(site, "")
    assert "is not installed, or declares none; installed are: acme-nodes" in refusal("acme-node")


def test_all_faults_are_told_and_nothing_is_half_loaded(site: Path) -> None:
    write(site, "    def make(): return [Thing(), Thing('acme:other', title='', description='')]")
    message = refusal("acme-nodes")
    assert "has no title" in message
    assert "must be a sentence" in message


def test_two_packages_can_t_share_a_name(site: Path) -> None:
    write(site, "")
    write(site, "", "other-nodes")
    assert "package other-nodes can't be used: it claims the name `acme:thing`, which acme-nodes claims" in refusal(
        "acme-nodes", "other-nodes"
    )


def test_no_built_in_name_can_be_claimed() -> None:
    types = NodeRegistry(builtin_nodes())
    for spec in types.specs.values():
        for name in (spec.name, *spec.aliases):
            assert ":" not in name or name.partition(":")[0] in RESERVED


# Schemas


def spec(schema: Any, **rest: Any) -> NodeSpec:
    return NodeSpec("acme:thing", NodeKind.PURE, schema, title="Thing", description="Does it.", **rest)


def schema(member: Any, **rest: Any) -> dict[str, Any]:
    member = {**member, "description": "It."} if isinstance(member, dict) else member
    return {"type": "object", "properties": {"a": member}, "additionalProperties": False, **rest}


@pytest.mark.parametrize(
    "sound",
    [
        schema({"type": "string", "x-gorax": "expression", "x-gorax-locals": ["item"]}),
        schema({"type": "object", "x-gorax-secrets": True, "x-gorax-message": "Mend it."}),
        schema({"type": "string", "x-gorax": "credential"}),
        schema({"$ref": "#/$defs/tree"}, **{"$defs": {"tree": {"anyOf": [{"items": {"$ref": "#/$defs/tree"}}]}}}),
        schema({"format": "gorax-duration"}),
        schema({"properties": {"x-gorax": {"type": "string"}}, "default": {"$ref": "text"}}),
        schema({"type": "string"}, **{"$schema": "https://json-schema.org/draft/2020-12/schema"}),
    ],
)
def test_a_sound_schema(sound: Any) -> None:
    assert list(spec_faults(spec(sound))) == []


@pytest.mark.parametrize(
    ("unsound", "says"),
    [
        ([], "must be an object"),
        (schema({"default": (1,)}), "not JSON"),
        (schema({"default": float("nan")}), "Numbers must be finite"),
        (schema({"type": "strin"}), "no JSON Schema"),
        (schema({"pattern": "("}), "can't be compiled"),
        (schema({}, **{"$schema": "http://json-schema.org/draft-07/schema#"}), "must be of the dialect"),
        ({**schema({}), "type": "string"}, '"type": "object"'),
        (schema({"$ref": "https://example.com/schema"}), "refers to 'https://example.com/schema' at #/properties/a"),
        (schema({"items": {"$ref": "#/$defs/none"}}), "at #/properties/a/items"),
        (schema({"$id": "https://example.com"}), "`$id` at #/properties/a"),
        (schema({"format": "gorax-data"}), "unknown format 'gorax-data'"),
        (schema({"x-gorax": "expresion"}), "`x-gorax` at #/properties/a that is not one of bound_path"),
        (schema({"x-gorax-secret": True}), "unknown annotation `x-gorax-secret`"),
        (schema({"x-gorax-secrets": "yes"}), "not true or false"),
        (schema({"enum": ["a"], "x-gorax-aliases": {"b": "c"}}), "other words for those of its `enum`"),
        (schema({"enum": ["a", "b"], "x-gorax-aliases": {"b": "a"}}), "other words for those of its `enum`"),
        (schema({"x-gorax-locals": ["a b"]}), "not a list of names"),
        (schema({"patternProperties": {"x": {"x-gorax": "path"}}}), "where it has no effect"),
        (schema(True), None),
    ],
)
def test_an_unsound_schema(unsound: Any, says: str | None) -> None:
    faults = list(spec_faults(spec(unsound)))
    assert any(says in fault for fault in faults) if says else faults == []


def test_a_key_needs_a_description() -> None:
    bare = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    assert list(spec_faults(spec(bare))) == ["the key `a` of its schema has no description"]


@pytest.mark.parametrize("name", sorted(NodeRegistry(builtin_nodes()).specs))
def test_built_in_types_pass_the_same_check(name: str) -> None:
    assert list(spec_faults(NodeRegistry(builtin_nodes()).specs[name])) == []


# The guard


class Faulty:
    """Returns, or raises, what it is given."""

    def __init__(self, result: Any) -> None:
        self.spec = spec(schema({}))
        self.result = result

    def evaluate(self, config: Any, context: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def guarded(result: Any) -> PureNode:
    return cast("PureNode", plugins._guard("acme-nodes", "it", Faulty(result)))


@pytest.mark.parametrize(
    "result",
    [
        ValueError("boom"),
        None,
        {"output": 1},
        Completed({1, 2}),
        Completed({1: "a"}),
        Completed(float("inf")),
        Completed("\ud800"),
        Completed(object()),
        Failed(cast("StepError", "text")),
        Failed(StepError("code", cast("str", b"bytes"))),
        Failed(StepError("code", "text", details=cast("Mapping[str, Any]", 7))),
    ],
)
def test_a_fault_of_a_plugin_is_a_failure_of_its_step(result: Any) -> None:
    outcome = guarded(result).evaluate({}, CONTEXT)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "node_crashed"
    assert "acme:thing" in outcome.error.message


def test_what_is_right_passes() -> None:
    for outcome in (Completed({"a": [1, None]}, outcome="x"), Failed(StepError("mine", "text", details={"n": 1}))):
        assert guarded(outcome).evaluate({}, CONTEXT) is outcome
    with pytest.raises(ExpressionError):
        guarded(ExpressionError("missing_path", "gone")).evaluate({}, CONTEXT)


def test_outcomes_that_fail_are_none() -> None:
    functions: list[Any] = [lambda config: config["absent"], lambda config: 7, lambda config: [7, ""]]
    for outcomes in functions:
        node = Faulty(None)
        node.spec = replace(node.spec, outcomes=outcomes)
        assert plugins._guard("acme-nodes", "it", node).spec.outcomes({}) == ()


# Opening


LIFE = """
    class Open(Thing):
        log = []
        async def __aenter__(self):
            {enter}
            self.log.append("opened")
        async def __aexit__(self, *error):
            self.log.append("closed")
    def make():
        return Open()
"""


@pytest.mark.anyio
async def test_a_node_type_is_open_while_the_engine_runs(site: Path) -> None:
    write(site, LIFE.format(enter="pass"))
    async with open_plugins(["acme-nodes"], RESOURCES) as (plugin,):
        log = cast("Any", plugin.nodes[0])._node.log
        assert log == ["opened"]
    assert log == ["opened", "closed"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("enter", "says"),
    [
        ("raise OSError('no way')", "can't be opened: OSError: no way"),
        ("import anyio; await anyio.Event().wait()", "did not open within"),
    ],
)
async def test_one_that_can_t_be_opened_refuses_the_start(
    site: Path, monkeypatch: pytest.MonkeyPatch, enter: str, says: str
) -> None:
    monkeypatch.setattr(plugins, "OPEN_TIMEOUT", 0.05)
    write(site, LIFE.format(enter=enter))
    with pytest.raises(ConfigurationError, match=f"acme-nodes can't be used: .*{says}"):
        async with open_plugins(["acme-nodes"], RESOURCES):
            pass


# The example of the documentation


class Server:
    """Stands for the outside."""

    status, body, headers, url = 200, b'{"rate": 1.25}', (), ""

    def __init__(self) -> None:
        self.asked: list[Call] = []

    async def send(self, call: Call) -> "Server":
        self.asked.append(call)
        return self


def test_the_example_is_validated_compiled_and_run_as_any_type(site: Path) -> None:
    server = Server()
    (plugin,) = load_plugins([install_example(site)], PluginResources(cast("HttpClient", server)))
    types = NodeRegistry([*builtin_nodes(), *plugin.nodes])
    definition = yaml.safe_load((EXAMPLE / "workflow.yaml").read_text(encoding="utf-8"))["definition"]
    reading = read(definition, types)
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.definition is not None
    account, rate = (
        compile_config(node.config, types.specs[node.type].schema) for node in reading.definition.nodes[1:3]
    )
    assert types.specs["example:iban"].outcomes({}) == ("valid", "invalid")
    assert types.specs["example:exchange_rate"].retry == OUTSIDE_RETRY
    scope = Scope(
        roots={"trigger": {"body": {"iban": "DE89 3704 0044 0532 0130 00", "currency": "USD"}}}, now=0, seed=b""
    )
    assert types.pure("example:iban").evaluate(account.render(scope), CONTEXT) == Completed(
        {"iban": "DE89370400440532013000", "country": "DE"}, outcome="valid"
    )
    outcome = anyio.run(types.task("example:exchange_rate").run, rate.render(scope), CONTEXT)
    assert outcome == Completed({"from": "EUR", "to": "USD", "rate": 1.25})
    assert server.asked[0].url == "https://rates.example.com/rates/EUR/USD"


def test_faults_of_a_config_are_told_as_for_any_type(site: Path) -> None:
    (plugin,) = load_plugins([install_example(site)], RESOURCES)
    types = NodeRegistry([*builtin_nodes(), *plugin.nodes])
    config = {"fromCurrency": "Euro", "to_currency": "{{ credentials.x }}", "serve": "https://rates.example.com"}
    edges = [{"source": "t", "target": "r"}]
    nodes = [{"id": "t", "type": "manual"}, {"id": "r", "type": "example:rate", "config": config}]
    reading = read({"nodes": nodes, "edges": edges}, types)
    assert {(problem.code, problem.pointer) for problem in reading.problems} >= {
        ("invalid_config", "/nodes/1/config"),
        ("invalid_config", "/nodes/1/config/fromCurrency"),
        ("invalid_expression", "/nodes/1/config/to_currency"),
    }
    assert [warning.pointer for warning in reading.warnings] == ["/nodes/1/config/serve"]
    assert types.nearest("exmple:exchange_rate")[0] == "example:exchange_rate"


GUIDE = (Path(__file__).parents[2] / "docs" / "how-to" / "node-plugins.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_the_guide_s_node_type_works() -> None:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    node = cast("PureNode", plugins._guard("acme-nodes", "it", names["Shout"]()))
    assert node.evaluate({"text": "hi"}, CONTEXT) == Completed({"text": "HI"})


def test_the_guide_says_what_is_so() -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tomllib.loads(block("toml"))["project"]["entry-points"] == project["entry-points"]
    for word in (
        plugins.GROUP,
        "x-gorax-secrets",
        "x-gorax-locals",
        "x-gorax-message",
        *ANNOTATIONS - {"bound_path"},
        *FORMATS,
    ):
        assert f"`{word}`" in GUIDE or f'"{word}"' in GUIDE, word
    assert {"action", "control", "trigger", "ai", "slack", "aws"} <= RESERVED


def test_the_example_s_own_tests_pass(site: Path) -> None:
    install_example(site)
    tests = runpy.run_path(str(EXAMPLE / "tests" / "test_nodes.py"))
    cases = [case for name, case in tests.items() if name.startswith("test_")]
    assert len(cases) == 2
    for case in cases:
        case()
