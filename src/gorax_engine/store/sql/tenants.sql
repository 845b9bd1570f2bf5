-- name: get_tenant
-- The tenant of the transaction.
SELECT id, name, subdomain, status, tier, settings, quotas, created_at, updated_at FROM tenants WHERE id = $1;
