"""The duties of the maintenance role: partitions ahead, keys that are over, and what runs left to be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from gorax_engine.core.model import Json
from gorax_engine.engine.operations import Operations
from gorax_engine.engine.recorder import ERROR_WORKFLOW_EVENT
from gorax_engine.engine.starting import StartKey, StartRequest
from gorax_engine.errors import Conflict, Forbidden, IdempotencyMismatch, InvalidInput, NotFound
from gorax_engine.ops.leader import Duty
from gorax_engine.people.deadlines import watch
from gorax_engine.store import events, human_tasks, maintenance, scheduler
from gorax_engine.telemetry import get_logger
from gorax_engine.triggers.events import work_off

if TYPE_CHECKING:
    from gorax_engine.store.maintenance import OutboxEntry
    from gorax_engine.store.session import Session

BATCH: Final = 1_000
OUTBOX_BATCH: Final = 100
ERROR_WORKFLOW_KEY_TTL: Final = timedelta(days=7)
OCCURRENCES_KEPT: Final = timedelta(days=90)

_log = get_logger(__name__)


def maintenance_duties(session: Session, operations: Operations) -> Sequence[Duty]:
    """Return what the leader of the maintenance role does, and how often (seconds)."""
    return (
        Duty("outbox", 1.0, lambda: _work_off_outbox(session, operations)),
        Duty("events", 1.0, lambda: work_off(session, operations)),
        Duty("expired_events", 60.0, lambda: _in_batches(lambda: events.expire(session, BATCH))),
        Duty("task_deadlines", 1.0, lambda: _watch_tasks(session)),
        Duty("partitions", 3600.0, lambda: maintenance.ensure_partitions(session)),
        Duty("start_keys", 60.0, lambda: _in_batches(lambda: maintenance.expire_start_keys(session, BATCH))),
        Duty("occurrences", 60.0, lambda: _in_batches(lambda: scheduler.expire(session, BATCH, OCCURRENCES_KEPT))),
        Duty("answers", 60.0, lambda: _in_batches(lambda: maintenance.expire_answers(session, BATCH))),
        Duty("webhook_events", 600.0, lambda: _in_batches(lambda: maintenance.expire_webhook_events(session, BATCH))),
    )


async def _watch_tasks(session: Session) -> None:
    await watch(session)


async def _in_batches(delete: Callable[[], Json]) -> None:
    while await delete() == BATCH:
        pass


async def _work_off_outbox(session: Session, operations: Operations) -> None:
    while entries := await maintenance.outbox(session, OUTBOX_BATCH):
        for entry in entries:
            match entry.kind:
                case "error_workflow":
                    await _start_error_workflow(session, operations, entry)
                case "task_news":
                    await human_tasks.tell_assignees(session, entry.payload)
                case kind:
                    raise ValueError(f"unknown kind of outbox entry: {kind!r}")
            await maintenance.outbox_done(session, entry.id)


async def _start_error_workflow(session: Session, operations: Operations, entry: OutboxEntry) -> None:
    """Start the workflow that the tenant named for failures, once per failed run."""
    payload = dict(entry.payload)
    name = payload.pop("error_workflow")
    workflow_id = await maintenance.find_workflow(session, entry.tenant_id, name)
    if workflow_id is None:
        _log.warning("error_workflow_missing", tenant_id=str(entry.tenant_id), workflow=name, **_ids(payload))
        return
    key = StartKey("error_workflow", payload["execution_id"], None, ERROR_WORKFLOW_KEY_TTL)
    data = {"name": ERROR_WORKFLOW_EVENT, "correlation_key": payload["execution_id"], "body": payload}
    try:
        await operations.start(StartRequest(entry.tenant_id, workflow_id, "event", data, start_key=key))
    except (NotFound, Conflict, Forbidden, IdempotencyMismatch, InvalidInput) as refusal:
        _log.warning("error_workflow_refused", tenant_id=str(entry.tenant_id), code=refusal.code, **_ids(payload))


def _ids(payload: dict[str, Json]) -> dict[str, Json]:
    return {"execution_id": payload["execution_id"]}
