"""A worker's lease: the right to act. By this machine's clock it ends before the database takes it back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gorax_engine.store.session import LeaseLost

if TYPE_CHECKING:
    from uuid import UUID


class Lease:
    """One registration of a worker. Each renewal is counted from before its request was sent.

    `margin` (seconds) is given up at the end, for the time between a check and the effect that follows it.
    """

    __slots__ = ("_expires", "length", "lost", "margin", "worker_id")

    def __init__(self, worker_id: UUID, length: float, sent_at: float) -> None:
        self.worker_id = worker_id
        self.length = length
        self.margin = min(1.0, length / 10)
        self.lost = False
        self._expires = sent_at + length

    def renew(self, sent_at: float) -> None:
        """The heartbeat that was sent at `sent_at` (monotonic seconds) was accepted."""
        self._expires = sent_at + self.length

    @property
    def valid(self) -> bool:
        """May an effect start now?"""
        return not self.lost and time.monotonic() < self._expires - self.margin

    @property
    def remaining(self) -> float:
        """Seconds until the lease must be taken for lost."""
        return self._expires - self.margin - time.monotonic()

    def check(self) -> None:
        """Raise LeaseLost unless an effect may start now."""
        if not self.valid:
            self.lost = True
            raise LeaseLost("the lease has expired")
