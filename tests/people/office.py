"""A tenant with people and roles, and runs that wait for them, as rows that the engine would write."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg

from gorax_engine.core.instants import format_instant
from gorax_engine.tenancy.principals import PERMISSIONS, Principal

if TYPE_CHECKING:
    from gorax_engine.store.rows import Row


def text(at: datetime) -> str:
    """Write a moment as contents have it."""
    return format_instant((at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))


@dataclass
class Task:
    """A task with its run."""

    id: uuid.UUID
    execution_id: uuid.UUID
    step_id: uuid.UUID


@dataclass
class Office:
    """A tenant. `owner` is a connection of the owner; `tasks` are opened by the worker's role."""

    owner: asyncpg.Connection[Any]
    tenant: uuid.UUID
    boss: uuid.UUID
    users: dict[str, uuid.UUID] = field(default_factory=dict)

    async def user(self, name: str, *roles: str) -> uuid.UUID:
        """Make a user who holds these roles."""
        user: uuid.UUID = await self.owner.fetchval(
            "INSERT INTO users (tenant_id, kratos_identity_id, email) VALUES ($1, $2, $3) RETURNING id",
            self.tenant,
            f"{self.tenant}:{name}",
            f"{name}@example.com",
        )
        self.users[name] = user
        for role in roles:
            await self.owner.execute(
                "INSERT INTO roles (tenant_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", self.tenant, role
            )
            await self.owner.execute(
                "INSERT INTO user_roles (tenant_id, user_id, role_id)"
                " SELECT $1, $3, id FROM roles WHERE tenant_id = $1 AND name = $2",
                self.tenant, role, user,
            )  # fmt: skip
        return user

    def principal(self, name: str) -> Principal:
        """Somebody's API key, with every permission."""
        return Principal(self.tenant, self.users.get(name, self.boss), uuid.uuid4(), frozenset(PERMISSIONS))

    async def wait(self) -> tuple[uuid.UUID, uuid.UUID]:
        """Write a parked run with a step that waits for people; return the ids of run and step."""
        run, step = await self.owner.fetchrow("SELECT gorax_uuid7(), gorax_uuid7()")  # type: ignore[misc]
        workflow = uuid.uuid4()
        await self.owner.execute(
            "INSERT INTO executions (id, tenant_id, workflow_id, workflow_version, trigger_type, status, waiting_for)"
            " VALUES ($1, $2, $3, 1, 'api', 'running', 'human_task')", run, self.tenant, workflow,
        )  # fmt: skip
        await self.owner.execute(
            "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id) VALUES ($1, $2, $3)",
            run, self.tenant, workflow,
        )  # fmt: skip
        await self.owner.execute(
            "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind)"
            " VALUES ($1, $2, $3, 'ask', 'human_task')",
            step, self.tenant, run,
        )  # fmt: skip
        return run, step

    async def open(self, *assignees: Any, **content: Any) -> Task:
        """Open a task for users (by name) and roles."""
        run, step = await self.wait()
        to = [{"type": "user", "id": str(self.users[each])} if each in self.users else {"type": "role", "name": each}
              for each in assignees]  # fmt: skip
        entry = {
            "tenant_id": str(self.tenant), "execution_id": str(run), "workflow_id": str(uuid.uuid4()),
            "step_id": str(step), "node_id": "ask", "iteration_path": "", "opened_at": text(datetime.now(UTC)),
            "content": {"task_type": "approval", "title": "Release?", "assignees": to, **content},
        }  # fmt: skip
        assert await self.open_rows([entry]) == 1
        return Task(await self.owner.fetchval("SELECT id FROM human_tasks WHERE step_id = $1", str(step)), run, step)

    async def open_rows(self, entries: list[dict[str, Any]]) -> int:
        """Call gorax_open_tasks as a flush does, and tell the assignees as the outbox does."""
        async with self.owner.transaction():
            await self.owner.execute("SET LOCAL ROLE gorax_worker")
            opened: int = await self.owner.fetchval("SELECT gorax_open_tasks($1::text::jsonb)", json.dumps(entries))
            await self.owner.execute(
                "WITH news AS (DELETE FROM outbox WHERE kind = 'task_news' RETURNING payload) "
                "SELECT gorax_tell_assignees(jsonb_agg(n.payload)) FROM news n HAVING count(*) > 0"
            )
            return opened

    async def close(self, *steps: uuid.UUID) -> int:
        """Call gorax_close_tasks as the end of a run does."""
        async with self.owner.transaction():
            await self.owner.execute("SET LOCAL ROLE gorax_worker")
            closed: int = await self.owner.fetchval("SELECT gorax_close_tasks($1)", list(steps))
            return closed

    async def row(self, task: Task) -> Row:
        """The task as it stands."""
        row = await self.owner.fetchrow("SELECT * FROM human_tasks WHERE id = $1", task.id)
        assert row is not None
        return {
            **row, **{name: json.loads(row[name]) for name in ("assignees", "config", "history", "response_data")
                      if row[name] is not None},
        }  # fmt: skip

    async def signal(self, task: Task) -> Any:
        """What the step was told, None if nothing."""
        found = await self.owner.fetchval("SELECT resolution FROM signals WHERE step_id = $1", task.step_id)
        return None if found is None else json.loads(found)

    async def told(self, name: str) -> list[str]:
        """The kinds of what somebody was told, oldest first."""
        rows = await self.owner.fetch(
            "SELECT metadata ->> 'kind' AS kind FROM notifications WHERE user_id = $1 ORDER BY created_at, id",
            str(self.users[name]),
        )
        return [row["kind"] for row in rows]

    async def open_for(self, name: str) -> set[uuid.UUID]:
        """The open tasks in the side table of somebody."""
        rows = await self.owner.fetch(
            "SELECT task_id FROM human_task_assignees WHERE is_open AND assignee = $1", str(self.users.get(name, name))
        )
        return {row["task_id"] for row in rows}


async def make_office(owner: asyncpg.Connection[Any], name: str) -> Office:
    """Make a tenant."""
    row = await owner.fetchrow("SELECT * FROM gorax_create_tenant($1, $1)", name)
    assert row is not None
    return Office(owner, row["tenant_id"], row["user_id"])
