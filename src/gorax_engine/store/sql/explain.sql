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
       q.execution_id IS NOT NULL AS queued, q.owner, q.ready_at, q.due_at, q.end_requested, q.crashes, q.priority,
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
-- The steps that run now, oldest first.
SELECT node_id, node_type, iteration_path, retry_count + 1 AS attempt, started_at
FROM step_executions
WHERE tenant_id = $1 AND execution_id = $2 AND status = 'running'
  AND id >= gorax_uuid7_floor(gorax_uuid7_time($2))
  AND id < gorax_uuid7_floor(gorax_uuid7_time($2) + interval '1 millisecond')
ORDER BY started_at, node_id
LIMIT 20;

-- name: open_waits
-- What the run waits for, the oldest first.
SELECT node_id, iteration_path, attempt, kind, due_at, created_at
FROM waits
WHERE tenant_id = $1 AND execution_id = $2
ORDER BY created_at, due_at
LIMIT 20;
