-- The structure that the migrations lead to. Generated: GORAX_WRITE_SCHEMA=1 pytest tests/store/test_schema.py
-- Partitions, which depend on the month, and repeatable functions, which have their own files, are left out.

CREATE TABLE ai_model_pricing (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    provider character varying(50) NOT NULL,
    model character varying(100) NOT NULL,
    input_cost_per_million integer NOT NULL,
    output_cost_per_million integer NOT NULL,
    context_window integer NOT NULL,
    max_output_tokens integer,
    supports_vision boolean DEFAULT false NOT NULL,
    supports_function_calling boolean DEFAULT false NOT NULL,
    supports_json_mode boolean DEFAULT false NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    deprecated_at timestamp with time zone,
    effective_from timestamp with time zone DEFAULT now() NOT NULL,
    effective_until timestamp with time zone,
    notes text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ai_model_pricing_pkey PRIMARY KEY (id),
    CONSTRAINT unique_model_pricing UNIQUE (provider, model, effective_from)
);
CREATE INDEX idx_ai_model_pricing_active ON public.ai_model_pricing USING btree (is_active) WHERE (is_active = true);
CREATE INDEX idx_ai_model_pricing_provider_model ON public.ai_model_pricing USING btree (provider, model);
GRANT SELECT ON ai_model_pricing TO gorax_app;
GRANT SELECT ON ai_model_pricing TO gorax_readonly;
GRANT SELECT ON ai_model_pricing TO gorax_worker;

CREATE TABLE ai_usage_log (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    tenant_id uuid NOT NULL,
    credential_id uuid,
    provider character varying(50) NOT NULL,
    model character varying(100) NOT NULL,
    action_type character varying(100) NOT NULL,
    execution_id uuid,
    workflow_id uuid,
    prompt_tokens integer DEFAULT 0 NOT NULL,
    completion_tokens integer DEFAULT 0 NOT NULL,
    total_tokens integer DEFAULT 0 NOT NULL,
    estimated_cost_cents numeric(18,6) DEFAULT 0 NOT NULL,
    success boolean DEFAULT true NOT NULL,
    error_code character varying(100),
    error_message text,
    latency_ms integer,
    request_metadata jsonb DEFAULT '{}'::jsonb,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ai_usage_log_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX idx_ai_usage_log_execution ON ONLY public.ai_usage_log USING btree (execution_id) WHERE (execution_id IS NOT NULL);
CREATE INDEX idx_ai_usage_log_provider_model ON ONLY public.ai_usage_log USING btree (provider, model);
CREATE INDEX idx_ai_usage_log_tenant ON ONLY public.ai_usage_log USING btree (tenant_id);
CREATE INDEX idx_ai_usage_log_tenant_created ON ONLY public.ai_usage_log USING btree (tenant_id, created_at DESC);
ALTER TABLE ai_usage_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE ai_usage_log FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON ai_usage_log FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_ai_usage_log ON ai_usage_log FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON ai_usage_log FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON ai_usage_log TO gorax_app;
GRANT SELECT ON ai_usage_log TO gorax_readonly;
GRANT DELETE, INSERT, SELECT ON ai_usage_log TO gorax_worker;

CREATE TABLE api_keys (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    prefix character varying(16) NOT NULL,
    key_hash bytea NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash),
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES users(tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor=80);
CREATE INDEX idx_api_keys_tenant_user ON public.api_keys USING btree (tenant_id, user_id);
ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON api_keys FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_api_keys ON api_keys FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON api_keys FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON api_keys TO gorax_app;
GRANT SELECT (id, tenant_id, user_id, name, prefix, created_by, created_at, expires_at, revoked_at, last_used_at) ON api_keys TO gorax_readonly;
GRANT SELECT (id, tenant_id, last_used_at) ON api_keys TO gorax_worker;
GRANT UPDATE (last_used_at) ON api_keys TO gorax_worker;

CREATE TABLE audit_logs (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id uuid,
    action character varying(100) NOT NULL,
    resource_type character varying(100) NOT NULL,
    resource_id uuid,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    ip_address character varying(45),
    user_agent text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT audit_logs_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX idx_audit_logs_action ON ONLY public.audit_logs USING btree (action);
CREATE INDEX idx_audit_logs_created_at ON ONLY public.audit_logs USING btree (created_at DESC);
CREATE INDEX idx_audit_logs_tenant_id ON ONLY public.audit_logs USING btree (tenant_id);
CREATE INDEX idx_audit_logs_user_id ON ONLY public.audit_logs USING btree (user_id);
ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON audit_logs FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_audit_logs ON audit_logs FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON audit_logs FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON audit_logs TO gorax_app;
GRANT SELECT ON audit_logs TO gorax_readonly;
GRANT INSERT, SELECT ON audit_logs TO gorax_worker;

CREATE TABLE credential_access_log (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    credential_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    accessed_by uuid NOT NULL,
    access_type character varying(50) NOT NULL,
    ip_address character varying(45),
    user_agent text,
    success boolean DEFAULT true NOT NULL,
    error_message text,
    accessed_at timestamp with time zone DEFAULT now() NOT NULL,
    credential_name character varying(255),
    execution_id uuid,
    node_id character varying(255),
    CONSTRAINT credential_access_log_pkey PRIMARY KEY (id),
    CONSTRAINT credential_access_log_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
CREATE INDEX credential_access_log_page ON public.credential_access_log USING btree (tenant_id, credential_id, accessed_at DESC, id DESC);
CREATE INDEX idx_credential_access_log_accessed_at ON public.credential_access_log USING btree (accessed_at DESC);
CREATE INDEX idx_credential_access_log_credential_id ON public.credential_access_log USING btree (credential_id);
CREATE INDEX idx_credential_access_log_tenant_id ON public.credential_access_log USING btree (tenant_id);
ALTER TABLE credential_access_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_access_log FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON credential_access_log FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_credential_access_log ON credential_access_log FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON credential_access_log FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON credential_access_log TO gorax_app;
GRANT SELECT ON credential_access_log TO gorax_readonly;
GRANT INSERT, SELECT ON credential_access_log TO gorax_worker;

CREATE TABLE credential_rotations (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    credential_id uuid NOT NULL,
    previous_key_id character varying(255) NOT NULL,
    new_key_id character varying(255) NOT NULL,
    rotated_by uuid NOT NULL,
    rotated_at timestamp with time zone DEFAULT now() NOT NULL,
    reason character varying(255),
    CONSTRAINT credential_rotations_pkey PRIMARY KEY (id),
    CONSTRAINT credential_rotations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
CREATE INDEX idx_credential_rotations_credential_id ON public.credential_rotations USING btree (credential_id);
CREATE INDEX idx_credential_rotations_rotated_at ON public.credential_rotations USING btree (rotated_at DESC);
ALTER TABLE credential_rotations ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_rotations FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON credential_rotations FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_credential_rotations ON credential_rotations FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON credential_rotations FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON credential_rotations TO gorax_app;
GRANT SELECT ON credential_rotations TO gorax_readonly;
GRANT INSERT, SELECT ON credential_rotations TO gorax_worker;

CREATE TABLE credentials (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    type character varying(100) NOT NULL,
    description text,
    status character varying(50) DEFAULT 'active'::character varying NOT NULL,
    encrypted_dek bytea NOT NULL,
    ciphertext bytea NOT NULL,
    nonce bytea NOT NULL,
    auth_tag bytea NOT NULL,
    kms_key_id character varying(255) NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    expires_at timestamp with time zone,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    last_used_at timestamp with time zone,
    version integer DEFAULT 1 NOT NULL,
    revision integer DEFAULT 1 NOT NULL,
    CONSTRAINT chk_credentials_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'inactive'::character varying, 'revoked'::character varying])::text[]))),
    CONSTRAINT credentials_pkey PRIMARY KEY (id),
    CONSTRAINT credentials_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT unique_credential_name_per_tenant UNIQUE (tenant_id, name)
);
CREATE INDEX idx_credentials_expires_at ON public.credentials USING btree (expires_at) WHERE (expires_at IS NOT NULL);
CREATE INDEX idx_credentials_kms_key_id ON public.credentials USING btree (kms_key_id);
CREATE INDEX idx_credentials_last_used_at ON public.credentials USING btree (last_used_at DESC);
CREATE INDEX idx_credentials_tenant_id ON public.credentials USING btree (tenant_id);
CREATE INDEX idx_credentials_type ON public.credentials USING btree (type);
ALTER TABLE credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON credentials FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_credentials ON credentials FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON credentials FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON credentials TO gorax_app;
GRANT SELECT (id, tenant_id, name, type, description, status, kms_key_id, metadata, expires_at, created_by, created_at, updated_at, last_used_at, version, revision) ON credentials TO gorax_readonly;
GRANT SELECT ON credentials TO gorax_worker;
GRANT UPDATE (last_used_at) ON credentials TO gorax_worker;

CREATE TABLE database_users (
    role_name name NOT NULL,
    tenant_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT database_users_pkey PRIMARY KEY (role_name),
    CONSTRAINT database_users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
ALTER TABLE database_users ENABLE ROW LEVEL SECURITY;
ALTER TABLE database_users FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON database_users FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_database_users ON database_users FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
GRANT SELECT ON database_users TO gorax_app;
GRANT SELECT ON database_users TO gorax_readonly;

CREATE TABLE event_deliveries (
    event_id uuid NOT NULL,
    execution_id uuid NOT NULL,
    step_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    delivered_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT event_deliveries_pkey PRIMARY KEY (event_id, execution_id, step_id)
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_cost_delay=0);
ALTER TABLE event_deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_deliveries FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON event_deliveries FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_event_deliveries ON event_deliveries FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON event_deliveries FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON event_deliveries TO gorax_app;
GRANT SELECT ON event_deliveries TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON event_deliveries TO gorax_worker;

CREATE TABLE event_subscriptions (
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    node_id character varying(255) NOT NULL,
    pattern character varying(255) NOT NULL,
    filter text,
    position integer NOT NULL,
    CONSTRAINT event_subscriptions_pkey PRIMARY KEY (tenant_id, workflow_id, node_id),
    CONSTRAINT event_subscriptions_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX event_subscriptions_pattern ON public.event_subscriptions USING btree (tenant_id, pattern);
ALTER TABLE event_subscriptions ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_subscriptions FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON event_subscriptions FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_event_subscriptions ON event_subscriptions FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON event_subscriptions FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT ON event_subscriptions TO gorax_app;
GRANT SELECT ON event_subscriptions TO gorax_readonly;
GRANT SELECT ON event_subscriptions TO gorax_worker;

CREATE TABLE events (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    tenant_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    correlation_key character varying(255),
    payload jsonb,
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    delete_after timestamp with time zone NOT NULL,
    idempotency_key text,
    matched boolean DEFAULT false NOT NULL,
    dispatched boolean DEFAULT false NOT NULL,
    CONSTRAINT chk_events_idempotency_key CHECK ((length(idempotency_key) <= 2048)),
    CONSTRAINT events_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_cost_delay=0);
CREATE INDEX events_by_key ON public.events USING btree (tenant_id, name, correlation_key, published_at, id) WHERE (correlation_key IS NOT NULL);
CREATE INDEX events_by_name ON public.events USING btree (tenant_id, name, published_at, id);
CREATE INDEX events_expiry ON public.events USING btree (delete_after);
CREATE UNIQUE INDEX events_idempotency ON public.events USING btree (tenant_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX events_undispatched ON public.events USING btree (id) WHERE (NOT dispatched);
CREATE INDEX events_unmatched ON public.events USING btree (id) WHERE (NOT matched);
ALTER TABLE events ENABLE ROW LEVEL SECURITY;
ALTER TABLE events FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON events FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_events ON events FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON events FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON events TO gorax_app;
GRANT SELECT ON events TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON events TO gorax_worker;

CREATE TABLE execution_queue (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    priority smallint DEFAULT 1 NOT NULL,
    ready_at timestamp with time zone,
    due_at timestamp with time zone,
    deadline_at timestamp with time zone,
    owner uuid,
    token bigint DEFAULT 0 NOT NULL,
    wake_seq bigint DEFAULT 0 NOT NULL,
    end_requested jsonb,
    crashes smallint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    schedule_id uuid,
    CONSTRAINT execution_queue_pkey PRIMARY KEY (execution_id)
) WITH (fillfactor=70, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_insert_scale_factor=0, autovacuum_vacuum_insert_threshold=1000, autovacuum_vacuum_cost_delay=0);
CREATE INDEX execution_queue_deadline ON public.execution_queue USING btree (deadline_at) WHERE ((deadline_at IS NOT NULL) AND (end_requested IS NULL));
CREATE INDEX execution_queue_due ON public.execution_queue USING btree (due_at) WHERE ((owner IS NULL) AND (ready_at IS NULL) AND (due_at IS NOT NULL) AND (NOT paused));
CREATE INDEX execution_queue_owner ON public.execution_queue USING btree (owner, tenant_id) WHERE (owner IS NOT NULL);
CREATE INDEX execution_queue_ready ON public.execution_queue USING btree (tenant_id, priority DESC, ready_at, execution_id) WHERE ((owner IS NULL) AND (ready_at IS NOT NULL) AND (NOT paused));
CREATE INDEX execution_queue_schedule ON public.execution_queue USING btree (schedule_id) WHERE (schedule_id IS NOT NULL);
CREATE INDEX execution_queue_suspects ON public.execution_queue USING btree (ready_at) WHERE ((owner IS NULL) AND (crashes >= 2));
ALTER TABLE execution_queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE execution_queue FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON execution_queue FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_execution_queue ON execution_queue FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON execution_queue FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON execution_queue TO gorax_app;
GRANT SELECT ON execution_queue TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON execution_queue TO gorax_worker;

CREATE TABLE executions (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    workflow_version integer NOT NULL,
    status character varying(50) DEFAULT 'pending'::character varying NOT NULL,
    trigger_type character varying(50) NOT NULL,
    trigger_data jsonb,
    output_data jsonb,
    error_message text,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    retention_until timestamp with time zone,
    parent_execution_id uuid,
    execution_depth integer DEFAULT 0 NOT NULL,
    error_code character varying(100),
    waiting_for character varying(50),
    trigger_node character varying(255),
    priority smallint DEFAULT 1 NOT NULL,
    deadline_at timestamp with time zone,
    retry_of uuid,
    started_by uuid,
    vars jsonb,
    parent_step_id uuid,
    origin_id uuid,
    CONSTRAINT chk_executions_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'running'::character varying, 'completed'::character varying, 'failed'::character varying, 'cancelled'::character varying])::text[]))),
    CONSTRAINT chk_executions_trigger_type CHECK (((trigger_type)::text = ANY ((ARRAY['webhook'::character varying, 'webhook_replay'::character varying, 'schedule'::character varying, 'manual'::character varying, 'api'::character varying, 'sql'::character varying, 'event'::character varying, 'sub_workflow'::character varying, 'retry'::character varying, 'replay'::character varying, 'backfill'::character varying])::text[]))),
    CONSTRAINT executions_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX idx_executions_created_at ON ONLY public.executions USING btree (created_at DESC);
CREATE INDEX idx_executions_cursor_pagination ON ONLY public.executions USING btree (tenant_id, created_at DESC, id);
CREATE INDEX idx_executions_depth ON ONLY public.executions USING btree (execution_depth);
CREATE INDEX idx_executions_parent_id ON ONLY public.executions USING btree (parent_execution_id);
CREATE INDEX idx_executions_retention_until ON ONLY public.executions USING btree (retention_until) WHERE (retention_until IS NOT NULL);
CREATE INDEX idx_executions_status ON ONLY public.executions USING btree (status);
CREATE INDEX idx_executions_tenant_id ON ONLY public.executions USING btree (tenant_id);
CREATE INDEX idx_executions_tenant_status ON ONLY public.executions USING btree (tenant_id, status, created_at DESC);
CREATE INDEX idx_executions_tenant_trigger_type ON ONLY public.executions USING btree (tenant_id, trigger_type, created_at DESC);
CREATE INDEX idx_executions_tenant_workflow ON ONLY public.executions USING btree (tenant_id, workflow_id, created_at DESC);
CREATE INDEX idx_executions_workflow_id ON ONLY public.executions USING btree (workflow_id);
ALTER TABLE executions ENABLE ROW LEVEL SECURITY;
ALTER TABLE executions FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON executions FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_executions ON executions FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON executions FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON executions TO gorax_app;
GRANT SELECT ON executions TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON executions TO gorax_worker;

CREATE TABLE human_task_assignees (
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    kind character varying(10) NOT NULL,
    assignee text NOT NULL,
    is_open boolean DEFAULT true NOT NULL,
    CONSTRAINT chk_human_task_assignees_kind CHECK (((kind)::text = ANY ((ARRAY['user'::character varying, 'role'::character varying])::text[]))),
    CONSTRAINT human_task_assignees_pkey PRIMARY KEY (tenant_id, kind, assignee, task_id),
    CONSTRAINT human_task_assignees_task_id_fkey FOREIGN KEY (tenant_id, task_id) REFERENCES human_tasks(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX human_task_assignees_open ON public.human_task_assignees USING btree (tenant_id, kind, assignee, task_id) WHERE is_open;
CREATE INDEX human_task_assignees_task ON public.human_task_assignees USING btree (tenant_id, task_id);
ALTER TABLE human_task_assignees ENABLE ROW LEVEL SECURITY;
ALTER TABLE human_task_assignees FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON human_task_assignees FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_human_task_assignees ON human_task_assignees FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON human_task_assignees FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON human_task_assignees TO gorax_app;
GRANT SELECT ON human_task_assignees TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON human_task_assignees TO gorax_worker;

CREATE TABLE human_tasks (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    execution_id uuid NOT NULL,
    step_id character varying(255) NOT NULL,
    task_type character varying(50) NOT NULL,
    title character varying(255) NOT NULL,
    description text,
    assignees jsonb DEFAULT '[]'::jsonb NOT NULL,
    status character varying(20) DEFAULT 'pending'::character varying NOT NULL,
    due_date timestamp with time zone,
    completed_at timestamp with time zone,
    completed_by uuid,
    response_data jsonb,
    config jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    workflow_id uuid,
    node_id character varying(255),
    iteration_path text DEFAULT ''::text NOT NULL,
    limit_at timestamp with time zone,
    next_action_at timestamp with time zone,
    escalation_level integer DEFAULT 0 NOT NULL,
    history jsonb DEFAULT '[]'::jsonb NOT NULL,
    CONSTRAINT chk_human_tasks_history CHECK ((jsonb_typeof(history) = 'array'::text)),
    CONSTRAINT chk_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'approved'::character varying, 'rejected'::character varying, 'expired'::character varying, 'cancelled'::character varying])::text[]))),
    CONSTRAINT chk_task_type CHECK (((task_type)::text = ANY ((ARRAY['approval'::character varying, 'input'::character varying, 'review'::character varying])::text[]))),
    CONSTRAINT human_tasks_completed_by_fkey FOREIGN KEY (tenant_id, completed_by) REFERENCES users(tenant_id, id),
    CONSTRAINT human_tasks_pkey PRIMARY KEY (id),
    CONSTRAINT human_tasks_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT unique_human_task_per_tenant UNIQUE (tenant_id, id)
);
CREATE INDEX human_tasks_next_action ON public.human_tasks USING btree (next_action_at) WHERE (((status)::text = 'pending'::text) AND (next_action_at IS NOT NULL));
CREATE INDEX human_tasks_open ON public.human_tasks USING btree (tenant_id, id) WHERE ((status)::text = 'pending'::text);
CREATE UNIQUE INDEX human_tasks_step ON public.human_tasks USING btree (step_id, tenant_id);
CREATE INDEX idx_human_tasks_assignee ON public.human_tasks USING gin (assignees);
CREATE INDEX idx_human_tasks_due_date ON public.human_tasks USING btree (due_date) WHERE ((status)::text = 'pending'::text);
CREATE INDEX idx_human_tasks_execution ON public.human_tasks USING btree (execution_id);
CREATE INDEX idx_human_tasks_status ON public.human_tasks USING btree (status);
CREATE INDEX idx_human_tasks_tenant ON public.human_tasks USING btree (tenant_id);
ALTER TABLE human_tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE human_tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON human_tasks FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_human_tasks ON human_tasks FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON human_tasks FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON human_tasks TO gorax_app;
GRANT UPDATE (assignees, updated_at, history) ON human_tasks TO gorax_app;
GRANT SELECT ON human_tasks TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON human_tasks TO gorax_worker;

CREATE TABLE leaderships (
    duty text NOT NULL,
    holder uuid NOT NULL,
    term bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT leaderships_pkey PRIMARY KEY (duty)
) WITH (fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=100);
GRANT DELETE, INSERT, SELECT, UPDATE ON leaderships TO gorax_worker;

CREATE TABLE loop_progress (
    step_id uuid NOT NULL,
    first integer NOT NULL,
    upto integer NOT NULL,
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    prefix text NOT NULL,
    round integer NOT NULL,
    results jsonb NOT NULL,
    CONSTRAINT loop_progress_pkey PRIMARY KEY (step_id, first)
);
CREATE INDEX loop_progress_execution ON public.loop_progress USING btree (execution_id);
ALTER TABLE loop_progress ENABLE ROW LEVEL SECURITY;
ALTER TABLE loop_progress FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON loop_progress FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_loop_progress ON loop_progress FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON loop_progress FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON loop_progress TO gorax_app;
GRANT SELECT ON loop_progress TO gorax_readonly;
GRANT DELETE, INSERT, SELECT ON loop_progress TO gorax_worker;

CREATE TABLE marketplace_installations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    template_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    user_id character varying(255) NOT NULL,
    workflow_id uuid NOT NULL,
    installed_version character varying(50) NOT NULL,
    installed_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT marketplace_installations_pkey PRIMARY KEY (id),
    CONSTRAINT marketplace_installations_template_id_fkey FOREIGN KEY (template_id) REFERENCES marketplace_templates(id) ON DELETE CASCADE,
    CONSTRAINT marketplace_installations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT marketplace_installations_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT unique_tenant_template UNIQUE (tenant_id, template_id, workflow_id)
);
CREATE INDEX idx_marketplace_installations_template ON public.marketplace_installations USING btree (template_id);
CREATE INDEX idx_marketplace_installations_tenant ON public.marketplace_installations USING btree (tenant_id);
ALTER TABLE marketplace_installations ENABLE ROW LEVEL SECURITY;
ALTER TABLE marketplace_installations FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON marketplace_installations FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_marketplace_installations ON marketplace_installations FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
GRANT DELETE, INSERT, SELECT, UPDATE ON marketplace_installations TO gorax_app;
GRANT SELECT ON marketplace_installations TO gorax_readonly;

CREATE TABLE marketplace_reviews (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    template_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    user_id character varying(255) NOT NULL,
    user_name character varying(255) NOT NULL,
    rating integer NOT NULL,
    comment text,
    created_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT marketplace_reviews_pkey PRIMARY KEY (id),
    CONSTRAINT marketplace_reviews_rating_check CHECK (((rating >= 1) AND (rating <= 5))),
    CONSTRAINT marketplace_reviews_template_id_fkey FOREIGN KEY (template_id) REFERENCES marketplace_templates(id) ON DELETE CASCADE,
    CONSTRAINT marketplace_reviews_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT unique_user_template_review UNIQUE (tenant_id, user_id, template_id)
);
CREATE INDEX idx_marketplace_reviews_template ON public.marketplace_reviews USING btree (template_id);
CREATE INDEX idx_marketplace_reviews_tenant_user ON public.marketplace_reviews USING btree (tenant_id, user_id);
ALTER TABLE marketplace_reviews ENABLE ROW LEVEL SECURITY;
ALTER TABLE marketplace_reviews FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON marketplace_reviews FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_marketplace_reviews ON marketplace_reviews FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
GRANT DELETE, INSERT, SELECT, UPDATE ON marketplace_reviews TO gorax_app;
GRANT SELECT ON marketplace_reviews TO gorax_readonly;

CREATE TABLE marketplace_template_versions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    template_id uuid NOT NULL,
    version character varying(50) NOT NULL,
    definition jsonb NOT NULL,
    change_notes text,
    created_by character varying(255) NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT marketplace_template_versions_pkey PRIMARY KEY (id),
    CONSTRAINT marketplace_template_versions_template_id_fkey FOREIGN KEY (template_id) REFERENCES marketplace_templates(id) ON DELETE CASCADE,
    CONSTRAINT unique_marketplace_template_version UNIQUE (template_id, version)
);
ALTER TABLE marketplace_template_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE marketplace_template_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON marketplace_template_versions FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY public_marketplace ON marketplace_template_versions FOR SELECT TO gorax_app, gorax_readonly USING true;
CREATE POLICY publisher_marketplace_versions ON marketplace_template_versions FOR INSERT TO gorax_app WITH CHECK (EXISTS ( SELECT FROM marketplace_templates t WHERE ((t.id = marketplace_template_versions.template_id) AND (t.source_tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid))));
GRANT INSERT, SELECT ON marketplace_template_versions TO gorax_app;
GRANT SELECT ON marketplace_template_versions TO gorax_readonly;

CREATE TABLE marketplace_templates (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name character varying(255) NOT NULL,
    description text NOT NULL,
    category character varying(100) NOT NULL,
    definition jsonb NOT NULL,
    tags text[] DEFAULT '{}'::text[],
    author_id character varying(255) NOT NULL,
    author_name character varying(255) NOT NULL,
    version character varying(50) NOT NULL,
    download_count bigint DEFAULT 0,
    average_rating numeric(3,2) DEFAULT 0.0,
    total_ratings integer DEFAULT 0,
    is_verified boolean DEFAULT false,
    source_tenant_id uuid,
    source_template_id uuid,
    published_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamp with time zone DEFAULT CURRENT_TIMESTAMP NOT NULL,
    CONSTRAINT marketplace_templates_name_key UNIQUE (name),
    CONSTRAINT marketplace_templates_pkey PRIMARY KEY (id),
    CONSTRAINT marketplace_templates_source_tenant_id_fkey FOREIGN KEY (source_tenant_id) REFERENCES tenants(id) ON DELETE SET NULL,
    CONSTRAINT valid_rating CHECK (((average_rating >= (0)::numeric) AND (average_rating <= (5)::numeric)))
);
CREATE INDEX idx_marketplace_templates_category ON public.marketplace_templates USING btree (category);
CREATE INDEX idx_marketplace_templates_download_count ON public.marketplace_templates USING btree (download_count DESC);
CREATE INDEX idx_marketplace_templates_rating ON public.marketplace_templates USING btree (average_rating DESC);
CREATE INDEX idx_marketplace_templates_tags ON public.marketplace_templates USING gin (tags);
ALTER TABLE marketplace_templates ENABLE ROW LEVEL SECURITY;
ALTER TABLE marketplace_templates FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON marketplace_templates FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY public_marketplace ON marketplace_templates FOR SELECT TO gorax_app, gorax_readonly USING true;
CREATE POLICY tenant_isolation_marketplace_templates ON marketplace_templates FOR ALL TO gorax_app, gorax_readonly USING (source_tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (source_tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
GRANT DELETE, SELECT ON marketplace_templates TO gorax_app;
GRANT INSERT (id, name, description, category, definition, tags, author_id, author_name, version, source_tenant_id, source_template_id) ON marketplace_templates TO gorax_app;
GRANT UPDATE (name, description, category, definition, tags, author_name, version, updated_at) ON marketplace_templates TO gorax_app;
GRANT SELECT ON marketplace_templates TO gorax_readonly;

CREATE TABLE notifications (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    user_id text NOT NULL,
    title text NOT NULL,
    message text NOT NULL,
    type text NOT NULL,
    link text,
    metadata jsonb DEFAULT '{}'::jsonb,
    is_read boolean DEFAULT false NOT NULL,
    read_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT fk_tenant FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT notifications_pkey PRIMARY KEY (id),
    CONSTRAINT notifications_type_check CHECK ((type = ANY (ARRAY['info'::text, 'warning'::text, 'error'::text, 'success'::text])))
);
CREATE INDEX idx_notifications_created_at ON public.notifications USING btree (created_at DESC);
CREATE INDEX idx_notifications_tenant_user ON public.notifications USING btree (tenant_id, user_id);
CREATE INDEX idx_notifications_user_unread ON public.notifications USING btree (user_id, is_read) WHERE (is_read = false);
CREATE INDEX notifications_page ON public.notifications USING btree (tenant_id, user_id, created_at DESC, id DESC);
ALTER TABLE notifications ENABLE ROW LEVEL SECURITY;
ALTER TABLE notifications FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON notifications FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_notifications ON notifications FOR INSERT TO gorax_app WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY user_isolation_notifications ON notifications FOR ALL TO gorax_app, gorax_readonly USING ((tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) AND (user_id = NULLIF(current_setting('app.current_user_id'::text, true), ''::text))) WITH CHECK ((tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) AND (user_id = NULLIF(current_setting('app.current_user_id'::text, true), ''::text)));
CREATE POLICY worker_access ON notifications FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON notifications TO gorax_app;
GRANT SELECT ON notifications TO gorax_readonly;
GRANT DELETE, INSERT, SELECT ON notifications TO gorax_worker;

CREATE TABLE outbox (
    id bigint DEFAULT GENERATED AS IDENTITY NOT NULL,
    tenant_id uuid NOT NULL,
    kind character varying(50) NOT NULL,
    payload jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_cost_delay=0);
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON outbox FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_outbox ON outbox FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON outbox FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON outbox TO gorax_worker;

CREATE TABLE permissions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    resource character varying(50) NOT NULL,
    action character varying(50) NOT NULL,
    description text,
    created_at timestamp with time zone DEFAULT now(),
    CONSTRAINT permissions_pkey PRIMARY KEY (id),
    CONSTRAINT permissions_resource_action_unique UNIQUE (resource, action)
);
CREATE INDEX idx_permissions_resource ON public.permissions USING btree (resource);
GRANT SELECT ON permissions TO gorax_app;
GRANT SELECT ON permissions TO gorax_readonly;
GRANT SELECT ON permissions TO gorax_worker;

CREATE TABLE request_idempotency (
    tenant_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    key text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    body_hash bytea NOT NULL,
    status integer,
    response jsonb,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT chk_request_idempotency_key CHECK ((length(key) <= 512)),
    CONSTRAINT request_idempotency_pkey PRIMARY KEY (tenant_id, principal_id, key)
);
CREATE INDEX request_idempotency_expiry ON public.request_idempotency USING btree (expires_at);
ALTER TABLE request_idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE request_idempotency FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON request_idempotency FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_request_idempotency ON request_idempotency FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON request_idempotency FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON request_idempotency TO gorax_app;
GRANT DELETE, SELECT, UPDATE ON request_idempotency TO gorax_worker;

CREATE TABLE retention_cleanup_logs (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    executions_deleted integer DEFAULT 0 NOT NULL,
    step_executions_deleted integer DEFAULT 0 NOT NULL,
    retention_days integer NOT NULL,
    cutoff_date timestamp with time zone NOT NULL,
    duration_ms bigint NOT NULL,
    status character varying(50) NOT NULL,
    error_message text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT retention_cleanup_logs_pkey PRIMARY KEY (id),
    CONSTRAINT retention_cleanup_logs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
CREATE INDEX idx_retention_cleanup_logs_created_at ON public.retention_cleanup_logs USING btree (created_at DESC);
CREATE INDEX idx_retention_cleanup_logs_tenant_id ON public.retention_cleanup_logs USING btree (tenant_id);
ALTER TABLE retention_cleanup_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE retention_cleanup_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON retention_cleanup_logs FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_retention_cleanup_logs ON retention_cleanup_logs FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON retention_cleanup_logs FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON retention_cleanup_logs TO gorax_app;
GRANT SELECT ON retention_cleanup_logs TO gorax_readonly;
GRANT INSERT, SELECT ON retention_cleanup_logs TO gorax_worker;

CREATE TABLE role_permissions (
    tenant_id uuid NOT NULL,
    role_id uuid NOT NULL,
    permission_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now(),
    CONSTRAINT role_permissions_permission_id_fkey FOREIGN KEY (permission_id) REFERENCES permissions(id) ON DELETE CASCADE,
    CONSTRAINT role_permissions_pkey PRIMARY KEY (role_id, permission_id),
    CONSTRAINT role_permissions_role_id_fkey FOREIGN KEY (tenant_id, role_id) REFERENCES roles(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX idx_role_permissions_permission_id ON public.role_permissions USING btree (permission_id);
CREATE INDEX idx_role_permissions_role_id ON public.role_permissions USING btree (role_id);
ALTER TABLE role_permissions ENABLE ROW LEVEL SECURITY;
ALTER TABLE role_permissions FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON role_permissions FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_role_permissions ON role_permissions FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON role_permissions FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON role_permissions TO gorax_app;
GRANT SELECT ON role_permissions TO gorax_readonly;
GRANT SELECT ON role_permissions TO gorax_worker;

CREATE TABLE roles (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    tenant_id uuid NOT NULL,
    name character varying(100) NOT NULL,
    description text,
    is_system boolean DEFAULT false,
    created_at timestamp with time zone DEFAULT now(),
    updated_at timestamp with time zone DEFAULT now(),
    CONSTRAINT roles_pkey PRIMARY KEY (id),
    CONSTRAINT roles_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT roles_tenant_name_unique UNIQUE (tenant_id, name),
    CONSTRAINT unique_role_per_tenant UNIQUE (tenant_id, id)
);
CREATE INDEX idx_roles_is_system ON public.roles USING btree (is_system);
CREATE INDEX idx_roles_tenant_id ON public.roles USING btree (tenant_id);
ALTER TABLE roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE roles FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON roles FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_roles ON roles FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON roles FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON roles TO gorax_app;
GRANT SELECT ON roles TO gorax_readonly;
GRANT SELECT ON roles TO gorax_worker;

CREATE TABLE schedule_occurrences (
    schedule_id uuid NOT NULL,
    scheduled_for timestamp with time zone NOT NULL,
    tenant_id uuid NOT NULL,
    status character varying(20) NOT NULL,
    reason text,
    execution_id uuid,
    backfill boolean DEFAULT false NOT NULL,
    through timestamp with time zone,
    count integer,
    decided_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT chk_schedule_occurrences_status CHECK (((status)::text = ANY ((ARRAY['started'::character varying, 'queued'::character varying, 'skipped'::character varying, 'missed'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT schedule_occurrences_pkey PRIMARY KEY (schedule_id, scheduled_for),
    CONSTRAINT schedule_occurrences_schedule_id_fkey FOREIGN KEY (tenant_id, schedule_id) REFERENCES schedules(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX schedule_occurrences_age ON public.schedule_occurrences USING btree (decided_at);
CREATE INDEX schedule_occurrences_queued ON public.schedule_occurrences USING btree (schedule_id, scheduled_for) WHERE ((status)::text = 'queued'::text);
ALTER TABLE schedule_occurrences ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedule_occurrences FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON schedule_occurrences FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_schedule_occurrences ON schedule_occurrences FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON schedule_occurrences FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON schedule_occurrences TO gorax_app;
GRANT SELECT ON schedule_occurrences TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON schedule_occurrences TO gorax_worker;

CREATE TABLE schedules (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    cron_expression character varying(255) NOT NULL,
    timezone character varying(100) DEFAULT 'UTC'::character varying NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    next_run_at timestamp with time zone,
    last_run_at timestamp with time zone,
    last_execution_id uuid,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    node_id character varying(255),
    description text,
    input jsonb DEFAULT '{}'::jsonb NOT NULL,
    overlap_policy character varying(20) DEFAULT 'skip'::character varying NOT NULL,
    misfire_policy character varying(20) DEFAULT 'last'::character varying NOT NULL,
    misfire_limit integer DEFAULT 100 NOT NULL,
    catchup_window interval DEFAULT '24:00:00'::interval NOT NULL,
    jitter interval DEFAULT '00:00:00'::interval NOT NULL,
    dst_gap character varying(10) DEFAULT 'shift'::character varying NOT NULL,
    dst_fold character varying(10) DEFAULT 'first'::character varying NOT NULL,
    starts_at timestamp with time zone,
    ends_at timestamp with time zone,
    priority integer DEFAULT 1 NOT NULL,
    due_at timestamp with time zone,
    revision integer DEFAULT 1 NOT NULL,
    CONSTRAINT chk_schedules_dst CHECK ((((dst_gap)::text = ANY ((ARRAY['skip'::character varying, 'shift'::character varying])::text[])) AND ((dst_fold)::text = ANY ((ARRAY['first'::character varying, 'both'::character varying])::text[])))),
    CONSTRAINT chk_schedules_limits CHECK ((((misfire_limit >= 1) AND (misfire_limit <= 1000)) AND (catchup_window >= '00:00:00'::interval) AND (jitter >= '00:00:00'::interval) AND ((priority >= 0) AND (priority <= 100)))),
    CONSTRAINT chk_schedules_misfire_policy CHECK (((misfire_policy)::text = ANY ((ARRAY['none'::character varying, 'last'::character varying, 'all'::character varying])::text[]))),
    CONSTRAINT chk_schedules_overlap_policy CHECK (((overlap_policy)::text = ANY ((ARRAY['skip'::character varying, 'queue'::character varying, 'cancel_running'::character varying, 'allow'::character varying])::text[]))),
    CONSTRAINT schedules_pkey PRIMARY KEY (id),
    CONSTRAINT schedules_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT schedules_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT unique_schedule_name_per_tenant UNIQUE (tenant_id, workflow_id, name),
    CONSTRAINT unique_schedule_per_tenant UNIQUE (tenant_id, id)
);
CREATE INDEX idx_schedules_enabled ON public.schedules USING btree (enabled);
CREATE INDEX idx_schedules_next_run_at ON public.schedules USING btree (next_run_at) WHERE (enabled = true);
CREATE INDEX idx_schedules_tenant_id ON public.schedules USING btree (tenant_id);
CREATE INDEX idx_schedules_workflow_id ON public.schedules USING btree (workflow_id);
CREATE INDEX schedules_due ON public.schedules USING btree (due_at) WHERE (enabled AND (due_at IS NOT NULL));
CREATE UNIQUE INDEX schedules_node ON public.schedules USING btree (tenant_id, workflow_id, node_id) WHERE (node_id IS NOT NULL);
ALTER TABLE schedules ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedules FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON schedules FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_schedules ON schedules FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON schedules FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON schedules TO gorax_app;
GRANT SELECT ON schedules TO gorax_readonly;
GRANT SELECT, UPDATE ON schedules TO gorax_worker;

CREATE TABLE schema_functions (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT schema_functions_pkey PRIMARY KEY (name)
);
GRANT SELECT ON schema_functions TO gorax_app;
GRANT SELECT ON schema_functions TO gorax_readonly;
GRANT SELECT ON schema_functions TO gorax_worker;

CREATE TABLE schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version)
);
GRANT SELECT ON schema_migrations TO gorax_app;
GRANT SELECT ON schema_migrations TO gorax_readonly;
GRANT SELECT ON schema_migrations TO gorax_worker;

CREATE TABLE signals (
    step_id uuid NOT NULL,
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    resolution jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT signals_pkey PRIMARY KEY (step_id)
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_cost_delay=0);
CREATE INDEX signals_execution ON public.signals USING btree (execution_id);
ALTER TABLE signals ENABLE ROW LEVEL SECURITY;
ALTER TABLE signals FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON signals FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_signals ON signals FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON signals FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON signals TO gorax_app;
GRANT SELECT ON signals TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON signals TO gorax_worker;

CREATE TABLE start_keys (
    tenant_id uuid NOT NULL,
    kind character varying(20) NOT NULL,
    key text NOT NULL,
    execution_id uuid NOT NULL,
    event_id uuid,
    body_hash bytea,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT chk_start_keys_key CHECK ((length(key) <= 512)),
    CONSTRAINT chk_start_keys_kind CHECK (((kind)::text = ANY ((ARRAY['idempotency'::character varying, 'delivery'::character varying, 'occurrence'::character varying, 'event'::character varying, 'error_workflow'::character varying, 'child'::character varying, 'sql'::character varying])::text[]))),
    CONSTRAINT start_keys_pkey PRIMARY KEY (tenant_id, kind, key)
);
CREATE INDEX start_keys_expiry ON public.start_keys USING btree (expires_at);
ALTER TABLE start_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE start_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON start_keys FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_start_keys ON start_keys FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON start_keys FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON start_keys TO gorax_worker;

CREATE TABLE step_executions (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    execution_id uuid NOT NULL,
    node_id character varying(255) NOT NULL,
    node_type character varying(100) NOT NULL,
    status character varying(50) DEFAULT 'pending'::character varying NOT NULL,
    input_data jsonb,
    output_data jsonb,
    error_message text,
    retry_count integer DEFAULT 0 NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    duration_ms bigint,
    tenant_id uuid NOT NULL,
    iteration_path text DEFAULT ''::text NOT NULL,
    round integer DEFAULT 0 NOT NULL,
    error_code character varying(100),
    outcome character varying(255),
    CONSTRAINT chk_step_executions_status CHECK (((status)::text = ANY ((ARRAY['pending'::character varying, 'running'::character varying, 'completed'::character varying, 'failed'::character varying, 'skipped'::character varying])::text[]))),
    CONSTRAINT step_executions_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX idx_step_executions_execution_id ON ONLY public.step_executions USING btree (execution_id);
CREATE INDEX idx_step_executions_node_id ON ONLY public.step_executions USING btree (node_id);
ALTER TABLE step_executions ENABLE ROW LEVEL SECURITY;
ALTER TABLE step_executions FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON step_executions FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_step_executions ON step_executions FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON step_executions FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON step_executions TO gorax_app;
GRANT SELECT ON step_executions TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON step_executions TO gorax_worker;

CREATE TABLE task_mails (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    tenant_id uuid NOT NULL,
    task_id uuid NOT NULL,
    recipients text[] NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    attempts smallint DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT task_mails_pkey PRIMARY KEY (id),
    CONSTRAINT task_mails_task_id_fkey FOREIGN KEY (tenant_id, task_id) REFERENCES human_tasks(tenant_id, id) ON DELETE CASCADE
) WITH (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=1000, autovacuum_vacuum_cost_delay=0);
CREATE INDEX task_mails_next_attempt ON public.task_mails USING btree (next_attempt_at);
CREATE INDEX task_mails_task ON public.task_mails USING btree (tenant_id, task_id);
ALTER TABLE task_mails ENABLE ROW LEVEL SECURITY;
ALTER TABLE task_mails FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON task_mails FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_task_mails ON task_mails FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON task_mails FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON task_mails TO gorax_app;
GRANT SELECT ON task_mails TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON task_mails TO gorax_worker;

CREATE TABLE tenants (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    name character varying(255) NOT NULL,
    subdomain character varying(63) NOT NULL,
    status character varying(50) DEFAULT 'active'::character varying NOT NULL,
    tier character varying(50) DEFAULT 'free'::character varying NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    quotas jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT chk_tenants_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'suspended'::character varying, 'cancelled'::character varying])::text[]))),
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_subdomain_key UNIQUE (subdomain)
);
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON tenants FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_tenants ON tenants FOR ALL TO gorax_app, gorax_readonly USING (id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON tenants FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON tenants TO gorax_app;
GRANT UPDATE (name, settings, updated_at) ON tenants TO gorax_app;
GRANT SELECT ON tenants TO gorax_readonly;
GRANT SELECT ON tenants TO gorax_worker;

CREATE TABLE user_roles (
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role_id uuid NOT NULL,
    granted_by uuid,
    granted_at timestamp with time zone DEFAULT now(),
    CONSTRAINT user_roles_granted_by_fkey FOREIGN KEY (tenant_id, granted_by) REFERENCES users(tenant_id, id),
    CONSTRAINT user_roles_pkey PRIMARY KEY (user_id, role_id),
    CONSTRAINT user_roles_role_id_fkey FOREIGN KEY (tenant_id, role_id) REFERENCES roles(tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT user_roles_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES users(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX idx_user_roles_role_id ON public.user_roles USING btree (role_id);
CREATE INDEX idx_user_roles_user_id ON public.user_roles USING btree (user_id);
ALTER TABLE user_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_roles FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON user_roles FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_user_roles ON user_roles FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON user_roles FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON user_roles TO gorax_app;
GRANT SELECT ON user_roles TO gorax_readonly;
GRANT SELECT ON user_roles TO gorax_worker;

CREATE TABLE users (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    kratos_identity_id character varying(255) NOT NULL,
    email character varying(255) NOT NULL,
    role character varying(50) DEFAULT 'member'::character varying NOT NULL,
    status character varying(50) DEFAULT 'active'::character varying NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT chk_users_status CHECK (((status)::text = ANY ((ARRAY['active'::character varying, 'suspended'::character varying, 'deleted'::character varying])::text[]))),
    CONSTRAINT unique_user_per_tenant UNIQUE (tenant_id, id),
    CONSTRAINT users_kratos_identity_id_key UNIQUE (kratos_identity_id),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
CREATE INDEX idx_users_kratos_identity_id ON public.users USING btree (kratos_identity_id);
CREATE INDEX idx_users_tenant_id ON public.users USING btree (tenant_id);
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON users FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_users ON users FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON users FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON users TO gorax_app;
GRANT SELECT ON users TO gorax_readonly;
GRANT SELECT ON users TO gorax_worker;

CREATE TABLE waits (
    step_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    execution_id uuid NOT NULL,
    node_id character varying(255) NOT NULL,
    iteration_path text DEFAULT ''::text NOT NULL,
    round integer DEFAULT 0 NOT NULL,
    attempt integer DEFAULT 1 NOT NULL,
    kind character varying(30) NOT NULL,
    due_at timestamp with time zone,
    output jsonb,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    event_name text,
    correlation_key text,
    child_id uuid,
    detail jsonb,
    event_sought boolean DEFAULT false NOT NULL,
    CONSTRAINT chk_waits_kind CHECK (((kind)::text = ANY ((ARRAY['timer'::character varying, 'retry_backoff'::character varying, 'timeout'::character varying, 'human_task'::character varying, 'event'::character varying, 'sub_workflow'::character varying, 'in_doubt'::character varying])::text[]))),
    CONSTRAINT waits_pkey PRIMARY KEY (step_id)
);
CREATE INDEX waits_event ON public.waits USING btree (tenant_id, event_name, correlation_key) WHERE ((kind)::text = 'event'::text);
CREATE INDEX waits_event_unsought ON public.waits USING btree (created_at) WHERE (((kind)::text = 'event'::text) AND (NOT event_sought));
CREATE INDEX waits_execution ON public.waits USING btree (execution_id);
ALTER TABLE waits ENABLE ROW LEVEL SECURITY;
ALTER TABLE waits FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON waits FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_waits ON waits FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON waits FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT SELECT ON waits TO gorax_app;
GRANT SELECT ON waits TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON waits TO gorax_worker;

CREATE TABLE webhook_events (
    id uuid DEFAULT gorax_uuid7() NOT NULL,
    tenant_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    execution_id uuid,
    request_method character varying(10) NOT NULL,
    request_headers jsonb DEFAULT '{}'::jsonb NOT NULL,
    request_body jsonb DEFAULT '{}'::jsonb NOT NULL,
    response_status integer,
    processing_time_ms integer,
    status character varying(20) DEFAULT 'received'::character varying NOT NULL,
    error_message text,
    filtered_reason text,
    replay_count integer DEFAULT 0 NOT NULL,
    source_event_id uuid,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    raw_body bytea,
    request_path text,
    request_query jsonb,
    dedupe_key text,
    source_ip inet,
    CONSTRAINT chk_webhook_events_status CHECK (((status)::text = ANY ((ARRAY['received'::character varying, 'processed'::character varying, 'filtered'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT webhook_events_pkey PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX idx_webhook_events_created_at ON ONLY public.webhook_events USING btree (created_at DESC);
CREATE INDEX idx_webhook_events_execution_id ON ONLY public.webhook_events USING btree (execution_id);
CREATE INDEX idx_webhook_events_status ON ONLY public.webhook_events USING btree (status);
CREATE INDEX idx_webhook_events_tenant_id ON ONLY public.webhook_events USING btree (tenant_id);
CREATE INDEX idx_webhook_events_tenant_status_created ON ONLY public.webhook_events USING btree (tenant_id, status, created_at DESC);
CREATE INDEX idx_webhook_events_webhook_id ON ONLY public.webhook_events USING btree (webhook_id);
CREATE INDEX webhook_events_log ON ONLY public.webhook_events USING btree (webhook_id, created_at DESC, id DESC);
ALTER TABLE webhook_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_events FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON webhook_events FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_webhook_events ON webhook_events FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON webhook_events FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT, UPDATE ON webhook_events TO gorax_app;
GRANT SELECT ON webhook_events TO gorax_readonly;
GRANT DELETE, INSERT, SELECT, UPDATE ON webhook_events TO gorax_worker;

CREATE TABLE webhook_filters (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    field_path character varying(255) NOT NULL,
    operator character varying(20) NOT NULL,
    value jsonb NOT NULL,
    logic_group integer DEFAULT 0 NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT webhook_filters_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_filters_webhook_id_fkey FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX idx_webhook_filters_enabled ON public.webhook_filters USING btree (enabled);
CREATE INDEX idx_webhook_filters_webhook_enabled ON public.webhook_filters USING btree (webhook_id, enabled);
CREATE INDEX idx_webhook_filters_webhook_id ON public.webhook_filters USING btree (webhook_id);
ALTER TABLE webhook_filters ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_filters FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON webhook_filters FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_webhook_filters ON webhook_filters FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON webhook_filters FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON webhook_filters TO gorax_app;
GRANT SELECT ON webhook_filters TO gorax_readonly;
GRANT SELECT ON webhook_filters TO gorax_worker;

CREATE TABLE webhooks (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    node_id character varying(255) NOT NULL,
    name character varying(255),
    description text,
    path character varying(255) NOT NULL,
    secret text,
    auth_type character varying(50) DEFAULT 'none'::character varying NOT NULL,
    enabled boolean DEFAULT true NOT NULL,
    priority integer DEFAULT 1 NOT NULL,
    last_triggered_at timestamp with time zone,
    trigger_count bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    methods text[] DEFAULT '{POST}'::text[] NOT NULL,
    managed boolean DEFAULT true NOT NULL,
    signature_scheme character varying(20) DEFAULT 'gorax'::character varying NOT NULL,
    timestamp_tolerance integer DEFAULT 300 NOT NULL,
    previous_secret text,
    previous_secret_until timestamp with time zone,
    secret_changed_at timestamp with time zone,
    allowed_ips cidr[] DEFAULT '{}'::cidr[] NOT NULL,
    max_body_bytes integer,
    rate_limit integer,
    dedupe_header character varying(255),
    dedupe_path character varying(255),
    response_mode character varying(20) DEFAULT 'accepted'::character varying NOT NULL,
    revision integer DEFAULT 1 NOT NULL,
    CONSTRAINT chk_webhooks_auth_type CHECK (((auth_type)::text = ANY ((ARRAY['none'::character varying, 'secret'::character varying, 'basic'::character varying, 'bearer'::character varying])::text[]))),
    CONSTRAINT chk_webhooks_limits CHECK ((((timestamp_tolerance >= 1) AND (timestamp_tolerance <= 86400)) AND (max_body_bytes > 0) AND (rate_limit > 0) AND ((priority >= 0) AND (priority <= 100)))),
    CONSTRAINT chk_webhooks_response_mode CHECK (((response_mode)::text = ANY ((ARRAY['accepted'::character varying, 'result'::character varying])::text[]))),
    CONSTRAINT chk_webhooks_signature_scheme CHECK (((signature_scheme)::text = ANY ((ARRAY['gorax'::character varying, 'github'::character varying, 'standard'::character varying, 'stripe'::character varying, 'slack'::character varying])::text[]))),
    CONSTRAINT unique_webhook_path UNIQUE (path),
    CONSTRAINT unique_webhook_per_tenant UNIQUE (tenant_id, id),
    CONSTRAINT webhooks_pkey PRIMARY KEY (id),
    CONSTRAINT webhooks_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE,
    CONSTRAINT webhooks_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id) ON DELETE CASCADE
) WITH (fillfactor=80);
CREATE INDEX idx_webhooks_path ON public.webhooks USING btree (path);
CREATE INDEX idx_webhooks_priority ON public.webhooks USING btree (priority DESC);
CREATE INDEX idx_webhooks_tenant_id ON public.webhooks USING btree (tenant_id);
CREATE INDEX idx_webhooks_workflow_id ON public.webhooks USING btree (workflow_id);
ALTER TABLE webhooks ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhooks FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON webhooks FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_webhooks ON webhooks FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON webhooks FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON webhooks TO gorax_app;
GRANT SELECT (id, tenant_id, workflow_id, node_id, name, description, path, auth_type, enabled, priority, last_triggered_at, trigger_count, created_at, updated_at, methods, managed, signature_scheme, timestamp_tolerance, previous_secret_until, secret_changed_at, allowed_ips, max_body_bytes, rate_limit, dedupe_header, dedupe_path, response_mode, revision) ON webhooks TO gorax_readonly;
GRANT SELECT, UPDATE ON webhooks TO gorax_worker;

CREATE TABLE workers (
    id uuid NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    roles text[] NOT NULL,
    slots integer NOT NULL,
    lease_ms integer NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    draining boolean DEFAULT false NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (id)
) WITH (fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=100, autovacuum_vacuum_cost_delay=0);
GRANT SELECT ON workers TO gorax_app;
GRANT DELETE, INSERT, SELECT, UPDATE ON workers TO gorax_worker;

CREATE TABLE workflow_templates (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid,
    name character varying(255) NOT NULL,
    description text,
    category character varying(100),
    definition jsonb NOT NULL,
    tags text[],
    is_public boolean DEFAULT false NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT unique_template_name_per_tenant UNIQUE NULLS NOT DISTINCT (tenant_id, name),
    CONSTRAINT workflow_templates_pkey PRIMARY KEY (id),
    CONSTRAINT workflow_templates_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
CREATE INDEX idx_templates_category ON public.workflow_templates USING btree (category);
CREATE INDEX idx_templates_is_public ON public.workflow_templates USING btree (is_public);
CREATE INDEX idx_templates_tags ON public.workflow_templates USING gin (tags);
CREATE INDEX idx_templates_tenant ON public.workflow_templates USING btree (tenant_id);
ALTER TABLE workflow_templates ENABLE ROW LEVEL SECURITY;
ALTER TABLE workflow_templates FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON workflow_templates FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY public_templates ON workflow_templates FOR SELECT TO gorax_app, gorax_readonly USING is_public;
CREATE POLICY tenant_isolation_templates ON workflow_templates FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
GRANT DELETE, INSERT, SELECT, UPDATE ON workflow_templates TO gorax_app;
GRANT SELECT ON workflow_templates TO gorax_readonly;

CREATE TABLE workflow_versions (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    workflow_id uuid NOT NULL,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT unique_workflow_version UNIQUE (workflow_id, version),
    CONSTRAINT workflow_versions_pkey PRIMARY KEY (id),
    CONSTRAINT workflow_versions_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflows(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX idx_workflow_versions_workflow_id ON public.workflow_versions USING btree (workflow_id);
ALTER TABLE workflow_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE workflow_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON workflow_versions FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_workflow_versions ON workflow_versions FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON workflow_versions FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT INSERT, SELECT ON workflow_versions TO gorax_app;
GRANT SELECT ON workflow_versions TO gorax_readonly;
GRANT SELECT ON workflow_versions TO gorax_worker;

CREATE TABLE workflows (
    id uuid DEFAULT uuid_generate_v4() NOT NULL,
    tenant_id uuid NOT NULL,
    name character varying(255) NOT NULL,
    description text,
    definition jsonb NOT NULL,
    status character varying(50) DEFAULT 'draft'::character varying NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    published_version integer,
    revision integer DEFAULT 1 NOT NULL,
    CONSTRAINT chk_workflows_status CHECK (((status)::text = ANY ((ARRAY['draft'::character varying, 'active'::character varying, 'inactive'::character varying, 'archived'::character varying])::text[]))),
    CONSTRAINT unique_workflow_name_per_tenant UNIQUE (tenant_id, name),
    CONSTRAINT unique_workflow_per_tenant UNIQUE (tenant_id, id),
    CONSTRAINT workflows_pkey PRIMARY KEY (id),
    CONSTRAINT workflows_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);
CREATE INDEX idx_workflows_created_by ON public.workflows USING btree (created_by);
CREATE INDEX idx_workflows_status ON public.workflows USING btree (status);
CREATE INDEX idx_workflows_tenant_id ON public.workflows USING btree (tenant_id);
CREATE INDEX idx_workflows_tenant_status ON public.workflows USING btree (tenant_id, status);
ALTER TABLE workflows ENABLE ROW LEVEL SECURITY;
ALTER TABLE workflows FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_access ON workflows FOR ALL TO OWNER USING true WITH CHECK true;
CREATE POLICY tenant_isolation_workflows ON workflows FOR ALL TO gorax_app, gorax_readonly USING (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid) WITH CHECK (tenant_id = (NULLIF(current_setting('app.current_tenant_id'::text, true), ''::text))::uuid);
CREATE POLICY worker_access ON workflows FOR ALL TO gorax_worker USING true WITH CHECK true;
GRANT DELETE, INSERT, SELECT, UPDATE ON workflows TO gorax_app;
GRANT SELECT ON workflows TO gorax_readonly;
GRANT SELECT ON workflows TO gorax_worker;

CREATE FUNCTION estimate_ai_cost(p_provider character varying, p_model character varying, p_prompt_tokens bigint, p_completion_tokens bigint) RETURNS numeric
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
-- may be executed by: PUBLIC

CREATE FUNCTION gorax_authenticate_api_key(p_key_hash bytea) RETURNS TABLE(api_key_id uuid, tenant_id uuid, user_id uuid, tenant_status text, permissions text[])
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path=pg_catalog, public, pg_temp
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
-- may be executed by: gorax_app, gorax_worker

CREATE FUNCTION gorax_create_tenant(p_name text, p_subdomain text, p_tier text DEFAULT 'free'::text) RETURNS TABLE(tenant_id uuid, user_id uuid)
    LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, public, pg_temp
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
-- may be executed by: the owner alone

CREATE FUNCTION gorax_ensure_partitions(months_ahead integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path=pg_catalog, public, pg_temp
AS $$
DECLARE
    v_parent text;
    v_month timestamp;
    v_name text;
    v_fill int;
    v_made int := 0;
BEGIN
    IF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'months_ahead must be between 0 and 120' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('gorax'), hashtext('partitions'));
    FOR v_parent IN
        SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace ORDER BY relname
    LOOP
        -- Rows that are written once fill their pages; these two are updated, and room on the page keeps that cheap.
        v_fill := CASE v_parent WHEN 'executions' THEN 85 WHEN 'step_executions' THEN 90 ELSE 100 END;
        FOR v_ahead IN -1..months_ahead LOOP
            v_month := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(months => v_ahead);
            v_name := v_parent || to_char(v_month, '_YYYY_MM');
            CONTINUE WHEN to_regclass('public.' || quote_ident(v_name)) IS NOT NULL;
            EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL) WITH (fillfactor = %s)',
                           v_name, v_parent, v_fill);
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', v_name);
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', v_name);
            EXECUTE format('CREATE POLICY owner_access ON public.%I TO CURRENT_USER USING (true) WITH CHECK (true)',
                           v_name);
            EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                           v_parent, v_name,
                           gorax_uuid7_floor(v_month AT TIME ZONE 'UTC'),
                           gorax_uuid7_floor((v_month + interval '1 month') AT TIME ZONE 'UTC'));
            v_made := v_made + 1;
        END LOOP;
    END LOOP;
    RETURN v_made;
END
$$;
-- may be executed by: gorax_worker

CREATE FUNCTION gorax_partition_months_ahead() RETURNS integer
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_ahead int := 0;
BEGIN
    LOOP
        IF EXISTS (
            SELECT FROM pg_class
            WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace
              AND to_regclass('public.' || quote_ident(relname || to_char(
                      date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(months => v_ahead),
                      '_YYYY_MM'))) IS NULL
        ) OR v_ahead > 120 THEN
            RETURN v_ahead - 1;
        END IF;
        v_ahead := v_ahead + 1;
    END LOOP;
END
$$;
-- may be executed by: PUBLIC

CREATE FUNCTION gorax_protect(p_table regclass, p_worker boolean, p_name text DEFAULT NULL::text, p_key text DEFAULT 'tenant_id'::text) RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_mine text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p_table);
    EXECUTE format('CREATE POLICY owner_access ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', p_table);
    IF p_key IS NOT NULL THEN
        v_mine := format('%I = NULLIF(current_setting(''app.current_tenant_id'', true), '''')::uuid', p_key);
        EXECUTE format('CREATE POLICY %I ON %s TO gorax_app, gorax_readonly USING (%s) WITH CHECK (%s)',
                       'tenant_isolation_' || coalesce(p_name, p_table::text), p_table, v_mine, v_mine);
    END IF;
    IF p_worker THEN
        EXECUTE format('CREATE POLICY worker_access ON %s TO gorax_worker USING (true) WITH CHECK (true)', p_table);
    END IF;
END
$$;
-- may be executed by: the owner alone

CREATE FUNCTION gorax_uuid7() RETURNS uuid
    LANGUAGE sql VOLATILE
AS $$
-- differs by server version
$$;
-- may be executed by: PUBLIC

CREATE FUNCTION gorax_uuid7_floor(p_at timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE
AS $$
SELECT (lpad(to_hex(greatest(0, floor(extract(epoch FROM p_at) * 1000))::bigint), 12, '0')
            || '70008000000000000000')::uuid
$$;
-- may be executed by: PUBLIC

CREATE FUNCTION gorax_uuid7_time(p_id uuid) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE
AS $$
SELECT CASE WHEN substr(p_id::text, 15, 1) = '7' THEN
        to_timestamp(('x' || substr(p_id::text, 1, 8) || substr(p_id::text, 10, 4))::bit(48)::bigint / 1000.0)
    END
$$;
-- may be executed by: PUBLIC

CREATE FUNCTION uuid_generate_v4() RETURNS uuid
    LANGUAGE sql VOLATILE
AS $$
SELECT gen_random_uuid()
$$;
-- may be executed by: PUBLIC
