-- name: get_tenant
-- The tenant of the transaction.
SELECT id, name, subdomain, status, tier, settings, quotas, created_at, updated_at FROM tenants WHERE id = $1;

-- name: admission
-- Which limit of its queue the tenant has reached; see functions/gorax_admission.sql.
SELECT gorax_admission($1, $2, $3);
