"""What a schedule does when its time has come: what starts, what never will, and that nothing falls between."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gorax_engine.core.firing import COUNTED, ON_TIME, Decision, Misfire, Missed, Reason, Rules, decide, jittered
from gorax_engine.core.recurrence import Recurrence, read_recurrence

SCHEDULE = UUID("01890000-0000-7000-8000-000000000001")
MICROSECOND = timedelta(microseconds=1)
HOURLY = read_recurrence("0 * * * *")


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-{text}").replace(tzinfo=UTC)


def hours(first: str, count: int) -> tuple[datetime, ...]:
    return tuple(at(first) + timedelta(hours=n) for n in range(count))


def test_nothing_has_come() -> None:
    for now in ("10T11:59:59.999999", "09T00:00"):
        decision = decide(HOURLY, Rules(), SCHEDULE, at("10T12:00"), at(now))
        assert decision == Decision((), (), at("10T12:00"), at("10T12:00"))


@pytest.mark.parametrize("misfire", Misfire)
def test_what_is_on_time_starts_whatever_the_rules(misfire: Misfire) -> None:
    rules = Rules(misfire, catchup_window=timedelta(0))
    for late in (timedelta(0), ON_TIME):
        decision = decide(HOURLY, rules, SCHEDULE, at("10T12:00"), at("10T12:00") + late)
        assert decision == Decision((at("10T12:00"),), (), at("10T13:00"), at("10T13:00"))


def test_misfires_of_which_none_starts() -> None:
    rules = Rules(Misfire.NONE)
    missed = Missed(at("10T08:00"), at("10T12:00"), 5, Reason.MISSED)
    decision = decide(HOURLY, rules, SCHEDULE, at("10T08:00"), at("10T12:30"))
    assert decision == Decision((), (missed,), at("10T13:00"), at("10T13:00"))
    decision = decide(HOURLY, rules, SCHEDULE, at("10T08:00"), at("10T13:00:05"))
    assert decision == Decision((at("10T13:00"),), (missed,), at("10T14:00"), at("10T14:00"))


def test_misfires_of_which_the_last_starts() -> None:
    rules = Rules(Misfire.LAST, catchup_window=timedelta(minutes=30))

    def decision(now: str) -> Decision:
        return decide(HOURLY, rules, SCHEDULE, at("10T08:00"), at(now))

    superseded = Missed(at("10T08:00"), at("10T11:00"), 4, Reason.SUPERSEDED)
    assert decision("10T12:30") == Decision((at("10T12:00"),), (superseded,), at("10T13:00"), at("10T13:00"))
    too_late = Missed(at("10T08:00"), at("10T12:00"), 5, Reason.TOO_LATE)
    assert decision("10T12:30:00.000001") == Decision((), (too_late,), at("10T13:00"), at("10T13:00"))
    superseded = Missed(at("10T08:00"), at("10T12:00"), 5, Reason.SUPERSEDED)
    assert decision("10T13:00:10") == Decision((at("10T13:00"),), (superseded,), at("10T14:00"), at("10T14:00"))
    assert decision("10T08:20") == Decision((at("10T08:00"),), (), at("10T09:00"), at("10T09:00"))
    superseded = Missed(at("10T08:00"), at("10T11:00"), 4, Reason.SUPERSEDED)
    assert decide(HOURLY, Rules(), SCHEDULE, at("10T08:00"), at("10T12:30")) == Decision(
        (at("10T12:00"),), (superseded,), at("10T13:00"), at("10T13:00")
    )


def test_misfires_of_which_all_start() -> None:
    def decision(now: str, window: float, limit: int) -> Decision:
        rules = Rules(Misfire.ALL, limit, timedelta(hours=window))
        return decide(HOURLY, rules, SCHEDULE, at("10T08:00"), at(now))

    following = (at("10T13:00"), at("10T13:00"))
    assert decision("10T12:30", 24, 5) == Decision(hours("10T08:00", 5), (), *following)
    over_limit = Missed(at("10T08:00"), at("10T10:00"), 3, Reason.OVER_LIMIT)
    assert decision("10T12:30", 24, 2) == Decision(hours("10T11:00", 2), (over_limit,), *following)
    too_late = Missed(at("10T08:00"), at("10T09:00"), 2, Reason.TOO_LATE)
    assert decision("10T12:30", 2.5, 5) == Decision(hours("10T10:00", 3), (too_late,), *following)
    over_limit = Missed(at("10T10:00"), at("10T11:00"), 2, Reason.OVER_LIMIT)
    assert decision("10T12:30", 2.5, 1) == Decision(hours("10T12:00", 1), (too_late, over_limit), *following)
    all_too_late = Missed(at("10T08:00"), at("10T12:00"), 5, Reason.TOO_LATE)
    assert decision("10T12:30", 0.25, 1) == Decision((), (all_too_late,), *following)
    # What is on time is no misfire: it neither counts toward the limit nor makes up for anything.
    assert decision("10T13:00", 3, 1) == Decision(
        hours("10T12:00", 2),
        (
            Missed(at("10T08:00"), at("10T09:00"), 2, Reason.TOO_LATE),
            Missed(at("10T10:00"), at("10T11:00"), 2, Reason.OVER_LIMIT),
        ),
        at("10T14:00"),
        at("10T14:00"),
    )


def test_a_schedule_that_has_ended() -> None:
    ended = replace(HOURLY, ends_at=at("10T10:00"))
    decision = decide(ended, Rules(), SCHEDULE, at("10T10:00"), at("10T10:00"))
    assert decision == Decision((at("10T10:00"),), (), None, None)
    missed = Missed(at("10T08:00"), at("10T10:00"), 3, Reason.MISSED)
    decision = decide(ended, Rules(Misfire.NONE), SCHEDULE, at("10T08:00"), at("10T10:30"))
    assert decision == Decision((), (missed,), None, None)
    assert decide(ended, Rules(), SCHEDULE, at("10T11:00"), at("10T13:00")) == Decision((), (), None, None)


def test_a_time_that_is_no_occurrence_any_more() -> None:
    """Such as after a change of the rules of its time zone."""
    decision = decide(HOURLY, Rules(), SCHEDULE, at("10T11:30"), at("10T11:30"))
    assert decision == Decision((), (), at("10T12:00"), at("10T12:00"))
    decision = decide(HOURLY, Rules(Misfire.ALL), SCHEDULE, at("10T11:30"), at("10T13:00"))
    assert decision.due == hours("10T12:00", 2)


def test_more_misfires_than_are_counted() -> None:
    each_second = read_recurrence("* * * * * *")
    begin, now = at("01T00:00"), at("20T12:00:00.5")
    decision = decide(each_second, Rules(Misfire.ALL, 1_000), SCHEDULE, begin, now)
    # Those of the last 10 seconds are on time.
    assert decision.due == tuple(at("20T12:00:00") - timedelta(seconds=n) for n in range(1_009, -1, -1))
    assert decision.missed == (
        Missed(begin, at("19T12:00:00"), None, Reason.TOO_LATE),
        Missed(at("19T12:00:01"), decision.due[0] - timedelta(seconds=1), None, Reason.OVER_LIMIT),
    )
    assert decision.next_run_at == decision.due_at == at("20T12:00:01")
    minutely = read_recurrence("* * * * *")
    for count in (COUNTED, COUNTED + 1):
        decision = decide(minutely, Rules(Misfire.NONE), SCHEDULE, begin, begin + timedelta(minutes=count - 0.5))
        (missed,) = decision.missed
        assert (missed.first, missed.last) == (begin, begin + timedelta(minutes=count - 1))
        assert missed.count == (count if count == COUNTED else None)
    # What is too late and what is over the limit are counted together.
    for limit, second in ((200, 400), (199, None)):
        rules = Rules(Misfire.ALL, limit, timedelta(minutes=600))
        decision = decide(minutely, rules, SCHEDULE, begin, begin + timedelta(minutes=1_199.5))
        assert [(missed.reason, missed.count) for missed in decision.missed] == [
            (Reason.TOO_LATE, 600), (Reason.OVER_LIMIT, second),
        ]  # fmt: skip


# Jitter.


def test_jitter_is_always_the_same() -> None:
    """Pinned: another share would move what is already planned."""
    jitter = timedelta(hours=1)
    times = [jittered(SCHEDULE, hour, hour + timedelta(hours=1), jitter) - hour for hour in hours("10T12:00", 3)]
    assert times == [timedelta(seconds=n) for n in (2_313.966079, 795.105111, 2_940.821685)]
    other = UUID(int=SCHEDULE.int + 1)
    assert jittered(other, at("10T12:00"), at("10T13:00"), jitter) - at("10T12:00") != times[0]


@given(st.uuids(), st.integers(-(10**16), 10**17), st.integers(1, 10**12), st.integers(0, 10**12))
def test_jitter_stays_before_the_following_occurrence(schedule: UUID, since: int, apart: int, jitter: int) -> None:
    time = at("10T12:00") + since * MICROSECOND
    following, most = time + apart * MICROSECOND, jitter * MICROSECOND
    comes = jittered(schedule, time, following, most)
    assert time <= comes < following
    assert comes - time < most or comes == time
    assert time <= jittered(schedule, time, None, most) <= time + most


def test_jitter_spreads_evenly() -> None:
    minute = timedelta(minutes=1)
    delays = [jittered(UUID(int=n), at("10T12:00"), None, minute) - at("10T12:00") for n in range(4_000)]
    quarters = [sum(1 for delay in delays if delay // (minute / 4) == n) for n in range(4)]
    assert sum(quarters) == 4_000
    assert all(850 < quarter < 1_150 for quarter in quarters)


def test_an_occurrence_comes_with_its_jitter() -> None:
    rules = Rules(Misfire.ALL, jitter=timedelta(hours=3))
    twelve, one, two = hours("10T12:00", 3)
    comes = jittered(SCHEDULE, twelve, one, rules.jitter)
    assert twelve < comes < one
    before = decide(HOURLY, rules, SCHEDULE, twelve, comes - MICROSECOND)
    assert before == Decision((), (), twelve, comes)
    comes_next = jittered(SCHEDULE, one, two, rules.jitter)
    for now in (comes, comes + ON_TIME):
        assert decide(HOURLY, replace(rules, misfire=Misfire.NONE), SCHEDULE, twelve, now) == Decision(
            (twelve,), (), one, comes_next
        )
    late = decide(HOURLY, replace(rules, misfire=Misfire.NONE), SCHEDULE, twelve, comes + ON_TIME + MICROSECOND)
    assert late == Decision((), (Missed(twelve, twelve, 1, Reason.MISSED),), one, comes_next)
    # Its time has passed, but not its jitter: it is planned, and what is before it is not superseded by it.
    pending = decide(HOURLY, replace(rules, misfire=Misfire.LAST), SCHEDULE, twelve, comes_next - MICROSECOND)
    assert pending == Decision((twelve,), (), one, comes_next)


# Over time.

RULES = st.builds(
    Rules,
    misfire=st.sampled_from(Misfire),
    misfire_limit=st.sampled_from((1, 2, 7, 100, 1_000)),
    catchup_window=st.sampled_from((0, 7, 60, 3_600, 86_400, 30 * 86_400)).map(lambda n: timedelta(seconds=n)),
    jitter=st.sampled_from((0, 0.3, 5, 45, 600, 86_400)).map(lambda n: timedelta(seconds=n)),
)
RECURRENCES = st.builds(
    read_recurrence,
    st.sampled_from((
        "* * * * *", "*/15 * * * *", "30 2 * * *", "0,30 1-3 * * *", "0 0 * * *", "17 */6 * * *", "0 0 1,15 * 1",
        "*/7 * * * * *", "* * * * * *", "* 59 * * * *", "0 2 * * SUN",
    )),
    st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")),
    gap=st.sampled_from(("skip", "shift")),
    fold=st.sampled_from(("first", "both")),
    ends_at=st.one_of(st.none(), st.integers(0, 90_000).map(lambda n: at("28T12:00") + timedelta(seconds=n))),
)  # fmt: skip
SECONDS = st.one_of(st.floats(0, 15), st.floats(0, 4_000), st.floats(0, 100_000), st.sampled_from((0.0, 60.0, 3_600.0)))
OUTAGES = st.lists(SECONDS.map(lambda n: timedelta(seconds=n)), min_size=1, max_size=12)


def everything(recurrence: Recurrence, rules: Rules, begin: datetime, now: datetime) -> list[tuple[datetime, datetime]]:
    """All occurrences from `begin` on that have come, with the moment when they came, by counting forwards."""
    times = list(takewhile(lambda time: time <= now, recurrence.after(begin - MICROSECOND)))
    pairs = pairwise([*times, next(recurrence.after(now), None)])
    comes = [(time, jittered(SCHEDULE, time, following, rules.jitter)) for time, following in pairs if time is not None]
    return [(time, moment) for time, moment in comes if moment <= now]


def expected_starts(come: Sequence[tuple[datetime, datetime]], rules: Rules, now: datetime) -> list[datetime]:
    """What starts, as the rules say it, with everything at hand."""
    on_time = [time for time, moment in come if now - moment <= ON_TIME]
    misfires = [time for time, moment in come if now - moment > ON_TIME]
    within = [time for time in misfires if now - time <= rules.catchup_window]
    match rules.misfire:
        case Misfire.NONE:
            return on_time
        case Misfire.LAST:
            return on_time or [time for time in within if time == misfires[-1]]
        case Misfire.ALL:
            return within[-rules.misfire_limit :] + on_time


def expected_reason(time: datetime, rules: Rules, now: datetime, *, any_due: bool) -> Reason:
    match rules.misfire:
        case Misfire.NONE:
            return Reason.MISSED
        case Misfire.LAST:
            return Reason.SUPERSEDED if any_due else Reason.TOO_LATE
        case Misfire.ALL:
            return Reason.TOO_LATE if now - time > rules.catchup_window else Reason.OVER_LIMIT


@settings(deadline=None, max_examples=200)
@given(RECURRENCES, RULES, OUTAGES)
@example(read_recurrence("* * * * * *"), Rules(Misfire.ALL, 2), [timedelta(seconds=n) for n in (5, 60_000, 0, 3)])
@example(read_recurrence("*/7 * * * * *"), Rules(Misfire.NONE, jitter=timedelta(60)), [timedelta(seconds=8_000)])
def test_every_occurrence_starts_or_is_missed_once(
    recurrence: Recurrence, rules: Rules, outages: list[timedelta]
) -> None:
    now = at("28T20:00")
    next_run_at = next(recurrence.after(now), None)
    begin, started = next_run_at, list[datetime]()
    missed: list[Missed] = []
    for outage in outages:
        if next_run_at is None:
            break
        now += outage
        come = everything(recurrence, rules, next_run_at, now)
        decision = decide(recurrence, rules, SCHEDULE, next_run_at, now)
        assert list(decision.due) == expected_starts(come, rules, now)
        stretches = [(stretch.first, stretch.last) for stretch in decision.missed]
        assert sorted(stretches) == stretches
        lost = [time for time, _ in come if any(first <= time <= last for first, last in stretches)]
        assert sorted(lost + list(decision.due)) == [time for time, _ in come]
        for stretch in decision.missed:
            held = [time for time in lost if stretch.first <= time <= stretch.last]
            assert (held[0], held[-1]) == (stretch.first, stretch.last)
            assert {expected_reason(time, rules, now, any_due=bool(decision.due)) for time in held} == {stretch.reason}
            assert stretch.count in ({len(held)} if len(lost) <= COUNTED else {len(held), None})
        following = list(islice(recurrence.after(come[-1][0] if come else next_run_at - MICROSECOND), 2))
        assert decision.next_run_at == (following[0] if following else None)
        if decision.next_run_at is None:
            assert decision.due_at is None
        else:
            after = following[1] if len(following) == 2 else None
            assert decision.due_at == jittered(SCHEDULE, decision.next_run_at, after, rules.jitter) > now
        started += decision.due
        missed += decision.missed
        next_run_at = decision.next_run_at
    assert started == sorted(set(started))
    assert all(first.last < second.first for first, second in pairwise(missed))
    if begin is not None:
        assert all(begin <= time <= now for time in started)
