"""What to do with a schedule whose time has come: which occurrences start now, which never will, and when to come back.

An occurrence comes at its time and its jitter. One that is looked at within ON_TIME of that starts, whatever the rules;
what is later than that is a misfire, since nobody looked in time, and the rules say what becomes of it. One decision
deals with all that has come, however much: of many misfires it finds the few that start from the latest backwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from itertools import islice, takewhile
from typing import Final, TypeAlias
from uuid import UUID

from gorax_engine.core.recurrence import Recurrence

ON_TIME: Final = timedelta(seconds=10)
"""An occurrence that is looked at later than this is a misfire."""

COUNTED: Final = 1_000
"""So many occurrences that won't run are counted in one decision; what is more has no count."""

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Misfire(StrEnum):
    """Which misfires start all the same: none, only the latest and only if nothing later starts, or all."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


class Reason(StrEnum):
    """Why occurrences never start."""

    MISSED = "missed"
    """The rules make up for none."""

    SUPERSEDED = "superseded"
    """A later one starts in their place."""

    TOO_LATE = "too_late"
    """They lie further back than the catch-up window."""

    OVER_LIMIT = "over_limit"
    """Within the window, as many later misfires start as may."""


_Span: TypeAlias = tuple[datetime, datetime, Reason]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a schedule fires. Misfires start only if they lie within `catchup_window` before now.

    `misfire_limit` (1 to 1,000) is how many may start at once with ALL, the latest ones; each occurrence comes up to
    `jitter` later than its time.
    """

    misfire: Misfire = Misfire.LAST
    misfire_limit: int = 100
    catchup_window: timedelta = timedelta(hours=24)
    jitter: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Missed:
    """All occurrences from `first` through `last`, which never start; `count` is None if they are too many to count."""

    first: datetime
    last: datetime
    count: int | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """What has come: `due` starts now, `missed` never; both ascending, and the missed before the due.

    `next_run_at` is the first occurrence that has not come, later than all of these, and `due_at` when it comes; both
    None if there is none.
    """

    due: tuple[datetime, ...]
    missed: tuple[Missed, ...]
    next_run_at: datetime | None
    due_at: datetime | None


def decide(recurrence: Recurrence, rules: Rules, schedule_id: UUID, next_run_at: datetime, now: datetime) -> Decision:
    """Decide on every occurrence from `next_run_at` on that has come by `now`.

    However many there are, no more are looked at than those on time, `misfire_limit` and COUNTED. Raises ValueError
    for times without a time zone.
    """
    ahead = recurrence.after(max(next_run_at - _MICROSECOND, now))
    upcoming, following = next(ahead, None), next(ahead, None) if rules.jitter else None
    due: list[datetime] = []
    made_up, later = 0, upcoming
    for occurrence in recurrence.before(now + _MICROSECOND):
        if occurrence < next_run_at:
            break
        comes = jittered(schedule_id, occurrence, later, rules.jitter)
        if comes > now:
            upcoming, following = occurrence, upcoming
        elif now - comes <= ON_TIME:
            due.append(occurrence)
        elif _makes_up(rules, now - occurrence, made_up, replaced=bool(due)):
            due.append(occurrence)
            made_up += 1
        else:
            break
        if occurrence == next_run_at:
            break  # to look for an earlier one would cost as much as all of this
        later = occurrence
    due.reverse()
    rest = due[0] if due else upcoming or now + _MICROSECOND
    return Decision(
        due=tuple(due),
        missed=_missed(recurrence, _spans(rules, next_run_at, rest, now, replaced=bool(due))),
        next_run_at=upcoming,
        due_at=upcoming and jittered(schedule_id, upcoming, following, rules.jitter),
    )


def jittered(schedule_id: UUID, occurrence: datetime, following: datetime | None, jitter: timedelta) -> datetime:
    """Return when `occurrence` comes: always the same moment, less than `jitter` later, and before `following`."""
    if not jitter:
        return occurrence
    most = jitter if following is None else min(jitter, following - occurrence)
    at = ((occurrence - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True)
    share = int.from_bytes(blake2b(schedule_id.bytes + at, digest_size=8).digest(), "big")
    return occurrence + (most // _MICROSECOND * share >> 64) * _MICROSECOND


def _makes_up(rules: Rules, late: timedelta, made_up: int, *, replaced: bool) -> bool:
    """Say whether a misfire starts; of the later ones, `made_up` do. `replaced`: anything later does."""
    if late > rules.catchup_window:
        return False
    match rules.misfire:
        case Misfire.NONE:
            return False
        case Misfire.LAST:
            return not replaced
        case Misfire.ALL:
            return made_up < rules.misfire_limit


def _spans(rules: Rules, begin: datetime, end: datetime, now: datetime, *, replaced: bool) -> list[_Span]:
    """The times from `begin` up to `end`, in which no occurrence starts, by the reason for that."""
    match rules.misfire:
        case Misfire.NONE:
            return [(begin, end, Reason.MISSED)]
        case Misfire.LAST:
            return [(begin, end, Reason.SUPERSEDED if replaced else Reason.TOO_LATE)]
        case Misfire.ALL:
            window = min(now - rules.catchup_window, end)
            return [(begin, window, Reason.TOO_LATE), (max(begin, window), end, Reason.OVER_LIMIT)]


def _missed(recurrence: Recurrence, spans: Iterable[_Span]) -> tuple[Missed, ...]:
    missed = []
    left = COUNTED
    for begin, end, reason in spans:
        if begin >= end:
            continue
        ahead = takewhile(end.__gt__, recurrence.after(begin - _MICROSECOND))
        seen = list(islice(ahead, left + 1))
        if len(seen) > left:
            missed.append(Missed(seen[0], next(recurrence.before(end)), None, reason))
        elif seen:
            missed.append(Missed(seen[0], seen[-1], len(seen), reason))
        left = max(0, left - len(seen))
    return tuple(missed)
