-- name: try_lock
-- One request per key at a time, until the end of the transaction; false: another one runs now.
SELECT pg_try_advisory_xact_lock(hashtext('gorax.request_idempotency'), hashtext($1)) AS locked;

-- name: find_answer
-- The answer that was given under this key, if it is still kept.
SELECT method, path, body_hash, status, response
FROM request_idempotency
WHERE tenant_id = $1 AND principal_id = $2 AND key = $3 AND expires_at > clock_timestamp();

-- name: keep_answer
-- Keep an answer with what it tells about, in one transaction; a row of the same key is an expired one.
INSERT INTO request_idempotency (tenant_id, principal_id, key, method, path, body_hash, status, response, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + $9::interval)
ON CONFLICT (tenant_id, principal_id, key) DO UPDATE
SET method = excluded.method, path = excluded.path, body_hash = excluded.body_hash, status = excluded.status,
    response = excluded.response, created_at = excluded.created_at, expires_at = excluded.expires_at;
