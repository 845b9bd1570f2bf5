-- name: authenticate
-- Who holds this key? Asked before the tenant is known.
SELECT api_key_id, tenant_id, user_id, tenant_status, permissions FROM gorax_authenticate_api_key($1);

-- name: touch_api_key
-- Note that a key was used, to the minute.
UPDATE api_keys SET last_used_at = now()
WHERE tenant_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- name: insert_api_key
-- A new key; only its hash is stored.
INSERT INTO api_keys (tenant_id, user_id, name, prefix, key_hash, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval)
RETURNING id;

-- name: list_api_keys
-- A page of keys, newest first, with the roles of the user that each acts for.
SELECT k.id, k.name, k.prefix, k.user_id, k.created_by, k.created_at, k.expires_at, k.last_used_at, k.revoked_at,
       ARRAY(SELECT r.name::text FROM user_roles ur JOIN roles r ON r.tenant_id = ur.tenant_id AND r.id = ur.role_id
             WHERE ur.tenant_id = k.tenant_id AND ur.user_id = k.user_id ORDER BY r.name) AS roles
FROM api_keys k
WHERE k.tenant_id = $1
  AND ($2::timestamptz IS NULL OR (k.created_at, k.id) < ($2, $3::uuid))
ORDER BY k.created_at DESC, k.id DESC
LIMIT $4;

-- name: get_api_key
-- One key with the roles of the user that it acts for.
SELECT k.id, k.name, k.prefix, k.user_id, k.created_by, k.created_at, k.expires_at, k.last_used_at, k.revoked_at,
       ARRAY(SELECT r.name::text FROM user_roles ur JOIN roles r ON r.tenant_id = ur.tenant_id AND r.id = ur.role_id
             WHERE ur.tenant_id = k.tenant_id AND ur.user_id = k.user_id ORDER BY r.name) AS roles
FROM api_keys k
WHERE k.tenant_id = $1 AND k.id = $2;

-- name: revoke_api_key
-- End a key for good. No row: there is no such key.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE tenant_id = $1 AND id = $2 RETURNING id, key_hash;

-- name: role_permissions
-- What a role of the tenant permits. No row: there is no such role.
SELECT r.id, ARRAY(SELECT p.resource || ':' || p.action
                   FROM role_permissions rp JOIN permissions p ON p.id = rp.permission_id
                   WHERE rp.tenant_id = r.tenant_id AND rp.role_id = r.id ORDER BY 1) AS permissions
FROM roles r WHERE r.tenant_id = $1 AND r.name = $2;

-- name: ensure_service_user
-- The user for which keys of one role act: made when first needed.
INSERT INTO users (tenant_id, kratos_identity_id, email, role)
SELECT t.id, 'service:' || t.id || ':' || $2::text, 'service-' || $2::text || '@' || t.subdomain || '.invalid', 'member'
FROM tenants t WHERE t.id = $1
ON CONFLICT (kratos_identity_id) DO UPDATE SET updated_at = users.updated_at
RETURNING id;

-- name: grant_role
-- Give a user a role; nothing happens if it has it.
INSERT INTO user_roles (tenant_id, user_id, role_id, granted_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, role_id) DO NOTHING;

-- name: list_permissions
-- All that can be permitted.
SELECT resource || ':' || action AS permission FROM permissions ORDER BY 1;
