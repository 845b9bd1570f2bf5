-- The vault: credentials under envelope encryption, and the logs of their use, which outlive them.
-- phase: pre

CREATE TABLE credentials (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    type VARCHAR(100) NOT NULL,
    description TEXT,
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    encrypted_dek BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL,
    nonce BYTEA NOT NULL,
    auth_tag BYTEA NOT NULL,
    kms_key_id VARCHAR(255) NOT NULL,
    metadata JSONB NOT NULL DEFAULT '{}',
    expires_at TIMESTAMPTZ,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    last_used_at TIMESTAMPTZ,
    CONSTRAINT unique_credential_name_per_tenant UNIQUE (tenant_id, name),
    CONSTRAINT chk_credentials_status CHECK (status IN ('active', 'inactive', 'revoked'))
);

CREATE INDEX idx_credentials_tenant_id ON credentials(tenant_id);
CREATE INDEX idx_credentials_type ON credentials(type);
CREATE INDEX idx_credentials_kms_key_id ON credentials(kms_key_id);
CREATE INDEX idx_credentials_last_used_at ON credentials(last_used_at DESC);
CREATE INDEX idx_credentials_expires_at ON credentials(expires_at) WHERE expires_at IS NOT NULL;

-- Neither log has a key to credentials: a deleted credential must not take the record of its use with it.
CREATE TABLE credential_rotations (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    credential_id UUID NOT NULL,
    previous_key_id VARCHAR(255) NOT NULL,
    new_key_id VARCHAR(255) NOT NULL,
    rotated_by UUID NOT NULL,
    rotated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    reason VARCHAR(255)
);

CREATE INDEX idx_credential_rotations_credential_id ON credential_rotations(credential_id);
CREATE INDEX idx_credential_rotations_rotated_at ON credential_rotations(rotated_at DESC);

CREATE TABLE credential_access_log (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    credential_id UUID NOT NULL,
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    accessed_by UUID NOT NULL,
    access_type VARCHAR(50) NOT NULL,
    ip_address VARCHAR(45),
    user_agent TEXT,
    success BOOLEAN NOT NULL DEFAULT true,
    error_message TEXT,
    accessed_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

CREATE INDEX idx_credential_access_log_credential_id ON credential_access_log(credential_id);
CREATE INDEX idx_credential_access_log_tenant_id ON credential_access_log(tenant_id);
CREATE INDEX idx_credential_access_log_accessed_at ON credential_access_log(accessed_at DESC);

SELECT gorax_protect('credentials', p_worker => true);
SELECT gorax_protect('credential_rotations', p_worker => true);
SELECT gorax_protect('credential_access_log', p_worker => true);

GRANT SELECT, INSERT, UPDATE, DELETE ON credentials TO gorax_app;
GRANT SELECT, UPDATE ON credentials TO gorax_worker;
-- Logs are only added to.
GRANT SELECT, INSERT ON credential_rotations, credential_access_log TO gorax_app, gorax_worker;
GRANT SELECT ON credential_rotations, credential_access_log TO gorax_readonly;
GRANT SELECT (id, tenant_id, name, type, description, status, kms_key_id, metadata, expires_at, created_by, created_at,
              updated_at, last_used_at) ON credentials TO gorax_readonly;
