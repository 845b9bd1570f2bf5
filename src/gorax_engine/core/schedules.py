"""What a schedule is told, read from what users write: the API's bodies and the configs of trigger nodes alike.

Every fault is told at once, each with the key that it stands at. `null` is the same as leaving a key out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from gorax_engine.core import json_edge
from gorax_engine.core.durations import format_duration, parse_duration
from gorax_engine.core.firing import Misfire, Rules, jittered
from gorax_engine.core.instants import format_instant, parse_instant
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import Instant, Json
from gorax_engine.core.recurrence import (
    Fold,
    Gap,
    Recurrence,
    normal_expression,
    read_recurrence,
)

MAX_INPUT: Final = 1 << 20
"""Bytes of the input of a schedule as JSON."""
MAX_MISFIRES: Final = 1_000
MAX_NAME: Final = 255
MAX_JITTER: Final = timedelta(days=1)
KEYS: Final = (
    "cron_expression", "timezone", "dst", "starts_at", "ends_at", "jitter", "catchup_window", "misfire_policy",
    "misfire_limit", "overlap_policy", "input",
)  # fmt: skip
"""What a schedule is told, as users write it."""

TIMING: Final = ("cron_expression", "timezone", "dst_gap", "dst_fold", "starts_at", "ends_at", "jitter")
"""The fields of a spec that say when a schedule is due."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_T = TypeVar("_T")
_Choice = TypeVar("_Choice", bound=StrEnum)


class Overlap(StrEnum):
    """What becomes of an occurrence whose schedule still has a run."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class ScheduleFault:
    """One fault: the path of keys to it, and a sentence with the mend."""

    path: tuple[str, ...]
    message: str


class ScheduleError(ValueError):
    """A schedule that can't be; `faults` are all that is wrong with it."""

    def __init__(self, faults: tuple[ScheduleFault, ...]) -> None:
        super().__init__(" ".join(fault.message for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A schedule's orders. The fields are named as the columns of `schedules`; times are aware."""

    cron_expression: str
    timezone: str = "UTC"
    dst_gap: str = Gap.SHIFT.value
    dst_fold: str = Fold.FIRST.value
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter: timedelta = timedelta()
    catchup_window: timedelta = timedelta(hours=24)
    misfire_policy: str = Misfire.LAST.value
    misfire_limit: int = 100
    overlap_policy: str = Overlap.SKIP.value
    input: Json = field(default_factory=dict)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> ScheduleSpec:
        """Return the orders of a stored schedule."""
        return cls(**{each.name: row[each.name] for each in fields(cls)})

    def recurrence(self) -> Recurrence:
        """When it occurs. Raises RecurrenceError if it can't be read any more: a time zone may be gone."""
        return recurrence_of(
            self.cron_expression, self.timezone, self.dst_gap, self.dst_fold, self.starts_at, self.ends_at
        )

    def first_run(self, schedule_id: UUID, now: datetime) -> tuple[datetime, datetime] | None:
        """Return the first occurrence later than `now`, and when it is due with its jitter; None if there is none.

        Raises RecurrenceError.
        """
        ahead = self.recurrence().after(now)
        at = next(ahead, None)
        if at is None:
            return None
        following = next(ahead, None) if self.jitter else None
        return at, jittered(schedule_id, at, following, self.jitter)

    def given(self) -> dict[str, Json]:
        """Return what a user would have written."""
        return {
            "cron_expression": self.cron_expression,
            "timezone": self.timezone,
            "dst": {"gap": self.dst_gap, "fold": self.dst_fold},
            "starts_at": None if self.starts_at is None else format_instant(instant_of(self.starts_at)),
            "ends_at": None if self.ends_at is None else format_instant(instant_of(self.ends_at)),
            "jitter": format_duration(self.jitter // _MICROSECOND),
            "catchup_window": format_duration(self.catchup_window // _MICROSECOND),
            "misfire_policy": self.misfire_policy,
            "misfire_limit": self.misfire_limit,
            "overlap_policy": self.overlap_policy,
            "input": self.input,
        }


@lru_cache(maxsize=10_000)
def recurrence_of(
    expression: str, timezone: str, gap: str, fold: str, starts_at: datetime | None, ends_at: datetime | None
) -> Recurrence:
    """Read what is stored of a recurrence. Raises RecurrenceError."""
    return read_recurrence(expression, timezone, gap=gap, fold=fold, starts_at=starts_at, ends_at=ends_at)


@lru_cache(maxsize=1_000)
def rules_of(misfire: str, misfire_limit: int, catchup_window: timedelta, jitter: timedelta) -> Rules:
    """Read what is stored of the rules by which a schedule fires."""
    return Rules(Misfire(misfire), misfire_limit, catchup_window, jitter)


def instant_of(moment: datetime) -> Instant:
    """Return an aware time as microseconds since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND


def read_spec(given: Mapping[str, Json]) -> ScheduleSpec:
    """Read what a user has written under KEYS; other keys are not looked at. Raises ScheduleError with every fault."""
    reader = _Reader({key: given[key] for key in KEYS if given.get(key) is not None})
    spec = reader.read()
    if reader.faults:
        raise ScheduleError(tuple(reader.faults))
    return spec


class _Reader:
    """One reading; where a key is wrong its fault is kept, and the default stands in for it."""

    def __init__(self, given: Mapping[str, Json]) -> None:
        self._given = given
        self.faults: list[ScheduleFault] = []

    def read(self) -> ScheduleSpec:
        default = ScheduleSpec("* * * * *")
        gap, fold = self._dst(default)
        starts_at, ends_at = self._moment("starts_at"), self._moment("ends_at")
        spec = ScheduleSpec(
            self._checked("cron_expression", _expression, default.cron_expression),
            self._checked("timezone", _timezone, default.timezone),
            gap,
            fold,
            starts_at,
            ends_at,
            self._checked("jitter", _jitter, default.jitter),
            self._checked("catchup_window", _duration, default.catchup_window),
            self._checked("misfire_policy", lambda value: _word(value, Misfire), Misfire(default.misfire_policy)).value,
            self._checked("misfire_limit", _limit, default.misfire_limit),
            self._checked("overlap_policy", lambda value: _word(value, Overlap), Overlap.SKIP).value,
            self._checked("input", _input, default.input),
        )
        if "cron_expression" not in self._given:
            self._fault("cron_expression", "A schedule needs a cron expression; `0 9 * * *` is every day at 9:00.")
        if starts_at is not None and ends_at is not None and ends_at <= starts_at:
            self._fault("ends_at", "`ends_at` must be later than `starts_at`.")
        return spec

    def _dst(self, default: ScheduleSpec) -> tuple[str, str]:
        value = self._given.get("dst", {})
        if not isinstance(value, dict):
            self._fault("dst", "`dst` must be an object, such as {gap: shift, fold: first}.")
            return default.dst_gap, default.dst_fold
        gap, fold = Gap(default.dst_gap), Fold(default.dst_fold)
        for key, member in value.items():
            try:
                match key:
                    case "gap":
                        gap = gap if member is None else _word(member, Gap)
                    case "fold":
                        fold = fold if member is None else _word(member, Fold)
                    case _:
                        raise ValueError("There is no such key; known are `gap` and `fold`.")
            except ValueError as error:
                self.faults.append(ScheduleFault(("dst", key), str(error)))
        return gap.value, fold.value

    def _moment(self, key: str) -> datetime | None:
        return self._checked(key, _moment, None)

    def _checked(self, key: str, read: Callable[[Json], _T], default: _T) -> _T:
        if key not in self._given:
            return default
        try:
            return read(self._given[key])
        except ValueError as error:
            self._fault(key, str(error))
            return default

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(ScheduleFault((key,), message))


def _expression(value: Json) -> str:
    if isinstance(value, str):
        normal_expression(value)
        return value.strip()
    raise ValueError("A cron expression is text, such as `0 9 * * *`.")


def _timezone(value: Json) -> str:
    if isinstance(value, str):
        return read_recurrence("* * * * *", value).timezone
    raise ValueError("A time zone is text, an IANA name such as `Europe/Berlin`.")


def _moment(value: Json) -> datetime:
    if isinstance(value, str):
        try:
            return _EPOCH + parse_instant(value) * _MICROSECOND
        except (ValueError, OverflowError):
            pass
    raise ValueError("A moment is written with its date, time and offset, such as 2030-01-31T09:00:00Z.")


def _duration(value: Json) -> timedelta:
    return timedelta(microseconds=parse_duration(value))


def _jitter(value: Json) -> timedelta:
    jitter = _duration(value)
    if jitter > MAX_JITTER:
        raise ValueError("The jitter can't be longer than 24h.")
    return jitter


def _word(value: Json, choices: type[_Choice]) -> _Choice:
    words = [choice.value for choice in choices]
    if value not in words:
        raise ValueError(f"This must be one of {', '.join(f'`{word}`' for word in words)}.")
    return choices(value)


def _limit(value: Json) -> int:
    if type(value) is not int or not 1 <= value <= MAX_MISFIRES:
        raise ValueError(f"`misfire_limit` must be a whole number from 1 to {MAX_MISFIRES:,}.")
    return value


def _input(value: Json) -> Json:
    try:
        size = len(json_edge.encode(value).encode())
    except Unencodable as error:
        raise ValueError(f"The input can't be stored: {error}.") from None
    if size > MAX_INPUT:
        raise ValueError(f"The input has {size} bytes as JSON; at most {MAX_INPUT} are allowed.")
    return value


def occurrences(recurrence: Recurrence, start: datetime, end: datetime) -> Iterator[datetime]:
    """Iterate over the occurrences from `start` through `end`, both included."""
    for at in recurrence.after(start - _MICROSECOND):
        if at > end:
            return
        yield at


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return `wanted`, or the first of `wanted 2`, `wanted 3`, ... that isn't taken."""
    name, number = wanted[:MAX_NAME], 1
    while name in taken:
        number += 1
        suffix = f" {number}"
        name = wanted[: MAX_NAME - len(suffix)] + suffix
    return name


def canonical_json(value: Json) -> bytes:
    """Return what two JSON values have in common if they are the same: to Python true is 1, and keys have an order."""
    return msgspec.json.encode(value, order="sorted")
