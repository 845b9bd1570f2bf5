"""Looking after the filters of webhooks, and trying out what they let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from gorax_engine.core.filters import BadFilter, Filter, FilterSet, check_filter
from gorax_engine.errors import Conflict, InvalidInput, NotFound, Problem
from gorax_engine.nodes.control.webhook_trigger_schema import MAX_FILTERS
from gorax_engine.store import webhook_filters, webhook_upkeep
from gorax_engine.store.webhook_filters import FilterValues
from gorax_engine.triggers.webhook_requests import read_headers

if TYPE_CHECKING:
    from gorax_engine.core.filters import Verdict
    from gorax_engine.core.model import Json
    from gorax_engine.store.database import Connection
    from gorax_engine.store.rows import Row


async def list_all(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> list[Row]:
    """Return the filters of a webhook in their order. Raises NotFound."""
    await _find_webhook(connection, tenant_id, webhook_id)
    return await webhook_filters.list_all(connection, tenant_id, webhook_id)


async def find(connection: Connection, tenant_id: UUID, webhook_id: UUID, filter_id: UUID) -> Row:
    """Return one filter. Raises NotFound."""
    return _found(await webhook_filters.get(connection, tenant_id, webhook_id, filter_id))


async def add(connection: Connection, tenant_id: UUID, webhook_id: UUID, values: FilterValues) -> Row:
    """Store one more filter. Raises NotFound, InvalidInput, Conflict (too_many_filters)."""
    _check(values)
    await _find_webhook(connection, tenant_id, webhook_id, lock=True)
    if len(await webhook_filters.list_all(connection, tenant_id, webhook_id)) >= MAX_FILTERS:
        raise Conflict(f"A webhook has at most {MAX_FILTERS} filters; delete one first.", code="too_many_filters")
    (row,) = await webhook_filters.insert(connection, tenant_id, webhook_id, [values])
    return row


async def change(
    connection: Connection, tenant_id: UUID, webhook_id: UUID, filter_id: UUID, changes: Mapping[str, Any]
) -> Row:
    """Write `changes` (of FilterValues) to a filter. Raises NotFound, InvalidInput."""
    await _find_webhook(connection, tenant_id, webhook_id, lock=True)
    current = await find(connection, tenant_id, webhook_id, filter_id)
    names = ("field_path", "operator", "value", "logic_group", "enabled")
    values = FilterValues(**{name: changes.get(name, current[name]) for name in names})
    _check(values)
    return _found(await webhook_filters.change(connection, tenant_id, webhook_id, filter_id, values))


async def delete(connection: Connection, tenant_id: UUID, webhook_id: UUID, filter_id: UUID) -> Row:
    """Drop a filter and return it. Raises NotFound."""
    return _found(await webhook_filters.delete(connection, tenant_id, webhook_id, filter_id))


def trial_request(
    path: str, method: str, headers: Mapping[str, str], query: Mapping[str, str], body: Json
) -> dict[str, Json]:
    """Return the trigger data that such a request would give. Raises InvalidInput for headers that HTTP can't carry."""
    try:
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    except UnicodeEncodeError:
        message = "Headers hold Latin-1 characters only."
        raise InvalidInput(message, problems=[Problem("invalid_headers", "/headers", message)]) from None
    return {
        "method": method,
        "path": f"/webhooks/{path}",
        "headers": read_headers(raw),
        "query": dict(query),
        "body": body,
    }


def judge(rows: Sequence[Row], request: dict[str, Json]) -> Verdict:
    """Say what the enabled ones of some filters make of a request, rule by rule."""
    rules = [
        Filter(row["id"], row["field_path"], row["operator"], row["value"], row["logic_group"])
        for row in rows
        if row["enabled"]
    ]
    return FilterSet(rules).judge(request)


def _check(values: FilterValues) -> None:
    try:
        check_filter(values.field_path, values.operator, values.value)
    except BadFilter as error:
        problem = Problem("invalid_filter", f"/{error.field}", error.message)
        raise InvalidInput(error.message, problems=[problem]) from None


async def _find_webhook(connection: Connection, tenant_id: UUID, webhook_id: UUID, *, lock: bool = False) -> None:
    if await webhook_upkeep.get(connection, tenant_id, webhook_id, lock=lock) is None:
        raise NotFound("There is no such webhook.", code="webhook_not_found")


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("The webhook has no such filter.", code="filter_not_found")
    return row
