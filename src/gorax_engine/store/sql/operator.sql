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

-- name: role_exists
-- Whether the server knows a role.
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1);

-- name: map_database_user
-- Let a database user start workflows of a tenant; says whose it was before.
WITH before AS (SELECT tenant_id FROM database_users WHERE role_name = $1::text::name)
INSERT INTO database_users (role_name, tenant_id) VALUES ($1::text::name, $2)
ON CONFLICT (role_name) DO UPDATE SET tenant_id = excluded.tenant_id
RETURNING (SELECT tenant_id FROM before) AS before;

-- name: unmap_database_user
-- Let a database user start nothing any more; says whether it could.
DELETE FROM database_users WHERE role_name = $1::text::name RETURNING true;

-- name: database_users
-- The database users that start workflows of a tenant.
SELECT role_name::text FROM database_users WHERE tenant_id = $1 ORDER BY role_name;
