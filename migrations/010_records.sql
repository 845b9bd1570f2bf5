-- What is kept for the record: AI usage and prices, audit log, retention log.
-- phase: pre

CREATE TABLE ai_usage_log (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    tenant_id UUID NOT NULL,
    credential_id UUID,
    provider VARCHAR(50) NOT NULL,
    model VARCHAR(100) NOT NULL,
    action_type VARCHAR(100) NOT NULL,
    execution_id UUID,
    workflow_id UUID,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    total_tokens INTEGER NOT NULL DEFAULT 0,
    estimated_cost_cents NUMERIC(18,6) NOT NULL DEFAULT 0,
    success BOOLEAN NOT NULL DEFAULT true,
    error_code VARCHAR(100),
    error_message TEXT,
    latency_ms INTEGER,
    request_metadata JSONB DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
) PARTITION BY RANGE (id);

CREATE INDEX idx_ai_usage_log_tenant ON ai_usage_log(tenant_id);
CREATE INDEX idx_ai_usage_log_tenant_created ON ai_usage_log(tenant_id, created_at DESC);
CREATE INDEX idx_ai_usage_log_provider_model ON ai_usage_log(provider, model);
CREATE INDEX idx_ai_usage_log_execution ON ai_usage_log(execution_id) WHERE execution_id IS NOT NULL;

-- Of the system, not of a tenant: no row-level security.
CREATE TABLE ai_model_pricing (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    provider VARCHAR(50) NOT NULL,
    model VARCHAR(100) NOT NULL,
    input_cost_per_million INTEGER NOT NULL,
    output_cost_per_million INTEGER NOT NULL,
    context_window INTEGER NOT NULL,
    max_output_tokens INTEGER,
    supports_vision BOOLEAN NOT NULL DEFAULT false,
    supports_function_calling BOOLEAN NOT NULL DEFAULT false,
    supports_json_mode BOOLEAN NOT NULL DEFAULT false,
    is_active BOOLEAN NOT NULL DEFAULT true,
    deprecated_at TIMESTAMPTZ,
    effective_from TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    effective_until TIMESTAMPTZ,
    notes TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT unique_model_pricing UNIQUE (provider, model, effective_from)
);

CREATE INDEX idx_ai_model_pricing_provider_model ON ai_model_pricing(provider, model);
CREATE INDEX idx_ai_model_pricing_active ON ai_model_pricing(is_active) WHERE is_active = true;

-- Cost in cents; NULL for a model without a price. Numeric, because an integer product of tokens and price overflows at
-- a few million tokens, and an integer quotient makes every small call free.
CREATE FUNCTION estimate_ai_cost(
    p_provider varchar, p_model varchar, p_prompt_tokens bigint, p_completion_tokens bigint
)
    RETURNS numeric
    LANGUAGE sql STABLE
AS $$
    SELECT round((p_prompt_tokens::numeric * input_cost_per_million
                  + p_completion_tokens::numeric * output_cost_per_million) / 1000000, 6)
    FROM ai_model_pricing
    WHERE provider = p_provider AND model = p_model AND is_active
      AND effective_from <= now() AND (effective_until IS NULL OR effective_until > now())
    ORDER BY effective_from DESC
    LIMIT 1
$$;

CREATE TABLE audit_logs (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    tenant_id UUID NOT NULL,
    user_id UUID,
    action VARCHAR(100) NOT NULL,
    resource_type VARCHAR(100) NOT NULL,
    resource_id UUID,
    metadata JSONB NOT NULL DEFAULT '{}',
    ip_address VARCHAR(45),
    user_agent TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
) PARTITION BY RANGE (id);

CREATE INDEX idx_audit_logs_tenant_id ON audit_logs(tenant_id);
CREATE INDEX idx_audit_logs_user_id ON audit_logs(user_id);
CREATE INDEX idx_audit_logs_created_at ON audit_logs(created_at DESC);
CREATE INDEX idx_audit_logs_action ON audit_logs(action);

CREATE TABLE retention_cleanup_logs (
    id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    executions_deleted INTEGER NOT NULL DEFAULT 0,
    step_executions_deleted INTEGER NOT NULL DEFAULT 0,
    retention_days INTEGER NOT NULL,
    cutoff_date TIMESTAMPTZ NOT NULL,
    duration_ms BIGINT NOT NULL,
    status VARCHAR(50) NOT NULL,
    error_message TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

CREATE INDEX idx_retention_cleanup_logs_tenant_id ON retention_cleanup_logs(tenant_id);
CREATE INDEX idx_retention_cleanup_logs_created_at ON retention_cleanup_logs(created_at DESC);

SELECT gorax_protect('ai_usage_log', p_worker => true);
SELECT gorax_protect('audit_logs', p_worker => true);
SELECT gorax_protect('retention_cleanup_logs', p_worker => true);

-- The audit log is only added to.
GRANT SELECT, INSERT ON audit_logs TO gorax_app, gorax_worker;
GRANT SELECT ON ai_usage_log, ai_model_pricing, retention_cleanup_logs TO gorax_app;
GRANT SELECT, INSERT, DELETE ON ai_usage_log TO gorax_worker;
GRANT SELECT ON ai_model_pricing TO gorax_worker;
GRANT SELECT, INSERT ON retention_cleanup_logs TO gorax_worker;
GRANT SELECT ON audit_logs, ai_usage_log, ai_model_pricing, retention_cleanup_logs TO gorax_readonly;

SELECT gorax_ensure_partitions();
