-- What starts workflows: webhooks with their events and filters, and schedules.
-- phase: pre

CREATE TABLE webhooks (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    workflow_id UUID NOT NULL,
    node_id VARCHAR(255) NOT NULL,
    name VARCHAR(255),
    description TEXT,
    path VARCHAR(255) NOT NULL,
    secret TEXT,  -- ciphertext, never the secret itself
    auth_type VARCHAR(50) NOT NULL DEFAULT 'none',
    enabled BOOLEAN NOT NULL DEFAULT true,
    priority INTEGER NOT NULL DEFAULT 1,
    last_triggered_at TIMESTAMPTZ,
    trigger_count BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    methods TEXT[] NOT NULL DEFAULT '{POST}',
    CONSTRAINT unique_webhook_path UNIQUE (path),
    CONSTRAINT unique_webhook_per_tenant UNIQUE (tenant_id, id),
    CONSTRAINT chk_webhooks_auth_type CHECK (auth_type IN ('none', 'secret', 'basic', 'bearer')),
    CONSTRAINT webhooks_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id)
        ON DELETE CASCADE
) WITH (fillfactor = 80);  -- last_triggered_at and trigger_count change often and are in no index

CREATE INDEX idx_webhooks_tenant_id ON webhooks(tenant_id);
CREATE INDEX idx_webhooks_workflow_id ON webhooks(workflow_id);
CREATE INDEX idx_webhooks_path ON webhooks(path);
CREATE INDEX idx_webhooks_priority ON webhooks(priority DESC);

-- Partitioned, without keys in or out, for the reasons given at executions.
CREATE TABLE webhook_events (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    tenant_id UUID NOT NULL,
    webhook_id UUID NOT NULL,
    execution_id UUID,
    request_method VARCHAR(10) NOT NULL,
    request_headers JSONB NOT NULL DEFAULT '{}',
    request_body JSONB NOT NULL DEFAULT '{}',
    response_status INTEGER,
    processing_time_ms INTEGER,
    status VARCHAR(20) NOT NULL DEFAULT 'received',
    error_message TEXT,
    filtered_reason TEXT,
    replay_count INTEGER NOT NULL DEFAULT 0,
    source_event_id UUID,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    raw_body BYTEA,       -- the bytes that were signed
    request_path TEXT,
    request_query JSONB,
    dedupe_key TEXT,
    CONSTRAINT chk_webhook_events_status CHECK (status IN ('received', 'processed', 'filtered', 'failed'))
) PARTITION BY RANGE (id);

CREATE INDEX idx_webhook_events_tenant_id ON webhook_events(tenant_id);
CREATE INDEX idx_webhook_events_webhook_id ON webhook_events(webhook_id);
CREATE INDEX idx_webhook_events_execution_id ON webhook_events(execution_id);
CREATE INDEX idx_webhook_events_status ON webhook_events(status);
CREATE INDEX idx_webhook_events_created_at ON webhook_events(created_at DESC);
CREATE INDEX idx_webhook_events_tenant_status_created ON webhook_events(tenant_id, status, created_at DESC);

CREATE TABLE webhook_filters (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL,
    webhook_id UUID NOT NULL,
    field_path VARCHAR(255) NOT NULL,
    operator VARCHAR(20) NOT NULL,
    value JSONB NOT NULL,
    logic_group INTEGER NOT NULL DEFAULT 0,
    enabled BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT webhook_filters_webhook_id_fkey FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks(tenant_id, id)
        ON DELETE CASCADE
);

CREATE INDEX idx_webhook_filters_webhook_id ON webhook_filters(webhook_id);
CREATE INDEX idx_webhook_filters_enabled ON webhook_filters(enabled);
CREATE INDEX idx_webhook_filters_webhook_enabled ON webhook_filters(webhook_id, enabled);

CREATE TABLE schedules (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    workflow_id UUID NOT NULL,
    name VARCHAR(255) NOT NULL,
    cron_expression VARCHAR(255) NOT NULL,
    timezone VARCHAR(100) NOT NULL DEFAULT 'UTC',
    enabled BOOLEAN NOT NULL DEFAULT true,
    next_run_at TIMESTAMPTZ,
    last_run_at TIMESTAMPTZ,
    last_execution_id UUID,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT unique_schedule_name_per_tenant UNIQUE (tenant_id, workflow_id, name),
    CONSTRAINT schedules_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id)
        ON DELETE CASCADE
);

CREATE INDEX idx_schedules_tenant_id ON schedules(tenant_id);
CREATE INDEX idx_schedules_workflow_id ON schedules(workflow_id);
CREATE INDEX idx_schedules_enabled ON schedules(enabled);
CREATE INDEX idx_schedules_next_run_at ON schedules(next_run_at) WHERE enabled = true;

SELECT gorax_protect('webhooks', p_worker => true);
SELECT gorax_protect('webhook_events', p_worker => true);
SELECT gorax_protect('webhook_filters', p_worker => true);
SELECT gorax_protect('schedules', p_worker => true);

GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, webhook_filters, schedules TO gorax_app;
GRANT SELECT, INSERT, UPDATE ON webhook_events TO gorax_app;
GRANT SELECT, UPDATE ON webhooks, schedules TO gorax_worker;
GRANT SELECT ON webhook_filters TO gorax_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_events TO gorax_worker;
GRANT SELECT ON webhook_events, webhook_filters, schedules TO gorax_readonly;
GRANT SELECT (id, tenant_id, workflow_id, node_id, name, description, path, auth_type, enabled, priority,
              last_triggered_at, trigger_count, created_at, updated_at, methods) ON webhooks TO gorax_readonly;

-- Whose webhook is at this path? Asked before the tenant is known, hence SECURITY DEFINER. The secret is not returned:
-- whoever needs it reads the row under the tenant.
CREATE FUNCTION gorax_find_webhook(p_path text)
    RETURNS TABLE (id uuid, tenant_id uuid, workflow_id uuid, node_id text, auth_type text, enabled boolean,
                   methods text[], priority int, workflow_status text, tenant_status text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT h.id, h.tenant_id, h.workflow_id, h.node_id, h.auth_type, h.enabled, h.methods, h.priority,
           w.status, t.status
    FROM webhooks h
    JOIN workflows w ON w.tenant_id = h.tenant_id AND w.id = h.workflow_id
    JOIN tenants t ON t.id = h.tenant_id
    WHERE h.path = p_path
$$;
REVOKE ALL ON FUNCTION gorax_find_webhook FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gorax_find_webhook TO gorax_app, gorax_worker;

SELECT gorax_ensure_partitions();
