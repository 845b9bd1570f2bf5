"""Bringing the schedules of a workflow in line with its trigger nodes, within the transaction that publishes it."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, assert_never
from uuid import UUID

from gorax_engine.core.schedules import ScheduleSpec
from gorax_engine.store import schedules
from gorax_engine.workflows.schedule_nodes import (
    ChangeSchedule,
    CreateSchedule,
    DropSchedule,
    ExistingSchedule,
    plan_schedules,
    schedule_nodes,
)

if TYPE_CHECKING:
    from datetime import datetime

    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row


async def sync_schedules(
    connection: Connection, tenant_id: UUID, user_id: UUID, workflow_id: UUID, definition: Json
) -> None:
    """Give each schedule node of a canonical definition its schedule. The workflow is locked by the caller.

    One that has changed goes on from now. One that has ended, so that it never occurs any more, is kept all the same.
    """
    rows = {row["id"]: row for row in await schedules.lock_of_workflow(connection, tenant_id, workflow_id)}
    existing = [
        ExistingSchedule(row["id"], row["node_id"], row["name"], ScheduleSpec.of_row(row)) for row in rows.values()
    ]
    actions = plan_schedules([node for _, node in schedule_nodes(definition)], existing)
    if not actions:
        return
    now = await schedules.now(connection)
    for action in actions:
        match action:
            case DropSchedule(schedule_id):
                await schedules.delete(connection, tenant_id, [schedule_id])
            case CreateSchedule(node_id, name, spec):
                row = _new(workflow_id, node_id, name, spec, now)
                await schedules.insert(connection, tenant_id, user_id, row)
            case ChangeSchedule(schedule_id, name, spec, retimed):
                before = rows[schedule_id]
                again = retimed and before["enabled"]
                times = _times(spec, schedule_id, now) if again else {}
                await schedules.change(connection, tenant_id, {**before, **asdict(spec), "name": name, **times})
            case _:
                assert_never(action)


def _new(workflow_id: UUID, node_id: str, name: str, spec: ScheduleSpec, now: datetime) -> Row:
    schedule_id = uuid.uuid4()
    return {
        **asdict(spec),
        **_times(spec, schedule_id, now),
        "id": schedule_id,
        "workflow_id": workflow_id,
        "node_id": node_id,
        "name": name,
        "description": None,
        "priority": 1,
        "enabled": True,
    }


def _times(spec: ScheduleSpec, schedule_id: UUID, now: datetime) -> Row:
    next_run_at, due_at = spec.first_run(schedule_id, now) or (None, None)
    return {"next_run_at": next_run_at, "due_at": due_at}
