-- name: start
-- Accept a group of starts; see functions/gorax_start_executions.sql. The columns come as texts, their values separated
-- by U+001F and "" for NULL, which is several times cheaper than arrays; keys and paths, which may hold anything, as JSON.
SELECT ordinal, verdict, execution_id, event_id, claimed, workflow_version, started_us, vars, status
FROM gorax_start_executions(
    $1,
    $2,
    string_to_array($3, E'\x1f', '')::uuid[],
    string_to_array($4, E'\x1f', '')::uuid[],
    string_to_array($5, E'\x1f', ''),
    string_to_array($6, E'\x1f', ''),
    string_to_array($7, E'\x1f', ''),
    string_to_array($8, E'\x1f', '')::smallint[],
    string_to_array($9, E'\x1f', '')::uuid[],
    string_to_array($10, E'\x1f', ''),
    ARRAY(SELECT u.x::jsonb #>> '{}' FROM unnest(string_to_array($11, E'\x1f', '')) WITH ORDINALITY AS u (x, ord) ORDER BY u.ord),
    string_to_array($12, E'\x1f', '')::bytea[],
    string_to_array($13, E'\x1f', '')::integer[],
    string_to_array($14, E'\x1f', '')::uuid[],
    string_to_array($15, E'\x1f', ''),
    ARRAY(SELECT u.x::jsonb #>> '{}' FROM unnest(string_to_array($16, E'\x1f', '')) WITH ORDINALITY AS u (x, ord) ORDER BY u.ord),
    string_to_array($17, E'\x1f', ''),
    string_to_array($18, E'\x1f', ''),
    string_to_array($19, E'\x1f', ''),
    string_to_array($20, E'\x1f', '')::bytea[],
    string_to_array($21, E'\x1f', '')::inet[],
    string_to_array($22, E'\x1f', '')::integer[],
    string_to_array($23, E'\x1f', ''),
    $24,
    $25::text::jsonb  -- as text, whether or not the connection turns JSON into values
) ORDER BY ordinal;

-- name: ring
-- There may be something to claim. Without payload, so that equal ones in one transaction are one.
SELECT pg_notify('gorax_ready', '');

-- name: claim
-- Claim ready runs; see functions/gorax_claim.sql.
SELECT * FROM gorax_claim($1, $2, $3);

-- name: flush
-- Record what executions have to say; see functions/gorax_flush.sql.
SELECT stale, not_parked, children FROM gorax_flush(
    $1, string_to_array($2, E'\x1f')::uuid[],
    string_to_array($3, E'\x1f')::uuid[], string_to_array($4, E'\x1f')::bigint[],
    $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27,
    $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46::jsonb, $47
);

-- name: sweep
-- Timers, deadlines and dead workers; see functions/gorax_sweep.sql.
SELECT timers, deadlines, rescued, quarantined, lost_workers, suspects, next_due_us FROM gorax_sweep($1);

-- name: recorded_steps
-- The attempts that are recorded of a run, for rebuilding it; those of iterations that their loop has folded only if $2.
-- Times are microseconds since the epoch.
-- A path is held against what is folded at its first three levels by equality, which hashes; what lies deeper in a loop
-- that is folded is read in vain.
WITH folded AS MATERIALIZED (
    SELECT p.prefix, p.round, max(p.upto) AS upto FROM loop_progress p WHERE p.execution_id = $1 GROUP BY 1, 2
)
SELECT node_id, iteration_path, round, retry_count, status, output_data::text AS output_data, outcome, error_message,
       error_code, (extract(epoch FROM started_at) * 1000000)::bigint AS started_us,
       (extract(epoch FROM completed_at) * 1000000)::bigint AS completed_us
FROM (
    SELECT s.*, gorax_loop_prefix(s.iteration_path, 1) AS first, gorax_loop_prefix(s.iteration_path, 2) AS second,
           gorax_loop_prefix(s.iteration_path, 3) AS third
    FROM step_executions s WHERE execution_id = $1 AND id >= gorax_uuid7_floor(gorax_uuid7_time($1))
     AND id < gorax_uuid7_floor(gorax_uuid7_time($1) + interval '1 millisecond')
) s
WHERE NOT EXISTS (SELECT FROM folded f WHERE NOT $2 AND f.prefix = s.first AND f.round = s.round
                     AND gorax_loop_index(s.iteration_path, s.first) < f.upto)
  AND NOT EXISTS (SELECT FROM folded f WHERE NOT $2 AND f.prefix = s.second AND f.round = s.round
                     AND gorax_loop_index(s.iteration_path, s.second) < f.upto)
  AND NOT EXISTS (SELECT FROM folded f WHERE NOT $2 AND f.prefix = s.third AND f.round = s.round
                     AND gorax_loop_index(s.iteration_path, s.third) < f.upto)
ORDER BY retry_count;

-- name: folded
-- What loops of a run have recorded of their first iterations, in order.
SELECT s.node_id, s.iteration_path, s.round, s.retry_count, p.results::text AS results
FROM loop_progress p JOIN step_executions s ON s.id = p.step_id
WHERE p.execution_id = $1 ORDER BY p.step_id, p.first;

-- name: open_waits
-- What a run waits for.
SELECT step_id, node_id, iteration_path, round, attempt, kind, (extract(epoch FROM due_at) * 1000000)::bigint AS due_us,
       output::text AS output, child_id, detail::text AS detail
FROM waits WHERE execution_id = $1;

-- name: signals
-- What has come for the waits of a run.
SELECT step_id, resolution::text AS resolution FROM signals WHERE execution_id = $1;

-- name: child_outputs
-- What runs that have ended gave, and how their top-level steps $2 ended, for the mappings of their parent.
SELECT e.id, e.status, e.output_data::text AS output, e.error_code, e.error_message,
       (SELECT jsonb_object_agg(s.node_id, s.output_data)::text
          FROM step_executions s
         WHERE s.execution_id = e.id AND s.id >= gorax_uuid7_floor(gorax_uuid7_time(e.id))
           AND s.id < gorax_uuid7_floor(gorax_uuid7_time(e.id) + interval '1 millisecond')
           AND s.iteration_path = '' AND s.status = 'completed' AND s.node_id = ANY ($2::text[])) AS steps
FROM executions e WHERE e.id = ANY ($1::uuid[]);

-- name: definition
-- The snapshot that an execution is pinned to.
SELECT v.definition::text AS definition FROM workflow_versions v WHERE v.workflow_id = $1 AND v.version = $2;

-- name: lock_for_cancel
-- The mutex of a live run, and what is needed to end it. No row: the run has ended, or is not of this tenant.
SELECT q.owner, q.token, q.wake_seq, q.end_requested::text AS end_requested, e.workflow_id, e.workflow_version, e.trigger_type, e.trigger_node,
       e.trigger_data::text AS trigger_data, (extract(epoch FROM e.started_at) * 1000000)::bigint AS started_us,
       (extract(epoch FROM e.created_at) * 1000000)::bigint AS created_us,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us, e.origin_id
FROM execution_queue q JOIN executions e ON e.id = q.execution_id
WHERE q.execution_id = $1 AND e.id = $1 AND q.tenant_id = $2
FOR UPDATE OF q;

-- name: execution_status
-- The state of a run of this tenant, by id.
SELECT status FROM executions WHERE id = $1 AND tenant_id = $2;

-- name: ended
-- Which of these runs have ended: those that are not live. By the queue, which is small.
SELECT a.id FROM unnest($1::uuid[]) AS a (id)
WHERE NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.execution_id = a.id);

-- name: record_steps
-- See functions/gorax_record_steps.sql.
SELECT gorax_record_steps(ARRAY[$1::uuid], ARRAY[$2::uuid], $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: record_ends
-- See functions/gorax_record_ends.sql; the owner, if there is one, is told to let go.
SELECT gorax_record_ends($1, $2, $3, $4, $5, $6), pg_notify('gorax_wake', '');

-- name: end_waits
-- All that a run which has ended waits for; see functions/gorax_end_waits.sql.
SELECT gorax_end_waits(ARRAY[$1::uuid]);

-- name: lock_runs
-- The mutexes of several runs of a tenant at once, in the order in which everybody takes them.
SELECT q.execution_id FROM execution_queue q WHERE q.execution_id = ANY ($1::uuid[]) AND q.tenant_id = $2
ORDER BY q.execution_id FOR UPDATE OF q;

-- name: relatives
-- Who waits for a run, and for which runs it waits itself and takes along when it is cancelled.
SELECT e.parent_execution_id, e.parent_step_id,
       ARRAY(SELECT w.child_id FROM waits w
              WHERE w.execution_id = e.id AND w.child_id IS NOT NULL
                AND NOT coalesce((w.detail ->> 'abandon')::boolean, false)) AS children
FROM executions e WHERE e.id = $1;

-- name: request_cancel
-- Ask for the end of runs whose queue rows are locked; see functions/gorax_request_cancel.sql.
SELECT gorax_request_cancel($1::uuid[], $2);

-- name: signal
-- What a wait was waiting for has come; see functions/gorax_signal.sql.
SELECT gorax_signal($1::uuid[], $2::text[]) AS step_id;

-- name: pause
-- Begin no further step of a run of the tenant. No row: it has ended, or is about to.
WITH target AS MATERIALIZED (
    SELECT q.execution_id FROM execution_queue q
     WHERE q.execution_id = $1 AND q.tenant_id = $2 AND q.end_requested IS NULL FOR UPDATE
), paused AS (
    UPDATE execution_queue q SET paused = true, wake_seq = q.wake_seq + 1 FROM target t
     WHERE q.execution_id = t.execution_id
    RETURNING q.execution_id, q.owner
), told AS (
    UPDATE executions e SET waiting_for = 'paused' FROM paused p WHERE e.id = p.execution_id AND p.owner IS NULL
)
SELECT p.execution_id, pg_notify('gorax_wake', '') FROM paused p;

-- name: resume
-- Let a paused run go on. No row: it is not paused.
WITH target AS MATERIALIZED (
    SELECT q.execution_id FROM execution_queue q
     WHERE q.execution_id = $1 AND q.tenant_id = $2 AND q.paused FOR UPDATE
), resumed AS (
    UPDATE execution_queue q
       SET paused = false, wake_seq = q.wake_seq + 1,
           ready_at = CASE WHEN q.owner IS NULL THEN coalesce(q.ready_at, clock_timestamp()) ELSE q.ready_at END
      FROM target t WHERE q.execution_id = t.execution_id
    RETURNING q.execution_id, q.owner
), told AS (
    UPDATE executions e SET waiting_for = NULL FROM resumed r WHERE e.id = r.execution_id AND r.owner IS NULL
)
SELECT r.execution_id, pg_notify('gorax_wake', ''), pg_notify('gorax_ready', '') FROM resumed r;

-- name: pinned_version
-- The version that a live run is pinned to.
SELECT e.workflow_id, e.workflow_version
FROM execution_queue q JOIN executions e ON e.id = q.execution_id
WHERE q.execution_id = $1 AND e.id = $1 AND q.tenant_id = $2;

-- name: close_running_steps
-- For the end of a run whose graph this process can't read.
UPDATE step_executions
SET status = 'failed', error_code = 'cancelled', error_message = 'The step was cancelled because the run ended.',
    completed_at = clock_timestamp()
WHERE execution_id = $1 AND status IN ('pending', 'running');

-- name: event_waits
-- The steps of a run that wait for an event of a name.
SELECT step_id, correlation_key FROM waits WHERE execution_id = $1 AND kind = 'event' AND event_name = $2;

-- name: database_time
-- What time it is.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us;

-- name: new_execution_id
-- An id by the database's clock.
SELECT gorax_uuid7() AS id;

-- name: past_run
-- A run of a tenant, with what is needed to run it again.
SELECT e.id, e.status, e.workflow_id, e.workflow_version, w.published_version, e.trigger_type, e.trigger_node,
       e.trigger_data::text AS trigger_data, e.vars::text AS vars, e.origin_id,
       (extract(epoch FROM e.created_at) * 1000000)::bigint AS created,
       (extract(epoch FROM e.started_at) * 1000000)::bigint AS started
FROM executions e LEFT JOIN workflows w ON w.id = e.workflow_id AND w.tenant_id = e.tenant_id
WHERE e.id = $1 AND e.tenant_id = $2;

-- name: recorded_inputs
-- What the attempts of a run were given.
SELECT node_id, iteration_path, round, retry_count, input_data::text AS input_data
FROM step_executions WHERE execution_id = $1 AND id >= gorax_uuid7_floor(gorax_uuid7_time($1))
 AND id < gorax_uuid7_floor(gorax_uuid7_time($1) + interval '1 millisecond') AND input_data IS NOT NULL;
