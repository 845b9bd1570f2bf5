-- name: insert_credential
-- Store a new credential under the id for which it was encrypted. No row: the name is taken within the tenant.
INSERT INTO credentials (id, tenant_id, name, type, description, expires_at, created_by, version,
                         encrypted_dek, ciphertext, nonce, auth_tag, kms_key_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING id, name, type, description, status, version, revision, expires_at, created_by, created_at, updated_at,
          last_used_at;

-- name: get_credential
-- What may be shown of a credential.
SELECT id, name, type, description, status, version, revision, expires_at, created_by, created_at, updated_at,
       last_used_at
FROM credentials WHERE tenant_id = $1 AND id = $2;

-- name: lock_credential
-- The same for a change: whoever else changes it waits.
SELECT id, name, type, description, status, version, revision, expires_at, created_by, created_at, updated_at,
       last_used_at
FROM credentials WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE;

-- name: list_credentials
-- A page of credentials, newest first.
SELECT id, name, type, description, status, version, revision, expires_at, created_by, created_at, updated_at,
       last_used_at
FROM credentials
WHERE tenant_id = $1
  AND ($2::text IS NULL OR name = $2)
  AND ($3::text IS NULL OR type = $3)
  AND ($4::text IS NULL OR status = $4)
  AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $7;

-- name: change_credential
-- Write what may change besides the value; every change counts the revision. The row is locked by the caller.
UPDATE credentials
SET description = $3, status = $4, expires_at = $5, revision = revision + 1, updated_at = now()
WHERE tenant_id = $1 AND id = $2
RETURNING id, name, type, description, status, version, revision, expires_at, created_by, created_at, updated_at,
          last_used_at;

-- name: change_value
-- Replace the encrypted value of a credential that is locked by the caller and still has the version before this one.
UPDATE credentials
SET version = $3, encrypted_dek = $4, ciphertext = $5, nonce = $6, auth_tag = $7, kms_key_id = $8
WHERE tenant_id = $1 AND id = $2 AND version = $3 - 1
RETURNING version;

-- name: delete_credential
-- Delete a credential; its access log stays.
DELETE FROM credentials WHERE tenant_id = $1 AND id = $2;

-- name: log_access
-- One act on a credential. Rows are only ever added.
INSERT INTO credential_access_log (credential_id, tenant_id, credential_name, accessed_by, access_type, ip_address,
                                   user_agent, success, error_message, execution_id, node_id, accessed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_timestamp());

-- name: list_accesses
-- A page of a credential's log, newest first.
SELECT id, credential_id, credential_name, accessed_by, access_type, ip_address, user_agent, success, error_message,
       execution_id, node_id, accessed_at
FROM credential_access_log
WHERE tenant_id = $1 AND credential_id = $2
  AND ($3::timestamptz IS NULL OR (accessed_at, id) < ($3, $4::uuid))
ORDER BY accessed_at DESC, id DESC
LIMIT $5;

-- name: use_credentials
-- Fetch the credentials that steps ask for, and log each use in the same statement: what is handed out is on record.
-- `state` says whether a credential may be used now. A row that somebody is changing is not waited for: when it was
-- last used is noted once a minute, by whoever comes by.
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::text[])
        AS a (tenant_id, name, accessed_by, execution_id, node_id)
), found AS MATERIALIZED (
    SELECT c.*, CASE WHEN c.status <> 'active' THEN c.status
                     WHEN c.expires_at <= now() THEN 'expired'
                     ELSE 'active' END AS state
    FROM (SELECT DISTINCT tenant_id, name FROM asked) a
    JOIN credentials c ON c.tenant_id = a.tenant_id AND c.name = a.name
), logged AS (
    INSERT INTO credential_access_log (credential_id, tenant_id, credential_name, accessed_by, access_type, success,
                                       error_message, execution_id, node_id, accessed_at)
    SELECT f.id, f.tenant_id, f.name, a.accessed_by, 'read', f.state = 'active',
           CASE WHEN f.state <> 'active' THEN 'The credential is ' || f.state || '.' END,
           a.execution_id, a.node_id, clock_timestamp()
    FROM asked a JOIN found f ON f.tenant_id = a.tenant_id AND f.name = a.name
), due AS (
    SELECT c.id FROM credentials c JOIN found f ON f.id = c.id
    WHERE f.state = 'active' AND (c.last_used_at IS NULL OR c.last_used_at < now() - interval '1 minute')
    FOR NO KEY UPDATE OF c SKIP LOCKED
), touched AS (
    UPDATE credentials c SET last_used_at = now() FROM due WHERE c.id = due.id
)
SELECT id, tenant_id, name, type, state, version, encrypted_dek, ciphertext, nonce, auth_tag, kms_key_id FROM found;
