-- name: add_workflow
-- A published workflow of the tenant, without the checks of a save: the bench compiles what it writes.
INSERT INTO workflows (id, tenant_id, name, definition, status, version, published_version, created_by)
VALUES ($1, $2, $3, $4::text::jsonb, 'active', 1, 1, $5);

-- name: add_version
-- The snapshot that runs are pinned to.
INSERT INTO workflow_versions (workflow_id, tenant_id, version, definition, created_by)
VALUES ($1, $2, 1, $3::text::jsonb, $4);

-- name: add_webhook
-- A webhook of the workflow as GitHub calls it, with three filters that hold for what is delivered.
WITH hook AS (
    INSERT INTO webhooks (tenant_id, workflow_id, node_id, name, path, auth_type, signature_scheme, secret)
    VALUES ($1, $2, 'start', $3, $3, 'secret', 'github', $4)
    RETURNING tenant_id, id
)
INSERT INTO webhook_filters (tenant_id, webhook_id, field_path, operator, value, logic_group)
SELECT h.tenant_id, h.id, f.path, f.operator, f.value, f.place
  FROM hook h
 CROSS JOIN (VALUES ('$.name', 'starts_with', jsonb '"order "', 0), ('$.tags[0]', 'in', jsonb '["new", "sent"]', 1),
                    ('$.tags[2].weight', 'gte', jsonb '1', 2)) AS f (path, operator, value, place);

-- name: add_schedules
-- Schedules of one workflow in several zones, all due at one moment.
INSERT INTO schedules (tenant_id, workflow_id, name, cron_expression, timezone, overlap_policy, next_run_at, due_at, created_by)
SELECT $1, $2, $3 || n, '* * * * *', (ARRAY['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Tokyo', 'Australia/Lord_Howe'])[n % 5 + 1],
       'allow', $4, $4, (SELECT u.id FROM users u WHERE u.tenant_id = $1 LIMIT 1)
FROM generate_series(1, $5) AS n;

-- name: forget_schedules
-- No schedule is left.
DELETE FROM schedules;

-- name: scheduled
-- What the schedules of a workflow started for one moment: runs, occurrences among them, seconds until the last.
SELECT count(*)::int AS runs, count(DISTINCT e.trigger_data ->> 'schedule_id')::int AS occurrences,
       coalesce(max(extract(epoch FROM e.created_at - $2)), 0)::float8 AS seconds
FROM executions e
WHERE e.workflow_id = $1 AND e.trigger_type = 'schedule' AND (e.trigger_data ->> 'scheduled_for')::timestamptz = $2;

-- name: lift_limits
-- The bench measures the engine, not the quotas of a tier.
UPDATE tenants SET quotas = '{}' WHERE id = $1;

-- name: commits
-- Commits of this database so far.
SELECT xact_commit FROM pg_stat_database WHERE datname = current_database();

-- name: backlog
-- Live runs by state.
SELECT count(*) FILTER (WHERE owner IS NOT NULL) AS running,
       count(*) FILTER (WHERE owner IS NULL AND ready_at IS NOT NULL) AS ready,
       count(*) FILTER (WHERE owner IS NULL AND ready_at IS NULL) AS parked
FROM execution_queue;

-- name: not_completed
-- A run that did not complete voids what was measured.
SELECT count(*) AS runs, min(status || coalesce(': ' || error_message, '')) AS reason
FROM executions WHERE workflow_id = $1 AND status <> 'completed';

-- name: any_user
-- A user of a tenant.
SELECT id FROM users WHERE tenant_id = $1 LIMIT 1;

-- name: lags
-- How long after a moment the runs of a workflow ended.
SELECT extract(epoch FROM completed_at - $2::timestamptz)::double precision AS lag
FROM executions WHERE workflow_id = $1 AND completed_at IS NOT NULL ORDER BY lag;

-- name: owners
-- How many live runs each worker holds.
SELECT owner, count(*) AS runs FROM execution_queue WHERE owner IS NOT NULL GROUP BY owner;

-- name: durability
-- What stands between a commit and its loss.
SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('full_page_writes') AS full_page_writes, current_setting('shared_buffers') AS shared_buffers;

-- name: seed_executions
-- A backlog of ready runs, as accept leaves them.
WITH made AS (
    INSERT INTO executions (tenant_id, workflow_id, workflow_version, status, trigger_type, trigger_data)
    SELECT $1, $2, 1, 'pending', 'api', '{"body": {}}'::jsonb FROM generate_series(1, $3::integer)
    RETURNING id
)
INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, ready_at)
SELECT id, $1, $2, clock_timestamp() FROM made;

-- name: analyze_queue
-- As autovacuum would, after the bulk load.
VACUUM ANALYZE execution_queue;

-- name: unclaim
-- Put claimed runs back, for the next round.
UPDATE execution_queue SET owner = NULL WHERE owner = $1;

-- name: truncate_runs
-- Forget every run.
TRUNCATE executions, step_executions, execution_queue, start_keys, waits, webhook_events;

-- name: limit_start_keys
-- The rows of accept, by unnest.
INSERT INTO start_keys (tenant_id, kind, key, execution_id, body_hash, created_at, expires_at)
SELECT $1, 'idempotency', a.key, a.id, $4, clock_timestamp(), clock_timestamp() + interval '1 day'
FROM unnest($2::uuid[], $3::text[]) AS a (id, key);

-- name: limit_executions
-- The rows of accept, by unnest.
INSERT INTO executions (id, tenant_id, workflow_id, workflow_version, status, trigger_type, trigger_data, created_at)
SELECT a.id, $1, $2, 1, 'pending', 'api', a.data::jsonb, clock_timestamp()
FROM unnest($3::uuid[], $4::text[]) AS a (id, data);

-- name: limit_queue
-- The rows of accept, by unnest.
INSERT INTO execution_queue (execution_id, tenant_id, workflow_id, ready_at)
SELECT a, $1, $2, clock_timestamp() FROM unnest($3::uuid[]) AS a;

-- name: limit_claim_queue
-- The rows of the claim.
UPDATE execution_queue SET owner = $2, token = token + 1 WHERE execution_id = ANY ($1::uuid[]);

-- name: limit_claim_executions
-- The rows of the claim.
UPDATE executions SET status = 'running', started_at = clock_timestamp() WHERE id = ANY ($1::uuid[]);

-- name: limit_steps
-- The rows of steps, by unnest.
INSERT INTO step_executions (
    id, execution_id, tenant_id, node_id, node_type, status, input_data, output_data, retry_count, started_at,
    completed_at, duration_ms
)
SELECT a.id, a.execution, $1, a.node, a.type, 'completed', a.input::jsonb, a.output::jsonb, 0, clock_timestamp(),
       clock_timestamp(), 0
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
     AS a (id, execution, node, type, input, output);

-- name: limit_ends
-- The rows of the end.
UPDATE executions e
SET status = 'completed', output_data = a.output::jsonb, completed_at = clock_timestamp()
FROM unnest($1::uuid[], $2::text[]) AS a (id, output) WHERE e.id = a.id;

-- name: limit_leave_queue
-- The rows of the end.
DELETE FROM execution_queue WHERE execution_id = ANY ($1::uuid[]);
