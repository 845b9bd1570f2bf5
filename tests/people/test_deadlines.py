"""What the clock does: the pure decision by properties, and the duty on a real database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.people import deadlines
from gorax_engine.people.deadlines import Act, Deadlines, End, Escalate, Level, Remind, due, watch
from gorax_engine.store import task_deadlines
from gorax_engine.store.session import open_session

from .office import Office, Task, text

if TYPE_CHECKING:
    from gorax_engine.store.session import Session
    from tests.conftest import Database as TestDatabase

PAST = text(datetime.now(UTC) - timedelta(minutes=5))
SOON = text(datetime.now(UTC) + timedelta(hours=5))

LEVELS = st.lists(
    st.builds(Level, st.just(1), st.just(()), st.none() | st.integers(1, 50), st.booleans()), max_size=4
).map(lambda levels: tuple(replace(level, number=at + 1) for at, level in enumerate(levels)))
CLOCKS = st.builds(
    Deadlines,
    st.lists(st.integers(0, 100), max_size=4, unique=True).map(lambda moments: tuple(sorted(moments))),
    st.none() | st.integers(0, 100),
    LEVELS,
    st.just(0),
    st.sampled_from(["approve", "reject", "expire"]),
)


@given(CLOCKS, st.lists(st.integers(0, 60), max_size=40))
def test_whatever_the_pauses_levels_come_in_order_each_with_its_whole_time_and_the_end_last(
    clock: Deadlines, pauses: list[int]
) -> None:
    now, acts = 0, list[tuple[int, Act]]()
    for pause in pauses:
        now += pause
        while (found := due(clock, now)) is not None:
            before, (act, clock) = clock, found
            at = before.next_at()
            assert at is not None
            assert at <= now
            acts.append((now, act))
            assert clock != before
            following = clock.next_at()
            assert following is None or following > now
        following = clock.next_at()
        assert following is None or following > now
    reached = [(at, act.level) for at, act in acts if isinstance(act, Escalate)]
    assert [level.number for _, level in reached] == list(range(1, len(reached) + 1))
    for (at, level), (later, _) in pairwise(reached):
        assert level.length is not None
        assert later >= at + level.length
    ends = [place for place, (_, act) in enumerate(acts) if isinstance(act, End)]
    assert ends in ([], [len(acts) - 1])
    if ends:
        assert len(reached) == len(clock.levels)
    assert sum(isinstance(act, Remind) for _, act in acts) <= 4


def test_missed_reminders_are_one_and_none_comes_with_an_end() -> None:
    clock = Deadlines((10, 20, 90), 100)
    assert due(clock, 5) is None
    assert due(clock, 25) == (Remind(), Deadlines((90,), 100))
    assert due(clock, 100) == (End("expired"), Deadlines())


@pytest.mark.parametrize(
    ("final", "status", "response"),
    [
        ("approve", "approved", {"n": 3, "comment": "Approved because nobody decided in time.", "auto_action": True}),
        ("reject", "rejected", {"reason": "Rejected because nobody decided in time.", "auto_action": True}),
        ("expire", "expired", {}),
    ],
)
async def test_the_time_is_over(session: Session, office: Office, final: str, status: str, response: Any) -> None:
    form = [{"name": "n", "type": "number", "label": "n", "required": True, "options": [], "default": 3}]
    task = await office.open("ann", limit_at=PAST, final_action=final, form_fields=form)
    other = await office.open("ann", limit_at=SOON, final_action=final)
    assert await watch(session) == 1
    assert await watch(session) == 0
    row = await office.row(task)
    assert (row["status"], row["completed_by"], row["response_data"]) == (status, None, response)
    assert row["history"][0]["event"] == "timed_out"
    signal = await office.signal(task)
    assert (signal["outcome"], signal["output"]["by"], signal["output"]["response"]) == (status, None, response)
    assert (await office.row(other))["status"] == "pending"
    assert await office.open_for("ann") == {other.id}


async def turn_back(office: Office, task: Task) -> None:
    """Let a task's time be over."""
    await office.owner.execute(
        "UPDATE human_tasks SET limit_at = now() - interval '1 s', next_action_at = now() - interval '1 s'"
        " WHERE id = $1",
        task.id,
    )


async def test_escalation_level_by_level_and_the_final_action(session: Session, office: Office) -> None:
    carl = str(office.users["carl"])
    levels = [
        {"level": 1, "to": [{"type": "role", "name": "ops"}], "seconds": 600.0, "notify_original": True},
        {"level": 2, "to": [{"type": "user", "id": carl}], "seconds": 60.0, "notify_original": False},
    ]
    task = await office.open("ann", limit_at=PAST, levels=levels, final_action="reject", due_date=PAST)

    assert await watch(session) == 1
    row = await office.row(task)
    assert (row["status"], row["escalation_level"]) == ("pending", 1)
    assert [each.get("name") for each in row["assignees"]] == [None, "ops"]
    assert timedelta(minutes=9) < row["limit_at"] - datetime.now(UTC) <= timedelta(minutes=10)
    assert row["next_action_at"] == row["limit_at"] == row["due_date"]
    assert (await office.told("dora"), await office.told("ann")) == (
        ["task_escalated"], ["task_assigned", "task_escalated"],
    )  # fmt: skip
    assert await office.open_for("ops") == {task.id}

    await turn_back(office, task)
    assert await watch(session) == 1
    assert (await office.row(task))["escalation_level"] == 2
    assert await office.told("carl") == ["task_escalated"]
    assert await office.told("dora") == ["task_escalated"]

    await turn_back(office, task)
    assert await watch(session) == 1
    row = await office.row(task)
    assert row["status"] == "rejected"
    assert [(each["event"], each.get("level")) for each in row["history"]] == [
        ("escalated", 1), ("escalated", 2), ("timed_out", None),
    ]  # fmt: skip


async def test_a_level_without_an_end_leaves_the_task_open(session: Session, office: Office) -> None:
    level = {"level": 1, "to": [{"type": "role", "name": "ops"}], "seconds": None, "notify_original": False}
    task = await office.open("ann", limit_at=PAST, levels=[level], notify_on_escalate=False)
    assert await watch(session) == 1
    row = await office.row(task)
    assert (row["status"], row["next_action_at"], row["limit_at"]) == ("pending", None, None)
    assert await office.told("dora") == []


async def test_reminders_are_given_once(session: Session, office: Office) -> None:
    task = await office.open("ann", reminders=[PAST, SOON], due_date=SOON)
    assert await watch(session) == 1
    assert await watch(session) == 0
    row = await office.row(task)
    assert text(row["next_action_at"]) == SOON
    assert await office.told("ann") == ["task_assigned", "task_reminder"]
    await office.owner.execute("UPDATE human_tasks SET next_action_at = now()")
    # The rest is judged by the configured moments: the first was given, the second is not due.
    assert await watch(session) == 0


async def test_two_that_watch_at_once_do_everything_once(
    session: Session, office: Office, migrated_database: TestDatabase
) -> None:
    level = {"level": 1, "to": [{"type": "role", "name": "ops"}], "seconds": 600.0, "notify_original": False}
    tasks = [await office.open("ann", limit_at=PAST, levels=[level] if at % 2 else []) for at in range(20)]
    counts: list[int] = []
    async with open_session(*migrated_database.settings.for_worker()) as other, anyio.create_task_group() as group:

        async def one(mine: Session) -> None:
            counts.append(await watch(mine))

        group.start_soon(one, session)
        group.start_soon(one, other)
    assert sum(counts) == 20
    rows = [await office.row(task) for task in tasks]
    assert [len(row["history"]) for row in rows] == [1] * 20
    assert len(await office.told("dora")) == 10


async def test_a_task_that_was_closed_meanwhile_is_left_alone(session: Session, office: Office) -> None:
    level = {"level": 1, "to": [{"type": "role", "name": "ops"}], "seconds": 600.0, "notify_original": False}
    tasks = [await office.open("ann", limit_at=PAST, levels=levels) for levels in ([], [level])]
    found = await task_deadlines.due(session, 10)
    assert len(found) == 2
    await office.close(*(task.step_id for task in tasks))
    assert await deadlines._act(session, found) == 0
    assert [(await office.row(task))["status"] for task in tasks] == ["cancelled"] * 2


async def test_a_thousand_at_once(session: Session, office: Office) -> None:
    """All in well under the two seconds that wake-ups may take, in several batches."""
    run, _ = await office.wait()
    await office.owner.execute(
        "WITH made AS ("
        "  INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind)"
        "  SELECT gorax_uuid7(), $1, $2, 'ask', 'human_task' FROM generate_series(1, 1000) RETURNING step_id)"
        " SELECT gorax_open_tasks(jsonb_agg(jsonb_build_object('tenant_id', $1::uuid, 'execution_id', $2::uuid,"
        "   'step_id', step_id, 'node_id', 'ask', 'content', jsonb_build_object('title', 't', 'limit_at', $3::text,"
        "   'assignees', '[{\"type\": \"role\", \"name\": \"none\"}]'::jsonb)))) FROM made",
        office.tenant, run, PAST,
    )  # fmt: skip
    begun = datetime.now(UTC)
    assert await watch(session) == 1000
    assert datetime.now(UTC) - begun < timedelta(seconds=2)
    assert await office.owner.fetchval("SELECT count(*) FROM signals") == 1000
