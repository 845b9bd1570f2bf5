"""A worker that was stopped for three lease times changes nothing when it goes on, and begins a new life."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest

from tests.chaos.fleet import LEASE, POLL

if TYPE_CHECKING:
    from tests.chaos.conftest import Stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

TABLES: Final = ("executions", "step_executions", "execution_queue", "waits", "start_keys", "outbox", "webhook_events")
RUNS: Final = 5


async def _everything(stage: Stage) -> dict[str, list[Any]]:
    """Every row that belongs to a run."""
    rows = {}
    for table in TABLES:
        found = await stage.admin.fetch(f"SELECT t.*, t.xmin FROM {table} t ORDER BY 1, 2")
        rows[table] = [tuple(row.values()) for row in found]
    return rows


async def test_a_stopped_worker_changes_nothing_and_begins_anew(stage: Stage) -> None:
    first, second = stage.daemons
    first.start()
    await first.ready()
    starts = await stage.start_gated(RUNS)
    await stage.until("all runs call", lambda: stage.sink.count("/gate/first") == RUNS)
    old_life = await stage.value("SELECT id FROM workers")

    first.send(signal.SIGSTOP)
    second.start()
    await stage.until("the other worker calls again", lambda: stage.sink.count("/gate/first") == 2 * RUNS)
    # All calls are answered, those of the stopped worker too: it wakes up with results in its hands.
    for _ in range(2 * RUNS):
        stage.sink.release("first")
    await stage.until(
        "all runs have ended",
        lambda: stage.value("SELECT count(*) = $1 FROM executions WHERE status = 'completed'", RUNS),
    )
    await anyio.sleep(3 * LEASE)
    before, calls = await _everything(stage), len(stage.sink.calls)

    first.send(signal.SIGCONT)
    await stage.until(
        "it registers anew",
        lambda: stage.value("SELECT count(*) = 2 FROM chaos.worker_log WHERE process = $1", first.name),
    )
    await anyio.sleep(LEASE + POLL)

    assert await _everything(stage) == before
    assert len(stage.sink.calls) == calls
    assert await stage.value("SELECT count(*) FROM workers WHERE id = $1", old_life) == 0
    assert await stage.value("SELECT count(*) FROM workers") == 2
    assert first.alive
    assert await stage.broken(starts) == []
