-- Executions, their steps, and what the engine keeps about live ones: queue, waits, workers, start keys, outbox.
-- phase: pre
--
-- executions and step_executions are partitioned by the month that their id carries. Nothing references them and
-- they reference nothing: a foreign key to a partitioned table forbids DETACH, and each key costs a lock per row on
-- the hottest path. Code writes both sides in one transaction, and the checker of invariants watches.

CREATE TABLE executions (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    tenant_id UUID NOT NULL,
    workflow_id UUID NOT NULL,
    workflow_version INTEGER NOT NULL,
    status VARCHAR(50) NOT NULL DEFAULT 'pending',
    trigger_type VARCHAR(50) NOT NULL,
    trigger_data JSONB,
    output_data JSONB,
    error_message TEXT,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    retention_until TIMESTAMPTZ,
    parent_execution_id UUID,
    execution_depth INTEGER NOT NULL DEFAULT 0,
    error_code VARCHAR(100),
    waiting_for VARCHAR(50),     -- the kind of the oldest wait of a parked run, which stays `running`
    trigger_node VARCHAR(255),
    priority SMALLINT NOT NULL DEFAULT 1,
    deadline_at TIMESTAMPTZ,
    retry_of UUID,               -- the execution that this one retries or replays
    started_by UUID,             -- the principal that asked for it
    vars JSONB,                  -- frozen at the start
    CONSTRAINT chk_executions_status CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT chk_executions_trigger_type CHECK (trigger_type IN (
        'webhook', 'webhook_replay', 'schedule', 'manual', 'api', 'sql', 'event', 'sub_workflow', 'retry', 'replay',
        'backfill'))
) PARTITION BY RANGE (id);

CREATE INDEX idx_executions_tenant_id ON executions(tenant_id);
CREATE INDEX idx_executions_workflow_id ON executions(workflow_id);
CREATE INDEX idx_executions_status ON executions(status);
CREATE INDEX idx_executions_created_at ON executions(created_at DESC);
CREATE INDEX idx_executions_cursor_pagination ON executions(tenant_id, created_at DESC, id);
CREATE INDEX idx_executions_tenant_status ON executions(tenant_id, status, created_at DESC);
CREATE INDEX idx_executions_tenant_workflow ON executions(tenant_id, workflow_id, created_at DESC);
CREATE INDEX idx_executions_tenant_trigger_type ON executions(tenant_id, trigger_type, created_at DESC);
CREATE INDEX idx_executions_retention_until ON executions(retention_until) WHERE retention_until IS NOT NULL;
CREATE INDEX idx_executions_parent_id ON executions(parent_execution_id);
CREATE INDEX idx_executions_depth ON executions(execution_depth);

-- One row per attempt. The engine derives the id from execution, node, iteration path, round and attempt, and gives
-- it the execution's time, so that an execution and its steps share a month.
CREATE TABLE step_executions (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    execution_id UUID NOT NULL,
    node_id VARCHAR(255) NOT NULL,
    node_type VARCHAR(100) NOT NULL,
    status VARCHAR(50) NOT NULL DEFAULT 'pending',
    input_data JSONB,
    output_data JSONB,
    error_message TEXT,
    retry_count INTEGER NOT NULL DEFAULT 0,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    duration_ms BIGINT,
    tenant_id UUID NOT NULL,
    iteration_path TEXT NOT NULL DEFAULT '',
    round INTEGER NOT NULL DEFAULT 0,
    error_code VARCHAR(100),
    outcome VARCHAR(255),        -- the label that the step made live; recovery reads it
    CONSTRAINT chk_step_executions_status CHECK (status IN ('pending', 'running', 'completed', 'failed', 'skipped'))
) PARTITION BY RANGE (id);

CREATE INDEX idx_step_executions_execution_id ON step_executions(execution_id);
CREATE INDEX idx_step_executions_node_id ON step_executions(node_id);

-- One row per live execution: its mutex, and the only thing that claims look at. Narrow, short-lived, often updated:
-- room for HOT updates, and a vacuum that comes after a thousand dead rows however large the table is.
CREATE TABLE execution_queue (
    execution_id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL,
    workflow_id UUID NOT NULL,
    priority SMALLINT NOT NULL DEFAULT 1,
    ready_at TIMESTAMPTZ,          -- NULL while parked
    due_at TIMESTAMPTZ,            -- when a parked run wakes by itself
    deadline_at TIMESTAMPTZ,
    owner UUID,                    -- workers.id; no key, because rescue deletes the worker first
    token BIGINT NOT NULL DEFAULT 0,     -- rises with each claim and fences off the former owner
    wake_seq BIGINT NOT NULL DEFAULT 0,  -- rises with each wake; parking succeeds only at the last one seen
    end_requested JSONB,           -- a mark: {"kind": "timeout" | "worker_lost"}
    crashes SMALLINT NOT NULL DEFAULT 0, -- rescues since the last progress
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX execution_queue_ready ON execution_queue (tenant_id, priority DESC, ready_at, execution_id)
    WHERE owner IS NULL AND ready_at IS NOT NULL;
CREATE INDEX execution_queue_due ON execution_queue (due_at)
    WHERE owner IS NULL AND ready_at IS NULL AND due_at IS NOT NULL;
CREATE INDEX execution_queue_owner ON execution_queue (owner, tenant_id) WHERE owner IS NOT NULL;
CREATE INDEX execution_queue_deadline ON execution_queue (deadline_at)
    WHERE deadline_at IS NOT NULL AND end_requested IS NULL;
CREATE INDEX execution_queue_suspects ON execution_queue (ready_at)
    WHERE owner IS NULL AND crashes >= 2;

-- What a parked execution waits for.
CREATE TABLE waits (
    step_id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL,
    execution_id UUID NOT NULL,
    node_id VARCHAR(255) NOT NULL,
    iteration_path TEXT NOT NULL DEFAULT '',
    round INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 1,
    kind VARCHAR(30) NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    output JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT chk_waits_kind CHECK (kind IN ('timer', 'retry_backoff', 'timeout'))
);

CREATE INDEX waits_execution ON waits (execution_id);

-- One row per registration of a worker process, renewed by its heartbeat; gone once released or rescued.
CREATE TABLE workers (
    id UUID PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    roles TEXT[] NOT NULL,
    slots INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    draining BOOLEAN NOT NULL DEFAULT false
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100,
    autovacuum_vacuum_cost_delay = 0
);

-- What has been started under a key, so that the same thing starts once.
CREATE TABLE start_keys (
    tenant_id UUID NOT NULL,
    kind VARCHAR(20) NOT NULL,
    key TEXT NOT NULL,
    execution_id UUID NOT NULL,
    event_id UUID,               -- the delivery's row in webhook_events, if a delivery it was
    body_hash BYTEA,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at TIMESTAMPTZ,
    PRIMARY KEY (tenant_id, kind, key),
    CONSTRAINT chk_start_keys_kind CHECK (kind IN (
        'idempotency', 'delivery', 'occurrence', 'event', 'error_workflow', 'child')),
    CONSTRAINT chk_start_keys_key CHECK (length(key) <= 512)
);

CREATE INDEX start_keys_expiry ON start_keys (expires_at);

-- What must be told to the outside, written with what it tells about.
CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id UUID NOT NULL,
    kind VARCHAR(50) NOT NULL,
    payload JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Answers to writes of the API, by Idempotency-Key; status is NULL while the first one still runs.
CREATE TABLE request_idempotency (
    tenant_id UUID NOT NULL,
    principal_id UUID NOT NULL,
    key TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    body_hash BYTEA NOT NULL,
    status INTEGER,
    response JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (tenant_id, principal_id, key),
    CONSTRAINT chk_request_idempotency_key CHECK (length(key) <= 512)
);

CREATE INDEX request_idempotency_expiry ON request_idempotency (expires_at);

-- Who does each duty that only one process may do, and until when. The term fences off a former holder.
CREATE TABLE leaderships (
    duty TEXT PRIMARY KEY,
    holder UUID NOT NULL,
    term BIGINT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);

SELECT gorax_protect('executions', p_worker => true);
SELECT gorax_protect('step_executions', p_worker => true);
SELECT gorax_protect('execution_queue', p_worker => true);
SELECT gorax_protect('waits', p_worker => true);
SELECT gorax_protect('start_keys', p_worker => true);
SELECT gorax_protect('outbox', p_worker => true);
SELECT gorax_protect('request_idempotency', p_worker => true);

-- workers and leaderships hold no tenant's data, so they have no row-level security.
GRANT SELECT, INSERT, UPDATE, DELETE
    ON executions, step_executions, execution_queue, waits, start_keys, outbox, workers, leaderships TO gorax_worker;
GRANT SELECT, UPDATE, DELETE ON request_idempotency TO gorax_worker; -- UPDATE: to lock what it deletes
-- The API only looks at runs: whatever changes one is done by the engine, as gorax_worker, after it was authorised.
GRANT SELECT ON executions, step_executions, execution_queue, waits TO gorax_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON request_idempotency TO gorax_app;
GRANT SELECT ON workers TO gorax_app;
GRANT SELECT ON executions, step_executions, execution_queue, waits TO gorax_readonly;

SELECT gorax_ensure_partitions();
