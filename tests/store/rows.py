"""One row of every table for a tenant, so that isolation can be tested on all of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class TenantRows:
    """A tenant with a row in every table; `values` are what each row was made of."""

    tenant: uuid.UUID
    user: uuid.UUID
    values: dict[str, dict[str, Any]] = field(default_factory=dict)


def values(tenant: uuid.UUID, user: uuid.UUID, role: uuid.UUID, permission: uuid.UUID) -> dict[str, dict[str, Any]]:
    """Return the values of a row of each table, in an order that satisfies the keys."""
    name = str(uuid.uuid4())
    workflow, webhook, schedule, task, template = (uuid.uuid4() for _ in range(5))
    mine = {"tenant_id": tenant}
    run = {"tenant_id": tenant, "execution_id": uuid.uuid4()}
    kms = dict.fromkeys(("encrypted_dek", "ciphertext", "nonce", "auth_tag"), b"x")
    log = {"tenant_id": tenant, "credential_id": uuid.uuid4()}
    return {
        "users": {**mine, "kratos_identity_id": name, "email": "a@b.c"},
        "roles": {**mine, "name": name},
        "role_permissions": {**mine, "role_id": role, "permission_id": permission},
        "user_roles": {**mine, "user_id": user, "role_id": role},
        "api_keys": {
            **mine, "user_id": user, "name": "k", "prefix": "p", "key_hash": name.encode(), "created_by": user
        },
        "workflows": {**mine, "id": workflow, "name": name, "definition": "{}", "created_by": user},
        "workflow_versions": {
            **mine, "workflow_id": workflow, "version": 1, "definition": "{}", "created_by": user
        },
        "workflow_templates": {**mine, "name": name, "definition": "{}", "created_by": user},
        "executions": {**mine, "workflow_id": workflow, "workflow_version": 1, "trigger_type": "api"},
        "step_executions": {**run, "node_id": "n", "node_type": "formula"},
        "execution_queue": {**run, "workflow_id": workflow},
        "waits": {**run, "step_id": uuid.uuid4(), "node_id": "n", "kind": "timer", "due_at": EPOCH},
        "loop_progress": {
            **run, "step_id": uuid.uuid4(), "first": 0, "upto": 1, "prefix": "l[", "round": 0, "results": "[]",
        },
        "signals": {**run, "step_id": uuid.uuid4(), "resolution": "{}"},
        "events": {**mine, "name": "e", "expires_at": EPOCH, "delete_after": EPOCH},
        "event_deliveries": {**run, "event_id": uuid.uuid4(), "step_id": uuid.uuid4()},
        "event_subscriptions": {**mine, "workflow_id": workflow, "node_id": "n", "pattern": "e", "position": 1},
        "start_keys": {**run, "kind": "idempotency", "key": name},
        "outbox": {**mine, "kind": "k"},
        "request_idempotency": {
            **mine, "principal_id": user, "key": name, "method": "POST", "path": "/", "body_hash": b"",
            "expires_at": EPOCH,
        },
        "credentials": {**mine, "name": name, "type": "custom", "kms_key_id": "k", "created_by": user, **kms},
        "credential_rotations": {**log, "previous_key_id": "a", "new_key_id": "b", "rotated_by": user},
        "credential_access_log": {**log, "accessed_by": user, "access_type": "read"},
        "webhooks": {**mine, "id": webhook, "workflow_id": workflow, "node_id": "n", "path": name},
        "webhook_events": {**mine, "webhook_id": webhook, "request_method": "POST"},
        "webhook_filters": {
            **mine, "webhook_id": webhook, "field_path": "$.a", "operator": "exists", "value": "true"
        },
        "schedules": {
            **mine, "id": schedule, "workflow_id": workflow, "name": name, "cron_expression": "* * * * *",
            "created_by": user,
        },
        "schedule_occurrences": {
            **mine, "schedule_id": schedule, "scheduled_for": EPOCH, "status": "started"
        },
        "database_users": {**mine, "role_name": name},
        "human_tasks": {
            **run, "id": task, "step_id": "s", "task_type": "approval", "title": "t", "completed_by": user
        },
        "human_task_assignees": {**mine, "task_id": task, "kind": "user", "assignee": str(user)},
        "task_mails": {**mine, "task_id": task, "recipients": ["a@b.c"], "subject": "s", "body": "b"},
        "notifications": {**mine, "user_id": str(user), "title": "t", "message": "m", "type": "info"},
        "marketplace_templates": {
            "id": template, "name": name, "description": "d", "category": "c", "definition": "{}", "author_id": "a",
            "author_name": "a", "version": "1.0.0", "source_tenant_id": tenant,
        },
        "marketplace_template_versions": {
            "template_id": template, "version": "1.0.0", "definition": "{}", "created_by": "a"
        },
        "marketplace_installations": {
            **mine, "template_id": template, "workflow_id": workflow, "user_id": "u", "installed_version": "1.0.0"
        },
        "marketplace_reviews": {**mine, "template_id": template, "user_id": "u", "user_name": "u", "rating": 5},
        "ai_usage_log": {**mine, "provider": "p", "model": "m", "action_type": "a"},
        "audit_logs": {**mine, "action": "a", "resource_type": "r"},
        "retention_cleanup_logs": {
            **mine, "id": uuid.uuid4(), "retention_days": 1, "cutoff_date": EPOCH, "duration_ms": 1, "status": "done"
        },
    }  # fmt: skip


async def insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    """Insert one row."""
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())


async def fill(connection: Connection, name: str) -> TenantRows:
    """Make a tenant with one row more than gorax_create_tenant makes in every table (as the owner)."""
    made = await connection.fetchrow("SELECT * FROM gorax_create_tenant($1, $1)", name)
    assert made is not None
    tenant, user = made["tenant_id"], made["user_id"]
    role = await connection.fetchval("INSERT INTO roles (tenant_id, name) VALUES ($1, 'spare') RETURNING id", tenant)
    permission = await connection.fetchval("SELECT id FROM permissions LIMIT 1")
    rows = TenantRows(tenant, user, values(tenant, user, role, permission))
    for table, row in rows.values.items():
        await insert(connection, table, row)
    return rows
