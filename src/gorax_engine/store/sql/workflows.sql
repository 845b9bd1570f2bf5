-- name: insert_workflow
-- Store a new draft. No row: the name is taken within the tenant.
INSERT INTO workflows (tenant_id, name, description, definition, created_by)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING id, name, description, definition, status, version, published_version, revision, created_by, created_at,
          updated_at;

-- name: get_workflow
-- One workflow of the tenant with its draft.
SELECT id, name, description, definition, status, version, published_version, revision, created_by, created_at,
       updated_at
FROM workflows WHERE tenant_id = $1 AND id = $2;

-- name: lock_workflow
-- One workflow for a change: whoever else changes or publishes it waits.
SELECT id, name, description, definition, status, version, published_version, revision, created_by, created_at,
       updated_at
FROM workflows WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: list_workflows
-- A page of workflows, newest first. Archived ones only where the status asks for them.
SELECT id, name, description, status, version, published_version, revision, created_by, created_at, updated_at
FROM workflows
WHERE tenant_id = $1
  AND ($2::text IS NULL OR name = $2)
  AND CASE WHEN $3::text IS NULL THEN status <> 'archived' ELSE status = $3 END
  AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $6;

-- name: change_workflow
-- Write what may change of a draft; every change counts the revision. The row is locked by the caller.
UPDATE workflows
SET name = $3, description = $4, definition = $5, status = $6, revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2
RETURNING id, name, description, definition, status, version, published_version, revision, created_by, created_at,
          updated_at;

-- name: set_published
-- Point starts to a version and make the workflow active. The row is locked by the caller.
UPDATE workflows
SET version = $3, published_version = $3, status = 'active', revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2
RETURNING id, name, description, definition, status, version, published_version, revision, created_by, created_at,
          updated_at;

-- name: published_by_name
-- What is published of workflows that are named by their ids or names.
SELECT w.id, w.name, v.definition
FROM workflows w JOIN workflow_versions v ON v.workflow_id = w.id AND v.version = w.published_version
WHERE w.tenant_id = $1 AND w.status <> 'archived' AND (w.name = ANY ($2::text[]) OR w.id::text = ANY ($2::text[]));

-- name: insert_version
-- The snapshot that runs are pinned to; it never changes.
INSERT INTO workflow_versions (tenant_id, workflow_id, version, definition, created_by)
VALUES ($1, $2, $3, $4, $5);

-- name: get_version
-- One published version.
SELECT id, workflow_id, version, definition, created_by, created_at
FROM workflow_versions WHERE tenant_id = $1 AND workflow_id = $2 AND version = $3;

-- name: list_versions
-- A page of published versions, newest first.
SELECT id, workflow_id, version, created_by, created_at
FROM workflow_versions
WHERE tenant_id = $1 AND workflow_id = $2
  AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $5;
