"""`docs/nodes.md` is what the schemas of the node types say, and says it well.

GORAX_WRITE_NODES=1 pytest tests/docs/test_nodes_reference.py writes it.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.core.model import OUTSIDE_RETRY, NodeKind, NodeSpec
from gorax_engine.nodes.catalogue import Catalogue, builtin_specs
from gorax_engine.nodes.reference import render_page, render_type
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.spec_checks import spec_faults

PAGE = Path(__file__).parents[2] / "docs" / "nodes.md"
SPECS = {spec.name: spec for spec in builtin_specs()}


def test_the_page_is_what_the_schemas_say() -> None:
    text = render_page(SPECS.values())
    if os.environ.get("GORAX_WRITE_NODES"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


def test_the_page_has_a_chapter_for_each_type_and_a_link_to_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (.+)$", text, re.MULTILINE)) == sorted(SPECS)
    assert sorted(re.findall(r"^\| \[`(.+?)`\]\(#(?:.+)\)", text, re.MULTILINE)) == sorted(SPECS)


def test_the_order_of_the_types_doesn_t_matter() -> None:
    assert render_page(reversed(SPECS.values())) == render_page(SPECS.values())


def test_all_that_the_registry_knows_without_resources_is_found() -> None:
    assert {name: id(spec) for name, spec in NodeRegistry(builtin_nodes()).specs.items()}.items() <= {
        name: id(spec) for name, spec in SPECS.items()
    }.items()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_built_in_types_describe_themselves_well(name: str) -> None:
    assert list(spec_faults(SPECS[name])) == []


def test_no_two_types_claim_a_name() -> None:
    names = [name for spec in SPECS.values() for name in (spec.name, *spec.aliases)]
    assert sorted(names) == sorted(set(names))
    assert Catalogue(SPECS.values()).canonical("control:if") == "condition"


@pytest.mark.parametrize(
    ("member", "row"),
    [
        ({"type": "string", "description": "A|b"}, r"| `k` | text |  | A\|b |"),
        ({"type": "integer", "minimum": 1, "maximum": 5000, "default": 7},
         "| `k` | whole number, 1 to 5,000 | `7` |  |"),
        ({"enum": ["a", 1, None], "default": "a"}, "| `k` | `a`, `1` or `null` | `a` |  |"),
        ({"type": ["string", "number"], "format": "gorax-duration", "minimum": 0}, "| `k` | duration |  |  |"),
        ({"type": "string", "x-gorax": "expression", "x-gorax-locals": ["item"]},
         "| `k` | expression |  | Knows `item`. |"),
        ({"type": ["string", "array"], "x-gorax": "path"}, "| `k` | path or list |  |  |"),
        ({"type": "string", "x-gorax": "credential"}, "| `k` | name of a credential |  |  |"),
        ({"x-gorax-secrets": True}, "| `k` | any value |  | Takes secrets. |"),
        ({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
         "| `k` | list of text or null |  |  |"),
        ({"type": "boolean", "default": False}, "| `k` | true or false | `false` |  |"),
    ],
)  # fmt: skip
def test_a_key(member: Any, row: str) -> None:
    assert (
        row
        in render_type(
            NodeSpec("a:b", NodeKind.PURE, {"properties": {"k": member}}, title="T", description="D.")
        ).splitlines()
    )


def test_keys_below_keys() -> None:
    tree = {"properties": {"left": {"$ref": "#/$defs/tree"}, "name": {"type": "string"}}, "required": ["name"]}
    schema = {
        "properties": {
            "root": {"$ref": "#/$defs/tree"},
            "each": {"type": "array", "items": {"properties": {"a": {"type": "null"}}}},
            "any": {"additionalProperties": {"properties": {"b": {"type": "null"}}}},
            "refused": {"not": {}},
        },
        "$defs": {"tree": tree},
    }
    text = render_type(NodeSpec("a:b", NodeKind.PURE, schema, title="T", description="D."))
    keys = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)[2:]
    assert keys == ["`root`", "`root.left`", "**`root.name`**", "`each`", "`each[].a`", "`any`", "`any.*.b`"]


def test_outcomes_retries_and_needs() -> None:
    spec = NodeSpec(
        "a:b",
        NodeKind.TASK,
        {"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y", "z"]}]},
        aliases=("a:c",),
        outcomes=lambda config: ("yes", "no"),
        main_outcome="yes",
        unhandled={"no": "refused"},
        retry=OUTSIDE_RETRY,
        title="T",
        description="D.",
    )
    assert render_type(spec) == (
        "### a:b\n\n**T.** D.\n\n"
        "- Also read as `a:c`.\n"
        "- Outcomes: `yes` and `no`; an edge without a label stands for `yes`; "
        "`no` fails with `refused` if no edge names it.\n"
        "- Is tried up to 4 times on transient errors, unless its `retry` says otherwise: "
        "after 1 s, ×2, at most 60 s apart.\n"
        "- Exactly one of `x` and `y` and `z` is needed.\n"
        "- Its config has no keys.\n"
    )
