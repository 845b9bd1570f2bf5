-- What people see and do: human tasks and notifications.
-- phase: pre

CREATE TABLE human_tasks (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    execution_id UUID NOT NULL,
    step_id VARCHAR(255) NOT NULL,
    task_type VARCHAR(50) NOT NULL,
    title VARCHAR(255) NOT NULL,
    description TEXT,
    assignees JSONB NOT NULL DEFAULT '[]'::JSONB,
    status VARCHAR(20) NOT NULL DEFAULT 'pending',
    due_date TIMESTAMPTZ,
    completed_at TIMESTAMPTZ,
    completed_by UUID,
    response_data JSONB,
    config JSONB NOT NULL DEFAULT '{}'::JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT chk_task_type CHECK (task_type IN ('approval', 'input', 'review')),
    CONSTRAINT chk_status CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'cancelled')),
    CONSTRAINT unique_human_task_per_tenant UNIQUE (tenant_id, id),
    CONSTRAINT human_tasks_completed_by_fkey FOREIGN KEY (tenant_id, completed_by) REFERENCES users(tenant_id, id)
);

CREATE INDEX idx_human_tasks_tenant ON human_tasks(tenant_id);
CREATE INDEX idx_human_tasks_execution ON human_tasks(execution_id);
CREATE INDEX idx_human_tasks_status ON human_tasks(status);
CREATE INDEX idx_human_tasks_assignee ON human_tasks USING GIN(assignees);
CREATE INDEX idx_human_tasks_due_date ON human_tasks(due_date) WHERE status = 'pending';

-- The assignees once more, one a row: jsonb @> is not leakproof, so under row-level security it can't use its index.
-- `assignee` is a user's id or a role's name.
CREATE TABLE human_task_assignees (
    tenant_id UUID NOT NULL,
    task_id UUID NOT NULL,
    kind VARCHAR(10) NOT NULL,
    assignee TEXT NOT NULL,
    PRIMARY KEY (tenant_id, kind, assignee, task_id),
    CONSTRAINT chk_human_task_assignees_kind CHECK (kind IN ('user', 'role')),
    CONSTRAINT human_task_assignees_task_id_fkey FOREIGN KEY (tenant_id, task_id) REFERENCES human_tasks(tenant_id, id)
        ON DELETE CASCADE
);

CREATE INDEX human_task_assignees_task ON human_task_assignees (tenant_id, task_id);

CREATE TABLE notifications (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id UUID NOT NULL,
    user_id TEXT NOT NULL,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('info', 'warning', 'error', 'success')),
    link TEXT,
    metadata JSONB DEFAULT '{}'::jsonb,
    is_read BOOLEAN NOT NULL DEFAULT false,
    read_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT fk_tenant FOREIGN KEY (tenant_id) REFERENCES tenants(id) ON DELETE CASCADE
);

CREATE INDEX idx_notifications_tenant_user ON notifications(tenant_id, user_id);
CREATE INDEX idx_notifications_user_unread ON notifications(user_id, is_read) WHERE is_read = false;
CREATE INDEX idx_notifications_created_at ON notifications(created_at DESC);

SELECT gorax_protect('human_tasks', p_worker => true);
SELECT gorax_protect('human_task_assignees', p_worker => true);
SELECT gorax_protect('notifications', p_worker => true, p_key => NULL);

-- A user reads, marks and deletes their own notifications only; telling another user of the tenant is allowed.
-- Two permissive policies, one for the tenant and one for the user, would be ORed and leak between users.
CREATE POLICY tenant_isolation_notifications ON notifications FOR INSERT TO gorax_app
    WITH CHECK (tenant_id = NULLIF(current_setting('app.current_tenant_id', true), '')::uuid);
CREATE POLICY user_isolation_notifications ON notifications FOR ALL TO gorax_app, gorax_readonly
    USING (tenant_id = NULLIF(current_setting('app.current_tenant_id', true), '')::uuid
           AND user_id = NULLIF(current_setting('app.current_user_id', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.current_tenant_id', true), '')::uuid
                AND user_id = NULLIF(current_setting('app.current_user_id', true), ''));

GRANT SELECT, INSERT, UPDATE ON human_tasks TO gorax_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON human_task_assignees, notifications TO gorax_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON human_tasks, human_task_assignees TO gorax_worker;
GRANT SELECT, INSERT, DELETE ON notifications TO gorax_worker;
GRANT SELECT ON human_tasks, human_task_assignees, notifications TO gorax_readonly;
