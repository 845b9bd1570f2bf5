"""Rows of the filters of webhooks, under the tenant; whoever adds some has locked the webhook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.model import Json
from gorax_engine.store.queries import load
from gorax_engine.store.rows import Row, as_row, as_rows

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

_SQL: Final = load("webhook_filters")


@dataclass(frozen=True, slots=True)
class FilterValues:
    """All that may be set of a filter; filters of one `logic_group` are alternatives."""

    field_path: str
    operator: str
    value: Json = None
    logic_group: int = 0
    enabled: bool = True

    @classmethod
    def of(cls, row: Row) -> FilterValues:
        """Return what a row says."""
        return cls(row["field_path"], row["operator"], row["value"], row["logic_group"], row["enabled"])


async def list_all(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> list[Row]:
    """Return the filters of a webhook in their order."""
    return as_rows(await connection.fetch(_SQL.list_filters, tenant_id, webhook_id))


async def get(connection: Connection, tenant_id: UUID, webhook_id: UUID, filter_id: UUID) -> Row | None:
    """Return one filter."""
    return as_row(await connection.fetchrow(_SQL.get_filter, tenant_id, webhook_id, filter_id))


async def insert(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, values: Sequence[FilterValues]
) -> list[Row]:
    """Store filters, in this order."""
    rows = [asdict(each) for each in values]
    return as_rows(await connection.fetch(_SQL.insert_filters, tenant_id, webhook_id, rows))


async def change(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, filter_id: UUID, values: FilterValues
) -> Row | None:
    """Write a filter; None if there is no such."""
    return as_row(
        await connection.fetchrow(
            _SQL.change_filter,
            tenant_id,
            webhook_id,
            filter_id,
            values.field_path,
            values.operator,
            values.value,
            values.logic_group,
            values.enabled,
        )
    )


async def delete(connection: Connection, tenant_id: UUID, webhook_id: UUID, filter_id: UUID) -> Row | None:
    """Drop one filter and return it; None if there is no such."""
    return as_row(await connection.fetchrow(_SQL.delete_filter, tenant_id, webhook_id, filter_id))


async def delete_all(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> None:
    """Drop all filters of a webhook."""
    await connection.execute(_SQL.delete_filters, tenant_id, webhook_id)
