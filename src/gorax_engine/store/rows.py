"""What rows are to callers of the store: plain dicts by column name, in the order of the query."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

Row: TypeAlias = dict[str, Any]
"""A row by column name; jsonb is a Python value, timestamptz an aware datetime, uuid a UUID."""

Place: TypeAlias = tuple[datetime, UUID] | None
"""Where a page begins: after the row with this (created_at, id); None for the first page."""


def as_row(record: asyncpg.Record | None) -> Row | None:
    """Return a record as a dict, None for none."""
    return None if record is None else dict(record)


def as_rows(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return records as dicts."""
    return [dict(record) for record in records]
