-- What runs wait for besides time: people, events, other runs. And pausing, and runs that follow from other runs.
-- phase: pre

-- These functions get other parameters and columns: the ones that are there would stand in the way. Workers of the release
-- before can't go on beside this one: stop them first.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid::regprocedure FROM pg_proc p
         WHERE p.pronamespace = 'public'::regnamespace
           AND p.proname IN ('gorax_claim', 'gorax_flush', 'gorax_start_executions')
    LOOP
        EXECUTE format('DROP FUNCTION %s', v_function);
    END LOOP;
END
$$;

ALTER TABLE executions
    ADD COLUMN parent_step_id UUID,       -- the parent's step, which waits for this run if it is a row of waits
    ADD COLUMN origin_id UUID;            -- the first of a chain of retries; keys of effects keep its id

ALTER TABLE execution_queue
    ADD COLUMN paused BOOLEAN NOT NULL DEFAULT false;

-- A paused run is not to be claimed: it stands in none of the indexes that claims and timers go through.
DROP INDEX execution_queue_ready;
CREATE INDEX execution_queue_ready ON execution_queue (tenant_id, priority DESC, ready_at, execution_id)
    WHERE owner IS NULL AND ready_at IS NOT NULL AND NOT paused;
DROP INDEX execution_queue_due;
CREATE INDEX execution_queue_due ON execution_queue (due_at)
    WHERE owner IS NULL AND ready_at IS NULL AND due_at IS NOT NULL AND NOT paused;

-- due_at is NULL for waits that know no end.
ALTER TABLE waits
    ALTER COLUMN due_at DROP NOT NULL,
    ADD COLUMN event_name TEXT,           -- of the kind event
    ADD COLUMN correlation_key TEXT,
    ADD COLUMN child_id UUID,             -- of the kind sub_workflow: the run that is waited for
    ADD COLUMN detail JSONB,              -- what the owner needs to go on: output_mapping, cancel policy
    DROP CONSTRAINT chk_waits_kind,
    ADD CONSTRAINT chk_waits_kind CHECK (kind IN
        ('timer', 'retry_backoff', 'timeout', 'human_task', 'event', 'sub_workflow', 'in_doubt'));

CREATE INDEX waits_event ON waits (tenant_id, event_name, correlation_key) WHERE kind = 'event';

-- What a wait was waiting for has come: written by whoever brought it, read and deleted by the run's owner.
-- The key makes it once: the first one wins.
CREATE TABLE signals (
    step_id UUID PRIMARY KEY,             -- of the wait
    execution_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    resolution JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX signals_execution ON signals (execution_id);

SELECT gorax_protect('signals', p_worker => true);
GRANT SELECT, INSERT, UPDATE, DELETE ON signals TO gorax_worker;
GRANT SELECT ON signals TO gorax_app, gorax_readonly;

-- What the first iterations of a loop gave, recorded together while it runs: who rebuilds the run reads this instead of
-- the steps of these iterations.
CREATE TABLE loop_progress (
    step_id UUID NOT NULL,                -- of the loop
    first INTEGER NOT NULL,               -- the index of the first iteration of the row
    upto INTEGER NOT NULL,                -- that of the first one that is not in it
    execution_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    prefix TEXT NOT NULL,                 -- what iteration paths of the loop begin with, up to the index
    round INTEGER NOT NULL,
    results JSONB NOT NULL,
    PRIMARY KEY (step_id, first)
);

CREATE INDEX loop_progress_execution ON loop_progress (execution_id);

SELECT gorax_protect('loop_progress', p_worker => true);
GRANT SELECT, INSERT, DELETE ON loop_progress TO gorax_worker;
GRANT SELECT ON loop_progress TO gorax_app, gorax_readonly;
