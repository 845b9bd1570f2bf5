"""The registry: names, aliases, kinds, and that every built-in type describes itself well."""

from typing import Any

import jsonschema_rs
import pytest

from gorax_engine.core.model import NodeKind, NodeSpec
from gorax_engine.errors import ConfigurationError
from gorax_engine.nodes.api import Completed, NodeContext, Outcome
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes

REGISTRY = NodeRegistry(builtin_nodes())


class Pure:
    def __init__(self, name: str, *aliases: str, kind: NodeKind = NodeKind.PURE) -> None:
        self.spec = NodeSpec(name=name, kind=kind, schema={}, aliases=aliases)

    def evaluate(self, config: Any, context: NodeContext) -> Outcome:
        return Completed(None)


class Task(Pure):
    evaluate = None  # type: ignore[assignment]

    async def run(self, config: Any, context: NodeContext) -> Outcome:
        return Completed(None)


def test_names_and_aliases() -> None:
    assert REGISTRY.canonical("control:if") == REGISTRY.canonical("condition") == "condition"
    assert REGISTRY.canonical("nope") is None
    assert REGISTRY.node("condition").spec.name == "condition"
    with pytest.raises(KeyError):
        REGISTRY.node("if")


def test_nearest_are_canonical_names() -> None:
    assert REGISTRY.nearest("control:iff")[0] == "condition"
    assert "transform" in REGISTRY.nearest("Transfrom")
    assert REGISTRY.nearest("") == ()


def test_tasks_and_pure_nodes_are_told_apart() -> None:
    task, pure = Task("b", kind=NodeKind.TASK), Pure("a")
    registry = NodeRegistry([pure, task])
    assert registry.pure("a") is pure
    assert registry.task("b") is task
    with pytest.raises(KeyError):
        registry.pure("b")


def test_two_types_can_t_share_a_name() -> None:
    for other in (Pure("a"), Pure("c", "a"), Pure("c", "alias")):
        with pytest.raises(ConfigurationError, match="both claim the name"):
            NodeRegistry([Pure("a", "alias"), other])


def test_the_kind_must_fit_the_method() -> None:
    with pytest.raises(ConfigurationError, match="of kind task has `run`"):
        NodeRegistry([Pure("a", kind=NodeKind.TASK)])


@pytest.mark.parametrize("name", sorted(REGISTRY.specs))
def test_built_in_types_describe_themselves(name: str) -> None:
    spec = REGISTRY.specs[name]
    jsonschema_rs.meta.validate(dict(spec.schema))
    assert spec.title
    assert spec.description.endswith(".")
    for key, member in spec.schema["properties"].items():
        assert member.get("description"), key
