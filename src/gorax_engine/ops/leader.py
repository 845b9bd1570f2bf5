"""Leadership as a term with an end: one process at a time carries out a duty, as a row lease in Postgres.

Trust in a term is counted on the monotonic clock from before the request, less a margin. A duty must be harmless when
two carry it out at once (a leader that was stopped wakes up late): leadership saves work, it does not guard data.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from gorax_engine.errors import Unavailable
from gorax_engine.store import maintenance
from gorax_engine.store.session import RecordRejected
from gorax_engine.telemetry import get_logger

if TYPE_CHECKING:
    from gorax_engine.store.session import Session

TERM: Final = 15.0
RENEW: Final = 5.0
MARGIN: Final = 2.0
LEADERSHIP: Final = "maintenance"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that the leader does every `every` seconds. `run_once` must be safe to repeat."""

    name: str
    every: float
    run_once: Callable[[], Awaitable[None]]


async def lead(session: Session, duties: Sequence[Duty]) -> None:
    """Follow until the leadership is free, then carry out the duties as long as the term is held; until cancelled."""
    holder = uuid4()
    last_run = {duty.name: float("-inf") for duty in duties}
    held_until = float("-inf")
    renew_at = 0.0
    try:
        while True:
            now = time.monotonic()
            if now >= renew_at:
                renew_at = now + RENEW
                try:
                    term = await maintenance.hold_term(session, LEADERSHIP, holder, TERM)
                    held_until = now + TERM - MARGIN if term is not None else float("-inf")
                except Unavailable:
                    pass
            for duty in duties:
                if time.monotonic() < held_until and now - last_run[duty.name] >= duty.every:
                    last_run[duty.name] = now
                    await _carry_out(duty)
            await anyio.sleep(min((duty.every for duty in duties), default=RENEW))
    finally:
        with contextlib.suppress(Unavailable), anyio.move_on_after(1, shield=True):
            if held_until > time.monotonic():
                await maintenance.resign(session, LEADERSHIP, holder)


async def _carry_out(duty: Duty) -> None:
    """One round of a duty; a fault of it is told and waits for the next round."""
    try:
        await duty.run_once()
    except (Unavailable, RecordRejected) as error:
        _log.warning("duty_failed", duty=duty.name, error=str(error))
    except Exception:  # noqa: BLE001 - a fault of one duty must not end the others
        _log.exception("duty_crashed", duty=duty.name)
