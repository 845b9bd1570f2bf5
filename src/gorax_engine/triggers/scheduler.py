"""Starting what schedules have due: the work of the `scheduler` role, shared by any number of processes.

One round is one transaction. It locks a batch of due schedules, passing over those that another scheduler is at,
decides, starts the runs, records what became of each occurrence, and moves the schedules on: all of that or nothing.
The lock and the key of an occurrence make it start once; the database's clock says what is due.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from gorax_engine.core.firing import COUNTED, decide, jittered
from gorax_engine.core.overlap import Fate, Verdict, fates
from gorax_engine.core.schedules import Overlap, recurrence_of, rules_of
from gorax_engine.errors import Unavailable
from gorax_engine.store import queue, scheduler
from gorax_engine.store.scheduler import AdvancedRow, DecidedRow, MissedRow
from gorax_engine.telemetry import ExecutionStarted, OccurrencesDecided, ScheduleFired, get_logger
from gorax_engine.triggers.scheduled_starts import STARTED, Outcome, ScheduledStart, start_scheduled

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from gorax_engine.core.firing import Decision, Rules
    from gorax_engine.core.recurrence import Recurrence
    from gorax_engine.store.database import Connection, Database
    from gorax_engine.store.scheduler import Circumstances, LockedSchedule
    from gorax_engine.telemetry import Telemetry, TelemetryEvent

    Act: TypeAlias = Callable[[Connection], Awaitable["Round"]]

BATCH: Final = 200
MAX_STARTS: Final = 1_000
"""Occurrences in one round, unless a single schedule has more of them to make up for."""
MAX_CHARACTERS: Final = 8 * 1024 * 1024
"""What the inputs of a round hold together, unless they are those of a single schedule."""
SLICE: Final = 0.2
"""Seconds that a round may think: much is to be made up for after a long outage, and locks are held meanwhile."""
POLL: Final = 1.0
"""Seconds after which a scheduler looks again, though nothing is due: others make and change schedules."""
LEAST_PAUSE: Final = 0.02
"""Seconds to wait for what is due and in another scheduler's hands."""
FAULT_PAUSE: Final = 1.0

CANCEL_REASON: Final = "The schedule's next run has begun."

_MICROSECOND: Final = timedelta(microseconds=1)
_log = get_logger(__name__)


@dataclass(slots=True)
class Round:
    """What one transaction did, to be told after its commit. `more` says that there is more to do at once."""

    more: bool = False
    told: list[TelemetryEvent] = field(default_factory=list)
    disabled: list[tuple[UUID, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Firing:
    """A due schedule, and what was decided on its occurrences; `due` are those that nobody has started before."""

    schedule: LockedSchedule
    around: Circumstances
    decision: Decision
    due: Sequence[datetime]

    def fates(self) -> list[Fate]:
        around = self.around
        return fates(Overlap(self.schedule.overlap_policy), self.due, around.live, around.queued, around.refusal)

    def lag(self, at: datetime) -> int:
        """How much later than its time and its jitter an occurrence is looked at, in microseconds."""
        decided = self.decision
        following = next((later for later in decided.due if later > at), decided.next_run_at)
        return (self.around.now - jittered(self.schedule.id, at, following, self.schedule.jitter)) // _MICROSECOND


class Scheduler:
    """Starts what is due. `run` does so until it is cancelled."""

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._telemetry = telemetry

    async def run(self) -> None:
        """Start what is due, as soon as it is, until cancelled. A fault is told, and what it left is tried again."""
        while True:
            try:
                pause = await self.work_off()
            except Unavailable as error:
                _log.info("scheduler_waits", reason=error.message)
                pause = FAULT_PAUSE
            except Exception:  # noqa: BLE001 - whatever is wrong with one round, the others go on
                _log.exception("scheduler_round_failed")
                pause = FAULT_PAUSE
            await anyio.sleep(pause)

    async def work_off(self) -> float:
        """Start all that is due and can be started of what is queued; return in how many seconds to look again.

        Raises Unavailable; then what was not committed is left as it was.
        """
        async with self._database.worker() as connection:
            seen = await scheduler.peek(connection)
            if seen.queued:
                await self._rounds(connection, start_queued)
            if seen.due_in is not None and seen.due_in <= 0:
                await self._rounds(connection, start_due)
                seen = await scheduler.peek(connection)
        return POLL if seen.due_in is None else min(max(seen.due_in, LEAST_PAUSE), POLL)

    async def _rounds(self, connection: Connection, act: Act) -> None:
        more = True
        while more:
            async with connection.transaction():
                done = await act(connection)
            more = done.more
            for event in done.told:
                self._telemetry.emit(event)
            for schedule_id, reason in done.disabled:
                _log.error("schedule_disabled", schedule_id=str(schedule_id), reason=reason)


# --- what is due ------------------------------------------------------------------------------------------------------


async def start_due(connection: Connection) -> Round:
    """Start what a batch of schedules has due, within the caller's transaction."""
    locked = await scheduler.lock_due(connection, BATCH)
    if not locked:
        return Round()
    around = await scheduler.circumstances(connection, [schedule.id for schedule in locked])
    firings, broken = _decided(locked, around)
    done = Round(more=len(locked) == BATCH or len(firings) + len(broken) < len(locked))
    firings, broken = await _untaken(connection, firings, broken)
    await _request_cancels(connection, firings)
    decided = [(firing, fate) for firing in firings for fate in firing.fates()]
    starts = [_start(firing, fate) for firing, fate in decided if fate.verdict is Verdict.START]
    outcomes = {
        (outcome.start.schedule_id, outcome.start.scheduled_for): outcome
        for outcome in await start_scheduled(connection, starts)
    }
    rows = [_row(firing, fate, outcomes) for firing, fate in decided]
    rows += [DecidedRow(one.id, at, one.tenant_id, "failed", reason, None) for one, at, reason in broken if at]
    missed = [
        MissedRow(firing.schedule.id, one.first, firing.schedule.tenant_id, one.reason, one.last, one.count)
        for firing in firings
        for one in firing.decision.missed
    ]
    if rows:
        await scheduler.record_decided(connection, rows)
    if missed:
        await scheduler.record_missed(connection, missed)
    if firings:
        await scheduler.advance(connection, [_advanced(firing, outcomes) for firing in firings])
    if broken:
        await scheduler.disable(connection, [schedule.id for schedule, _, _ in broken])
        done.disabled = [(schedule.id, reason) for schedule, _, reason in broken]
    _tell(done, [row.status for row in rows], sum(row.number or COUNTED for row in missed))
    done.told += [
        ScheduleFired(firing.lag(at))
        for firing in firings
        for at in firing.due
        if (outcome := outcomes.get((firing.schedule.id, at))) is not None and outcome.status == STARTED
    ]
    return done


class _Decisions:
    """The decisions of one round. Many schedules have one cron line; without jitter what is due is the same for all."""

    def __init__(self) -> None:
        self._made: dict[tuple[Recurrence, Rules, datetime], Decision] = {}

    def on(self, schedule: LockedSchedule, recurrence: Recurrence, rules: Rules, now: datetime) -> Decision:
        next_run_at = schedule.next_run_at or now
        if rules.jitter:
            return decide(recurrence, rules, schedule.id, next_run_at, now)
        key = recurrence, rules, next_run_at
        if key not in self._made:
            self._made[key] = decide(recurrence, rules, schedule.id, next_run_at, now)
        return self._made[key]


_Broken: TypeAlias = "tuple[LockedSchedule, datetime | None, str]"


def _decided(
    locked: Sequence[LockedSchedule], around: Mapping[UUID, Circumstances]
) -> tuple[list[_Firing], list[_Broken]]:
    """Decide on as many of the schedules as one round may start, and find those that can't be read any more."""
    firings: list[_Firing] = []
    broken: list[_Broken] = []
    decisions = _Decisions()
    starts = characters = 0
    until = time.monotonic() + SLICE
    for schedule in locked:
        if firings and time.monotonic() > until:
            break
        seen = around[schedule.id]
        try:
            recurrence = recurrence_of(
                schedule.cron_expression,
                schedule.timezone,
                schedule.dst_gap,
                schedule.dst_fold,
                schedule.starts_at,
                schedule.ends_at,
            )
            rules = rules_of(schedule.misfire_policy, schedule.misfire_limit, schedule.catchup_window, schedule.jitter)
            decision = decisions.on(schedule, recurrence, rules, seen.now)
        except (ValueError, ArithmeticError) as error:  # a RecurrenceError; and no date can hold up all the others
            broken.append((schedule, schedule.next_run_at, f"unreadable: {error}"))
            continue
        starts += len(decision.due)
        characters += len(decision.due) * schedule.input_size
        if firings and (starts > MAX_STARTS or characters > MAX_CHARACTERS):
            break
        firings.append(_Firing(schedule, seen, decision, decision.due))
    return firings, broken


async def _untaken(
    connection: Connection, firings: Sequence[_Firing], broken: Sequence[_Broken]
) -> tuple[list[_Firing], list[_Broken]]:
    """Leave out the occurrences of which something has become already: those that were backfilled."""
    pairs = [(firing.schedule.id, at) for firing in firings for at in firing.due]
    pairs += [(schedule.id, at) for schedule, at, _ in broken if at is not None]
    taken = await scheduler.taken(connection, pairs) if pairs else set()
    if not taken:
        return list(firings), list(broken)
    left = [
        _Firing(one.schedule, one.around, one.decision, [at for at in one.due if (one.schedule.id, at) not in taken])
        for one in firings
    ]
    return left, [(schedule, None if (schedule.id, at) in taken else at, why) for schedule, at, why in broken]


async def _request_cancels(connection: Connection, firings: Sequence[_Firing]) -> None:
    """Ask the runs to end in whose place others start; before these are there, for locks are taken in order of age."""
    live = [
        run
        for firing in firings
        if firing.schedule.overlap_policy == Overlap.CANCEL_RUNNING and firing.due and firing.around.refusal is None
        for run in firing.around.live
    ]
    if live:
        locked = await scheduler.lock_runs(connection, live)
        await queue.request_cancel(connection, locked, CANCEL_REASON)


def _start(firing: _Firing, fate: Fate) -> ScheduledStart:
    return start_of(firing.schedule, fate.scheduled_for, firing.around.now)


def start_of(schedule: LockedSchedule, scheduled_for: datetime, now: datetime) -> ScheduledStart:
    """Return the start of an occurrence by the scheduler."""
    return ScheduledStart(
        schedule.id,
        schedule.tenant_id,
        schedule.workflow_id,
        schedule.node_id,
        schedule.priority,
        scheduled_for,
        now,
    )


_Outcomes: TypeAlias = "Mapping[tuple[UUID, datetime], Outcome]"


def _row(firing: _Firing, fate: Fate, outcomes: _Outcomes) -> DecidedRow:
    schedule, at = firing.schedule, fate.scheduled_for
    if fate.verdict is not Verdict.START:
        return DecidedRow(schedule.id, at, schedule.tenant_id, fate.verdict.value, fate.reason, None)
    outcome = outcomes[schedule.id, at]
    return DecidedRow(schedule.id, at, schedule.tenant_id, outcome.status, outcome.reason, outcome.execution_id)


def _advanced(firing: _Firing, outcomes: _Outcomes) -> AdvancedRow:
    runs = [
        outcome.execution_id
        for at in firing.due
        if (outcome := outcomes.get((firing.schedule.id, at))) is not None and outcome.execution_id is not None
    ]
    decision = firing.decision
    return AdvancedRow(
        firing.schedule.id,
        decision.next_run_at,
        decision.due_at,
        firing.around.now if runs else None,
        runs[-1] if runs else None,
    )


# --- what was queued --------------------------------------------------------------------------------------------------


async def start_queued(connection: Connection) -> Round:
    """Start the oldest queued occurrence of schedules that have no live run, within the caller's transaction.

    Of a workflow that can't be started, and of a schedule that was disabled, all that is queued is skipped.
    """
    locked = await scheduler.lock_queued(connection, BATCH)
    if not locked:
        return Round()
    ids = [schedule.id for schedule in locked]
    around = await scheduler.circumstances(connection, ids)
    done = Round()
    refusals = {id_: refusal for id_ in ids if (refusal := around[id_].refusal) is not None}
    if refusals:
        skipped = await scheduler.skip_queued(connection, refusals)
        _tell(done, ["skipped"] * skipped)
    oldest = await scheduler.oldest_queued(connection, ids)
    starts = [
        start_of(schedule, oldest[schedule.id], around[schedule.id].now)
        for schedule in locked
        if schedule.id in oldest and not around[schedule.id].live
    ]
    outcomes = await start_scheduled(connection, starts)
    if outcomes:
        await scheduler.record_queued(connection, [_queued_row(outcome) for outcome in outcomes])
        _tell(done, [outcome.status for outcome in outcomes])
    runs = [(o.start.schedule_id, o.start.fired_at, o.execution_id) for o in outcomes if o.execution_id is not None]
    if runs:
        await scheduler.note_runs(connection, runs)
    done.more = len(locked) == BATCH and bool(refusals or runs)
    return done


def _queued_row(outcome: Outcome) -> DecidedRow:
    start = outcome.start
    return DecidedRow(
        start.schedule_id, start.scheduled_for, start.tenant_id, outcome.status, outcome.reason, outcome.execution_id
    )


def _tell(done: Round, statuses: Sequence[str], missed: int = 0) -> None:
    counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
    if missed:
        counts["missed"] = missed
    done.told += [OccurrencesDecided(status, count) for status, count in counts.items()]
    if started := counts.get(STARTED):
        done.told.append(ExecutionStarted("schedule", started))
