-- name: webhook_owner
-- The workflow that a webhook is to be made for, by id or name, with what it has published. FOR SHARE: it can't be archived
-- before the webhook is stored.
SELECT w.id, w.name, w.published_version, v.definition
FROM workflows w LEFT JOIN workflow_versions v ON v.workflow_id = w.id AND v.version = w.published_version
WHERE w.tenant_id = $1 AND (w.id::text = $2 OR w.name = $2) AND w.status <> 'archived'
ORDER BY w.id::text = $2 DESC LIMIT 1
FOR SHARE OF w;

-- name: insert_webhook
-- A new webhook. No row: the path is taken, perhaps by another tenant.
INSERT INTO webhooks (
    tenant_id, workflow_id, managed, node_id, name, description, path, methods, auth_type, signature_scheme,
    timestamp_tolerance, allowed_ips, max_body_bytes, rate_limit, dedupe_header, dedupe_path, response_mode, priority,
    enabled, secret, secret_changed_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text[]::cidr[], $13, $14, $15, $16, $17, $18, $19, $20,
        CASE WHEN $20::text IS NOT NULL THEN now() END)
ON CONFLICT (path) DO NOTHING
RETURNING id;

-- name: get_webhook
-- What may be shown of a webhook, and whether anything can be started by it.
SELECT h.id, h.workflow_id, h.managed, h.node_id, h.name, h.description, h.path, h.methods, h.auth_type, h.signature_scheme,
       h.timestamp_tolerance, h.allowed_ips::text[] AS allowed_ips, h.max_body_bytes, h.rate_limit, h.dedupe_header,
       h.dedupe_path, h.response_mode, h.priority, h.enabled, h.secret IS NOT NULL AS has_secret, h.secret_changed_at,
       CASE WHEN h.previous_secret_until > now() THEN h.previous_secret_until END AS previous_secret_until,
       h.last_triggered_at, h.trigger_count, h.revision, h.created_at, h.updated_at
FROM webhooks h WHERE h.tenant_id = $1 AND h.id = $2;

-- name: lock_webhook
-- The same for a change: whoever else changes it waits.
SELECT h.id, h.workflow_id, h.managed, h.node_id, h.name, h.description, h.path, h.methods, h.auth_type, h.signature_scheme,
       h.timestamp_tolerance, h.allowed_ips::text[] AS allowed_ips, h.max_body_bytes, h.rate_limit, h.dedupe_header,
       h.dedupe_path, h.response_mode, h.priority, h.enabled, h.secret IS NOT NULL AS has_secret, h.secret_changed_at,
       CASE WHEN h.previous_secret_until > now() THEN h.previous_secret_until END AS previous_secret_until,
       h.last_triggered_at, h.trigger_count, h.revision, h.created_at, h.updated_at
FROM webhooks h WHERE h.tenant_id = $1 AND h.id = $2 FOR NO KEY UPDATE;

-- name: lock_managed_webhooks
-- The webhooks of a workflow's nodes, for publishing; in the order of their ids, as starts lock them.
SELECT h.id, h.workflow_id, h.managed, h.node_id, h.name, h.description, h.path, h.methods, h.auth_type, h.signature_scheme,
       h.timestamp_tolerance, h.allowed_ips::text[] AS allowed_ips, h.max_body_bytes, h.rate_limit, h.dedupe_header,
       h.dedupe_path, h.response_mode, h.priority, h.enabled, h.secret IS NOT NULL AS has_secret, h.secret_changed_at,
       CASE WHEN h.previous_secret_until > now() THEN h.previous_secret_until END AS previous_secret_until,
       h.last_triggered_at, h.trigger_count, h.revision, h.created_at, h.updated_at
FROM webhooks h WHERE h.tenant_id = $1 AND h.workflow_id = $2 AND h.managed ORDER BY h.id FOR NO KEY UPDATE;

-- name: list_webhook_page
-- A page of webhooks, newest first.
SELECT h.id, h.workflow_id, h.managed, h.node_id, h.name, h.description, h.path, h.methods, h.auth_type, h.signature_scheme,
       h.timestamp_tolerance, h.allowed_ips::text[] AS allowed_ips, h.max_body_bytes, h.rate_limit, h.dedupe_header,
       h.dedupe_path, h.response_mode, h.priority, h.enabled, h.secret IS NOT NULL AS has_secret, h.secret_changed_at,
       CASE WHEN h.previous_secret_until > now() THEN h.previous_secret_until END AS previous_secret_until,
       h.last_triggered_at, h.trigger_count, h.revision, h.created_at, h.updated_at
FROM webhooks h
WHERE h.tenant_id = $1
  AND ($2::uuid IS NULL OR h.workflow_id = $2)
  AND ($3::boolean IS NULL OR h.enabled = $3)
  AND ($4::timestamptz IS NULL OR (h.created_at, h.id) < ($4, $5::uuid))
ORDER BY h.created_at DESC, h.id DESC
LIMIT $6;

-- name: change_webhook
-- Write all that may be set of a webhook that is locked by the caller. A taken path raises unique_violation.
UPDATE webhooks
SET node_id = $3, name = $4, description = $5, path = $6, methods = $7, auth_type = $8, signature_scheme = $9,
    timestamp_tolerance = $10, allowed_ips = $11::text[]::cidr[], max_body_bytes = $12, rate_limit = $13,
    dedupe_header = $14, dedupe_path = $15, response_mode = $16, priority = $17, enabled = $18,
    revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: vacate_path
-- Let go of a path that another webhook of the same transaction takes; its own new one follows.
UPDATE webhooks SET path = 'moving-' || id WHERE tenant_id = $1 AND id = $2;

-- name: set_secret
-- Another sealed secret, or none. The one before is accepted for $4 more seconds.
UPDATE webhooks
SET secret = $3, secret_changed_at = now(),
    previous_secret = CASE WHEN $4::float8 > 0 THEN secret END,
    previous_secret_until = CASE WHEN $4 > 0 AND secret IS NOT NULL THEN now() + make_interval(secs => $4) END,
    revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: sealed_secret
-- The secret of a webhook as it is stored.
SELECT secret FROM webhooks WHERE tenant_id = $1 AND id = $2;

-- name: delete_webhooks
-- Drop webhooks with their filters; their events stay.
DELETE FROM webhooks WHERE tenant_id = $1 AND id = ANY($2::uuid[]);

-- name: workflow_of_webhook
-- How the workflow of a webhook stands, and whether anything can be started.
SELECT w.id, w.name, w.status, w.published_version, t.status AS tenant_status
FROM webhooks h
JOIN workflows w ON w.tenant_id = h.tenant_id AND w.id = h.workflow_id
JOIN tenants t ON t.id = h.tenant_id
WHERE h.tenant_id = $1 AND h.id = $2;
