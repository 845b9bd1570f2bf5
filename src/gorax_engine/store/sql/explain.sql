-- name: facts
-- Everything that decides why a run stands where it stands, by one snapshot. `owner_age_ms` is NULL when the owner's
-- row is gone; `ahead` and `depth` count the tenant's own rows only, up to a bound.
WITH live AS MATERIALIZED (
    SELECT count(*) AS workers
    FROM workers
    WHERE 'worker' = ANY(roles) AND NOT draining
      AND heartbeat_at > clock_timestamp() - make_interval(secs => lease_ms / 1000.0)
)
SELECT e.status, e.created_at, e.started_at, e.completed_at, e.error_code, e.error_message, e.waiting_for,
       t.status AS tenant_status,
       CASE WHEN t.quotas ->> 'max_concurrent_executions' ~ '^[0-9]{1,9}$'
            THEN (t.quotas ->> 'max_concurrent_executions')::numeric END AS tenant_limit,
       q.execution_id IS NOT NULL AS queued, q.owner, q.ready_at, q.due_at, q.end_requested, q.crashes, q.priority, q.paused,
       w.lease_ms,
       extract(epoch FROM clock_timestamp() - w.heartbeat_at) * 1000 AS owner_age_ms,
       w.heartbeat_at AS owner_seen_at,
       w.name AS owner_name,
       (SELECT workers FROM live) AS live_workers,
       (SELECT count(*) FROM (
            SELECT FROM execution_queue o WHERE o.tenant_id = $1 AND o.owner IS NOT NULL LIMIT 10000) held) AS in_flight,
       (SELECT count(*) FROM (
            SELECT FROM execution_queue o
            WHERE o.tenant_id = $1 AND o.owner IS NULL AND o.ready_at IS NOT NULL
              AND (o.priority > q.priority
                   OR (o.priority = q.priority AND (o.ready_at, o.execution_id) < (q.ready_at, q.execution_id)))
            LIMIT 10000) before) AS ahead,
       clock_timestamp() AS now
FROM executions e
JOIN tenants t ON t.id = e.tenant_id
LEFT JOIN execution_queue q ON q.tenant_id = $1 AND q.execution_id = e.id
LEFT JOIN workers w ON w.id = q.owner
WHERE e.tenant_id = $1 AND e.id = $2;

-- name: running_steps
-- The steps that run now, oldest first, those of the types $3 (scopes) last. What waits is not at work.
SELECT node_id, node_type, iteration_path, retry_count + 1 AS attempt, started_at
FROM step_executions s
WHERE tenant_id = $1 AND execution_id = $2 AND status = 'running'
  AND id >= gorax_uuid7_floor(gorax_uuid7_time($2))
  AND id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
  AND NOT EXISTS (SELECT FROM waits w WHERE w.tenant_id = $1 AND w.step_id = s.id)
ORDER BY node_type = ANY ($3::text[]), started_at, node_id
LIMIT 20;

-- name: failed_step
-- The step whose failure ended a run: of those that failed with its code and were not cut off, the last; of several at
-- once the innermost.
SELECT node_id, node_type, iteration_path, retry_count + 1 AS attempt
FROM step_executions
WHERE tenant_id = $1 AND execution_id = $2 AND status = 'failed' AND error_code = $3
  AND outcome IS DISTINCT FROM 'cancelled'
  AND id >= gorax_uuid7_floor(gorax_uuid7_time($2))
  AND id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
ORDER BY completed_at DESC, length(iteration_path) DESC, node_type = ANY ($4::text[])
LIMIT 1;

-- name: open_waits
-- What the run waits for, the oldest first, with the task or the run that it waits for.
SELECT w.node_id, w.iteration_path, w.attempt, w.kind, w.due_at, w.created_at, w.event_name, w.correlation_key,
       w.child_id, c.status AS child_status, c.waiting_for AS child_waiting_for,
       t.id AS task_id, t.title, t.assignees, t.due_date
FROM waits w
LEFT JOIN executions c ON c.tenant_id = $1 AND c.id = w.child_id
LEFT JOIN human_tasks t ON t.tenant_id = $1 AND t.step_id = w.step_id::text AND t.status = 'pending'
WHERE w.tenant_id = $1 AND w.execution_id = $2
ORDER BY w.created_at, w.due_at, w.step_id
LIMIT 20;

-- name: count_waits
-- How many there are, up to a bound: a loop may wait for thousands.
SELECT count(*) FROM (SELECT FROM waits WHERE tenant_id = $1 AND execution_id = $2 LIMIT 10000) w;
