-- name: find_webhook
-- Whose webhook is at this path? Asked before the tenant is known.
SELECT id, tenant_id, workflow_id, node_id, auth_type, methods, priority,
       enabled AND workflow_status = 'active' AND tenant_status = 'active' AS live
FROM gorax_find_webhook($1);

-- name: list_webhooks
-- The webhooks of a workflow, one per webhook node.
SELECT id, node_id, path, auth_type, enabled, methods
FROM webhooks WHERE tenant_id = $1 AND workflow_id = $2 ORDER BY node_id;

-- name: insert_webhook
-- A webhook for a node that has none yet. No row: the path is taken, perhaps by another tenant.
INSERT INTO webhooks (tenant_id, workflow_id, node_id, name, path, auth_type, methods)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (path) DO NOTHING
RETURNING id;

-- name: change_webhook
-- Bring a webhook in line with its node. A taken path raises unique_violation.
UPDATE webhooks SET name = $3, path = $4, auth_type = $5, methods = $6, enabled = true, updated_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: delete_webhooks
-- Drop the webhooks of nodes that are gone; their events stay.
DELETE FROM webhooks WHERE tenant_id = $1 AND id = ANY($2::uuid[]);

-- name: retire_webhooks
-- Disable all webhooks of an archived workflow and give their paths free: nothing else is reached under its own id.
UPDATE webhooks SET enabled = false, path = 'retired-' || id, updated_at = now()
WHERE tenant_id = $1 AND workflow_id = $2;

-- name: find_webhook_by_id
-- A webhook by its id, as the worker's role sees it: the second address of every webhook names it so.
SELECT h.id, h.tenant_id, h.workflow_id, h.node_id, h.auth_type, h.methods, h.priority,
       h.enabled AND w.status = 'active' AND t.status = 'active' AS live
FROM webhooks h
JOIN workflows w ON w.tenant_id = h.tenant_id AND w.id = h.workflow_id
JOIN tenants t ON t.id = h.tenant_id
WHERE h.id = $1;
