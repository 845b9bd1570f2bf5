-- name: insert_schedule
-- Store a new schedule. No row: its name is taken within the workflow.
INSERT INTO schedules (id, tenant_id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold,
                       starts_at, ends_at, jitter, catchup_window, misfire_policy, misfire_limit, overlap_policy, input,
                       priority, enabled, next_run_at, due_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
ON CONFLICT (tenant_id, workflow_id, name) DO NOTHING
RETURNING id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold, starts_at, ends_at, jitter,
          catchup_window, misfire_policy, misfire_limit, overlap_policy, input, priority, enabled, next_run_at, last_run_at,
          last_execution_id, revision, created_by, created_at, updated_at;

-- name: change_schedule
-- Write all that may change of a schedule; every change counts the revision. The row is locked by the caller. A name that
-- is taken raises unique_violation.
UPDATE schedules
SET name = $3, description = $4, cron_expression = $5, timezone = $6, dst_gap = $7, dst_fold = $8, starts_at = $9, ends_at = $10,
    jitter = $11, catchup_window = $12, misfire_policy = $13, misfire_limit = $14, overlap_policy = $15, input = $16,
    priority = $17, enabled = $18, next_run_at = $19, due_at = $20, revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2
RETURNING id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold, starts_at, ends_at, jitter,
          catchup_window, misfire_policy, misfire_limit, overlap_policy, input, priority, enabled, next_run_at, last_run_at,
          last_execution_id, revision, created_by, created_at, updated_at;

-- name: get_schedule
-- One schedule of the tenant.
SELECT id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold, starts_at, ends_at, jitter,
       catchup_window, misfire_policy, misfire_limit, overlap_policy, input, priority, enabled, next_run_at, last_run_at,
       last_execution_id, revision, created_by, created_at, updated_at
FROM schedules WHERE tenant_id = $1 AND id = $2;

-- name: lock_schedule
-- The same for a change, with when it is due: whoever else changes or fires it waits, or passes it over.
SELECT id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold, starts_at, ends_at, jitter,
       catchup_window, misfire_policy, misfire_limit, overlap_policy, input, priority, enabled, next_run_at, last_run_at,
       last_execution_id, revision, created_by, created_at, updated_at, due_at
FROM schedules WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: lock_of_workflow
-- All schedules of a workflow for a change, by node and name.
SELECT id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold, starts_at, ends_at, jitter,
       catchup_window, misfire_policy, misfire_limit, overlap_policy, input, priority, enabled, next_run_at, last_run_at,
       last_execution_id, revision, created_by, created_at, updated_at, due_at
FROM schedules WHERE tenant_id = $1 AND workflow_id = $2 ORDER BY id FOR NO KEY UPDATE;

-- name: list_schedules
-- A page of schedules, newest first.
SELECT id, workflow_id, node_id, name, description, cron_expression, timezone, dst_gap, dst_fold, starts_at, ends_at, jitter,
       catchup_window, misfire_policy, misfire_limit, overlap_policy, input, priority, enabled, next_run_at, last_run_at,
       last_execution_id, revision, created_by, created_at, updated_at
FROM schedules
WHERE tenant_id = $1
  AND ($2::uuid IS NULL OR workflow_id = $2)
  AND ($3::boolean IS NULL OR enabled = $3)
  AND ($4::text IS NULL OR name = $4)
  AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $7;

-- name: delete_schedules
-- Delete schedules with the history of their occurrences; the runs stay.
DELETE FROM schedules WHERE tenant_id = $1 AND id = ANY ($2::uuid[]);

-- name: retire_schedules
-- Nothing starts an archived workflow any more.
UPDATE schedules
SET enabled = false, next_run_at = NULL, due_at = NULL, revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND workflow_id = $2 AND enabled;

-- name: list_occurrences
-- A page of what became of a schedule's occurrences, newest first.
SELECT schedule_id, scheduled_for, status, reason, execution_id, backfill, through, count, decided_at
FROM schedule_occurrences
WHERE tenant_id = $1 AND schedule_id = $2
  AND ($3::timestamptz IS NULL OR scheduled_for < $3)
ORDER BY scheduled_for DESC
LIMIT $4;

-- name: database_now
-- The clock that decides what is due.
SELECT clock_timestamp() AS now;
