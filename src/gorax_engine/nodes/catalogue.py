"""The descriptions of the engine's own node types, without the resources that it takes to run them."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Final, cast

from gorax_engine.core.model import NodeSpec
from gorax_engine.core.validation import nearest
from gorax_engine.nodes import control, tasks
from gorax_engine.nodes.outbound import OutboundClient
from gorax_engine.nodes.tasks.slack import slack_nodes

_PACKAGES: Final = (control, tasks)


class Catalogue:
    """Node types by name, as far as definitions are read with them; a `core.reading.NodeTypes`."""

    def __init__(self, specs: Iterable[NodeSpec]) -> None:
        self.specs: Mapping[str, NodeSpec] = MappingProxyType({spec.name: spec for spec in specs})
        self._names = {name: spec.name for spec in self.specs.values() for name in (spec.name, *spec.aliases)}

    def canonical(self, type_name: str) -> str | None:
        """Return the canonical name of a type or of one of its aliases, or None."""
        return self._names.get(type_name)

    def nearest(self, type_name: str) -> tuple[str, ...]:
        """Return the canonical names of up to three known types whose names or aliases resemble `type_name`."""
        return tuple(dict.fromkeys(self._names[name] for name in nearest(type_name, self._names)))


def builtin_specs() -> tuple[NodeSpec, ...]:
    """Return the descriptions of all node types of the engine itself, by name.

    They stand as `spec` in the classes of the modules of `nodes.control` and `nodes.tasks`; families of types that
    share a class make theirs in a function.
    """
    found = {spec.name: spec for module in _modules() for spec in _specs(module)}
    nobody = cast("OutboundClient", None)  # whoever only describes itself talks to nobody
    found.update((node.spec.name, node.spec) for node in slack_nodes(nobody))
    return tuple(found[name] for name in sorted(found))


def _modules() -> Iterator[ModuleType]:
    for package in _PACKAGES:
        for entry in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(entry.name)


def _specs(module: ModuleType) -> Iterator[NodeSpec]:
    for value in vars(module).values():
        if isinstance(value, type) and isinstance(spec := vars(value).get("spec"), NodeSpec):
            yield spec
