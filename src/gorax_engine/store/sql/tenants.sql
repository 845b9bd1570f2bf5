-- name: get_tenant
-- The tenant of the transaction.
SELECT id, name, subdomain, status, tier, settings, quotas, created_at, updated_at FROM tenants WHERE id = $1;

-- name: admission
-- Which limit of its queue the tenant has reached; see functions/gorax_admission.sql.
SELECT gorax_admission($1, $2, $3);

-- name: has_start_key
-- Whether a start with this key was accepted, and is still known.
SELECT EXISTS (SELECT FROM start_keys WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND expires_at > now());
