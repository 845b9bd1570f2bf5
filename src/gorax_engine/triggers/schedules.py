"""Keeping schedules: create, show, change and delete them, look ahead, and start one by hand.

Methods act in the caller's transaction, which is bound to the tenant. A schedule that follows a trigger node of its
workflow is the node's: only whether it is enabled, its description and its priority are changed here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from gorax_engine.core.schedules import (
    MAX_NAME,
    TIMING,
    ScheduleError,
    ScheduleSpec,
    canonical_json,
    free_name,
    read_spec,
)
from gorax_engine.engine.starting import StartRequest
from gorax_engine.errors import Conflict, InvalidInput, NotFound, Problem
from gorax_engine.store import schedules, workflows
from gorax_engine.triggers.scheduled_starts import trigger_data

if TYPE_CHECKING:
    from datetime import datetime

    from gorax_engine.core.model import Json
    from gorax_engine.engine.starting import StartKey
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row

DEFAULT_NAME: Final = "schedule"
MAX_DESCRIPTION: Final = 10_000
MAX_PRIORITY: Final = 100
MAX_PREVIEW: Final = 1_000
INVALID: Final = "invalid_schedule"
OWN_KEYS: Final = ("name", "description", "priority", "enabled")
"""What a schedule has besides its orders (`core.schedules.KEYS`)."""

_FREE_OF_NODE: Final = ("description", "priority", "enabled")


@dataclass(frozen=True, slots=True)
class _Body:
    """A schedule as a user has described it; `name` is None where one is to be made up."""

    spec: ScheduleSpec
    name: str | None = None
    description: str | None = None
    priority: int = 1
    enabled: bool = True


async def find(connection: Connection, tenant_id: UUID, schedule_id: UUID) -> Row:
    """Return a schedule. Raises NotFound."""
    row = await schedules.get(connection, tenant_id, schedule_id)
    if row is None:
        raise _not_found(schedule_id)
    return row


async def find_for_change(
    connection: Connection, tenant_id: UUID, schedule_id: UUID, *, even_archived: bool = False
) -> Row:
    """Return a schedule and keep others from changing or firing it. Raises NotFound, Conflict (workflow_archived)."""
    row = await find(connection, tenant_id, schedule_id)
    # The workflow is locked first, as publishing does.
    workflow = await workflows.get(connection, tenant_id, row["workflow_id"], lock=True)
    locked = await schedules.get(connection, tenant_id, schedule_id, lock=True)
    if workflow is None or locked is None:
        raise _not_found(schedule_id)
    archived = workflow["status"] == "archived"
    if archived and not even_archived:
        raise Conflict(
            "The schedule's workflow is archived; its schedules can only be deleted.", code="workflow_archived"
        )
    return {**locked, "archived": archived}


async def create(connection: Connection, tenant_id: UUID, user_id: UUID, given: Mapping[str, Json]) -> Row:
    """Store a new schedule of a workflow, which is named by `workflow_id` or `workflow` (its name).

    Raises InvalidInput with every fault, NotFound (workflow_not_found), Conflict (workflow_archived, name_taken).
    """
    which = _which_workflow(given)
    body = _read(given, [which] if isinstance(which, Problem) else [])
    assert not isinstance(which, Problem)
    workflow_id = await _workflow(connection, tenant_id, which)
    schedule_id = uuid.uuid4()
    runs = _next_runs(body.spec, schedule_id, await schedules.now(connection))
    name = body.name
    if name is None:
        others = await schedules.lock_of_workflow(connection, tenant_id, workflow_id)
        name = free_name(DEFAULT_NAME, {other["name"] for other in others})
    row = {**_columns(body, runs), "name": name, "id": schedule_id, "workflow_id": workflow_id, "node_id": None}
    return await schedules.insert(connection, tenant_id, user_id, row)


async def change(
    connection: Connection, tenant_id: UUID, current: Row, given: Mapping[str, Json], *, whole: bool = False
) -> Row:
    """Write what is given to a locked schedule; if it is the `whole`, what isn't given takes its default.

    What says when it is due makes it go on from now, and so does enabling it: nothing is made up for. Raises
    InvalidInput with every fault, Conflict (managed_by_node, name_taken).
    """
    before = _given(current)
    kept = {"name": before["name"]} if whole else before
    dst = given.get("dst")
    if isinstance(dst, dict) and not whole:
        given = {**given, "dst": {**before["dst"], **dst}}
    body = _read({**kept, **given}, _other_workflow(current, given))
    after = {**body.spec.given(), **_own(body)}
    if body.name is None:
        after["name"] = before["name"]
    changed = {key for key in after if canonical_json(after[key]) != canonical_json(before[key])}
    if not changed:
        return current
    if current["node_id"] is not None:
        _refuse_what_is_the_nodes(current, changed - set(_FREE_OF_NODE))
    row = {**current, **_columns(body, None), "name": after["name"]}
    old, new = asdict(ScheduleSpec.of_row(current)), asdict(body.spec)
    if not body.enabled:
        row |= {"next_run_at": None, "due_at": None}
    elif not current["enabled"] or any(old[field] != new[field] for field in TIMING):
        next_run_at, due_at = _next_runs(body.spec, current["id"], await schedules.now(connection))
        row |= {"next_run_at": next_run_at, "due_at": due_at}
    else:
        row |= {"next_run_at": current["next_run_at"], "due_at": current["due_at"]}
    return await schedules.change(connection, tenant_id, row)


async def delete(connection: Connection, tenant_id: UUID, current: Row) -> None:
    """Delete a locked schedule with its history. Raises Conflict (managed_by_node) if a node would bring it back."""
    if current["node_id"] is not None and not current["archived"]:
        raise Conflict(
            f"The schedule follows the node `{current['node_id']}`: remove the node and publish the workflow, "
            "or disable the schedule.",
            code="managed_by_node",
        )
    await schedules.delete(connection, tenant_id, [current["id"]])


def preview(given: Mapping[str, Json], begin: datetime, count: int) -> list[datetime]:
    """Return the next `count` occurrences after `begin` of what is described. Raises InvalidInput with every fault."""
    return list(islice(_read(given, []).spec.recurrence().after(begin), count))


def start_by_hand(
    tenant_id: UUID, user_id: UUID, row: Row, now: datetime, body: Json, start_key: StartKey | None
) -> StartRequest:
    """Return the start of a run beside the plan: whatever runs, and it counts for no overlap policy."""
    return StartRequest(
        tenant_id,
        row["workflow_id"],
        "schedule",
        trigger_data(row["id"], now, now, body),
        row["node_id"],
        row["priority"],
        start_key,
        user_id,
    )


def _not_found(schedule_id: UUID) -> NotFound:
    return NotFound(f"There is no schedule {schedule_id}.", code="schedule_not_found")


# --- what is given ----------------------------------------------------------------------------------------------------


def _read(given: Mapping[str, Json], problems: list[Problem]) -> _Body:
    """Read a body. Raises InvalidInput with `problems`, which were found before, and every fault of the rest."""
    own: dict[str, Any] = {}
    for key, read in _OWN_READERS.items():
        if given.get(key) is None:
            continue
        try:
            own[key] = read(given[key])
        except ValueError as error:
            problems = [*problems, Problem(INVALID, f"/{key}", str(error))]
    spec = None
    try:
        spec = read_spec(given)
    except ScheduleError as error:
        problems = [*problems, *(Problem(INVALID, "/" + "/".join(f.path), f.message) for f in error.faults)]
    if problems or spec is None:
        raise InvalidInput("The schedule is wrong; see `errors`.", code=INVALID, problems=problems)
    return _Body(spec, **own)


def _name(value: Json) -> str:
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value == value.strip() and value.isprintable():
        return value
    raise ValueError(f"A name has 1 to {MAX_NAME} characters, no control characters and no blanks at its ends.")


def _description(value: Json) -> str:
    if isinstance(value, str) and len(value) <= MAX_DESCRIPTION:
        return value
    raise ValueError(f"A description is text of up to {MAX_DESCRIPTION:,} characters.")


def _priority(value: Json) -> int:
    if type(value) is int and 0 <= value <= MAX_PRIORITY:
        return value
    raise ValueError(f"A priority is a whole number from 0 to {MAX_PRIORITY}.")


def _enabled(value: Json) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("`enabled` must be true or false.")


_OWN_READERS: Final[Mapping[str, Callable[[Json], Any]]] = {
    "name": _name,
    "description": _description,
    "priority": _priority,
    "enabled": _enabled,
}


def _which_workflow(given: Mapping[str, Json]) -> UUID | str | Problem:
    by_id, by_name = given.get("workflow_id"), given.get("workflow")
    if (by_id is None) == (by_name is None):
        return Problem(INVALID, "/workflow_id", "Say whose schedule it is: either by `workflow_id`, or by `workflow`.")
    if by_id is None:
        wrong = Problem(INVALID, "/workflow", "`workflow` is the name of a workflow.")
        return by_name if isinstance(by_name, str) else wrong
    try:
        return UUID(by_id)
    except (ValueError, AttributeError, TypeError):
        return Problem(INVALID, "/workflow_id", "`workflow_id` is the id of a workflow, a UUID.")


def _other_workflow(current: Row, given: Mapping[str, Json]) -> list[Problem]:
    """A schedule stays with its workflow; to name it again is no fault."""
    message = "A schedule stays with its workflow; make another one for another workflow."
    wrong = []
    if given.get("workflow_id") is not None and str(given["workflow_id"]).lower() != str(current["workflow_id"]):
        wrong.append(Problem(INVALID, "/workflow_id", message))
    if given.get("workflow") is not None:
        wrong.append(Problem(INVALID, "/workflow", message))
    return wrong


async def _workflow(connection: Connection, tenant_id: UUID, which: UUID | str) -> UUID:
    workflow_id = which if isinstance(which, UUID) else None
    if isinstance(which, str):
        named = await workflows.list_page(connection, tenant_id, which, None, None, 1)
        workflow_id = named[0]["id"] if named else None
    row = None if workflow_id is None else await workflows.get(connection, tenant_id, workflow_id, lock=True)
    if row is None:
        raise NotFound(f"There is no workflow `{str(which)[:255]}`.", code="workflow_not_found")
    if row["status"] == "archived":
        raise Conflict("The workflow is archived; nothing starts it any more.", code="workflow_archived")
    found: UUID = row["id"]
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


def _own(body: _Body) -> dict[str, Json]:
    return {key: getattr(body, key) for key in OWN_KEYS}


def _given(row: Row) -> dict[str, Json]:
    """Return what a user would have written to get a schedule."""
    return {**ScheduleSpec.of_row(row).given(), **{key: row[key] for key in OWN_KEYS}}


def _columns(body: _Body, runs: tuple[datetime, datetime] | None) -> Row:
    next_run_at, due_at = runs if runs is not None and body.enabled else (None, None)
    return {**asdict(body.spec), **_own(body), "next_run_at": next_run_at, "due_at": due_at}


def _next_runs(spec: ScheduleSpec, schedule_id: UUID, now: datetime) -> tuple[datetime, datetime]:
    """Return when a schedule occurs next and when that is due. Raises InvalidInput if it never does."""
    runs = spec.first_run(schedule_id, now)
    if runs is not None:
        return runs
    if spec.ends_at is None:
        message = "It has no occurrence within 50 years; mend the cron expression, or `dst`, if all lie in gaps."
        problem = Problem("never_occurs", "/cron_expression", message)
    else:
        problem = Problem("never_occurs", "/ends_at", "It ends before it would occur for the first time from now on.")
    raise InvalidInput("The schedule would never occur.", code="never_occurs", problems=[problem])


def _refuse_what_is_the_nodes(current: Row, keys: set[str]) -> None:
    if keys:
        raise Conflict(
            f"The schedule follows the node `{current['node_id']}`, which says {_listed(sorted(keys))}: change the "
            f"node and publish the workflow. Here {_listed(_FREE_OF_NODE)} can be changed.",
            code="managed_by_node",
        )


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
