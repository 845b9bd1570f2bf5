-- name: find_webhook
-- Whose webhook is at this path, and all that its requests are judged by? As the worker's role: the tenant is not known.
SELECT h.id, h.tenant_id, h.workflow_id, h.node_id, h.path, h.auth_type, h.methods, h.priority, h.signature_scheme,
       h.timestamp_tolerance, h.secret, CASE WHEN h.previous_secret_until > now() THEN h.previous_secret END AS previous_secret,
       h.allowed_ips, h.max_body_bytes, h.rate_limit, h.dedupe_header, h.dedupe_path, h.response_mode,
       CASE WHEN NOT h.enabled THEN 'webhook_disabled'
            WHEN w.status = 'archived' THEN 'workflow_archived'
            WHEN w.status <> 'active' THEN 'workflow_inactive'
            WHEN t.status <> 'active' THEN 'tenant_suspended' END AS refusal,
       t.quotas ->> 'max_webhooks_per_minute' AS tenant_rate_limit,
       (SELECT jsonb_agg(jsonb_build_object('id', f.id, 'field_path', f.field_path, 'operator', f.operator, 'value', f.value,
                                            'logic_group', f.logic_group) ORDER BY f.logic_group, f.created_at, f.id)
          FROM webhook_filters f WHERE f.tenant_id = h.tenant_id AND f.webhook_id = h.id AND f.enabled)::text AS filters
FROM webhooks h
JOIN workflows w ON w.tenant_id = h.tenant_id AND w.id = h.workflow_id
JOIN tenants t ON t.id = h.tenant_id
WHERE h.path = $1;

-- name: find_webhook_by_id
-- The same by its id: the second address of every webhook names it so.
SELECT h.id, h.tenant_id, h.workflow_id, h.node_id, h.path, h.auth_type, h.methods, h.priority, h.signature_scheme,
       h.timestamp_tolerance, h.secret, CASE WHEN h.previous_secret_until > now() THEN h.previous_secret END AS previous_secret,
       h.allowed_ips, h.max_body_bytes, h.rate_limit, h.dedupe_header, h.dedupe_path, h.response_mode,
       CASE WHEN NOT h.enabled THEN 'webhook_disabled'
            WHEN w.status = 'archived' THEN 'workflow_archived'
            WHEN w.status <> 'active' THEN 'workflow_inactive'
            WHEN t.status <> 'active' THEN 'tenant_suspended' END AS refusal,
       t.quotas ->> 'max_webhooks_per_minute' AS tenant_rate_limit,
       (SELECT jsonb_agg(jsonb_build_object('id', f.id, 'field_path', f.field_path, 'operator', f.operator, 'value', f.value,
                                            'logic_group', f.logic_group) ORDER BY f.logic_group, f.created_at, f.id)
          FROM webhook_filters f WHERE f.tenant_id = h.tenant_id AND f.webhook_id = h.id AND f.enabled)::text AS filters
FROM webhooks h
JOIN workflows w ON w.tenant_id = h.tenant_id AND w.id = h.workflow_id
JOIN tenants t ON t.id = h.tenant_id
WHERE h.id = $1;

-- name: list_webhooks
-- The webhooks of a workflow: those of its nodes, and those made by hand.
SELECT id, node_id, path, auth_type, enabled, methods
FROM webhooks WHERE tenant_id = $1 AND workflow_id = $2 ORDER BY node_id;

-- name: retire_webhooks
-- Disable all webhooks of an archived workflow and give their paths free: nothing else is reached under its own id. They
-- are locked in the order of their ids, as starts lock them.
WITH mine AS (SELECT id FROM webhooks WHERE tenant_id = $1 AND workflow_id = $2 ORDER BY id FOR UPDATE)
UPDATE webhooks h SET enabled = false, path = 'retired-' || h.id, revision = h.revision + 1, updated_at = now()
FROM mine WHERE h.tenant_id = $1 AND h.id = mine.id;
