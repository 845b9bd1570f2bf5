-- name: peek
-- Whether there is anything to do: in how many seconds the next schedule is due, and whether occurrences are queued.
SELECT (SELECT extract(epoch FROM s.due_at - clock_timestamp()) FROM schedules s
         WHERE s.enabled AND s.due_at IS NOT NULL ORDER BY s.due_at LIMIT 1)::float8 AS due_in,
       EXISTS (SELECT 1 FROM schedule_occurrences o WHERE o.status = 'queued') AS queued;

-- name: lock_due
-- The schedules that have been due for longest, of those that nobody else is at. (now() is stable, so the index is
-- searched; clock_timestamp() is not.)
SELECT s.id, s.tenant_id, s.workflow_id, s.node_id, s.priority, s.overlap_policy, s.cron_expression, s.timezone, s.dst_gap,
       s.dst_fold, s.starts_at, s.ends_at, s.misfire_policy, s.misfire_limit, s.catchup_window, s.jitter, s.next_run_at,
       octet_length(s.input::text) AS input_size
FROM schedules s
WHERE s.enabled AND s.due_at <= now()
ORDER BY s.due_at
LIMIT $1
FOR NO KEY UPDATE OF s SKIP LOCKED;

-- name: lock_queued
-- Schedules with queued occurrences of which one can start, or none ever will. The schedules are found one after another
-- in the index, however many occurrences each has queued.
WITH RECURSIVE waiting AS (
    (SELECT o.schedule_id FROM schedule_occurrences o WHERE o.status = 'queued' ORDER BY o.schedule_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.schedule_id FROM schedule_occurrences o
             WHERE o.status = 'queued' AND o.schedule_id > w.schedule_id ORDER BY o.schedule_id LIMIT 1)
      FROM waiting w WHERE w.schedule_id IS NOT NULL
)
SELECT s.id, s.tenant_id, s.workflow_id, s.node_id, s.priority, s.overlap_policy, s.cron_expression, s.timezone, s.dst_gap,
       s.dst_fold, s.starts_at, s.ends_at, s.misfire_policy, s.misfire_limit, s.catchup_window, s.jitter, s.next_run_at,
       octet_length(s.input::text) AS input_size
FROM waiting w JOIN schedules s ON s.id = w.schedule_id
WHERE NOT s.enabled OR NOT EXISTS (SELECT 1 FROM execution_queue q WHERE q.schedule_id = s.id)
LIMIT $1
FOR NO KEY UPDATE OF s SKIP LOCKED;

-- name: circumstances
-- What is to be known of schedules that are locked by the caller, asked only now: what others have done before is seen.
-- The time is the same for all of them.
-- `refusal` is why nothing can start, as gorax_start_executions has it; `live` are the runs that an overlap policy asks for.
SELECT s.id, statement_timestamp() AS now,
       CASE WHEN w.status = 'archived' THEN 'workflow_archived'
            WHEN t.status <> 'active' THEN 'tenant_suspended'
            WHEN w.published_version IS NULL THEN 'not_published'
            WHEN w.status <> 'active' THEN 'workflow_inactive'
            WHEN NOT s.enabled THEN 'schedule_disabled' END AS refusal,
       CASE WHEN s.overlap_policy = 'allow' THEN '{}'
            ELSE ARRAY(SELECT q.execution_id FROM execution_queue q WHERE q.schedule_id = s.id ORDER BY q.execution_id)
       END AS live,
       (SELECT count(*) FROM schedule_occurrences o WHERE o.schedule_id = s.id AND o.status = 'queued')::integer AS queued
FROM schedules s
JOIN workflows w ON w.tenant_id = s.tenant_id AND w.id = s.workflow_id
JOIN tenants t ON t.id = s.tenant_id
WHERE s.id = ANY ($1::uuid[]);

-- name: taken
-- Which of these occurrences something has become of already.
SELECT o.schedule_id, o.scheduled_for
FROM unnest($1::uuid[], $2::timestamptz[]) AS a (schedule_id, scheduled_for)
JOIN schedule_occurrences o ON o.schedule_id = a.schedule_id AND o.scheduled_for = a.scheduled_for;

-- name: inputs
-- What the runs of schedules are given.
SELECT id, input::text AS input FROM schedules WHERE id = ANY ($1::uuid[]);

-- name: oldest_queued
-- The occurrence of each schedule that has been queued for longest.
SELECT DISTINCT ON (schedule_id) schedule_id, scheduled_for
FROM schedule_occurrences WHERE schedule_id = ANY ($1::uuid[]) AND status = 'queued'
ORDER BY schedule_id, scheduled_for;

-- name: lock_runs
-- The mutexes of runs, in the order in which everybody takes them. Those that have ended meanwhile are left out.
SELECT q.execution_id FROM execution_queue q WHERE q.execution_id = ANY ($1::uuid[])
ORDER BY q.execution_id FOR UPDATE OF q;

-- name: record_decided
-- What became of occurrences. That none of them was decided before is for the key to say.
INSERT INTO schedule_occurrences (schedule_id, scheduled_for, tenant_id, status, reason, execution_id)
SELECT a.* FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::uuid[]) AS a;

-- name: record_missed
-- Stretches of occurrences that were missed, each a row. One whose first occurrence was backfilled already is history.
INSERT INTO schedule_occurrences (schedule_id, scheduled_for, tenant_id, status, reason, through, count)
SELECT a.id, a.scheduled_for, a.tenant, 'missed', a.reason, a.through, a.count
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::timestamptz[], $6::integer[])
     AS a (id, scheduled_for, tenant, reason, through, count)
ON CONFLICT (schedule_id, scheduled_for) DO NOTHING;

-- name: record_queued
-- What became of occurrences that were queued.
UPDATE schedule_occurrences o
SET status = a.status, reason = a.reason, execution_id = a.execution_id, decided_at = clock_timestamp()
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::uuid[])
     AS a (schedule_id, scheduled_for, status, reason, execution_id)
WHERE o.schedule_id = a.schedule_id AND o.scheduled_for = a.scheduled_for AND o.status = 'queued';

-- name: skip_queued
-- Nothing that is queued of these schedules will start.
UPDATE schedule_occurrences o
SET status = 'skipped', reason = a.reason, decided_at = clock_timestamp()
FROM unnest($1::uuid[], $2::text[]) AS a (schedule_id, reason)
WHERE o.schedule_id = a.schedule_id AND o.status = 'queued'
RETURNING 1 AS gone;

-- name: advance
-- When schedules occur next (NULL: never again) and, where they ran, what ran last.
UPDATE schedules s
SET next_run_at = a.next_run_at, due_at = a.due_at, last_run_at = coalesce(a.last_run_at, s.last_run_at),
    last_execution_id = coalesce(a.last_execution_id, s.last_execution_id)
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::uuid[])
     AS a (id, next_run_at, due_at, last_run_at, last_execution_id)
WHERE s.id = a.id;

-- name: note_runs
-- What ran last of schedules whose plan stays as it is.
UPDATE schedules s SET last_run_at = a.last_run_at, last_execution_id = a.last_execution_id
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS a (id, last_run_at, last_execution_id)
WHERE s.id = a.id;

-- name: disable
-- Schedules that can't be read any more wait for somebody to mend them.
UPDATE schedules
SET enabled = false, next_run_at = NULL, due_at = NULL, revision = revision + 1, updated_at = now()
WHERE id = ANY ($1::uuid[]);

-- name: lock_for_backfill
-- A schedule of a tenant: while its past is filled, nobody fires it.
SELECT id FROM schedules WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: occurrences_at
-- What is recorded of a schedule at these moments.
SELECT scheduled_for, status, reason, execution_id, through, count
FROM schedule_occurrences WHERE schedule_id = $1 AND scheduled_for = ANY ($2::timestamptz[]);

-- name: record_backfilled
-- Occurrences that were started afterwards, whatever had become of them at their time.
INSERT INTO schedule_occurrences AS o (schedule_id, tenant_id, scheduled_for, status, execution_id, backfill)
SELECT $1, $2, a.scheduled_for, 'started', a.execution_id, true
FROM unnest($3::timestamptz[], $4::uuid[]) AS a (scheduled_for, execution_id)
ON CONFLICT (schedule_id, scheduled_for) DO UPDATE
   SET status = 'started', reason = NULL, execution_id = excluded.execution_id, backfill = true, through = NULL, count = NULL,
       decided_at = clock_timestamp()
 WHERE o.status NOT IN ('started', 'queued');

-- name: expire_occurrences
-- A batch of occurrences that were decided long ago; what is queued is not decided.
WITH old AS (
    SELECT schedule_id, scheduled_for FROM schedule_occurrences
     WHERE decided_at < now() - $2::interval AND status <> 'queued'
     ORDER BY decided_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
DELETE FROM schedule_occurrences o USING old
WHERE o.schedule_id = old.schedule_id AND o.scheduled_for = old.scheduled_for
RETURNING 1 AS gone;
