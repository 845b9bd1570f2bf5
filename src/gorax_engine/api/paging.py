"""Cursors of lists: the (created_at, id) of the last row shown, opaque to clients.

A cursor is not signed: it can only move the window within what the tenant may see anyway.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from gorax_engine.errors import InvalidInput, Problem

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_MICROS: Final = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after which a page begins."""

    created_at: datetime
    id: UUID

    def encode(self) -> str:
        """Return the text that clients send back as `cursor`."""
        micros = (self.created_at - _EPOCH) // _MICROSECOND
        return base64.urlsafe_b64encode(micros.to_bytes(8, "big") + self.id.bytes).decode().rstrip("=")


def decode_cursor(text: str | None) -> Cursor | None:
    """Return the cursor that `text` stands for, None for none. Raises InvalidInput for anything we did not make."""
    if text is None:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    micros = int.from_bytes(raw[:8], "big")
    if len(raw) != 24 or micros > _MAX_MICROS:
        problem = Problem("invalid_cursor", "", "`cursor` must be a `next_cursor` of an earlier answer.")
        raise InvalidInput("The cursor can't be read; leave it out to start from the top.", problems=[problem])
    return Cursor(_EPOCH + micros * _MICROSECOND, UUID(bytes=raw[8:]))


def page(rows: Sequence[Row], limit: int, place: Callable[[Row], Cursor]) -> tuple[Sequence[Row], str | None]:
    """Return the rows of one page and the next cursor, given up to `limit` + 1 rows."""
    if len(rows) <= limit:
        return rows, None
    shown = rows[:limit]
    return shown, place(shown[-1]).encode()
