"""The fence: a flush that arrives when the run is in other hands writes nothing; without it the checker goes red.

The first worker's call is answered, and it sends what it has to record; the network keeps that back. The worker stops.
Another one takes the run over, and calls again. Then the network delivers.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import gorax_engine.store

if TYPE_CHECKING:
    from tests.chaos.conftest import Stage
    from tests.chaos.workload import Start

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

EXECUTED = """
SELECT count(*) > 0 FROM pg_stat_activity
 WHERE client_port = ANY ($1::int[]) AND query LIKE '%gorax_flush%' AND state LIKE 'idle%' AND query_start > $2
"""


def flush_without_fence() -> str:
    """Return the SQL of `gorax_flush` without its two checks."""
    sql = (Path(gorax_engine.store.__file__).parent / "sql" / "functions" / "gorax_flush.sql").read_text()
    worker_check = """    IF NOT FOUND THEN
        RAISE EXCEPTION 'the worker''s lease is lost' USING ERRCODE = 'GX001';
    END IF;
"""
    token_check = "WHERE q.owner = p_worker AND q.token = a.token"
    assert sql.count(worker_check) == 1
    assert sql.count(token_check) == 1
    return sql.replace(worker_check, "").replace(token_check, "WHERE true")


async def _deliver_a_flush_late(stage: Stage) -> list[Start]:
    first, second = stage.daemons
    first.start()
    await first.ready()
    starts = await stage.start_gated(1)
    await stage.until("the first worker calls", lambda: stage.sink.count("/gate/first") == 1)
    await stage.until(
        "the start is on record",
        lambda: stage.value("SELECT count(*) = 1 FROM chaos.step_log WHERE node_id = 'call'"),
    )

    first.proxy.hold()
    stage.sink.release("first")
    # What the sink answered is in the flush, and in no heartbeat.
    await stage.until("its flush is on its way", lambda: b"answer" in first.proxy.kept)
    first.send(signal.SIGSTOP)
    second.start()
    await stage.until("the second worker calls", lambda: stage.sink.count("/gate/first") == 2)

    now = await stage.value("SELECT clock_timestamp()")
    first.proxy.let_flow()
    await stage.until(
        "the late flush is executed",
        lambda: stage.value(EXECUTED, list(first.proxy.upstream_ports), now),
    )
    stage.sink.release("first")
    await stage.until("the run has ended", lambda: stage.value("SELECT count(*) = 0 FROM execution_queue"))
    first.send(signal.SIGCONT)
    return starts


async def test_a_late_flush_writes_nothing(stage: Stage) -> None:
    starts = await _deliver_a_flush_late(stage)
    assert await stage.broken(starts) == []


async def test_without_the_fence_the_checker_goes_red(stage: Stage) -> None:
    await stage.admin.execute(flush_without_fence())
    starts = await _deliver_a_flush_late(stage)
    broken = {breach.invariant.name for breach in await stage.broken(starts)}
    assert "no_stale_write" in broken
