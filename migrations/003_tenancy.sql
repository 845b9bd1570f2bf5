-- Tenants, their users, roles, permissions and API keys.
-- phase: pre

CREATE TABLE tenants (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    name VARCHAR(255) NOT NULL,
    subdomain VARCHAR(63) UNIQUE NOT NULL,
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    tier VARCHAR(50) NOT NULL DEFAULT 'free',
    settings JSONB NOT NULL DEFAULT '{}',
    quotas JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT chk_tenants_status CHECK (status IN ('active', 'suspended', 'cancelled'))
);

CREATE TABLE users (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    kratos_identity_id VARCHAR(255) UNIQUE NOT NULL,
    email VARCHAR(255) NOT NULL,
    role VARCHAR(50) NOT NULL DEFAULT 'member',
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT unique_user_per_tenant UNIQUE (tenant_id, id),  -- the target of composite keys
    CONSTRAINT chk_users_status CHECK (status IN ('active', 'suspended', 'deleted'))
);

CREATE INDEX idx_users_tenant_id ON users(tenant_id);
CREATE INDEX idx_users_kratos_identity_id ON users(kratos_identity_id);

CREATE TABLE roles (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    name VARCHAR(100) NOT NULL,
    description TEXT,
    is_system BOOLEAN DEFAULT false,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    CONSTRAINT roles_tenant_name_unique UNIQUE(tenant_id, name),
    CONSTRAINT unique_role_per_tenant UNIQUE (tenant_id, id)
);

CREATE INDEX idx_roles_tenant_id ON roles(tenant_id);
CREATE INDEX idx_roles_is_system ON roles(is_system);

-- Of the system, not of a tenant: no row-level security, read-only for all but the owner.
CREATE TABLE permissions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    resource VARCHAR(50) NOT NULL,
    action VARCHAR(50) NOT NULL,
    description TEXT,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    CONSTRAINT permissions_resource_action_unique UNIQUE(resource, action)
);

CREATE INDEX idx_permissions_resource ON permissions(resource);

CREATE TABLE role_permissions (
    tenant_id UUID NOT NULL,
    role_id UUID NOT NULL,
    permission_id UUID NOT NULL REFERENCES permissions(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    PRIMARY KEY (role_id, permission_id),
    CONSTRAINT role_permissions_role_id_fkey FOREIGN KEY (tenant_id, role_id) REFERENCES roles(tenant_id, id)
        ON DELETE CASCADE
);

CREATE INDEX idx_role_permissions_role_id ON role_permissions(role_id);
CREATE INDEX idx_role_permissions_permission_id ON role_permissions(permission_id);

CREATE TABLE user_roles (
    tenant_id UUID NOT NULL,
    user_id UUID NOT NULL,
    role_id UUID NOT NULL,
    granted_by UUID,
    granted_at TIMESTAMPTZ DEFAULT NOW(),
    PRIMARY KEY (user_id, role_id),
    CONSTRAINT user_roles_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES users(tenant_id, id)
        ON DELETE CASCADE,
    CONSTRAINT user_roles_role_id_fkey FOREIGN KEY (tenant_id, role_id) REFERENCES roles(tenant_id, id)
        ON DELETE CASCADE,
    CONSTRAINT user_roles_granted_by_fkey FOREIGN KEY (tenant_id, granted_by) REFERENCES users(tenant_id, id)
);

CREATE INDEX idx_user_roles_user_id ON user_roles(user_id);
CREATE INDEX idx_user_roles_role_id ON user_roles(role_id);

-- A key acts for its (service) user. Only a hash is kept; the prefix is what people recognise a key by.
CREATE TABLE api_keys (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id UUID NOT NULL,
    user_id UUID NOT NULL,
    name VARCHAR(255) NOT NULL,
    prefix VARCHAR(16) NOT NULL,
    key_hash BYTEA NOT NULL UNIQUE,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES users(tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor = 80);

CREATE INDEX idx_api_keys_tenant_user ON api_keys(tenant_id, user_id);

SELECT gorax_protect('tenants', p_worker => true, p_key => 'id');
SELECT gorax_protect('users', p_worker => true);
SELECT gorax_protect('roles', p_worker => true);
SELECT gorax_protect('role_permissions', p_worker => true);
SELECT gorax_protect('user_roles', p_worker => true);
SELECT gorax_protect('api_keys', p_worker => true);

-- Status, tier and quotas of a tenant are the operator's to change, not the tenant's own.
GRANT SELECT, UPDATE (name, settings, updated_at) ON tenants TO gorax_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON users, roles, role_permissions, user_roles, api_keys TO gorax_app;
GRANT SELECT ON permissions TO gorax_app, gorax_worker, gorax_readonly;
GRANT SELECT ON tenants, users, roles, role_permissions, user_roles TO gorax_worker, gorax_readonly;
GRANT SELECT (id, tenant_id, last_used_at), UPDATE (last_used_at) ON api_keys TO gorax_worker;
GRANT SELECT (id, tenant_id, user_id, name, prefix, created_by, created_at, expires_at, revoked_at, last_used_at)
    ON api_keys TO gorax_readonly;

INSERT INTO permissions (resource, action)
SELECT resource, unnest(string_to_array(actions, ' '))
FROM (VALUES
    ('workflow', 'create read update delete execute'),
    ('execution', 'read cancel retry'),
    ('task', 'read act'),
    ('webhook', 'create read update delete replay'),
    ('schedule', 'create read update delete trigger'),
    ('event', 'publish'),
    ('credential', 'create read update delete rotate'),
    ('tenant', 'read update'),
    ('user', 'create read update delete'),
    ('role', 'create read update delete'),
    ('api_key', 'create read delete'),
    ('audit', 'read'),
    ('template', 'create read update delete'),
    ('marketplace', 'read install publish review'),
    ('notification', 'read'),
    ('analytics', 'read'),
    ('ai', 'read'),
    ('retention', 'read')
) AS granted(resource, actions);

-- Makes a tenant with its system roles and a service user that holds admin; API keys of programs belong to that user.
-- Run by the owner (SECURITY INVOKER, no grants): making tenants is an operator's act.
CREATE FUNCTION gorax_create_tenant(p_name text, p_subdomain text, p_tier text DEFAULT 'free')
    RETURNS TABLE (tenant_id uuid, user_id uuid)
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    v_tenant uuid;
    v_user uuid;
BEGIN
    INSERT INTO tenants (name, subdomain, tier) VALUES (p_name, p_subdomain, p_tier) RETURNING id INTO v_tenant;
    INSERT INTO users (tenant_id, kratos_identity_id, email, role)
    VALUES (v_tenant, 'service:' || v_tenant, 'service@' || p_subdomain || '.invalid', 'admin')
    RETURNING id INTO v_user;
    INSERT INTO roles (tenant_id, name, description, is_system) VALUES
        (v_tenant, 'admin', 'Full access', true),
        (v_tenant, 'editor', 'Create and run workflows', true),
        (v_tenant, 'viewer', 'Read-only access', true);
    INSERT INTO role_permissions (tenant_id, role_id, permission_id)
    SELECT v_tenant, r.id, p.id
    FROM roles r
    CROSS JOIN permissions p
    WHERE r.tenant_id = v_tenant
      AND CASE r.name
          WHEN 'admin' THEN true
          WHEN 'editor' THEN
              p.resource IN ('workflow', 'execution', 'task', 'webhook', 'schedule', 'event', 'template', 'marketplace')
              OR p.resource = 'credential' AND p.action <> 'delete'
              OR p.action = 'read' AND p.resource NOT IN ('audit', 'api_key', 'retention')
          ELSE p.action = 'read' AND p.resource NOT IN ('audit', 'api_key', 'retention')
          END;
    INSERT INTO user_roles (tenant_id, user_id, role_id)
    SELECT v_tenant, v_user, r.id FROM roles r WHERE r.tenant_id = v_tenant AND r.name = 'admin';
    RETURN QUERY SELECT v_tenant, v_user;
END
$$;
REVOKE ALL ON FUNCTION gorax_create_tenant FROM PUBLIC;

-- Who holds this key? Asked before the tenant is known, hence SECURITY DEFINER. No row: unknown, expired or revoked,
-- or its user is not active. The tenant's status is returned, so that a suspended tenant can be told so.
CREATE FUNCTION gorax_authenticate_api_key(p_key_hash bytea)
    RETURNS TABLE (api_key_id uuid, tenant_id uuid, user_id uuid, tenant_status text, permissions text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT k.id, k.tenant_id, k.user_id, t.status,
           ARRAY(SELECT DISTINCT p.resource || ':' || p.action
                 FROM user_roles ur
                 JOIN role_permissions rp ON rp.tenant_id = ur.tenant_id AND rp.role_id = ur.role_id
                 JOIN permissions p ON p.id = rp.permission_id
                 WHERE ur.tenant_id = k.tenant_id AND ur.user_id = k.user_id
                 ORDER BY 1)
    FROM api_keys k
    JOIN users u ON u.tenant_id = k.tenant_id AND u.id = k.user_id AND u.status = 'active'
    JOIN tenants t ON t.id = k.tenant_id
    WHERE k.key_hash = p_key_hash
      AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
$$;
REVOKE ALL ON FUNCTION gorax_authenticate_api_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gorax_authenticate_api_key TO gorax_app, gorax_worker;
