"""The checker sees what it is there to see: each invariant goes red when the database is made to break it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from tests.chaos.checker import check, install_witness, invariants
from tests.chaos.sink import Call
from tests.chaos.workload import Expected, Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Database

History: TypeAlias = tuple["asyncpg.Connection[Any]", list[Start], list[Call]]

BREAKS: dict[str, str] = {
    "accepted_exactly_once": "DELETE FROM executions",
    "delivery_starts_once": """
        INSERT INTO webhook_events (tenant_id, webhook_id, execution_id, request_method, status, dedupe_key)
        SELECT tenant_id, gorax_uuid7(), gorax_uuid7(), 'POST', 'filtered', 'k' FROM executions""",
    "every_occurrence_starts_once": "UPDATE executions SET trigger_type = 'schedule'",
    "delivery_has_event": "UPDATE chaos.ledger SET by_webhook = true",
    "terminal_holds_nothing": """
        INSERT INTO execution_queue (execution_id, tenant_id, workflow_id)
        SELECT id, tenant_id, workflow_id FROM executions""",
    "live_is_reachable": "UPDATE executions SET status = 'running', completed_at = NULL",
    "all_ended": "UPDATE executions SET status = 'running', completed_at = NULL",
    "one_lease_at_a_time": """
        INSERT INTO chaos.queue_log (op, old_owner, new_owner, old_token, new_token)
        VALUES ('UPDATE', gorax_uuid7(), gen_random_uuid(), 1, 2)""",
    "tokens_rise": """
        INSERT INTO chaos.queue_log (op, new_owner, old_token, new_token) VALUES ('UPDATE', gorax_uuid7(), 2, 2)""",
    "no_stale_write": "UPDATE chaos.step_log SET process = 'another'",
    "no_stale_end": "UPDATE chaos.execution_log SET process = 'another'",
    "attempts_are_contiguous": "UPDATE step_executions SET retry_count = 1 WHERE node_id = 'b'",
    "only_failures_are_repeated": "UPDATE step_executions SET status = 'completed' WHERE node_id = 'b'",
    "one_success_per_step": "UPDATE step_executions SET status = 'completed' WHERE node_id = 'b'",
    "steps_follow_their_predecessors": "DELETE FROM chaos.step_log WHERE node_id = 'a'",
    "times_follow_the_graph": "UPDATE step_executions SET started_at = '2020-01-01' WHERE node_id = 'b'",
    "skipped_was_never_tried": "UPDATE step_executions SET started_at = completed_at WHERE node_id = 'c'",
    "every_node_is_decided": "DELETE FROM step_executions WHERE node_id = 'c'",
    "failure_has_a_cause": "UPDATE step_executions SET error_code = NULL WHERE status = 'failed'",
    "attempts_within_the_limit": "UPDATE chaos.node SET max_attempts = 1",
    "runs_move_as_the_table_says": "UPDATE executions SET status = 'failed', error_code = 'x', error_message = 'x'",
    "steps_move_as_the_table_says": "UPDATE step_executions SET output_data = '1' WHERE node_id = 'a'",
    "ended_has_its_time": "UPDATE executions SET completed_at = created_at - interval '1 second'",
    "version_is_pinned": "UPDATE workflow_versions SET definition = '{\"nodes\": []}'",
    "timers_are_not_early": """
        UPDATE step_executions SET node_type = 'delay', output_data = '{"delayed_ms": 60000}'
         WHERE node_id = 'b' AND status = 'completed'""",
    "tenant_is_the_same_everywhere": "UPDATE step_executions SET tenant_id = gorax_uuid7() WHERE node_id = 'a'",
    "one_payload_per_key": "UPDATE chaos.sink SET payload_hash = 'other' WHERE seq = 1",
    "calls_are_accounted_for": "INSERT INTO chaos.sink SELECT 9, key, path, payload_hash, at FROM chaos.sink",
    "recorded_is_not_run_again": "UPDATE chaos.sink SET at = clock_timestamp() + interval '1 second'",
    "recorded_success_was_witnessed": "TRUNCATE chaos.sink",
    "everything_is_accounted_for": "DELETE FROM executions",
    "given_up_after_three_workers": "UPDATE executions SET error_code = 'worker_lost'",
    "outcome_is_as_expected": "UPDATE executions SET output_data = '2'",
    "one_child_per_attempt": "UPDATE executions SET execution_depth = 1",
    "a_step_outlives_its_child": """
        UPDATE executions e SET parent_step_id = s.id FROM step_executions s WHERE s.node_id = 'a';
        DELETE FROM chaos.execution_log""",
    "no_child_is_forgotten": """
        UPDATE step_executions SET error_code = 'cancelled' WHERE node_id = 'b';
        UPDATE executions e SET parent_step_id = s.id FROM step_executions s
         WHERE s.node_id = 'b' AND s.status = 'failed';
        INSERT INTO executions (tenant_id, workflow_id, workflow_version, trigger_type, status, completed_at)
        SELECT tenant_id, workflow_id, 1, 'api', 'cancelled', completed_at - interval '1 minute' FROM executions;
        UPDATE executions SET parent_execution_id = (SELECT id FROM executions WHERE status = 'cancelled')
         WHERE status = 'completed'""",
    "a_wait_is_signalled_once": """
        INSERT INTO chaos.signal_log (step_id, execution_id, resolution)
        SELECT id, execution_id, '{"status": "completed"}' FROM step_executions, generate_series(1, 2)
         WHERE node_id = 'a'""",
    "a_task_is_decided_once": """
        INSERT INTO human_tasks (tenant_id, execution_id, step_id, task_type, title, assignees, status)
        SELECT tenant_id, execution_id, id::text, 'approval', 't', '[]', 'rejected' FROM step_executions
         WHERE node_id = 'a'""",
    "finally_has_run": "UPDATE step_executions SET node_id = 'try' WHERE node_id = 'a'",
}

HISTORY = """
WITH w AS (
    INSERT INTO workflows (tenant_id, name, definition, created_by)
    SELECT tenant_id, 'w', '{}', user_id FROM gorax_create_tenant('Checked', 'checked')
    RETURNING id, tenant_id, created_by
), v AS (
    INSERT INTO workflow_versions (tenant_id, workflow_id, version, definition, created_by)
    SELECT tenant_id, id, 1, '{}', created_by FROM w RETURNING workflow_id
), c AS (
    INSERT INTO chaos.version SELECT id, 1, md5('{}'::jsonb::text) FROM w RETURNING workflow_id
), n AS (
    INSERT INTO chaos.node SELECT w.id, x, 2 FROM w, unnest(ARRAY['a', 'b', 'c']) AS x RETURNING workflow_id
), g AS (
    INSERT INTO chaos.edge SELECT id, 'a', 'b' FROM w RETURNING workflow_id
)
INSERT INTO executions (id, tenant_id, workflow_id, workflow_version, trigger_type, status, started_at)
SELECT $1, tenant_id, id, 1, 'api', 'running', now() FROM w RETURNING tenant_id
"""
"""A run of three nodes: a succeeds; b fails once, then succeeds by a call; c is skipped."""

STEPS = """
INSERT INTO step_executions (execution_id, tenant_id, node_id, node_type, status, retry_count, started_at, completed_at,
                             error_code, error_message, output_data)
SELECT $1, $2, s.node, s.type, s.status, s.retry, now() + s.began * interval '1 ms', now() + s.over * interval '1 ms',
       s.error, s.error, '{}'
  FROM (VALUES ('a', 'formula', 'completed', 0, 0, 1, NULL), ('b', 'http_request', 'failed', 0, 2, 3, 'e'),
               ('b', 'http_request', 'completed', 1, 4, 5, NULL), ('c', 'formula', 'skipped', 0, NULL, 5, NULL))
       AS s (node, type, status, retry, began, over, error)
"""


@pytest.fixture
async def checked(migrated_database: Database) -> AsyncIterator[History]:
    """A database with one run that breaks nothing."""
    connection = await asyncpg.connect(migrated_database.admin_dsn)
    await install_witness(connection)
    run = await connection.fetchval("SELECT gorax_uuid7()")
    # One process owns all that is written here.
    await connection.execute(
        "SET chaos.process = 'd1'; INSERT INTO workers VALUES (gen_random_uuid(), 'w', '1', '{}', 1, 1)"
    )
    tenant = await connection.fetchval(HISTORY, run)
    await connection.execute(
        "INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, owner, token)"
        " SELECT e.id, e.tenant_id, e.workflow_id, w.id, 1 FROM executions e, workers w"
    )
    now = (await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")) - 0.001
    calls = [Call(now, f"{run}:b:", "/flaky/1", "same"), Call(now, f"{run}:b:", "/flaky/1", "same")]
    await connection.execute(STEPS, run, tenant)
    await connection.execute(
        "UPDATE executions SET status = 'completed', output_data = '1', completed_at = started_at + interval '9 ms'"
    )
    await connection.execute("DELETE FROM execution_queue")
    start = Start("k", "kind", 1, Expected("completed", 1), by_webhook=False, acknowledged=uuid.UUID(str(run)))
    yield connection, [start], calls
    await connection.close()


async def test_a_good_history_breaks_nothing(
    checked: History,
) -> None:
    assert [str(breach) for breach in await check(*checked)] == []


def test_every_invariant_is_tried() -> None:
    assert {invariant.name for invariant in invariants()} == set(BREAKS)


@pytest.mark.parametrize("name", BREAKS)
async def test_an_invariant_goes_red(name: str, checked: History) -> None:
    connection, starts, calls = checked
    await check(connection, starts, calls, only=["none"])
    await connection.execute(BREAKS[name])
    (query,) = [invariant.query for invariant in invariants() if invariant.name == name]
    assert await connection.fetch(query) != []
