-- Closes tasks whose wait is over without a decision: the run has ended, or the step was cancelled or timed out.
-- The caller holds the runs' queue rows. Returns how many were still open.
CREATE OR REPLACE FUNCTION gorax_close_tasks(p_steps uuid[]) RETURNS integer
LANGUAGE sql
AS $function$
    WITH closing AS (
        SELECT t.tenant_id, t.id FROM human_tasks t
         WHERE t.step_id = ANY (p_steps::text[]) AND t.status = 'pending'
         ORDER BY t.id FOR UPDATE
    ), closed AS (
        UPDATE human_tasks t
           SET status = 'cancelled', completed_at = clock_timestamp(), updated_at = clock_timestamp(),
               next_action_at = NULL
          FROM closing c
         WHERE t.tenant_id = c.tenant_id AND t.id = c.id
        RETURNING t.tenant_id, t.id
    ), put_away AS (
        UPDATE human_task_assignees a SET is_open = false
          FROM closed c
         WHERE a.tenant_id = c.tenant_id AND a.task_id = c.id
    )
    SELECT count(*)::integer FROM closed;
$function$;
