-- Triggers: proofs, limits and rotation of webhooks; policies, occurrences and upkeep of schedules; starts from SQL.
-- phase: pre

-- The newest secrets are sealed under the vault's key; while one is rotated, the one before it is accepted too.
UPDATE webhooks SET priority = least(greatest(priority, 0), 100) WHERE priority NOT BETWEEN 0 AND 100;
ALTER TABLE webhooks
    ADD COLUMN managed BOOLEAN NOT NULL DEFAULT true,      -- kept in step with a trigger node by publishing
    ADD COLUMN signature_scheme VARCHAR(20) NOT NULL DEFAULT 'gorax',
    ADD COLUMN timestamp_tolerance INTEGER NOT NULL DEFAULT 300,
    ADD COLUMN previous_secret TEXT,
    ADD COLUMN previous_secret_until TIMESTAMPTZ,
    ADD COLUMN secret_changed_at TIMESTAMPTZ,
    ADD COLUMN allowed_ips CIDR[] NOT NULL DEFAULT '{}',   -- none: from anywhere
    ADD COLUMN max_body_bytes INTEGER,                     -- NULL: the server's limit
    ADD COLUMN rate_limit INTEGER,                         -- deliveries a minute; NULL: no limit of its own
    ADD COLUMN dedupe_header VARCHAR(255),
    ADD COLUMN dedupe_path VARCHAR(255),                   -- a JSONPath into the body
    ADD COLUMN response_mode VARCHAR(20) NOT NULL DEFAULT 'accepted',
    ADD COLUMN revision INTEGER NOT NULL DEFAULT 1,
    ADD CONSTRAINT chk_webhooks_signature_scheme
        CHECK (signature_scheme IN ('gorax', 'github', 'standard', 'stripe', 'slack')),
    ADD CONSTRAINT chk_webhooks_response_mode CHECK (response_mode IN ('accepted', 'result')),
    ADD CONSTRAINT chk_webhooks_limits CHECK (
        timestamp_tolerance BETWEEN 1 AND 86400 AND max_body_bytes > 0 AND rate_limit > 0 AND priority BETWEEN 0 AND 100
    );

GRANT SELECT (managed, signature_scheme, timestamp_tolerance, previous_secret_until, secret_changed_at, allowed_ips,
              max_body_bytes, rate_limit, dedupe_header, dedupe_path, response_mode, revision) ON webhooks TO gorax_readonly;

-- The ingress reads webhooks as gorax_worker.
DROP FUNCTION gorax_find_webhook(text);

ALTER TABLE webhook_filters ADD COLUMN updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW();

ALTER TABLE webhook_events ADD COLUMN source_ip INET;
-- A webhook's log is read from its newest end.
CREATE INDEX webhook_events_log ON webhook_events (webhook_id, created_at DESC, id DESC);

ALTER TABLE schedules
    ADD COLUMN node_id VARCHAR(255),                       -- NULL: made by hand
    ADD COLUMN description TEXT,
    ADD COLUMN input JSONB NOT NULL DEFAULT '{}',
    ADD COLUMN overlap_policy VARCHAR(20) NOT NULL DEFAULT 'skip',
    ADD COLUMN misfire_policy VARCHAR(20) NOT NULL DEFAULT 'last',
    ADD COLUMN misfire_limit INTEGER NOT NULL DEFAULT 100,
    ADD COLUMN catchup_window INTERVAL NOT NULL DEFAULT '24 hours',
    ADD COLUMN jitter INTERVAL NOT NULL DEFAULT '0',
    ADD COLUMN dst_gap VARCHAR(10) NOT NULL DEFAULT 'shift',
    ADD COLUMN dst_fold VARCHAR(10) NOT NULL DEFAULT 'first',
    ADD COLUMN starts_at TIMESTAMPTZ,
    ADD COLUMN ends_at TIMESTAMPTZ,
    ADD COLUMN priority INTEGER NOT NULL DEFAULT 1,
    ADD COLUMN due_at TIMESTAMPTZ,                         -- next_run_at and its jitter
    ADD COLUMN revision INTEGER NOT NULL DEFAULT 1,
    ADD CONSTRAINT unique_schedule_per_tenant UNIQUE (tenant_id, id),
    ADD CONSTRAINT chk_schedules_overlap_policy CHECK (overlap_policy IN ('skip', 'queue', 'cancel_running', 'allow')),
    ADD CONSTRAINT chk_schedules_misfire_policy CHECK (misfire_policy IN ('none', 'last', 'all')),
    ADD CONSTRAINT chk_schedules_dst CHECK (dst_gap IN ('skip', 'shift') AND dst_fold IN ('first', 'both')),
    ADD CONSTRAINT chk_schedules_limits CHECK (
        misfire_limit BETWEEN 1 AND 1000 AND catchup_window >= '0' AND jitter >= '0' AND priority BETWEEN 0 AND 100
    );

UPDATE schedules SET due_at = next_run_at;
CREATE INDEX schedules_due ON schedules (due_at) WHERE enabled AND due_at IS NOT NULL;
CREATE UNIQUE INDEX schedules_node ON schedules (tenant_id, workflow_id, node_id) WHERE node_id IS NOT NULL;

-- What became of each occurrence. The key is what makes an occurrence start once, whoever else fires the schedule.
-- A stretch of occurrences that were missed is one row: from scheduled_for through `through`, `count` of them.
CREATE TABLE schedule_occurrences (
    schedule_id UUID NOT NULL,
    scheduled_for TIMESTAMPTZ NOT NULL,
    tenant_id UUID NOT NULL,
    status VARCHAR(20) NOT NULL,
    reason TEXT,
    execution_id UUID,
    backfill BOOLEAN NOT NULL DEFAULT false,
    through TIMESTAMPTZ,
    count INTEGER,
    decided_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schedule_occurrences_pkey PRIMARY KEY (schedule_id, scheduled_for),
    CONSTRAINT chk_schedule_occurrences_status CHECK (status IN ('started', 'queued', 'skipped', 'missed', 'failed')),
    CONSTRAINT schedule_occurrences_schedule_id_fkey FOREIGN KEY (tenant_id, schedule_id)
        REFERENCES schedules(tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX schedule_occurrences_queued ON schedule_occurrences (schedule_id, scheduled_for) WHERE status = 'queued';
CREATE INDEX schedule_occurrences_age ON schedule_occurrences (decided_at);

-- Which schedule a live run belongs to: what its overlap policy asks.
ALTER TABLE execution_queue ADD COLUMN schedule_id UUID;
CREATE INDEX execution_queue_schedule ON execution_queue (schedule_id) WHERE schedule_id IS NOT NULL;

SELECT gorax_protect('schedule_occurrences', p_worker => true);
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule_occurrences TO gorax_worker;
GRANT SELECT ON schedule_occurrences TO gorax_app, gorax_readonly;

-- Servers that come from releases before 15 let everybody create objects in public, where ours are found. (Without effect
-- if the owner of this database doesn't own the schema: gorax_start_workflow refuses who may create there.)
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Which tenant a database user starts workflows for, with gorax_start_workflow: from this table, never from a setting.
CREATE TABLE database_users (
    role_name NAME PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
SELECT gorax_protect('database_users', p_worker => false);
GRANT SELECT ON database_users TO gorax_app, gorax_readonly;

ALTER TABLE start_keys DROP CONSTRAINT chk_start_keys_kind;
ALTER TABLE start_keys ADD CONSTRAINT chk_start_keys_kind CHECK (kind IN (
    'idempotency', 'delivery', 'occurrence', 'event', 'error_workflow', 'child', 'sql'));
