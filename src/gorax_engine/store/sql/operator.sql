-- name: create_tenant
-- A tenant with its system roles and a service user that holds admin. An operator's act: only the owner may.
SELECT tenant_id, user_id FROM gorax_create_tenant($1, $2, $3);

-- name: list_tenants
-- All tenants, oldest first.
SELECT id, name, subdomain, status, tier, created_at FROM tenants ORDER BY created_at, id;

-- name: find_tenant
-- A tenant by its id or its subdomain.
SELECT id, name, subdomain, status, tier, settings, quotas, created_at, updated_at
FROM tenants
WHERE id::text = $1 OR subdomain = $1;

-- name: find_service_user
-- The user that gorax_create_tenant made, for whom a tenant's first keys act.
SELECT t.id AS tenant_id, u.id AS user_id
FROM tenants t
JOIN users u ON u.tenant_id = t.id AND u.kratos_identity_id = 'service:' || t.id
WHERE t.subdomain = $1;
