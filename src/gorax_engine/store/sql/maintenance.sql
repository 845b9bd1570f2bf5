-- name: hold_term
-- Leadership of a duty: take it if it is free or over, renew it if it is ours. No row: another one leads.
INSERT INTO leaderships AS l (duty, holder, term, expires_at)
VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (duty) DO UPDATE
   SET holder = excluded.holder, expires_at = excluded.expires_at,
       term = CASE WHEN l.holder = excluded.holder THEN l.term ELSE l.term + 1 END
 WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
RETURNING term;

-- name: resign
-- Let another one lead at once.
DELETE FROM leaderships WHERE duty = $1 AND holder = $2;

-- name: ensure_partitions
-- Months ahead for every partitioned table; idempotent.
SELECT gorax_ensure_partitions();

-- name: expire_start_keys
-- A batch of start keys whose time is over. (now() is stable, so the index is searched; clock_timestamp() is not.)
WITH due AS (
    SELECT tenant_id, kind, key FROM start_keys WHERE expires_at <= now()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
DELETE FROM start_keys k USING due d
WHERE k.tenant_id = d.tenant_id AND k.kind = d.kind AND k.key = d.key
RETURNING 1 AS gone;

-- name: expire_answers
-- A batch of remembered answers to writes whose time is over.
WITH due AS (
    SELECT tenant_id, principal_id, key FROM request_idempotency WHERE expires_at <= now()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
DELETE FROM request_idempotency r USING due d
WHERE r.tenant_id = d.tenant_id AND r.principal_id = d.principal_id AND r.key = d.key
RETURNING 1 AS gone;

-- name: outbox
-- What was left to be done at the end of runs, oldest first.
SELECT id, tenant_id, kind, payload::text AS payload FROM outbox ORDER BY id LIMIT $1;

-- name: outbox_done
-- An entry that is carried out (or can't be).
DELETE FROM outbox WHERE id = $1;

-- name: find_workflow
-- A workflow of the tenant by name or id, for an error workflow.
SELECT id FROM workflows WHERE tenant_id = $1 AND (name = $2 OR id::text = $2) AND status <> 'archived' LIMIT 1;
