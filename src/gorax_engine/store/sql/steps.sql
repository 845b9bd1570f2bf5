-- name: list_steps
-- A page of the attempts of a run, in the order in which they began; only the latest of each step unless $3.
-- Steps carry the time of their run in their id, which leads to one month.
SELECT id, execution_id, node_id, node_type, iteration_path, round, retry_count + 1 AS attempt, status, input_data,
       output_data, error_message, error_code, retry_count, started_at, completed_at, duration_ms,
       coalesce(started_at, completed_at, to_timestamp(0)) AS began_at
FROM step_executions s
WHERE tenant_id = $1 AND execution_id = $2
  AND id >= gorax_uuid7_floor(gorax_uuid7_time($2))
  AND id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
  AND ($3 OR NOT EXISTS (
        SELECT FROM step_executions later
        WHERE later.tenant_id = $1 AND later.execution_id = $2
          AND later.id >= gorax_uuid7_floor(gorax_uuid7_time($2))
          AND later.id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
          AND later.node_id = s.node_id AND later.iteration_path = s.iteration_path
          AND later.round = s.round AND later.retry_count > s.retry_count))
  AND ($4::timestamptz IS NULL OR (coalesce(started_at, completed_at, to_timestamp(0)), id) > ($4, $5::uuid))
ORDER BY began_at, id
LIMIT $6;

-- name: watch_steps
-- How the attempts of a run stand, without their data, newest first: what a live view needs.
SELECT id, node_id, node_type, iteration_path, round, retry_count + 1 AS attempt, status, error_code, error_message,
       started_at, completed_at, duration_ms
FROM step_executions
WHERE tenant_id = $1 AND execution_id = $2
  AND id >= gorax_uuid7_floor(gorax_uuid7_time($2))
  AND id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
ORDER BY coalesce(completed_at, started_at) DESC NULLS LAST, id
LIMIT $3;

-- name: tree_steps
-- The latest attempts of a run, without their data, in the order in which they began: scopes before what is in them.
SELECT id, node_id, node_type, iteration_path, round, retry_count + 1 AS attempt, status,
       error_code, error_message, started_at, completed_at, duration_ms,
       coalesce(started_at, completed_at, to_timestamp(0)) AS began_at
FROM (
    SELECT s.*, row_number() OVER (PARTITION BY node_id, iteration_path, round ORDER BY retry_count DESC) AS place
    FROM step_executions s
    WHERE tenant_id = $1 AND execution_id = $2
      AND id >= gorax_uuid7_floor(gorax_uuid7_time($2))
      AND id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
) latest
WHERE place = 1
ORDER BY began_at, id
LIMIT $3;
