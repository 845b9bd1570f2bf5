-- name: plan_tasks_by_values
-- Plan the next statements of this transaction for their values: a filter that is absent must cost nothing.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: list_tasks
-- A page of the tenant's tasks, newest first (ids carry their time).
SELECT id, execution_id, workflow_id, step_id, node_id, iteration_path, task_type, title, description, assignees,
       status, due_date, status = 'pending' AND coalesce(due_date < now(), false) AS overdue, escalation_level,
       completed_at, completed_by, created_at, updated_at
FROM human_tasks
WHERE tenant_id = $1
  AND ($2::text IS NULL OR status = $2)
  AND ($3::boolean IS NULL OR (status = 'pending' AND coalesce(due_date < now(), false)) = $3)
  AND ($4::uuid IS NULL OR execution_id = $4)
  AND ($5::uuid IS NULL OR id < $5)
ORDER BY id DESC
LIMIT $6;

-- name: list_tasks_of
-- The same for some assignees (kinds $7, users' ids and names of roles $8): up to a page for each, then the newest.
-- OFFSET 0 keeps the planner from beginning with all tasks of the tenant.
SELECT DISTINCT ON (t.id) t.id, t.execution_id, t.workflow_id, t.step_id, t.node_id, t.iteration_path, t.task_type,
       t.title, t.description, t.assignees, t.status, t.due_date,
       t.status = 'pending' AND coalesce(t.due_date < now(), false) AS overdue, t.escalation_level,
       t.completed_at, t.completed_by, t.created_at, t.updated_at
FROM unnest($7::text[], $8::text[]) AS m (kind, assignee)
CROSS JOIN LATERAL (
    SELECT t.*
    FROM human_task_assignees a
    CROSS JOIN LATERAL (SELECT * FROM human_tasks k WHERE k.tenant_id = $1 AND k.id = a.task_id OFFSET 0) t
    WHERE a.tenant_id = $1 AND a.kind = m.kind AND a.assignee = m.assignee
      AND ($2::text IS DISTINCT FROM 'pending' OR a.is_open)
      AND ($2::text IS NULL OR t.status = $2)
      AND ($3::boolean IS NULL OR (t.status = 'pending' AND coalesce(t.due_date < now(), false)) = $3)
      AND ($4::uuid IS NULL OR t.execution_id = $4)
      AND ($5::uuid IS NULL OR a.task_id < $5)
    ORDER BY a.task_id DESC
    LIMIT $6
) t
ORDER BY t.id DESC
LIMIT $6;

-- name: get_task
-- One task of the tenant with its form, its configuration, its history and the response.
SELECT id, execution_id, workflow_id, step_id, node_id, iteration_path, task_type, title, description, assignees,
       status, due_date, status = 'pending' AND coalesce(due_date < now(), false) AS overdue, escalation_level,
       completed_at, completed_by, created_at, updated_at, response_data, config, history
FROM human_tasks
WHERE tenant_id = $1 AND id = $2;

-- name: lock_task
-- The state of a task that is to be handed on, held until the end of the transaction.
SELECT status, assignees, title, completed_by, completed_at FROM human_tasks WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: roles_of_user
-- The names of the roles that a user holds.
SELECT r.name::text AS name
FROM user_roles ur JOIN roles r ON r.tenant_id = ur.tenant_id AND r.id = ur.role_id
WHERE ur.tenant_id = $1 AND ur.user_id = $2
ORDER BY 1;

-- name: assignee_exists
-- Whether the tenant has this active user (by id) or this role (by name).
SELECT CASE $2::text
           WHEN 'user' THEN EXISTS (
               SELECT FROM users WHERE tenant_id = $1 AND id::text = $3::text AND status = 'active')
           ELSE EXISTS (SELECT FROM roles WHERE tenant_id = $1 AND name = $3::text)
       END AS found;

-- name: decide_task
-- One person's decision; the function locks, judges, and signals the run.
SELECT decided, status, completed_by, completed_at FROM gorax_decide_task($1, $2, $3, $4, $5);

-- name: reassign_task
-- New assignees of a task that is locked, and why.
UPDATE human_tasks SET assignees = $3, history = history || $4::jsonb, updated_at = clock_timestamp()
WHERE tenant_id = $1 AND id = $2;

-- name: add_assignee
-- The new one finds the task in the own list.
INSERT INTO human_task_assignees (tenant_id, task_id, kind, assignee) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;

-- name: remove_assignee
-- The former one doesn't any more.
DELETE FROM human_task_assignees WHERE tenant_id = $1 AND task_id = $2 AND kind = $3 AND assignee = $4;

-- name: tell_assignees
-- Notifications, and mail if the task has a mail server.
SELECT gorax_tell_assignees($1);

-- name: tell_assignees_of_one
-- The same for a session that writes JSON itself.
SELECT gorax_tell_assignees($1::text::jsonb);
