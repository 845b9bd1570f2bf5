-- name: list_events
-- A page of a webhook's log, newest first, without what the requests held.
SELECT id, webhook_id, execution_id, request_method, request_path, host(source_ip) AS source_ip, response_status,
       processing_time_ms, status, filtered_reason, error_message, dedupe_key, replay_count, source_event_id, created_at,
       coalesce(octet_length(raw_body), 0) AS body_bytes
FROM webhook_events
WHERE tenant_id = $1 AND webhook_id = $2
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR created_at >= $4)
  AND id >= gorax_uuid7_floor(coalesce($4, 'epoch'))
  AND ($5::timestamptz IS NULL OR created_at < $5)
  AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $8;

-- name: get_event
-- One delivery with all that it held.
SELECT id, webhook_id, execution_id, request_method, request_path, request_query, request_headers, request_body, raw_body,
       host(source_ip) AS source_ip, response_status, processing_time_ms, status, filtered_reason, error_message, dedupe_key,
       replay_count, source_event_id, created_at, coalesce(octet_length(raw_body), 0) AS body_bytes
FROM webhook_events WHERE tenant_id = $1 AND id = $2;

-- name: events_of_webhook
-- Which of some ids are deliveries of this webhook?
SELECT id FROM webhook_events WHERE tenant_id = $1 AND webhook_id = $2 AND id = ANY ($3::uuid[]);

-- name: replayable_events
-- What a replay of many means by a filter: deliveries that were not replayed yet, oldest first; no replays, no duplicates.
SELECT id FROM webhook_events
WHERE tenant_id = $1 AND webhook_id = $2 AND status = $3 AND replay_count = 0 AND source_event_id IS NULL
  AND filtered_reason IS DISTINCT FROM 'duplicate'
  AND ($4::timestamptz IS NULL OR created_at >= $4)
  AND id >= gorax_uuid7_floor(coalesce($4, 'epoch'))
  AND ($5::timestamptz IS NULL OR created_at < $5)
ORDER BY created_at, id
LIMIT $6;

-- name: first_of_replays
-- Which delivery a replay counts on: the first source, if it is still kept.
SELECT coalesce(s.id, e.id) AS id
FROM webhook_events e LEFT JOIN webhook_events s ON s.id = e.source_event_id AND s.tenant_id = e.tenant_id
WHERE e.tenant_id = $1 AND e.id = $2;

-- name: lock_source
-- A delivery that is to be replayed: its replays are counted one after another. As the worker's role.
SELECT e.id, e.webhook_id, e.request_method, e.request_path, e.request_query, e.request_headers, e.request_body, e.raw_body,
       e.status, e.replay_count
FROM webhook_events e WHERE e.tenant_id = $1 AND e.id = $2 FOR NO KEY UPDATE;

-- name: replay_target
-- The webhook of a delivery, by which it is started again. As the worker's role.
SELECT workflow_id, node_id, priority, enabled FROM webhooks WHERE tenant_id = $1 AND id = $2;

-- name: count_replay
-- One more replay of a delivery that is locked.
UPDATE webhook_events SET replay_count = replay_count + 1 WHERE tenant_id = $1 AND id = $2;

-- name: kept_start
-- What was started under this key, and how that run stands.
SELECT k.execution_id, k.event_id, k.body_hash, e.status
FROM start_keys k LEFT JOIN executions e ON e.id = k.execution_id AND e.tenant_id = k.tenant_id
WHERE k.tenant_id = $1 AND k.kind = $2 AND k.key = $3 AND k.expires_at > now();

-- name: webhook_health
-- How the last deliveries of a webhook went: at most $3 of those of 24 hours. By the log's index, and in young partitions only.
WITH recent AS (
    SELECT status, filtered_reason, processing_time_ms, created_at
    FROM webhook_events
    WHERE tenant_id = $1 AND webhook_id = $2 AND created_at >= now() - interval '24 hours'
      AND id >= gorax_uuid7_floor(now() - interval '24 hours')
    ORDER BY created_at DESC, id DESC
    LIMIT $3
)
SELECT CASE WHEN count(*) < $3 THEN now() - interval '24 hours' ELSE min(created_at) END AS since,
       count(*) AS total,
       count(*) FILTER (WHERE status = 'processed') AS processed,
       count(*) FILTER (WHERE status = 'filtered' AND filtered_reason IS DISTINCT FROM 'duplicate') AS filtered,
       count(*) FILTER (WHERE filtered_reason = 'duplicate') AS duplicates,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       max(created_at) AS last_event_at,
       avg(processing_time_ms)::float8 AS avg_processing_time_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY processing_time_ms) AS p95_processing_time_ms,
       (count(*) - count(*) FILTER (WHERE status = 'failed'))::float8 / nullif(count(*), 0) AS success_rate
FROM recent;
