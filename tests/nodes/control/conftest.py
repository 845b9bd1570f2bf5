"""Running one pure node as the engine does: its config is checked, compiled, rendered, and handed to it."""

from collections.abc import Callable
from typing import Any

import pytest

from gorax_engine.core.config_template import compile_config, find_sites
from gorax_engine.core.expressions import Scope
from gorax_engine.core.model import Missing
from gorax_engine.core.validation import ConfigValidator
from gorax_engine.nodes.api import NodeContext, Outcome
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes

NOW = 1_800_000_000_000_000

Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def run() -> Run:
    registry = NodeRegistry(builtin_nodes())

    def run_node(
        type_name: str, config: dict[str, Any], trigger: Any = None, missing: Missing = Missing.ERROR
    ) -> Outcome:
        node = registry.pure(type_name)
        sites = find_sites(config, node.spec.schema)
        templates = {site.path for site in sites if not site.bound}
        assert list(ConfigValidator(node.spec.schema).faults(config, templates)) == []
        scope = Scope({"trigger": trigger, "steps": {}}, now=NOW, missing=missing)
        template = compile_config(config, node.spec.schema)
        context = NodeContext("e", "t", "w", "n", "", 1, NOW, "e:n:", b"seed", trigger)
        return node.evaluate(template.render(scope), context)

    return run_node
