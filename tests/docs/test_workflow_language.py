"""The page on the workflow language says what the code does: types, keys, codes, limits; and its examples are read."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from gorax_engine.core.expressions import errors
from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.core.model import (
    NO_RETRY,
    OUTSIDE_RETRY,
    SECOND,
    Completed,
    Failed,
    InDoubt,
    Missing,
    Node,
    NodeKind,
    OnError,
    RetryStrategy,
    StepError,
)
from gorax_engine.core.plan import compile_plan
from gorax_engine.core.policies import JITTER, RETRY_AFTER_CAP
from gorax_engine.core.reading import MAX_EDGES, MAX_NODES, document, policies, read, storable
from gorax_engine.core.scopes import MAX_ITERATIONS
from gorax_engine.core.walk.advance import PATIENCE
from gorax_engine.engine import parking, recorder, waiting
from gorax_engine.nodes import outbound_errors
from gorax_engine.nodes.control import loop, transform
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.integrations import integrations
from gorax_engine.nodes.outbound import OutboundClient, OutboundLimits
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.sandbox.pool import Sandbox
from gorax_engine.nodes.tasks import http_request
from gorax_engine.nodes.tasks.code import Code
from gorax_engine.nodes.tasks.publish_event import PublishEvent
from gorax_engine.settings import ServerSettings
from gorax_engine.workflows.documents import check_definition
from tests.core.walk.in_memory import Answers, run_definition

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "gorax_engine"
PAGE = (ROOT / "docs" / "workflow-language.md").read_text(encoding="utf-8")
TASKS = [
    *integrations(OutboundClient(OutboundPolicy()), OutboundPolicy()),
    PublishEvent(cast("Any", None)),
    Code(Sandbox()),
]
TYPES = NodeRegistry(builtin_nodes(TASKS))
EXAMPLES = [
    json.loads(text) if language == "json" else yaml.safe_load(text)
    for language, text in re.findall(r"^```(json|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
]
RESULTS = re.findall(
    r"^```yaml\n((?:(?!^```).)*)^```\n\n((?:(?!^```).)*)^```json result\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)
WORLD: Answers = {
    "token": [Completed({"body": "T-1"}), Completed({"body": "T-2"})],
    "charge": [Failed(StepError("http_status", "The answer was 403.")), Completed({"body": {}})],
    "sign_off": [Completed({"outcome": "approved", "by": "ada", "at": "", "response": {}}, "approved")],
}
"""What the examples with a result meet outside."""


def table(first_header: str) -> list[list[str]]:
    """Return the rows of the page's table whose first header is this one."""
    match = re.search(rf"^\| {re.escape(first_header)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert match is not None, first_header
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in match[1].splitlines()]


def words(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def calls(*paths: Path) -> Iterator[tuple[str, str]]:
    """Yield (name of the function, first argument) of all calls whose first argument is a text, in some modules."""
    for path in paths:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                if isinstance(call.args[0].value, str):
                    yield name, call.args[0].value


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_accepted_without_a_warning(example: Any) -> None:
    checked = check_definition(example, TYPES)
    assert (checked.errors, checked.warnings) == ((), ())
    definition = read(example, TYPES).definition
    assert definition is not None
    compile_plan(definition, TYPES.specs)


@pytest.mark.parametrize(("example", "start", "result"), RESULTS)
def test_an_example_gives_what_the_page_says(example: str, start: str, result: str) -> None:
    body = re.search(r"`([^`]+)`", start)
    given = json.loads(body[1]) if body is not None else None
    finished = run_definition(yaml.safe_load(example), given, WORLD, registry=TYPES)
    assert finished.error is None
    assert finished.output == json.loads(result)


def test_every_result_is_tried() -> None:
    assert len(RESULTS) == PAGE.count("```json result") == 8


def test_there_are_examples_and_the_last_is_the_canonical_form_of_the_one_before() -> None:
    assert len(EXAMPLES) == 14
    assert read(EXAMPLES[-2], TYPES).canonical == EXAMPLES[-1]


def test_the_example_of_every_part_has_every_part() -> None:
    whole = EXAMPLES[0]
    assert set(whole["settings"]) == set(policies.SETTINGS_KEYS)
    assert {key for node in whole["nodes"] for key in node} == {field.name for field in fields(Node)} - {
        "on_error",
        "rounds",
    }


def test_every_type_has_its_row_and_no_other() -> None:
    rows = {
        words(name)[0]: (tuple(words(aliases)), kind, output)
        for name, aliases, kind, _, output in table("type")[: len(TYPES.specs)]
    }
    assert {name: row[:2] for name, row in rows.items()} == {
        name: (spec.aliases, spec.kind.value) for name, spec in TYPES.specs.items()
    }
    outputs = {
        name: match[1]
        for name, spec in TYPES.specs.items()
        if (match := re.search(r"(\{(?:[^{}]|\{[^{}]*\})*\})", spec.description))
    }
    del outputs["schedule_trigger"]
    assert {name: output for name, output in outputs.items() if output not in words(rows[name][2])} == {}


def test_every_key_of_a_config_has_its_row_and_no_other() -> None:
    section = PAGE.partition("### Config")[2]
    rows = re.findall(r"^\| `([\w:]+)` \| ([^|]+) \|", section.partition("\n## ")[0], re.MULTILINE)
    listed = [(name, key) for name, cell in rows for key in words(cell)]
    specs = TYPES.specs
    # Keys that are only there to be refused have no row.
    assert sorted(listed) == sorted(
        (name, key)
        for name, spec in specs.items()
        for key, schema in spec.schema["properties"].items()
        if schema.get("not") != {}
    )
    needed = {(name, key) for name, cell in rows for key in re.findall(r"\*\*`(\w+)`\*\*", cell)}
    assert needed == {(name, key) for name, spec in specs.items() for key in spec.schema.get("required", ())}


def test_every_code_of_validation_has_its_row_and_no_other() -> None:
    modules = [*(PACKAGE / "core/reading").glob("*.py"), PACKAGE / "workflows/webhook_nodes.py"]
    kinds: dict[str, set[str]] = {}
    for function, code in calls(*modules):
        if function in {"problem", "Problem", "warning"}:
            kinds.setdefault(code, set()).add("warning" if function == "warning" else "error")
    for function, code in calls(PACKAGE / "core/structure.py"):
        if function == "report":
            kinds.setdefault(code, set()).add("warning" if code == "edge_ignored" else "error")
    kinds["scope_leak"] = {"error"}
    nesting = (PACKAGE / "workflows/nesting.py").read_text(encoding="utf-8")
    for code in re.findall(r'return "(\w+)", f"', nesting):
        kinds.setdefault(code, set()).add("error")
    section = PAGE.partition("## Validation")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|", section, re.MULTILINE)
    assert {code: set(kind.split(", ")) for code, kind in rows} == kinds
    assert len(rows) == len(kinds)


def _below(kind: type[outbound_errors.OutboundError]) -> set[type[outbound_errors.OutboundError]]:
    """Return all classes that are made of one."""
    return {each for child in kind.__subclasses__() for each in {child, *_below(child)}}


def test_every_code_of_a_run_has_its_row_and_no_other() -> None:
    modules = [
        *(PACKAGE / "nodes").rglob("*.py"),
        *(PACKAGE / "engine").glob("*.py"),
        *(PACKAGE / "core").rglob("*.py"),
    ]
    codes = {code for function, code in calls(*modules) if function in {"StepError", "_Failure"}}
    for vault in ("secrets", "keys"):
        text = (PACKAGE / "vault" / f"{vault}.py").read_text(encoding="utf-8")
        codes |= set(re.findall(r'"((?:credential|vault)_[a-z_]+)"', text)) - {"credential_id"}
    codes |= {each.code for each in _below(outbound_errors.OutboundError)}
    codes |= {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, str)}
    codes.add(TYPES.specs["fail"].schema["properties"]["code"]["default"])
    codes.update(code for spec in TYPES.specs.values() for code in spec.unhandled.values())
    starts = (PACKAGE / "store/sql/functions/gorax_start_executions.sql").read_text(encoding="utf-8")
    # No start of a child has a webhook.
    codes |= set(re.findall(r"WHEN .* THEN '([a-z]+_[a-z_]+)'", starts)) - {"webhook_not_found"}
    children = (PACKAGE / "engine/children.py").read_text(encoding="utf-8")
    chosen = {"child_cancelled", "invalid_expression"}  # by an expression, so that no call names them
    assert all(f'"{code}"' in children for code in chosen)
    codes |= chosen
    section = PAGE.partition("### Codes at run time")[2].partition("\n## ")[0]
    rows = [code for cell in re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE) for code in words(cell)]
    assert sorted(rows) == sorted(codes)


def test_every_policy_and_setting_has_its_row_and_no_other() -> None:
    section = PAGE.partition("## Policies")[2].partition("\n## Steps")[0]
    node, retry, settings = (
        {words(row)[0] for row in re.findall(r"^(\| `\w+` .*)$", part, re.MULTILINE)}
        for part in re.split(r"^\| key of `retry` |^## Settings", section, flags=re.MULTILINE)
    )
    assert node == {field.name for field in fields(Node)} - {"id", "type", "name", "config", "rounds"}
    assert retry == set(policies.RETRY_KEYS)
    assert settings == set(policies.SETTINGS_KEYS)
    for words_of in (OnError, RetryStrategy, Missing, InDoubt):
        assert all(f"`{word.value}`" in section for word in words_of)
    assert all(f"`{key}`" in PAGE for key in policies.GORAX_RETRY_KEYS)


def test_figures() -> None:
    text = " ".join(PAGE.split())
    limits = OutboundLimits()
    tasks = {name: spec.retry for name, spec in TYPES.specs.items() if spec.kind is NodeKind.TASK}
    assert tasks.pop("code") == NO_RETRY
    assert set(tasks.values()) == {OUTSIDE_RETRY}
    assert (OUTSIDE_RETRY.initial_delay, OUTSIDE_RETRY.max_delay, OUTSIDE_RETRY.multiplier) == (SECOND, 60 * SECOND, 2)
    assert PATIENCE == 60 * SECOND  # "a minute"
    assert (RETRY_AFTER_CAP, limits.max_redirects) == (3600 * SECOND, 3)
    for figure in (
        f"task nodes {OUTSIDE_RETRY.max_attempts} attempts",
        f"±{JITTER:.0%}".replace("%", " %"),
        f"| nodes, edges of a definition | {MAX_NODES:,} and {MAX_EDGES:,} |",
        f"{ServerSettings().max_body_bytes >> 20} MiB (`server.max_body_bytes`), {JsonLimits().max_keys:,} object",
        f"integers of {JsonLimits().max_digits} digits",
        f"| nesting of a definition | {storable.MAX_DEPTH} levels |",
        f"case name | {document.MAX_ID} characters |",
        f"more than {document.MAX_PROBLEMS:,} faults",
        f"| input or output of a step, output of a run | {recorder.MAX_OUTPUT >> 20} MiB |",
        f"| attempts, rounds of a `retry` | {policies.MAX_ATTEMPTS} |",
        f"| iterations of a loop | {MAX_ITERATIONS:,} unless it says more, and {loop.MAX_ITERATIONS:,} |",
        f"| depth of sub-workflows | {waiting.MAX_DEPTH} |",
        f"{limits.max_body >> 20} MiB, on the wire and inflated, {limits.max_ratio} times its size",
        f"{limits.max_headers} headers",
        f"at most {limits.max_timeout // SECOND // 60} min",
        f"more than {http_request.MAX_PAGES:,}, where",
        f"more than {transform.MAX_ITEMS:,} items",
        f"Waits of more than {parking.PARK_AFTER // SECOND} s",
    ):
        assert figure in text


def test_the_key_of_a_step_is_written_as_the_engine_writes_it() -> None:
    source = (PACKAGE / "engine/run.py").read_text(encoding="utf-8")
    assert 'f"{self._origin}:{step.node}:{step.path}"' in source
    assert "`execution:node:path`" in PAGE
