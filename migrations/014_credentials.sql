-- What the vault needs to know of its rows: which value a credential has, and what used it.
-- phase: pre

ALTER TABLE credentials
    ADD COLUMN version INTEGER NOT NULL DEFAULT 1,       -- counts values; what is encrypted is bound to it
    ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;      -- counts all changes; the ETag

-- The log tells of credentials that are gone, so it keeps their names.
ALTER TABLE credential_access_log
    ADD COLUMN credential_name VARCHAR(255),
    ADD COLUMN execution_id UUID,
    ADD COLUMN node_id VARCHAR(255);

CREATE INDEX credential_access_log_page ON credential_access_log (tenant_id, credential_id, accessed_at DESC, id DESC);

-- The engine uses credentials and notes when; it never writes one.
REVOKE UPDATE ON credentials FROM gorax_worker;
GRANT UPDATE (last_used_at) ON credentials TO gorax_worker;
GRANT SELECT (version, revision) ON credentials TO gorax_readonly;
