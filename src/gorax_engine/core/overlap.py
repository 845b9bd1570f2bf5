"""What becomes of the occurrences of a schedule that are due, given the runs that it still has.

The reason of an occurrence that doesn't start begins with a word for programs: overlap, queue_full, superseded, or why
nothing of its workflow can start.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from gorax_engine.core.instants import format_instant
from gorax_engine.core.schedules import Overlap, instant_of

MAX_QUEUED: Final = 100
"""Occurrences of one schedule that may wait for the end of a run."""


class Verdict(StrEnum):
    """Starting is only a wish: it is the start that finds out whether it can be."""

    START = "start"
    QUEUED = "queued"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one occurrence."""

    scheduled_for: datetime
    verdict: Verdict
    reason: str | None = None


def fates(
    overlap: Overlap, due: Sequence[datetime], live: Sequence[UUID], queued: int, refusal: str | None
) -> list[Fate]:
    """Decide on occurrences that are due, in their order. `queued` ones wait already; a `refusal` holds for all."""
    if refusal is not None:
        return [Fate(at, Verdict.SKIPPED, refusal) for at in due]
    match overlap:
        case Overlap.ALLOW:
            return [Fate(at, Verdict.START) for at in due]
        case Overlap.CANCEL_RUNNING:
            return [Fate(at, Verdict.SKIPPED, "superseded: a later occurrence starts instead") for at in due[:-1]] + [
                Fate(at, Verdict.START) for at in due[-1:]
            ]
        case Overlap.SKIP:
            first = 0 if live else 1
            return [Fate(at, Verdict.START) for at in due[:first]] + [
                Fate(at, Verdict.SKIPPED, _overlap(live, due[0])) for at in due[first:]
            ]
        case Overlap.QUEUE:
            first = 0 if live or queued else 1
            room = MAX_QUEUED - queued
            return [
                Fate(at, Verdict.START)
                if place < first
                else Fate(at, Verdict.QUEUED)
                if place - first < room
                else Fate(at, Verdict.SKIPPED, f"queue_full: {MAX_QUEUED} occurrences are waiting already")
                for place, at in enumerate(due)
            ]


def _overlap(live: Sequence[UUID], first: datetime) -> str:
    if live:
        return f"overlap: the run {live[0]} had not ended"
    return f"overlap: the run for {format_instant(instant_of(first))} had only just begun"
