-- Opens the tasks of steps that wait for people, within the flush that records the steps. Sending it again opens nothing.
--
-- p_tasks is a list of {"tenant_id", "execution_id", "workflow_id", "step_id", "node_id", "iteration_path", "opened_at",
-- "content"}; the content is what nodes/control/human_task.py describes, of which only title and assignees are needed.
CREATE OR REPLACE FUNCTION gorax_open_tasks(p_tasks jsonb) RETURNS integer
LANGUAGE plpgsql
AS $function$
DECLARE
    v_opened jsonb;
BEGIN
    WITH given AS (
        SELECT g.*
          FROM jsonb_to_recordset(p_tasks) AS g (
              tenant_id uuid, execution_id uuid, workflow_id uuid, step_id text, node_id text, iteration_path text,
              opened_at timestamptz, content jsonb
          )
    ), opened AS (
        INSERT INTO human_tasks (
            id, tenant_id, execution_id, workflow_id, step_id, node_id, iteration_path, task_type, title, description,
            assignees, due_date, limit_at, next_action_at, config, created_at, updated_at)
        SELECT gorax_uuid7(), g.tenant_id, g.execution_id, g.workflow_id, g.step_id, g.node_id,
               coalesce(g.iteration_path, ''), coalesce(g.content ->> 'task_type', 'approval'),
               left(g.content ->> 'title', 255), g.content ->> 'description', g.content -> 'assignees',
               (g.content ->> 'due_date')::timestamptz, (g.content ->> 'limit_at')::timestamptz,
               least((g.content ->> 'limit_at')::timestamptz, (g.content -> 'reminders' ->> 0)::timestamptz),
               g.content - ARRAY['task_type', 'title', 'description', 'assignees', 'due_date', 'limit_at'],
               coalesce(g.opened_at, clock_timestamp()), clock_timestamp()
          FROM given g
        ON CONFLICT (step_id, tenant_id) DO NOTHING
        RETURNING id, tenant_id, task_type, title, description, assignees, due_date
    ), assigned AS (
        INSERT INTO human_task_assignees (tenant_id, task_id, kind, assignee)
        SELECT DISTINCT o.tenant_id, o.id, a ->> 'type', coalesce(a ->> 'id', a ->> 'name')
          FROM opened o CROSS JOIN LATERAL jsonb_array_elements(o.assignees) a
    )
    SELECT jsonb_agg(jsonb_build_object(
               'tenant_id', o.tenant_id, 'task_id', o.id, 'to', o.assignees, 'title', o.title, 'type', 'info',
               'kind', 'task_assigned',
               'message', coalesce(left(o.description, 2000), CASE o.task_type
                   WHEN 'approval' THEN 'Your approval is asked for.'
                   WHEN 'input' THEN 'Your input is asked for.'
                   ELSE 'Your review is asked for.' END)
                   || coalesce(' It is due by ' || to_char(o.due_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC.',
                               '')))
      INTO v_opened
      FROM opened o;
    IF v_opened IS NULL THEN
        RETURN 0;
    END IF;
    -- Who is told may be many, and this is part of a flush: that is done afterwards.
    INSERT INTO outbox (tenant_id, kind, payload)
    SELECT (o.x ->> 'tenant_id')::uuid, 'task_news', o.x FROM jsonb_array_elements(v_opened) AS o (x);
    RETURN jsonb_array_length(v_opened);
END
$function$;
