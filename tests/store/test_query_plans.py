"""The plans of the hot statements, also of those inside functions: indexes only, one partition, no cost by backlog."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from gorax_engine.core.model import StepKey
from gorax_engine.core.step_ids import step_id
from gorax_engine.engine.entries import Owner
from gorax_engine.engine.starting import StartKey, StartRequest, row_of
from gorax_engine.store import queries, queue, workers
from gorax_engine.store.queue import Claim, EndRow, Flush, ParkRow, StepRow, WaitRow

if TYPE_CHECKING:
    from tests.conftest import Database

BIG = ("execution_queue", "executions", "step_executions", "start_keys", "waits")
BACKLOG = 20_000
TENANTS = 5
COUNTED = ("seq_scan", "idx_scan", "rows")
SCANS = """
    SELECT relname, coalesce(seq_scan, 0) AS seq_scan, coalesce(idx_scan, 0) AS idx_scan,
           coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) AS rows
      FROM pg_stat_xact_user_tables
"""


@dataclass(frozen=True)
class Scans:
    """What one statement read of the big tables, with all that ran inside its functions."""

    read_through: frozenset[str]
    months: dict[str, int]
    rows: dict[str, int]

    def by_index(self, rows: int, months: int) -> None:
        """Big tables are never read through, of partitioned ones few months, and of each at most so many rows."""
        assert not self.read_through
        assert all(count <= months for count in self.months.values()), self.months
        assert all(count <= rows for count in self.rows.values()), self.rows


@dataclass
class Watcher:
    """A session of the worker's role that watches what its statements read."""

    connection: asyncpg.Connection[Any]
    tenants: list[uuid.UUID]
    workflow: uuid.UUID
    worker: uuid.UUID

    @asynccontextmanager
    async def watch(self, rows: int, months: int = 1) -> AsyncIterator[None]:
        """Run the body in a transaction; it may read at most so many rows of each big table, and by index."""
        async with self.connection.transaction():
            # What the session has not handed in yet of earlier statements is counted too.
            before = {row["relname"]: row for row in await self.connection.fetch(SCANS)}
            yield
            after = await self.connection.fetch(SCANS)
            self.scans(
                [(row["relname"], *(row[name] - before[row["relname"]][name] for name in COUNTED)) for row in after]
            ).by_index(rows, months)

    @staticmethod
    def scans(found: Sequence[tuple[str, int, int, int]]) -> Scans:
        read_through, months, read = set(), dict.fromkeys(BIG, 0), dict.fromkeys(BIG, 0)
        for name, seq_scans, index_scans, rows in found:
            table = re.sub(r"_\d{4}_\d{2}$", "", name)
            if table not in BIG:
                continue
            read[table] += rows
            months[table] += bool(seq_scans or index_scans)
            if seq_scans and rows:  # an empty month is read through sooner than its index is opened
                read_through.add(name)
        return Scans(frozenset(read_through), months, read)

    async def buffers(self, query: str, *arguments: Any) -> int:
        """The pages that a statement touches."""
        transaction = self.connection.transaction()
        await transaction.start()
        answer = await self.connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments)
        await transaction.rollback()
        plan = json.loads(answer)[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def fill(connection: asyncpg.Connection[Any], tenant: uuid.UUID, workflow: uuid.UUID, count: int) -> None:
    await connection.execute(queries.load("bench").seed_executions, tenant, workflow, count)


@pytest.fixture
async def watcher(migrated_database: Database) -> AsyncIterator[Watcher]:
    connection = await asyncpg.connect(migrated_database.admin_dsn)
    try:
        workflow = uuid.uuid4()
        tenants = [
            await connection.fetchval("SELECT tenant_id FROM gorax_create_tenant($1, $1)", f"t{number}")
            for number in range(TENANTS)
        ]
        user = await connection.fetchval("SELECT id FROM users WHERE tenant_id = $1", tenants[0])
        await connection.execute("UPDATE tenants SET quotas = '{}'")
        await connection.execute(queries.load("bench").add_workflow, workflow, tenants[0], "w", "{}", user)
        for number, tenant in enumerate(tenants):
            await fill(connection, tenant, workflow, BACKLOG if number == 0 else 200)
        # As many parked and held ones, so that every partial index has rows.
        await connection.execute(
            "UPDATE execution_queue SET ready_at = NULL, due_at = now() + interval '1 day' WHERE tenant_id = $1",
            tenants[1],
        )  # fmt: skip
        await connection.execute(
            "UPDATE execution_queue SET owner = gen_random_uuid(), token = 1, deadline_at = now() + interval '1 day' "
            "WHERE tenant_id = $1", tenants[2],
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO step_executions (id, execution_id, tenant_id, node_id, node_type, status) "
            "SELECT id, id, tenant_id, 'a', 'tally', 'completed' FROM executions"
        )
        await connection.execute(
            "INSERT INTO start_keys (tenant_id, kind, key, execution_id, expires_at) "
            "SELECT tenant_id, 'idempotency', id::text, id, now() + interval '1 day' FROM executions"
        )
        await connection.execute(
            "INSERT INTO waits (step_id, tenant_id, execution_id, node_id, kind, due_at) "
            "SELECT id, tenant_id, id, 'a', 'timer', now() + interval '1 day' FROM executions"
        )
        await connection.execute("VACUUM ANALYZE")
        worker = uuid.uuid4()
        await workers.register(connection, worker, "w", "0", ["worker"], 1000, 600_000)  # type: ignore[arg-type]
        await connection.execute("SET jit = off")
        await connection.execute("SET ROLE gorax_worker")
        yield Watcher(connection, tenants, workflow, worker)
    finally:
        await connection.close(timeout=5)


async def test_claim(watcher: Watcher) -> None:
    # The cached plans of a session that has claimed often are no worse than the first.
    for _ in range(8):
        # The update of many runs by id asks every month: a cached plan can't prune by an array.
        async with watcher.watch(rows=800, months=10):
            claims = await queue.claim(watcher.connection, watcher.worker, 50)  # type: ignore[arg-type]
            assert len(claims) > 20
    async with watcher.watch(rows=0):
        assert await queue.claim(watcher.connection, watcher.worker, 9, suspects=True) == []  # type: ignore[arg-type]


async def test_the_cost_of_a_claim_does_not_grow_with_the_backlog(watcher: Watcher) -> None:
    connection, costs = watcher.connection, []
    for extra in (0, 40_000):
        await connection.execute("RESET ROLE")
        await fill(connection, watcher.tenants[0], watcher.workflow, extra)
        await connection.execute("VACUUM ANALYZE execution_queue, executions")
        await connection.execute("SET ROLE gorax_worker")
        claim = queries.load("queue").claim
        costs.append(min([await watcher.buffers(claim, watcher.worker, 50, False) for _ in range(3)]))
    assert costs[1] < costs[0] * 1.5, costs


async def test_sweep(watcher: Watcher) -> None:
    for _ in range(8):
        async with watcher.watch(rows=10):
            await queue.sweep(watcher.connection, 1000)  # type: ignore[arg-type]
    await watcher.connection.execute(
        "UPDATE execution_queue SET due_at = now() WHERE execution_id IN "
        "(SELECT execution_id FROM execution_queue WHERE due_at IS NOT NULL LIMIT 20)"
    )
    async with watcher.watch(rows=100):
        assert (await queue.sweep(watcher.connection, 1000)).timers == 20  # type: ignore[arg-type]
    assert await watcher.buffers(queries.load("queue").sweep, 1000) < 200


async def test_accept(watcher: Watcher) -> None:
    key = StartKey("idempotency", "new", b"h", timedelta(days=1))
    request = StartRequest(watcher.tenants[0], watcher.workflow, "api", {}, start_key=key)
    for turn in range(8):
        async with watcher.watch(rows=10):
            (verdict,) = await queue.start(
                watcher.connection,
                [row_of(request)],
                worker_id=watcher.worker,
                room=1,
                ring=True,
            )
            assert verdict.verdict == ("duplicate" if turn else "started")


async def test_flush(watcher: Watcher) -> None:
    claims = await queue.claim(watcher.connection, watcher.worker, 150)  # type: ignore[arg-type]
    assert len(claims) >= 48
    for turn in range(8):
        ended, parked = claims[turn * 6 : turn * 6 + 3], claims[turn * 6 + 3 : turn * 6 + 6]
        async with watcher.watch(rows=200):
            flushed = await queue.flush(watcher.connection, watcher.worker, flush_of(ended, parked))  # type: ignore[arg-type]
            assert flushed.stale == ()


def flush_of(ended: Sequence[Claim], parked: Sequence[Claim]) -> Flush:
    both = [*ended, *parked]
    return Flush(
        fence=[Owner(c.execution_id, c.tenant_id, c.token, lambda: None).fence for c in both],
        steps=[
            StepRow(step_id(c.execution_id.int, StepKey("n"), 1), "n", "tally", "completed", "", "", "", "1", "2")
            for c in both
        ],
        step_runs=[str(place) for place in range(1, len(both) + 1)],
        waits=[WaitRow(uuid.uuid4(), c.execution_id, c.tenant_id, "n", "", 0, 1, "timer", 1, None) for c in parked],
        closed_waits=[uuid.uuid4()],
        ends=[EndRow(c.execution_id, "completed", None, None, None, 1, waited=True) for c in ended],
        parks=[ParkRow(c.execution_id, 1, c.wake_seq, "timer") for c in parked],
        deadlines=[(c.execution_id, 1) for c in parked],
    )


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_look_ups_of_one_run(watcher: Watcher, mode: str) -> None:
    """Each reads one partition, also when the plan was made for no run in particular."""
    connection, sql = watcher.connection, queries.load("queue")
    await connection.execute(f"SET plan_cache_mode = {mode}")
    run = await connection.fetchrow("SELECT execution_id, tenant_id FROM execution_queue LIMIT 1")
    assert run is not None
    one, both = [run["execution_id"]], [run["execution_id"], run["tenant_id"]]
    for name, arguments in (
        ("recorded_steps", [*one, False]), ("open_waits", one), ("execution_status", both), ("pinned_version", both),
        ("lock_for_cancel", both),
    ):  # fmt: skip
        async with watcher.watch(rows=5):
            assert len(await connection.fetch(sql[name], *arguments)) == 1, name


OUTER, INNER = 1500, 60
"""Iterations of a loop, and of the loop in each."""
QUICK = 3.0
"""Seconds; each step against each fold would be more than a hundred million comparisons."""

ADD_STEPS = """
    INSERT INTO step_executions (id, execution_id, tenant_id, node_id, node_type, status, iteration_path, round)
    SELECT overlay($1::text placing lpad(to_hex(n), 12, '0') from 25)::uuid, $1::text::uuid, $2, 'n', 'set',
           'completed', path, round
      FROM unnest($3::text[], $4::integer[]) WITH ORDINALITY AS u (path, round, n)
"""
ADD_FOLDS = """
    INSERT INTO loop_progress (step_id, first, upto, execution_id, tenant_id, prefix, round, results)
    SELECT gorax_uuid7(), 0, upto, $1, $2, prefix, round, '[]'
      FROM unnest($3::text[], $4::integer[], $5::integer[]) AS u (prefix, round, upto)
"""


def prefixes(path: str) -> list[tuple[str, int]]:
    """What comes before the index of each loop of a path, and that index."""
    return [(path[: found.end(1)], int(found[2])) for found in re.finditer(r"(\[)(\d+)\]", path)]


async def unfolded(
    connection: asyncpg.Connection[Any],
    steps: list[tuple[str, int]],
    folds: list[tuple[str, int, int]],
    seconds: float = 10.0,
) -> set[tuple[str, int]]:
    """Ask for the recorded steps of a run that has these (path, round), and whose loops have folded these."""
    run, tenant = await connection.fetchval("SELECT gorax_uuid7()"), uuid.uuid4()
    await connection.execute(ADD_STEPS, str(run), tenant, *map(list, zip(*steps, strict=True)))
    await connection.execute(ADD_FOLDS, run, tenant, *map(list, zip(*folds, strict=True)))
    await connection.execute("ANALYZE step_executions, loop_progress")
    rows = await connection.fetch(queries.load("queue").recorded_steps, run, False, timeout=seconds)
    assert len(await connection.fetch(queries.load("queue").recorded_steps, run, True)) == len(steps)
    return {(row["iteration_path"], row["round"]) for row in rows}


@pytest.fixture
async def rows(migrated_database: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(migrated_database.admin_dsn)
    try:
        await connection.execute("SET session_replication_role = replica")  # no keys of others are needed here
        await connection.execute("SET jit = off")
        yield connection
    finally:
        await connection.close(timeout=5)


PATHS = ["", "a[0]", "a[12]", "a[1].b[2]", "a[1].b[2].c[30]", "a-b[7].par.x[0].y[11].z[4]"]


@pytest.mark.parametrize("path", PATHS)
async def test_the_prefixes_of_a_path(rows: asyncpg.Connection[Any], path: str) -> None:
    found = []
    for level in range(1, 7):
        prefix = await rows.fetchval("SELECT gorax_loop_prefix($1, $2)", path, level)
        if prefix is not None:
            found.append((prefix, await rows.fetchval("SELECT gorax_loop_index($1, $2)", path, prefix)))
    assert found == prefixes(path)


async def test_steps_of_folded_iterations_are_not_read(rows: asyncpg.Connection[Any]) -> None:
    """Of the first three levels of loops; what else they read is what is not folded."""
    rng = random.Random(7)
    names = ["a", "a", "ab", "b"]
    paths = {
        ".".join(f"{rng.choice(names)}[{rng.choice((0, 1, 2, 9, 10, 11))}]" for _ in range(rng.randrange(5)))
        for _ in range(2000)
    }
    steps = [(path, round_) for path in sorted(paths) for round_ in (0, 1)]
    places = sorted({prefix for path in paths for prefix, _ in prefixes(path)[:3]})
    folds = {(prefix, rng.randrange(2)): rng.choice((1, 2, 10)) for prefix in rng.sample(places, len(places) // 3)}
    given = [(prefix, round_, upto) for (prefix, round_), upto in folds.items()]
    given += [(prefix, round_, 1) for prefix, round_ in folds]  # an earlier part of the same loop
    expected = {
        (path, round_)
        for path, round_ in steps
        if not any(index < folds.get((prefix, round_), 0) for prefix, index in prefixes(path)[:3])
    }
    assert 100 < len(expected) < len(steps) - 100
    assert await unfolded(rows, steps, given) == expected


async def test_many_loops_that_have_folded_are_no_burden(rows: asyncpg.Connection[Any]) -> None:
    steps = [(f"outer[{i}].inner[{j}]", 0) for i in range(OUTER) for j in range(INNER)]
    folds = [(f"outer[{i}].inner[", 0, INNER - 1) for i in range(OUTER)]
    found = await unfolded(rows, steps, folds, seconds=QUICK)
    assert found == {(f"outer[{i}].inner[{INNER - 1}]", 0) for i in range(OUTER)}


async def test_what_a_worker_holds(watcher: Watcher) -> None:
    nobody = uuid.uuid4()
    async with watcher.watch(rows=5):
        await workers.owned(watcher.connection, nobody)  # type: ignore[arg-type]
    async with watcher.watch(rows=5):
        await workers.hand_back(watcher.connection, nobody, [(nobody, 1)])  # type: ignore[arg-type]
    async with watcher.watch(rows=5):
        await workers.release(watcher.connection, watcher.worker)  # type: ignore[arg-type]


async def test_expiry_of_start_keys(watcher: Watcher) -> None:
    async with watcher.watch(rows=5):
        await watcher.connection.fetch(queries.load("maintenance").expire_start_keys, 100)


async def test_the_watcher_would_notice(watcher: Watcher) -> None:
    """A check that nothing fails is none."""
    some = await watcher.connection.fetchval("SELECT execution_id FROM execution_queue LIMIT 1")
    for query, arguments in (
        ("SELECT count(*) FROM execution_queue WHERE priority = 3", []),
        ("SELECT count(*) FROM executions WHERE workflow_version = 3", []),
        ("SELECT count(*) FROM step_executions WHERE execution_id = $1", [some]),
    ):
        with pytest.raises(AssertionError):
            async with watcher.watch(rows=1_000_000):
                await watcher.connection.fetchval(query, *arguments)
    with pytest.raises(AssertionError):
        async with watcher.watch(rows=10):
            await watcher.connection.fetch("SELECT * FROM execution_queue ORDER BY execution_id LIMIT 11")
