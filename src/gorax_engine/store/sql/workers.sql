-- name: register
-- A new row for every registration: the id is the incarnation, so an earlier life of the process can't be mistaken.
INSERT INTO workers (id, name, version, roles, slots, lease_ms) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us;

-- name: heartbeat
-- No row: the worker was taken for dead and rescued. Returns the database's clock.
UPDATE workers SET heartbeat_at = clock_timestamp(), draining = $2 WHERE id = $1
RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us;

-- name: owned
-- What the worker holds, and the marks that were set meanwhile.
SELECT execution_id, token, wake_seq, end_requested::text AS end_requested, paused FROM execution_queue WHERE owner = $1;

-- name: hand_back
-- Frees runs that the worker holds without knowing of them, each under the token that was seen.
WITH held AS MATERIALIZED (
    SELECT q.execution_id FROM execution_queue q
      JOIN unnest($2::uuid[], $3::bigint[]) AS a (id, token) ON q.execution_id = a.id AND q.token = a.token
     WHERE q.owner = $1 ORDER BY q.execution_id FOR UPDATE OF q
), freed AS (
    UPDATE execution_queue q SET owner = NULL, ready_at = coalesce(q.ready_at, clock_timestamp()), due_at = NULL
      FROM held h WHERE q.execution_id = h.execution_id
    RETURNING q.execution_id
)
SELECT count(*)::integer AS freed, pg_notify('gorax_ready', '') FROM freed;

-- name: absolve
-- A worker that lost its lease and lives takes back what its loss was counted as: no crash of these runs. Only where
-- nobody, or one other worker, has claimed the run since; a run that was given up for it and not yet ended goes on.
WITH mine AS MATERIALIZED (
    SELECT q.execution_id FROM execution_queue q
      JOIN unnest($1::uuid[], $2::bigint[]) AS a (id, token) ON q.execution_id = a.id
     WHERE q.crashes > 0 AND q.token BETWEEN a.token AND a.token + 1
     ORDER BY q.execution_id FOR UPDATE OF q
)
UPDATE execution_queue q
   SET crashes = q.crashes - 1,
       end_requested = CASE WHEN q.owner IS NULL AND q.end_requested ->> 'kind' = 'worker_lost'
                            THEN q.end_requested -> 'was' 
                            ELSE q.end_requested END
  FROM mine m WHERE q.execution_id = m.execution_id
RETURNING q.execution_id;

-- name: release
-- Gives back everything a draining worker still holds, and signs off; see functions/gorax_release.sql.
SELECT gorax_release($1) AS freed;
