"""Schedules start what is due once, whoever looks, and say what became of every occurrence.

Time is moved by rows: a schedule's next occurrence lies in the past, and `ends_at` bounds how many have come.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import asyncpg
import pytest
import structlog
from pydantic import SecretStr

from gorax_engine.core.firing import decide, jittered
from gorax_engine.core.recurrence import RecurrenceError
from gorax_engine.core.schedules import recurrence_of
from gorax_engine.engine.starting import StartRequest
from gorax_engine.errors import Unavailable
from gorax_engine.ops.duties import maintenance_duties
from gorax_engine.settings import DatabaseSettings
from gorax_engine.store import queue, scheduler
from gorax_engine.store.database import Database, open_database
from gorax_engine.store.session import open_session
from gorax_engine.telemetry import ExecutionStarted, OccurrencesDecided, ScheduleFired, Telemetry, TelemetryEvent
from gorax_engine.triggers import scheduled_starts
from gorax_engine.triggers import scheduler as scheduling
from gorax_engine.triggers.scheduler import Scheduler
from tests.engine.conftest import engine_dsns, world  # noqa: F401
from tests.engine.harness import Flow, World, chain, tally, until

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@dataclass
class Board:
    """A database with one published workflow, and a scheduler that works when a test says so."""

    world: World
    database: Database
    flow: Flow
    user: uuid.UUID
    begin: datetime
    events: list[TelemetryEvent] = field(default_factory=list)

    async def schedule(self, flow: Flow | None = None, *, times: int = 1, **columns: Any) -> uuid.UUID:
        """Make a schedule of which `times` occurrences have come, a minute apart from `begin` on, and no more will."""
        flow = flow or self.flow
        row = {
            "name": uuid.uuid4().hex, "cron_expression": "* * * * *", "next_run_at": self.begin, "due_at": self.begin,
            "misfire_policy": "all", "ends_at": self.begin + (times - 1) * MINUTE, **columns,
            "tenant_id": flow.tenant, "workflow_id": flow.id, "created_by": self.user,
        }  # fmt: skip
        marks = ", ".join(f"${place}" for place in range(1, len(row) + 1))
        id_: uuid.UUID = await self.world.sql.fetchval(
            f"INSERT INTO schedules ({', '.join(row)}) VALUES ({marks}) RETURNING id", *row.values()
        )
        return id_

    async def work_off(self) -> float:
        telemetry = Telemetry()
        telemetry.subscribe(self.events.append)
        return await Scheduler(self.database, telemetry).work_off()

    async def again(self, schedule: uuid.UUID, times: int = 1) -> None:
        """Let `times` further occurrences have come, after those that have."""
        last = await self.world.sql.fetchval(
            "SELECT max(scheduled_for) FROM schedule_occurrences WHERE schedule_id = $1", schedule
        )
        await self.world.sql.execute(
            "UPDATE schedules SET next_run_at = $2, due_at = $2, ends_at = $3 WHERE id = $1",
            schedule, last + MINUTE, last + times * MINUTE,
        )  # fmt: skip

    async def occurrences(self, schedule: uuid.UUID) -> list[asyncpg.Record]:
        return list(
            await self.world.sql.fetch(
                "SELECT * FROM schedule_occurrences WHERE schedule_id = $1 ORDER BY scheduled_for", schedule
            )
        )

    async def statuses(self, schedule: uuid.UUID) -> list[str]:
        return [row["status"] for row in await self.occurrences(schedule)]

    async def row(self, schedule: uuid.UUID) -> asyncpg.Record:
        row: asyncpg.Record | None = await self.world.sql.fetchrow("SELECT * FROM schedules WHERE id = $1", schedule)
        assert row is not None
        return row

    async def runs(self) -> list[asyncpg.Record]:
        return list(await self.world.sql.fetch("SELECT * FROM executions ORDER BY id"))

    async def end(self, execution: uuid.UUID) -> None:
        """A run is over."""
        await self.world.sql.execute("DELETE FROM execution_queue WHERE execution_id = $1", execution)

    def counted(self) -> Counter[str]:
        return Counter(
            {e.status: sum(o.count for o in self.events if isinstance(o, OccurrencesDecided) and o.status == e.status)
             for e in self.events if isinstance(e, OccurrencesDecided)}
        )  # fmt: skip


@pytest.fixture
async def board(world: World) -> AsyncIterator[Board]:  # noqa: F811
    await world.sql.execute("TRUNCATE schedules CASCADE")
    flow = await world.flow(chain(tally("a")))
    user = await world.sql.fetchval("SELECT created_by FROM workflows WHERE id = $1", flow.id)
    begin = datetime.now(UTC).replace(second=0, microsecond=0) - HOUR
    async with open_database(DatabaseSettings(dsn=SecretStr(world.dsn))) as database:
        yield Board(world, database, flow, user, begin)
    await world.sql.execute("TRUNCATE schedules CASCADE")


# --- starting ---------------------------------------------------------------------------------------------------------


async def test_an_occurrence_starts_a_run_with_what_the_schedule_says(board: Board) -> None:
    id_ = await board.schedule(node_id="every", input=json.dumps({"a": [1.5, None, "ü"]}), priority=7)
    before = await board.world.sql.fetchval("SELECT clock_timestamp()")
    assert await board.work_off() == scheduling.POLL
    (run,) = await board.runs()
    assert (run["trigger_type"], run["trigger_node"], run["priority"]) == ("schedule", "every", 7)
    assert (run["tenant_id"], run["workflow_id"], run["started_by"]) == (board.flow.tenant, board.flow.id, None)
    data = json.loads(run["trigger_data"])
    fired = datetime.fromisoformat(data.pop("fired_at"))
    assert data == {
        "schedule_id": str(id_), "scheduled_for": board.begin.isoformat().replace("+00:00", "Z"),
        "body": {"a": [1.5, None, "ü"]},
    }  # fmt: skip
    (occurrence,) = await board.occurrences(id_)
    assert (occurrence["scheduled_for"], occurrence["status"], occurrence["reason"]) == (board.begin, "started", None)
    assert (occurrence["execution_id"], occurrence["tenant_id"]) == (run["id"], board.flow.tenant)
    row = await board.row(id_)
    assert (row["next_run_at"], row["due_at"], row["last_execution_id"]) == (None, None, run["id"])
    assert before <= row["last_run_at"] == fired
    assert row["revision"] == 1
    assert (await board.world.row(run["id"]))["schedule_id"] == id_
    (lag,) = [event.lag_us for event in board.events if isinstance(event, ScheduleFired)]
    assert lag == (fired - board.begin) // timedelta(microseconds=1)
    assert ExecutionStarted("schedule", 1) in board.events
    assert board.counted() == {"started": 1}


async def test_a_schedule_goes_on_to_its_next_occurrence(board: Board) -> None:
    id_ = await board.schedule(ends_at=None, cron_expression="0 9 * * *", timezone="Europe/Berlin")
    await board.work_off()
    row = await board.row(id_)
    assert row["next_run_at"] > datetime.now(UTC)
    assert row["next_run_at"] == row["due_at"]


async def test_what_is_not_due_or_disabled_waits(board: Board) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=700)
    ahead = await board.schedule(next_run_at=board.begin, due_at=soon)
    off = await board.schedule(enabled=False)
    pause = await board.work_off()
    assert 0 < pause <= 0.7
    assert await board.statuses(ahead) == await board.statuses(off) == []


async def test_a_member_with_the_role_starts_and_another_runs(board: Board) -> None:
    id_ = await board.schedule(input=json.dumps({"n": 3}))
    await board.world.member("s", roles=("scheduler",))
    await board.world.member("w")

    async def ended() -> Any:
        return await board.world.sql.fetchrow("SELECT * FROM executions WHERE status = 'completed'")

    await until(ended)
    assert await board.statuses(id_) == ["started"]


# --- once -------------------------------------------------------------------------------------------------------------


async def test_two_schedulers_start_each_occurrence_once(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "BATCH", 20)
    ids = [await board.schedule(times=2, overlap_policy="allow") for _ in range(300)]
    settings = DatabaseSettings(dsn=SecretStr(board.world.dsn))
    async with open_database(settings) as first, open_database(settings) as second:

        async def work(database: Database) -> None:
            while await board.world.apart("SELECT 1 FROM schedules WHERE due_at IS NOT NULL"):
                await Scheduler(database, Telemetry()).work_off()

        with anyio.fail_after(40):
            async with anyio.create_task_group() as group:
                for database in (first, second, first, second):
                    group.start_soon(work, database)
    rows = await board.world.sql.fetch("SELECT * FROM schedule_occurrences")
    assert Counter(row["schedule_id"] for row in rows) == dict.fromkeys(ids, 2)
    assert {row["status"] for row in rows} == {"started"}
    runs = await board.runs()
    assert {run["id"] for run in runs} == {row["execution_id"] for row in rows}
    assert len(runs) == 600


async def test_what_another_scheduler_is_at_is_passed_over(board: Board) -> None:
    mine, theirs = await board.schedule(), await board.schedule()
    other = await asyncpg.connect(board.world.dsn)
    try:
        async with other.transaction():
            await other.execute("SELECT 1 FROM schedules WHERE id = $1 FOR NO KEY UPDATE", theirs)
            assert await board.work_off() == scheduling.LEAST_PAUSE
            assert (await board.statuses(mine), await board.statuses(theirs)) == (["started"], [])
    finally:
        await other.close()


async def test_a_transaction_that_dies_leaves_nothing_half_done(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await board.schedule() for _ in range(3)]
    advance = scheduler.advance

    async def die(connection: Any, rows: Any) -> None:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await board.world.sql.execute("SELECT pg_terminate_backend($1)", pid)
        await advance(connection, rows)

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "advance", die)
        with pytest.raises(Unavailable):
            await board.work_off()
    assert board.events == []
    assert await board.runs() == []
    for id_ in ids:
        assert await board.occurrences(id_) == []
        assert (await board.row(id_))["next_run_at"] == board.begin
    await board.work_off()
    assert [await board.statuses(id_) for id_ in ids] == [["started"]] * 3
    assert len(await board.runs()) == 3


async def test_an_occurrence_that_was_started_before_is_left(board: Board) -> None:
    id_ = await board.schedule(times=3, overlap_policy="allow")
    await board.world.sql.execute(
        "INSERT INTO schedule_occurrences (schedule_id, tenant_id, scheduled_for, status, backfill) "
        "VALUES ($1, $2, $3, 'started', true)", id_, board.flow.tenant, board.begin + MINUTE,
    )  # fmt: skip
    await board.work_off()
    assert len(await board.runs()) == 2
    assert [(row["status"], row["backfill"]) for row in await board.occurrences(id_)] == [
        ("started", False), ("started", True), ("started", False),
    ]  # fmt: skip
    assert (await board.row(id_))["due_at"] is None


async def test_the_key_of_an_occurrence_is_the_last_guard(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = await board.schedule()
    await board.work_off()
    await board.world.sql.execute("UPDATE schedules SET next_run_at = $1, due_at = $1", board.begin)

    async def none(*_: Any) -> set[Any]:
        return set()

    monkeypatch.setattr(scheduler, "taken", none)
    with pytest.raises(asyncpg.UniqueViolationError):
        await board.work_off()
    assert len(await board.runs()) == 1
    assert await board.statuses(id_) == ["started"]


async def test_a_round_starts_so_much_and_no_more(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "MAX_STARTS", 5)
    sizes: list[int] = []
    start = queue.start

    async def counting(connection: Any, rows: Any, **more: Any) -> Any:
        sizes.append(len(rows))
        return await start(connection, rows, **more)

    monkeypatch.setattr(queue, "start", counting)
    ids = [await board.schedule(times=times, overlap_policy="allow") for times in (3, 3, 2, 9)]
    await board.work_off()
    assert sum(sizes) == len(await board.runs()) == 17
    assert len(sizes) == 3
    assert max(sizes) == 9
    assert [len(await board.occurrences(id_)) for id_ in ids] == [3, 3, 2, 9]


async def test_large_inputs_are_sent_in_several_statements(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduled_starts, "MAX_GROUP_CHARACTERS", 5_000)
    monkeypatch.setattr(scheduling, "MAX_CHARACTERS", 9_000)
    for _ in range(6):
        await board.schedule(input=json.dumps("x" * 2_000))
    await board.work_off()
    assert {len(json.loads(run["trigger_data"])["body"]) for run in await board.runs()} == {2_000}
    assert len(await board.runs()) == 6


# --- overlaps ---------------------------------------------------------------------------------------------------------


async def test_skip(board: Board) -> None:
    id_ = await board.schedule(overlap_policy="skip")
    await board.work_off()
    (run,) = await board.runs()
    await board.again(id_)
    await board.work_off()
    _, second = await board.occurrences(id_)
    assert (second["status"], second["execution_id"]) == ("skipped", None)
    assert second["reason"] == f"overlap: the run {run['id']} had not ended"
    assert (await board.row(id_))["last_execution_id"] == run["id"]
    await board.end(run["id"])
    await board.again(id_, 3)
    await board.work_off()
    assert await board.statuses(id_) == ["started", "skipped", "started", "skipped", "skipped"]
    assert (await board.occurrences(id_))[-1]["reason"].startswith("overlap: the run for ")
    assert board.counted() == {"started": 2, "skipped": 3}


async def test_allow(board: Board) -> None:
    id_ = await board.schedule(times=2, overlap_policy="allow")
    await board.work_off()
    await board.again(id_)
    await board.work_off()
    assert await board.statuses(id_) == ["started"] * 3
    assert (await board.row(id_))["last_execution_id"] == (await board.occurrences(id_))[-1]["execution_id"]


async def test_queue_starts_one_after_another_in_order(board: Board) -> None:
    id_ = await board.schedule(times=3, overlap_policy="queue")
    await board.work_off()
    assert await board.statuses(id_) == ["started", "queued", "queued"]
    await board.work_off()
    assert len(await board.runs()) == 1
    await board.again(id_)
    await board.end((await board.runs())[0]["id"])
    await board.work_off()
    # What waited is older than what has just come.
    assert await board.statuses(id_) == ["started", "started", "queued", "queued"]
    for ended in range(1, 3):
        await board.end((await board.runs())[ended]["id"])
        await board.work_off()
    rows = await board.occurrences(id_)
    assert [row["status"] for row in rows] == ["started"] * 4
    runs = await board.runs()
    assert [row["execution_id"] for row in rows] == [run["id"] for run in runs]
    assert [json.loads(run["trigger_data"])["scheduled_for"] for run in runs] == [
        row["scheduled_for"].isoformat().replace("+00:00", "Z") for row in rows
    ]
    assert (await board.row(id_))["last_execution_id"] == runs[-1]["id"]
    assert {(await board.world.row(runs[-1]["id"]))["schedule_id"]} == {id_}


async def test_a_queue_without_a_run_goes_before_what_comes(board: Board) -> None:
    id_ = await board.schedule(overlap_policy="queue")
    await board.world.sql.execute(
        "INSERT INTO schedule_occurrences (schedule_id, tenant_id, scheduled_for, status) "
        "VALUES ($1, $2, $3, 'queued')",
        id_, board.flow.tenant, board.begin - MINUTE,
    )  # fmt: skip
    async with board.database.worker() as connection, connection.transaction():
        await scheduling.start_due(connection)
    assert await board.statuses(id_) == ["queued", "queued"]
    await board.work_off()
    assert await board.statuses(id_) == ["started", "queued"]


async def test_a_run_that_another_has_just_started_keeps_the_queue_waiting(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = await board.schedule(times=2, overlap_policy="queue")
    await board.work_off()
    await board.end((await board.runs())[0]["id"])
    lock = scheduler.lock_queued

    async def late(connection: Any, limit: int) -> Any:
        locked = await lock(connection, limit)
        await board.world.sql.execute(
            "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, schedule_id) "
            "VALUES (gorax_uuid7(), $1, $2, $3)", board.flow.tenant, board.flow.id, id_,
        )  # fmt: skip
        return locked

    monkeypatch.setattr(scheduler, "lock_queued", late)
    await board.work_off()
    assert await board.statuses(id_) == ["started", "queued"]


async def test_a_queue_has_an_end(board: Board) -> None:
    board.begin -= 2 * HOUR
    id_ = await board.schedule(times=103, overlap_policy="queue", misfire_limit=1000)
    await board.work_off()
    assert await board.statuses(id_) == ["started", *["queued"] * 100, "skipped", "skipped"]
    assert (await board.occurrences(id_))[-1]["reason"].startswith("queue_full: ")
    await board.again(id_)
    await board.work_off()
    assert (await board.statuses(id_))[-1] == "skipped"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE workflows SET status = 'archived' WHERE id = $1", "workflow_archived"),
        ("UPDATE workflows SET status = 'inactive' WHERE id = $1", "workflow_inactive"),
        ("UPDATE schedules SET enabled = false WHERE workflow_id = $1", "schedule_disabled"),
    ],
)
async def test_what_is_queued_is_skipped_when_nothing_can_start(board: Board, statement: str, reason: str) -> None:
    id_ = await board.schedule(times=3, overlap_policy="queue")
    await board.work_off()
    await board.world.sql.execute(statement, board.flow.id)
    if reason != "schedule_disabled":  # that is so though a run is still live
        await board.end((await board.runs())[0]["id"])
    await board.work_off()
    assert [(row["status"], row["reason"]) for row in await board.occurrences(id_)] == [
        ("started", None), ("skipped", reason), ("skipped", reason),
    ]  # fmt: skip
    assert board.counted() == {"started": 1, "queued": 2, "skipped": 2}


async def test_cancel_running(board: Board) -> None:
    id_ = await board.schedule(overlap_policy="cancel_running")
    await board.work_off()
    await board.again(id_, 3)
    await board.work_off()
    rows = await board.occurrences(id_)
    assert [row["status"] for row in rows] == ["started", "skipped", "skipped", "started"]
    assert rows[1]["reason"].startswith("superseded: ")
    first, last = rows[0]["execution_id"], rows[3]["execution_id"]
    assert json.loads((await board.world.row(first))["end_requested"]) == {
        "kind": "cancel", "reason": scheduling.CANCEL_REASON,
    }  # fmt: skip
    assert (await board.world.row(last))["end_requested"] is None
    await board.world.member("w")
    assert (await board.world.ended(first))["status"] == "cancelled"
    assert (await board.world.ended(last))["status"] == "completed"


async def test_nothing_is_cancelled_where_nothing_can_start(board: Board) -> None:
    id_ = await board.schedule(overlap_policy="cancel_running")
    await board.work_off()
    await board.world.sql.execute("UPDATE workflows SET status = 'inactive' WHERE id = $1", board.flow.id)
    await board.again(id_)
    await board.work_off()
    assert await board.statuses(id_) == ["started", "skipped"]
    assert (await board.world.row((await board.runs())[0]["id"]))["end_requested"] is None


async def test_runs_of_other_schedules_are_no_overlap(board: Board) -> None:
    ids = [await board.schedule(overlap_policy=policy) for policy in ("skip", "queue", "cancel_running")]
    await board.work_off()
    assert [await board.statuses(id_) for id_ in ids] == [["started"]] * 3
    assert await board.world.sql.fetchval("SELECT count(*) FROM execution_queue WHERE end_requested IS NULL") == 3


# --- what doesn't start -----------------------------------------------------------------------------------------------


async def test_misfires(board: Board) -> None:
    none, last, all_, few, late = [
        await board.schedule(times=5, overlap_policy="allow", misfire_policy=policy, **more)
        for policy, more in (
            ("none", {}), ("last", {}), ("all", {}), ("all", {"misfire_limit": 2}),
            ("last", {"catchup_window": timedelta(seconds=5)}),
        )
    ]  # fmt: skip
    await board.work_off()

    async def seen(id_: uuid.UUID) -> list[tuple[Any, ...]]:
        return [
            (row["status"], row["reason"], (row["scheduled_for"] - board.begin) // MINUTE, row["count"],
             row["through"] and (row["through"] - board.begin) // MINUTE)
            for row in await board.occurrences(id_)
        ]  # fmt: skip

    assert await seen(none) == [("missed", "missed", 0, 5, 4)]
    assert await seen(last) == [("missed", "superseded", 0, 4, 3), ("started", None, 4, None, None)]
    assert await seen(all_) == [("started", None, minute, None, None) for minute in range(5)]
    assert await seen(few) == [("missed", "over_limit", 0, 3, 2)] + [("started", None, at, None, None) for at in (3, 4)]
    assert await seen(late) == [("missed", "too_late", 0, 5, 4)]
    assert board.counted() == {"missed": 17, "started": 8}
    for id_ in (none, late):
        assert (await board.row(id_))["last_run_at"] is None


async def test_a_missed_stretch_too_long_to_count(board: Board) -> None:
    begin = board.begin - timedelta(days=30)
    id_ = await board.schedule(next_run_at=begin, due_at=begin, ends_at=board.begin, misfire_policy="last")
    await board.work_off()
    missed, started = await board.occurrences(id_)
    assert (missed["scheduled_for"], missed["through"], missed["count"]) == (begin, board.begin - MINUTE, None)
    assert (started["status"], started["scheduled_for"]) == ("started", board.begin)


async def test_why_nothing_can_start_is_told_and_the_schedule_goes_on(board: Board) -> None:
    make = board.world.flow
    definition = chain(tally("a"))
    refused = {
        "workflow_archived": await make(definition, status="archived"),
        "workflow_inactive": await make(definition, status="inactive"),
        "not_published": await make(definition, published=False),
        "tenant_suspended": await make(definition, tenant=await board.world.tenant(status="suspended")),
    }
    ids = {reason: await board.schedule(flow, times=2) for reason, flow in refused.items()}
    fine = await board.schedule()
    await board.work_off()
    assert await board.statuses(fine) == ["started"]
    for reason, id_ in ids.items():
        rows = await board.occurrences(id_)
        assert [(row["status"], row["reason"]) for row in rows] == [("skipped", reason)] * 2
        assert (await board.row(id_))["due_at"] is None


async def test_what_the_start_finds_out_itself_is_told_too(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = await board.schedule()
    fine = await board.schedule(await board.world.flow(chain(tally("a"))))
    start = queue.start

    async def late(connection: Any, rows: Any, **more: Any) -> Any:
        await board.world.sql.execute("UPDATE workflows SET status = 'inactive' WHERE id = $1", board.flow.id)
        return await start(connection, rows, **more)

    monkeypatch.setattr(queue, "start", late)
    await board.work_off()
    (row,) = await board.occurrences(id_)
    assert (row["status"], row["reason"], row["execution_id"]) == ("skipped", "workflow_inactive", None)
    assert await board.statuses(fine) == ["started"]


async def test_data_that_is_refused_fails_its_own_occurrence_alone(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await board.schedule(overlap_policy=policy) for policy in ("skip", "queue", "skip")]
    request = scheduled_starts._request

    def spoiled(start: Any, body: str) -> StartRequest:
        kind = "no_such_kind" if start.schedule_id == ids[1] else start.trigger_type
        made = request(start, body)
        return StartRequest(made.tenant_id, made.workflow_id, kind, made.trigger_data)

    monkeypatch.setattr(scheduled_starts, "_request", spoiled)
    await board.work_off()
    assert [await board.statuses(id_) for id_ in ids] == [["started"], ["failed"], ["started"]]
    (failed,) = await board.occurrences(ids[1])
    assert failed["reason"].startswith("rejected: ")
    assert (await board.row(ids[1]))["due_at"] is None
    assert len(await board.runs()) == 2
    assert board.counted() == {"started": 2, "failed": 1}


async def test_a_schedule_that_can_t_be_read_is_disabled(board: Board) -> None:
    zone = await board.schedule(timezone="Mars/Olympus")
    cron = await board.schedule(cron_expression="every day")
    fine = await board.schedule()
    with structlog.testing.capture_logs() as logs:
        await board.work_off()
    assert await board.statuses(fine) == ["started"]
    for id_ in (zone, cron):
        row = await board.row(id_)
        assert (row["enabled"], row["due_at"], row["next_run_at"]) == (False, None, None)
        (occurrence,) = await board.occurrences(id_)
        assert occurrence["status"] == "failed"
        assert occurrence["reason"].startswith("unreadable: ")
        assert occurrence["scheduled_for"] == board.begin
    told = [log for log in logs if log["event"] == "schedule_disabled"]
    assert {log["schedule_id"] for log in told} == {str(zone), str(cron)}
    assert {log["log_level"] for log in told} == {"error"}


async def test_a_date_that_can_t_be_reckoned_holds_up_no_other(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    odd, fine = await board.schedule(jitter=MINUTE), await board.schedule()

    def faulty(recurrence: Any, rules: Any, schedule_id: uuid.UUID, *more: Any) -> Any:
        if schedule_id == odd:
            raise OverflowError("date value out of range")
        return decide(recurrence, rules, schedule_id, *more)

    monkeypatch.setattr("gorax_engine.triggers.scheduler.decide", faulty)
    await board.work_off()
    assert (await board.statuses(odd), await board.statuses(fine)) == (["failed"], ["started"])
    assert not (await board.row(odd))["enabled"]


async def test_schedules_of_one_cron_line_are_decided_on_once(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [await board.schedule(**more) for more in ({}, {}, {"misfire_policy": "last"}, {"jitter": MINUTE})]
    decided: list[uuid.UUID] = []

    def counting(recurrence: Any, rules: Any, schedule_id: uuid.UUID, *more: Any) -> Any:
        decided.append(schedule_id)
        return decide(recurrence, rules, schedule_id, *more)

    monkeypatch.setattr("gorax_engine.triggers.scheduler.decide", counting)
    await board.work_off()
    assert [await board.statuses(id_) for id_ in ids] == [["started"]] * 4
    assert len(decided) == 3


# --- time -------------------------------------------------------------------------------------------------------------


async def test_jitter_delays_an_occurrence_by_the_same_time_always(board: Board) -> None:
    jitter = timedelta(minutes=30)
    ids = [
        await board.schedule(jitter=jitter, cron_expression="0 * * * *", ends_at=None, misfire_policy="none")
        for _ in range(20)
    ]
    await board.work_off()
    rows = [await board.row(id_) for id_ in ids]
    delays = [row["due_at"] - row["next_run_at"] for row in rows]
    assert all(timedelta(0) <= delay < jitter for delay in delays)
    assert len(set(delays)) == 20
    # Not before it is due, though its time has come.
    now = datetime.now(UTC)
    for row in rows:
        if row["next_run_at"] <= now:
            assert row["due_at"] > now


async def test_lag_counts_from_when_an_occurrence_was_due(board: Board) -> None:
    jitter = timedelta(minutes=20)
    id_ = await board.schedule(jitter=jitter)
    await board.work_off()
    fired = (await board.row(id_))["last_run_at"]
    due = jittered(id_, board.begin, None, jitter)
    assert due > board.begin
    (lag,) = [event.lag_us for event in board.events if isinstance(event, ScheduleFired)]
    assert lag == (fired - due) // timedelta(microseconds=1)


async def test_a_fault_is_told_and_the_loop_goes_on(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = await board.schedule()
    lock, faults = scheduler.lock_due, [RuntimeError("bug"), Unavailable("gone"), None]
    monkeypatch.setattr(scheduling, "FAULT_PAUSE", 0.01)

    async def faulty(connection: Any, limit: int) -> Any:
        fault = faults.pop(0) if faults else None
        if fault is not None:
            raise fault
        return await lock(connection, limit)

    monkeypatch.setattr(scheduler, "lock_due", faulty)
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(Scheduler(board.database, Telemetry()).run)

            async def started() -> bool:
                return await board.statuses(id_) == ["started"]

            await until(started)
            group.cancel_scope.cancel()
    assert [log["event"] for log in logs] == ["scheduler_round_failed", "scheduler_waits"]


def test_what_is_unreadable_says_where() -> None:
    with pytest.raises(RecurrenceError, match="is no time zone"):
        recurrence_of("* * * * *", "Mars/Olympus", "skip", "first", None, None)


# --- upkeep -----------------------------------------------------------------------------------------------------------


async def test_old_occurrences_are_deleted_but_those_that_wait(board: Board) -> None:
    id_ = await board.schedule(times=4, overlap_policy="queue", enabled=False)
    for at, status, age in ((0, "started", 91), (1, "queued", 91), (2, "missed", 89), (3, "skipped", 91)):
        await board.world.sql.execute(
            "INSERT INTO schedule_occurrences (schedule_id, tenant_id, scheduled_for, status, decided_at) "
            "VALUES ($1, $2, $3, $4, now() - make_interval(days => $5))",
            id_, board.flow.tenant, board.begin + at * MINUTE, status, age,
        )  # fmt: skip
    async with open_session(board.world.dsn, "gorax_worker") as session:
        duties = {duty.name: duty for duty in maintenance_duties(session, None)}  # type: ignore[arg-type]
        await duties["occurrences"].run_once()
    assert await board.statuses(id_) == ["queued", "missed"]
