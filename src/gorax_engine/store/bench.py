"""What the bench asks of Postgres beside the engine: a tenant and workflows, counters, backlogs, and the limit.

The limit writes the rows that the engine writes for a run (start key, execution, queue row, steps, end) with nothing
between: batches of 100 runs, the accept in one transaction and the rest in another, by COPY or by unnest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import asyncpg
from asyncpg.pgproto import pgproto

from gorax_engine.store import queries
from gorax_engine.store.operator import create_tenant, operator_connection

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = queries.load("bench")
BATCH: Final = 100
_HASH: Final = b"x" * 32


@dataclass(frozen=True, slots=True)
class Seeded:
    """What the bench runs: a tenant and one workflow of it."""

    tenant_id: UUID
    workflow_id: UUID


async def seed(dsn: str, definition: str, webhook_path: str | None = None) -> Seeded:
    """Make a tenant and a published workflow of `definition` (JSON text), with a webhook if a path is given."""
    async with operator_connection(dsn) as connection, connection.transaction():
        workflow_id = uuid4()
        tenant_id, user_id = await create_tenant(connection, "bench", f"bench-{workflow_id.hex[:12]}", "enterprise")
        await connection.execute(_SQL.lift_limits, tenant_id)
        await connection.execute(_SQL.add_workflow, workflow_id, tenant_id, "bench", definition, user_id)
        await connection.execute(_SQL.add_version, workflow_id, tenant_id, definition, user_id)
        if webhook_path is not None:
            await connection.execute(_SQL.add_webhook, tenant_id, workflow_id, webhook_path)
        return Seeded(tenant_id, workflow_id)


async def commits(dsn: str) -> int:
    """Return the commits of the database so far."""
    async with operator_connection(dsn) as connection:
        return int(await connection.fetchval(_SQL.commits))


async def backlog(dsn: str) -> dict[str, int]:
    """Return how many live runs are running, ready and parked."""
    async with operator_connection(dsn) as connection:
        return dict(await connection.fetchrow(_SQL.backlog) or {})


async def owners(dsn: str) -> dict[UUID, int]:
    """Return how many live runs each worker holds."""
    async with operator_connection(dsn) as connection:
        return {row["owner"]: row["runs"] for row in await connection.fetch(_SQL.owners)}


async def durability(dsn: str) -> dict[str, str]:
    """Return the server's version and the settings that a commit's safety hangs on."""
    async with operator_connection(dsn) as connection:
        return dict(await connection.fetchrow(_SQL.durability) or {})


async def fill_queue(dsn: str, seeded: Seeded, count: int) -> None:
    """Replace all runs by `count` ready ones."""
    async with operator_connection(dsn) as connection:
        await connection.execute(_SQL.truncate_runs)
        for _ in range(0, count, 50_000):
            await connection.execute(
                _SQL.seed_executions, seeded.tenant_id, seeded.workflow_id, min(count, 50_000), timeout=120
            )
        await connection.execute(_SQL.analyze_queue, timeout=120)


async def unclaim(dsn: str, worker_id: UUID) -> None:
    """Put back what `worker_id` has claimed."""
    async with operator_connection(dsn) as connection:
        await connection.execute(_SQL.unclaim, worker_id)


@dataclass(frozen=True, slots=True)
class LimitRows:
    """The JSON of one run as the engine recorded it: trigger data, output, and (node, type, input, output) per step."""

    trigger_data: str
    output: str
    steps: Sequence[tuple[str, str, str | None, str | None]]


async def write_limit(dsn: str, role: str | None, seeded: Seeded, rows: LimitRows, count: int, *, copy: bool) -> float:
    """Write `count` runs in batches over one connection; return the seconds it took."""
    settings = {"role": role} if role else {}
    connection = await asyncpg.connect(dsn, server_settings=settings)
    try:
        write = _copy_batch if copy else _unnest_batch
        await write(connection, seeded, rows)
        began = time.monotonic()
        for _ in range(0, count, BATCH):
            await write(connection, seeded, rows)
        return time.monotonic() - began
    finally:
        await connection.close()


def _new_ids(count: int) -> Sequence[UUID]:
    """UUIDs of version 7 with this moment's time."""
    head = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    ids = []
    for _ in range(count):
        tail = bytearray(os.urandom(10))
        tail[0] = (tail[0] & 0x0F) | 0x70
        tail[2] = (tail[2] & 0x3F) | 0x80
        ids.append(pgproto.UUID(head + bytes(tail)))
    return ids


async def _unnest_batch(connection: Connection, seeded: Seeded, rows: LimitRows) -> None:
    tenant, workflow = seeded.tenant_id, seeded.workflow_id
    ids = _new_ids(BATCH)
    async with connection.transaction():
        await connection.execute(_SQL.limit_start_keys, tenant, ids, [str(each) for each in ids], _HASH)
        await connection.execute(_SQL.limit_executions, tenant, workflow, ids, [rows.trigger_data] * BATCH)
        await connection.execute(_SQL.limit_queue, tenant, workflow, workflow, ids)
    nodes, types, inputs, outputs = (list(column) * BATCH for column in zip(*rows.steps, strict=True))
    executions = [each for each in ids for _ in rows.steps]
    async with connection.transaction():
        await connection.execute(
            _SQL.limit_steps, tenant, _new_ids(len(executions)), executions, nodes, types, inputs, outputs
        )
        await connection.execute(_SQL.limit_ends, ids, [rows.output] * BATCH)
        await connection.execute(_SQL.limit_leave_queue, ids)


async def _copy_batch(connection: Connection, seeded: Seeded, rows: LimitRows) -> None:
    tenant, workflow = seeded.tenant_id, seeded.workflow_id
    ids, now = _new_ids(BATCH), datetime.now(UTC)
    day = now + timedelta(days=1)
    async with connection.transaction():
        await _copy(
            connection,
            "start_keys",
            ("tenant_id", "kind", "key", "execution_id", "body_hash", "created_at", "expires_at"),
            [(tenant, "idempotency", str(each), each, _HASH, now, day) for each in ids],
        )
        await _copy(
            connection,
            "executions",
            (
                "id",
                "tenant_id",
                "workflow_id",
                "workflow_version",
                "status",
                "trigger_type",
                "trigger_data",
                "created_at",
                "started_at",
            ),
            [(each, tenant, workflow, 1, "running", "api", rows.trigger_data, now, now) for each in ids],
        )
        await _copy(
            connection,
            "execution_queue",
            ("execution_id", "tenant_id", "workflow_id", "ready_at", "owner", "token"),
            [(each, tenant, workflow, now, workflow, 1) for each in ids],
        )
    steps = [(each, *step) for each in ids for step in rows.steps]
    async with connection.transaction():
        await _copy(
            connection,
            "step_executions",
            (
                "id",
                "execution_id",
                "tenant_id",
                "node_id",
                "node_type",
                "status",
                "input_data",
                "output_data",
                "retry_count",
                "started_at",
                "completed_at",
                "duration_ms",
            ),
            [
                (step_id, each, tenant, node, kind, "completed", given, got, 0, now, now, 0)
                for step_id, (each, node, kind, given, got) in zip(_new_ids(len(steps)), steps, strict=True)
            ],
        )
        await connection.execute(_SQL.limit_ends, ids, [rows.output] * BATCH)
        await connection.execute(_SQL.limit_leave_queue, ids)


async def _copy(connection: Any, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]) -> None:
    await connection.copy_records_to_table(table, columns=columns, records=records)
