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

-- name: expire_webhook_events
-- A batch of webhook events that their tenants keep no longer: for `webhook_event_retention_days` of its settings, else 30.
-- Tenant by tenant, by an index (the order names it: by ids alone, who has nothing to lose would read through what others
-- keep); ids carry their time, so that younger partitions aren't opened.
WITH due AS (
    SELECT e.id
    FROM tenants t
    CROSS JOIN LATERAL (
        SELECT now() - make_interval(days => CASE
                   WHEN t.settings ->> 'webhook_event_retention_days' ~ '^[0-9]{1,3}$'
                   THEN greatest(1, least(365, (t.settings ->> 'webhook_event_retention_days')::integer))
                   ELSE 30 END) AS since
    ) kept
    CROSS JOIN unnest(ARRAY['received', 'processed', 'filtered', 'failed']) AS s (status)
    CROSS JOIN LATERAL (
        SELECT w.id FROM webhook_events w
        WHERE w.tenant_id = t.id AND w.status = s.status
          AND w.created_at < kept.since AND w.id < gorax_uuid7_floor(kept.since)
        ORDER BY w.tenant_id, w.status, w.created_at DESC
        LIMIT $1
    ) e
    LIMIT $1
)
DELETE FROM webhook_events
WHERE id = ANY (ARRAY(SELECT id FROM due)) AND id < gorax_uuid7_floor(now() - interval '1 day')
RETURNING 1 AS gone;
