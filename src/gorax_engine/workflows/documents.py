"""Reading the definition of a workflow file: canonical and free of errors, or every fault at once."""

from dataclasses import dataclass, replace
from typing import Final

from gorax_engine.core.model import Json
from gorax_engine.core.reading import read
from gorax_engine.core.reading.document import place, pointer
from gorax_engine.errors import InvalidDefinition, Problem
from gorax_engine.nodes.registry import NodeRegistry
from gorax_engine.workflows.schedule_nodes import schedule_problems
from gorax_engine.workflows.webhook_nodes import config_problems

SETTINGS: Final = "settings"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about a definition; `canonical` may be stored if `errors` is empty."""

    canonical: Json
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def check_definition(raw: Json, registry: NodeRegistry) -> Checked:
    """Return the canonical form of `raw` with all its faults; pointers lead into `raw`."""
    reading = read(raw, registry)
    errors = tuple(reading.problems)
    if not errors:
        found = (*config_problems(reading.canonical), *schedule_problems(reading.canonical))
        errors = tuple(replace(each, pointer=pointer(reading.origins.of(place(each.pointer)))) for each in found)
    return Checked(reading.canonical, errors, tuple(reading.warnings))


def canonical_definition(raw: Json, settings: Json, registry: NodeRegistry) -> Json:
    """Return the canonical form of a definition with the settings of its file merged in (these win).

    Raises InvalidDefinition with every fault.
    """
    checked = check_definition(with_settings(raw, settings), registry)
    if checked.errors:
        raise InvalidDefinition(checked.errors, checked.warnings)
    return checked.canonical


def with_settings(raw: Json, settings: Json) -> Json:
    """Return a definition with the settings of its file merged in; what isn't an object is left for the check."""
    if not settings or not isinstance(raw, dict):
        return raw
    own = raw.get(SETTINGS) or {}
    return {**raw, SETTINGS: {**own, **settings} if isinstance(own, dict) else own}
