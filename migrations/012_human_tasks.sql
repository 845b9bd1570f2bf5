-- Human tasks as the engine opens them: where they stand in a run, what happens to them next, and mail about them.
-- phase: pre

ALTER TABLE human_tasks
    ADD COLUMN workflow_id UUID,
    ADD COLUMN node_id VARCHAR(255),
    ADD COLUMN iteration_path TEXT NOT NULL DEFAULT '',
    ADD COLUMN limit_at TIMESTAMPTZ,                     -- when the time of those who are asked now is over
    ADD COLUMN next_action_at TIMESTAMPTZ,               -- the earlier of limit_at and the next reminder
    ADD COLUMN escalation_level INTEGER NOT NULL DEFAULT 0,  -- how many of config.levels are reached
    ADD COLUMN history JSONB NOT NULL DEFAULT '[]'::JSONB,   -- [{at, event, by?, ...}], oldest first
    ADD CONSTRAINT chk_human_tasks_history CHECK (jsonb_typeof(history) = 'array');

-- A step opens one task, however often its record is sent. The step comes first: tasks are closed by it alone.
CREATE UNIQUE INDEX human_tasks_step ON human_tasks (step_id, tenant_id);
CREATE INDEX human_tasks_next_action ON human_tasks (next_action_at)
    WHERE status = 'pending' AND next_action_at IS NOT NULL;
CREATE INDEX human_tasks_open ON human_tasks (tenant_id, id) WHERE status = 'pending';

-- What somebody still has to do, apart from all they ever had.
ALTER TABLE human_task_assignees ADD COLUMN is_open BOOLEAN NOT NULL DEFAULT true;
CREATE INDEX human_task_assignees_open ON human_task_assignees (tenant_id, kind, assignee, task_id) WHERE is_open;

CREATE INDEX notifications_page ON notifications (tenant_id, user_id, created_at DESC, id DESC);

-- Mail about tasks that is still to be sent. Whoever sends one has it until next_attempt_at, then others may try.
CREATE TABLE task_mails (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    tenant_id UUID NOT NULL,
    task_id UUID NOT NULL,
    recipients TEXT[] NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts SMALLINT NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT task_mails_task_id_fkey FOREIGN KEY (tenant_id, task_id) REFERENCES human_tasks(tenant_id, id)
        ON DELETE CASCADE
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX task_mails_next_attempt ON task_mails (next_attempt_at);
CREATE INDEX task_mails_task ON task_mails (tenant_id, task_id);

SELECT gorax_protect('task_mails', p_worker => true);
GRANT SELECT, INSERT, UPDATE, DELETE ON task_mails TO gorax_worker;
GRANT SELECT, INSERT ON task_mails TO gorax_app;
GRANT SELECT ON task_mails TO gorax_readonly;

-- Decisions are made by gorax_decide_task alone; the API itself may only hand a task on.
REVOKE UPDATE ON human_tasks FROM gorax_app;
GRANT UPDATE (assignees, history, updated_at) ON human_tasks TO gorax_app;
