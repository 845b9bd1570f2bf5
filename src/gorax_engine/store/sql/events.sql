-- name: insert_event
-- Keep an event. It owes starts only if a published workflow listens to one of the patterns ($9) that fit its name.
-- No row: the same idempotency key published before.
INSERT INTO events (tenant_id, name, correlation_key, payload, published_at, expires_at, delete_after,
                    idempotency_key, dispatched)
SELECT $1::uuid, $2::text, $3::text, $4::text::jsonb, t.now, t.now + $5::interval,
       t.now + greatest($5::interval, $6::interval) + $7::interval, $8::text,
       NOT EXISTS (SELECT FROM event_subscriptions s WHERE s.tenant_id = $1 AND s.pattern = ANY ($9::text[]))
FROM clock_timestamp() AS t (now)
ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id, published_at, expires_at, dispatched;

-- name: find_published
-- The event that was published under this idempotency key.
SELECT id, published_at, expires_at, true AS dispatched FROM events WHERE tenant_id = $1 AND idempotency_key = $2;

-- name: match_events
-- Give committed events to the open waits for them; says whether no wait is left.
SELECT gorax_match_events($1::uuid[], $2::integer) AS done;

-- name: match_waits
-- Look through the kept events for committed waits; says how many got one.
SELECT gorax_match_waits($1::uuid[]) AS given;

-- name: leftovers
-- What those who should have done it have left undone for $2: looks and starts, the oldest first. Three partial indexes
-- that are empty as a rule.
(SELECT 'event' AS kind, id FROM events WHERE NOT matched AND published_at < now() - $2::interval ORDER BY id LIMIT $1)
UNION ALL
(SELECT 'start', id FROM events WHERE NOT dispatched AND published_at < now() - $2::interval ORDER BY id LIMIT $1)
UNION ALL
(SELECT 'wait', step_id FROM waits
 WHERE kind = 'event' AND NOT event_sought AND created_at < now() - $2::interval ORDER BY created_at LIMIT $1);

-- name: undispatched
-- Which of these events still owe starts, with what the starts need.
SELECT id, tenant_id, name, correlation_key, payload::text AS payload, published_at
FROM events WHERE id = ANY ($1::uuid[]) AND NOT dispatched ORDER BY id;

-- name: subscribers
-- The trigger nodes of active workflows that listen to one of the patterns of a tenant ($1 and $2 in step), in any
-- order.
SELECT s.tenant_id, s.pattern, s.workflow_id, s.node_id, s.filter, s.position
FROM unnest($1::uuid[], $2::text[]) AS a (tenant_id, pattern)
JOIN event_subscriptions s ON s.tenant_id = a.tenant_id AND s.pattern = a.pattern
JOIN workflows w ON w.tenant_id = s.tenant_id AND w.id = s.workflow_id AND w.status = 'active';

-- name: mark_dispatched
-- All workflows that these events start have been started.
UPDATE events SET dispatched = true WHERE id = ANY ($1::uuid[]);

-- name: expire_events
-- A batch of events whose time is over and that owe nothing, with the record of who got them.
WITH due AS (
    SELECT id FROM events WHERE delete_after <= now() AND matched AND dispatched
    ORDER BY delete_after LIMIT $1 FOR UPDATE SKIP LOCKED
), unrecorded AS (
    DELETE FROM event_deliveries d USING due WHERE d.event_id = due.id
)
DELETE FROM events e USING due WHERE e.id = due.id
RETURNING 1 AS gone;

-- name: delete_subscriptions
-- A workflow listens no longer.
DELETE FROM event_subscriptions WHERE tenant_id = $1 AND workflow_id = $2;

-- name: insert_subscriptions
-- A workflow listens by these nodes, in their order.
INSERT INTO event_subscriptions (tenant_id, workflow_id, node_id, pattern, filter, position)
SELECT $1, $2, a.node_id, a.pattern, a.filter, a.position
FROM unnest($3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS a (node_id, pattern, filter, position);
