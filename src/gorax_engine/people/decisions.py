"""What people do with tasks: approve, reject, submit, hand on. Everything happens in the transaction of the request.

An assignee may act (as a user, or by a role that the user holds), and whoever holds the role `admin`. The first
decision counts, whoever else decides at the same time: the database judges under the run's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.errors import Conflict, Forbidden, InvalidInput, NotFound, Problem
from gorax_engine.people.forms import fill_in
from gorax_engine.store import human_tasks

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row
    from gorax_engine.tenancy.principals import Principal

ADMIN: Final = "admin"
"""The role whose holders may act on every task of the tenant."""


class Verb(StrEnum):
    """What can be decided. Submitting a form approves."""

    APPROVE = "approve"
    REJECT = "reject"
    SUBMIT = "submit"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision as it was sent: `remark` is the comment of an approval, or the reason of a rejection."""

    verb: Verb
    remark: str | None = None
    data: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignee:
    """A user by id, or a role by name."""

    kind: str
    name: str

    @classmethod
    def read(cls, text: str) -> Assignee:
        """Read an id as a user, anything else as the name of a role."""
        try:
            return cls("user", str(UUID(text))) if len(text) == 36 else cls("role", text)
        except ValueError:
            return cls("role", text)

    def as_json(self) -> Json:
        """Return it as it stands in a task."""
        return {"type": self.kind, ("id" if self.kind == "user" else "name"): self.name}

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


async def assignees_of(connection: Connection, tenant_id: UUID, user_id: UUID) -> list[tuple[str, str]]:
    """Return all as what a user is asked: the user, and each role that the user holds."""
    roles = await human_tasks.roles_of(connection, tenant_id, user_id)
    return [("user", str(user_id)), *(("role", role) for role in roles)]


async def find(connection: Connection, tenant_id: UUID, task_id: UUID) -> Row:
    """Return a task. Raises NotFound (task_not_found)."""
    row = await human_tasks.get(connection, tenant_id, task_id)
    if row is None:
        raise NotFound(f"There is no task {task_id}.", code="task_not_found")
    return row


async def decide(connection: Connection, principal: Principal, task_id: UUID, decision: Decision) -> Row:
    """Decide a task, and let its run go on once the transaction is committed; return the task.

    Raises NotFound, Forbidden (not_assigned), Conflict (task_already_decided) and InvalidInput (invalid_response).
    """
    task = await find(connection, principal.tenant_id, task_id)
    await _require_assigned(connection, principal, task)
    if task["status"] != "pending":
        raise _already(task["status"], task["completed_by"], task["completed_at"])
    status = "rejected" if decision.verb is Verb.REJECT else "approved"
    decided = await human_tasks.decide(
        connection, principal.tenant_id, task_id, status, principal.user_id, _response(task, decision)
    )
    if decided is None:
        raise NotFound(f"There is no task {task_id}.", code="task_not_found")
    if not decided.decided:
        raise _already(decided.status, decided.completed_by, decided.completed_at)
    return await find(connection, principal.tenant_id, task_id)


async def delegate(
    connection: Connection, principal: Principal, task_id: UUID, to: Assignee, comment: str | None
) -> Row:
    """Hand a task on: `to` is asked in the place of the principal; return the task.

    Whoever is asked only by a role leaves the role as it is, since others hold it, too. Raises NotFound, Forbidden
    (not_assigned), Conflict (task_already_decided) and InvalidInput (unknown_assignee).
    """
    tenant_id = principal.tenant_id
    task = await find(connection, tenant_id, task_id)
    await _require_assigned(connection, principal, task)
    if not await human_tasks.assignee_exists(connection, tenant_id, to.kind, to.name):
        problem = Problem("unknown_assignee", "/to", f"The tenant has no active {to}.")
        raise InvalidInput("The task can't be handed on; see `errors`.", code="unknown_assignee", problems=[problem])
    locked = await human_tasks.lock(connection, tenant_id, task_id)
    if locked is None or locked["status"] != "pending":
        state = locked or task
        raise _already(state["status"], state["completed_by"], state["completed_at"])
    me = Assignee("user", str(principal.user_id))
    before: list[Json] = locked["assignees"]
    replaces = me.as_json() in before and to != me
    after = [each for each in before if not (replaces and each == me.as_json())]
    if to.as_json() not in after:
        after.append(to.as_json())
    entry = {
        "at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "event": "delegated",
        "by": me.name,
        "to": to.as_json(),
        **({} if comment is None else {"comment": comment}),
    }
    await human_tasks.reassign(
        connection,
        tenant_id,
        task_id,
        assignees=after,
        added=(to.kind, to.name),
        removed=(me.kind, me.name) if replaces else None,
        entry=entry,
    )
    await human_tasks.tell(connection, [_handed_on(tenant_id, task_id, locked["title"], to, comment)])
    return await find(connection, tenant_id, task_id)


def _handed_on(tenant_id: UUID, task_id: UUID, title: str, to: Assignee, comment: str | None) -> Json:
    return {
        "tenant_id": str(tenant_id),
        "task_id": str(task_id),
        "to": [to.as_json()],
        "title": title,
        "message": "This task was handed on to you." + (f" {comment}" if comment else ""),
        "type": "info",
        "kind": "task_delegated",
    }


async def _require_assigned(connection: Connection, principal: Principal, task: Row) -> None:
    asked = [(each.get("type"), each.get("id") or each.get("name")) for each in task["assignees"]]
    held = await assignees_of(connection, principal.tenant_id, principal.user_id)
    if ("role", ADMIN) not in held and not any(each in asked for each in held):
        raise Forbidden("The task is assigned to others.", code="not_assigned")


def _response(task: Row, decision: Decision) -> Json:
    """Return the response to a task: the form's values beside the comment or the reason."""
    remark = {} if decision.remark is None else {_remark(decision.verb): decision.remark}
    if decision.verb is Verb.REJECT:
        return {**remark, **decision.data}
    values, problems = fill_in(task["config"].get("form_fields") or (), decision.data)
    if problems:
        raise InvalidInput("The form is not filled in right; see `errors`.", code="invalid_response", problems=problems)
    return {**remark, **values}


def _remark(verb: Verb) -> str:
    return "reason" if verb is Verb.REJECT else "comment"


def _already(status: str, by: UUID | None, at: datetime | None) -> Conflict:
    who = "" if by is None else f" by {by}"
    when = "" if at is None else f" at {at.isoformat().replace('+00:00', 'Z')}"
    return Conflict(f"The task was {status} already{who}{when}.", code="task_already_decided")
