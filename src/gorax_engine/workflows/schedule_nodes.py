"""What the schedule nodes of a definition ask for, and what to do so that the schedules of a workflow match them.

Pure functions: `schedule_sync` does what they decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from gorax_engine.core.model import Json
from gorax_engine.core.schedules import (
    TIMING,
    ScheduleError,
    ScheduleFault,
    ScheduleSpec,
    canonical_json,
    free_name,
    read_spec,
)
from gorax_engine.errors import Problem

NODE_TYPE: Final = "schedule_trigger"
CRON: Final = "cron"
"""What a node calls its cron expression."""


@dataclass(frozen=True, slots=True)
class ScheduleNode:
    """A schedule node of a definition: what it asks for, as it was written."""

    node_id: str
    name: str
    given: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class ExistingSchedule:
    """A schedule that the workflow has already; `node_id` is None if it was made by hand."""

    id: UUID
    node_id: str | None
    name: str
    spec: ScheduleSpec


@dataclass(frozen=True, slots=True)
class CreateSchedule:
    node_id: str
    name: str
    spec: ScheduleSpec


@dataclass(frozen=True, slots=True)
class ChangeSchedule:
    """`retimed` says that it is due at other times than before."""

    id: UUID
    name: str
    spec: ScheduleSpec
    retimed: bool


@dataclass(frozen=True, slots=True)
class DropSchedule:
    id: UUID


ScheduleAction: TypeAlias = CreateSchedule | ChangeSchedule | DropSchedule


def schedule_nodes(definition: Json) -> Iterator[tuple[int, ScheduleNode]]:
    """Yield the schedule nodes of a canonical definition with their places in `nodes`."""
    for place, node in enumerate(definition["nodes"]):
        if node["type"] == NODE_TYPE:
            config: dict[str, Json] = dict(node.get("config") or {})
            given = {**config, "cron_expression": config.get(CRON)}
            yield place, ScheduleNode(node["id"], (node.get("name") or "").strip() or node["id"], given)


def schedule_problems(definition: Json) -> Iterator[Problem]:
    """Yield the faults of the schedule nodes of a canonical definition that was found free of other errors."""
    for place, node in schedule_nodes(definition):
        try:
            read_spec(node.given)
        except ScheduleError as error:
            for fault in error.faults:
                yield Problem("invalid_config", f"/nodes/{place}/config/{_key(fault)}", fault.message)


def plan_schedules(nodes: Sequence[ScheduleNode], existing: Sequence[ExistingSchedule]) -> list[ScheduleAction]:
    """Return what to do, in order, so that each node has its schedule.

    A node keeps its schedule from version to version, with its history and whether it is enabled. Names that others
    have get a number. Drops come first, so that their names are free. Raises ScheduleError for a node that was not
    checked.
    """
    by_node = {schedule.node_id: schedule for schedule in existing if schedule.node_id is not None}
    wanted = {node.node_id for node in nodes}
    actions: list[ScheduleAction] = [DropSchedule(known.id) for id_, known in by_node.items() if id_ not in wanted]
    taken = {schedule.name for schedule in existing if schedule.node_id is None or schedule.node_id in wanted}
    for node in nodes:
        spec, known = read_spec(node.given), by_node.get(node.node_id)
        if known is None:
            name = free_name(node.name, taken)
            actions.append(CreateSchedule(node.node_id, name, spec))
        else:
            name = known.name if _is_named(known.name, node.name) else free_name(node.name, taken)
            if name != known.name or canonical_json(spec.given()) != canonical_json(known.spec.given()):
                retimed = any(getattr(spec, field) != getattr(known.spec, field) for field in TIMING)
                actions.append(ChangeSchedule(known.id, name, spec, retimed))
        taken.add(name)
    return actions


def _is_named(name: str, wanted: str) -> bool:
    """Say whether a name is the wanted one, as it is or with a number."""
    return name == wanted or (name.startswith(wanted + " ") and name[len(wanted) + 1 :].isdecimal())


def _key(fault: ScheduleFault) -> str:
    first, *rest = fault.path
    return "/".join([CRON if first == "cron_expression" else first, *rest])
