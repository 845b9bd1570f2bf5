"""What the bench asks of Postgres beside the engine: a tenant and workflows, counters, backlogs, and the limit.

The limit is what a program of plain batched SQL needs for the rows of accept, claim, steps and end of a run: 100 runs
to a transaction, by COPY or by unnest, with the JSON of each row made from its values, as it must be. It has no graph,
no templates, no fence and no failure path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID, uuid4

import anyio
import asyncpg
from asyncpg.pgproto import pgproto

from gorax_engine.core.json_edge import encode
from gorax_engine.core.model import Json
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


async def seed(dsn: str, definition: str, tenant: UUID | None = None) -> Seeded:
    """Make a published workflow of `definition` (JSON text).

    It gets a tenant of its own, unless it is to be one of `tenant`'s.
    """
    async with operator_connection(dsn) as connection, connection.transaction():
        workflow_id = uuid4()
        if tenant is None:
            tenant_id, user_id = await create_tenant(connection, "bench", f"bench-{workflow_id.hex[:12]}", "enterprise")
            await connection.execute(_SQL.lift_limits, tenant_id)
        else:
            tenant_id, user_id = tenant, await connection.fetchval(_SQL.any_user, tenant)
        await connection.execute(_SQL.add_workflow, workflow_id, tenant_id, workflow_id.hex, definition, user_id)
        await connection.execute(_SQL.add_version, workflow_id, tenant_id, definition, user_id)
        return Seeded(tenant_id, workflow_id)


async def add_webhook(dsn: str, seeded: Seeded, path: str, sealed_secret: str) -> None:
    """Give a workflow a webhook with GitHub's signatures and three filters."""
    async with operator_connection(dsn) as connection:
        await connection.execute(_SQL.add_webhook, seeded.tenant_id, seeded.workflow_id, path, sealed_secret)


async def add_schedules(dsn: str, seeded: Seeded, moment: datetime, count: int) -> None:
    """Give a workflow `count` schedules that are all due at one moment."""
    async with operator_connection(dsn) as connection:
        values = (seeded.tenant_id, seeded.workflow_id, f"{moment.isoformat()} ", moment, count)
        await connection.execute(_SQL.add_schedules, *values)
        await connection.execute("ANALYZE schedules")


async def forget_schedules(dsn: str) -> None:
    """Delete every schedule."""
    async with operator_connection(dsn) as connection:
        await connection.execute(_SQL.forget_schedules)


async def scheduled(dsn: str, workflow_id: UUID, moment: datetime) -> tuple[int, int, float]:
    """Return what started for one moment: runs, schedules among them, and the seconds until the last."""
    async with operator_connection(dsn) as connection:
        row = await connection.fetchrow(_SQL.scheduled, workflow_id, moment)
        assert row is not None
        return row["runs"], row["occurrences"], row["seconds"]


async def commits(dsn: str) -> int:
    """Return the commits of the database so far."""
    async with operator_connection(dsn) as connection:
        return int(await connection.fetchval(_SQL.commits))


async def backlog(dsn: str) -> dict[str, int]:
    """Return how many live runs are running, ready and parked."""
    async with operator_connection(dsn) as connection:
        return dict(await connection.fetchrow(_SQL.backlog) or {})


async def not_completed(dsn: str, workflow_id: UUID) -> tuple[int, str | None]:
    """Return how many runs of the workflow did not complete, and what became of one of them."""
    async with operator_connection(dsn) as connection:
        row = await connection.fetchrow(_SQL.not_completed, workflow_id)
        assert row is not None
        return row["runs"], row["reason"]


async def lags(dsn: str, workflow_id: UUID, moment: datetime, count: int) -> list[float]:
    """Wait until `count` runs of the workflow have ended; return how many seconds after `moment`, in order."""
    async with operator_connection(dsn) as connection:
        while True:
            rows = await connection.fetch(_SQL.lags, workflow_id, moment)
            if len(rows) >= count:
                return [float(row["lag"]) for row in rows]
            await anyio.sleep(0.1)


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
class LimitRun:
    """The values of one run: trigger data, (node, type, input or None, output) per step, and the run's output."""

    trigger_data: Json
    steps: Sequence[tuple[str, str, Json, Json]]
    output: Json


async def write_limit(
    dsn: str, role: str | None, seeded: Seeded, make: Callable[[int], LimitRun], count: int, *, copy: bool
) -> None:
    """Write `count` runs, the n-th of which has the values `make(n)`, in batches over one connection."""
    connection = await asyncpg.connect(dsn, server_settings={"role": role} if role else {})
    try:
        for first in range(0, count, BATCH):
            ids = _new_ids(BATCH)
            async with connection.transaction():
                data = [encode(make(first + place).trigger_data) for place in range(BATCH)]
                await (_copy_accept if copy else _unnest_accept)(connection, seeded, ids, data)
            async with connection.transaction():
                await connection.execute(_SQL.limit_claim_queue, ids, seeded.workflow_id)
                await connection.execute(_SQL.limit_claim_executions, ids)
            async with connection.transaction():
                runs = [make(first + place) for place in range(BATCH)]
                steps = [
                    (each, node, kind, None if given is None else encode(given), encode(output))
                    for each, run in zip(ids, runs, strict=True)
                    for node, kind, given, output in run.steps
                ]
                await (_copy_steps if copy else _unnest_steps)(connection, seeded, steps)
                await connection.execute(_SQL.limit_ends, ids, [encode(run.output) for run in runs])
                await connection.execute(_SQL.limit_leave_queue, ids)
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


_Steps: TypeAlias = Sequence[tuple[UUID, str, str, str | None, str]]


async def _unnest_accept(connection: Connection, seeded: Seeded, ids: Sequence[UUID], data: Sequence[str]) -> None:
    tenant, workflow = seeded.tenant_id, seeded.workflow_id
    await connection.execute(_SQL.limit_start_keys, tenant, ids, [str(each) for each in ids], _HASH)
    await connection.execute(_SQL.limit_executions, tenant, workflow, ids, data)
    await connection.execute(_SQL.limit_queue, tenant, workflow, ids)


async def _unnest_steps(connection: Connection, seeded: Seeded, steps: _Steps) -> None:
    await connection.execute(_SQL.limit_steps, seeded.tenant_id, _new_ids(len(steps)), *zip(*steps, strict=True))


async def _copy_accept(connection: Connection, seeded: Seeded, ids: Sequence[UUID], data: Sequence[str]) -> None:
    tenant, workflow, now = seeded.tenant_id, seeded.workflow_id, datetime.now(UTC)
    day = now + timedelta(days=1)
    await _copy(
        connection,
        "start_keys",
        "tenant_id kind key execution_id body_hash created_at expires_at",
        [(tenant, "idempotency", str(each), each, _HASH, now, day) for each in ids],
    )
    await _copy(
        connection,
        "executions",
        "id tenant_id workflow_id workflow_version status trigger_type trigger_data created_at",
        [(each, tenant, workflow, 1, "pending", "api", text, now) for each, text in zip(ids, data, strict=True)],
    )
    await _copy(
        connection,
        "execution_queue",
        "execution_id tenant_id workflow_id ready_at",
        [(each, tenant, workflow, now) for each in ids],
    )


async def _copy_steps(connection: Connection, seeded: Seeded, steps: _Steps) -> None:
    tenant, now = seeded.tenant_id, datetime.now(UTC)
    await _copy(
        connection,
        "step_executions",
        "id execution_id tenant_id node_id node_type status input_data output_data retry_count started_at completed_at "
        "duration_ms",
        [
            (step_id, each, tenant, node, kind, "completed", given, output, 0, now, now, 0)
            for step_id, (each, node, kind, given, output) in zip(_new_ids(len(steps)), steps, strict=True)
        ],
    )


async def _copy(connection: Any, table: str, columns: str, records: Sequence[tuple[Any, ...]]) -> None:
    await connection.copy_records_to_table(table, columns=columns.split(), records=records)
