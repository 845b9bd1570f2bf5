"""Collects what decides why a run stands where it stands, by short queries in one transaction of the tenant.

The rows are returned as they are; `engine.explain` makes sense of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("explain")


@dataclass(frozen=True, slots=True)
class ExplainRows:
    """The run with its queue row and owner, its running steps, and the first of what it waits for.

    `failed` is the step whose failure ended it.
    """

    run: Row
    steps: list[Row]
    waits: list[Row]
    wait_count: int
    failed: Row | None


async def collect(
    connection: Connection, tenant_id: UUID, execution_id: UUID, scope_types: Collection[str]
) -> ExplainRows | None:
    """Return what is known of a run, steps of `scope_types` after others; None if the tenant has no such run."""
    run = as_row(await connection.fetchrow(_SQL.facts, tenant_id, execution_id))
    if run is None:
        return None
    steps = as_rows(await connection.fetch(_SQL.running_steps, tenant_id, execution_id, list(scope_types)))
    waits = as_rows(await connection.fetch(_SQL.open_waits, tenant_id, execution_id))
    count = await connection.fetchval(_SQL.count_waits, tenant_id, execution_id) if waits else 0
    failed = None
    if run["status"] == "failed" and run["error_code"] is not None:
        found = await connection.fetchrow(
            _SQL.failed_step, tenant_id, execution_id, run["error_code"], list(scope_types)
        )
        failed = as_row(found)
    return ExplainRows(run, steps, waits, count, failed)
