-- name: get_execution
-- One run of the tenant.
SELECT id, workflow_id, workflow_version, status, waiting_for, trigger_type, trigger_data, output_data, error_message,
       error_code, parent_execution_id, execution_depth, retry_of, created_at, started_at, completed_at
FROM executions WHERE tenant_id = $1 AND id = $2;

-- name: children
-- The runs that a run has started, by the steps that started them. They are younger than it, which leads to few months.
SELECT id, workflow_id, status, waiting_for, error_code, parent_step_id
FROM executions
WHERE tenant_id = $1 AND parent_execution_id = $2 AND id > $2
ORDER BY id
LIMIT $3;

-- name: plan_by_values
-- Plan the next statements of this transaction for their values: a filter that is absent must cost nothing.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: list_executions
-- A page of runs, newest first, without their data. The bounds on id say by time what created_at says, a day wider on
-- each side, so that months outside are not touched.
SELECT id, workflow_id, workflow_version, status, waiting_for, trigger_type, error_message, error_code,
       parent_execution_id, execution_depth, retry_of, created_at, started_at, completed_at
FROM executions
WHERE tenant_id = $1
  AND ($2::uuid IS NULL OR workflow_id = $2)
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR trigger_type = $4)
  AND ($5::timestamptz IS NULL OR (created_at >= $5 AND id >= gorax_uuid7_floor($5 - interval '1 day')))
  AND ($6::timestamptz IS NULL OR (created_at < $6 AND id < gorax_uuid7_floor($6 + interval '1 day')))
  AND ($7::text IS NULL OR error_message ILIKE $7 OR error_code ILIKE $7)
  AND ($8::text IS NULL OR waiting_for = $8)
  AND ($9::timestamptz IS NULL OR ((created_at, id) < ($9, $10::uuid)
                                   AND id < gorax_uuid7_floor($9::timestamptz + interval '1 day')))
ORDER BY created_at DESC, id DESC
LIMIT $11;

-- name: queue_state
-- The queue for the metrics, as the worker's role sees it: one pass over a narrow table, counted up to a bound.
SELECT count(*) FILTER (WHERE owner IS NOT NULL) AS running,
       count(*) FILTER (WHERE owner IS NULL AND ready_at IS NOT NULL) AS ready,
       count(*) FILTER (WHERE owner IS NULL AND ready_at IS NULL) AS parked,
       count(*) FILTER (WHERE owner IS NULL AND ready_at IS NULL AND due_at <= clock_timestamp()) AS timers_due,
       (SELECT extract(epoch FROM clock_timestamp() - min(o.ready_at))::double precision
        FROM execution_queue o WHERE o.owner IS NULL AND o.ready_at IS NOT NULL) AS oldest_age,
       (SELECT count(*) FROM (SELECT FROM human_tasks WHERE status = 'pending' LIMIT 100000) t) AS human_tasks_open
FROM (SELECT owner, ready_at, due_at FROM execution_queue LIMIT 100000) live;
