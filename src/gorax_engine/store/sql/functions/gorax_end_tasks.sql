-- Ends tasks by a decision, of people or of the clock, and signals their steps, all in the caller's transaction.
--
-- p_ends is a list of {"tenant_id", "task_id", "status", "by"?, "response"?, "seen"?, "note"?}. The status is approved,
-- rejected or expired; `by` the user, none for the clock; `note` goes into the history. With `seen`, a task whose
-- next_action_at is another one by now is left alone. The runs' queue rows are locked first, in id order, then the
-- tasks, and only then it is judged which are still open: the first decision wins. A task whose step waits no longer is
-- cancelled. Returns what became of each; `decided` says whether this call ended it.
CREATE OR REPLACE FUNCTION gorax_end_tasks(p_ends jsonb) RETURNS TABLE (
    task_id uuid, decided boolean, status text, completed_by uuid, completed_at timestamptz
)
LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ends jsonb;
    v_told uuid[];
BEGIN
    PERFORM 1
       FROM execution_queue q
      WHERE q.execution_id IN (
                SELECT t.execution_id
                  FROM jsonb_to_recordset(p_ends) AS e (tenant_id uuid, task_id uuid)
                  JOIN human_tasks t ON t.tenant_id = e.tenant_id AND t.id = e.task_id)
      ORDER BY q.execution_id FOR UPDATE;
    -- What is still open, now that nobody else can end it.
    SELECT jsonb_agg(to_jsonb(l)) INTO v_ends
      FROM (
          SELECT e.tenant_id, e.task_id, e.status, e.by, coalesce(e.response, '{}') AS response, e.note, t.step_id
            FROM jsonb_to_recordset(p_ends) AS e (
                tenant_id uuid, task_id uuid, status text, by uuid, response jsonb, seen timestamptz, note jsonb
            )
            JOIN human_tasks t ON t.tenant_id = e.tenant_id AND t.id = e.task_id
           WHERE t.status = 'pending' AND (e.seen IS NULL OR t.next_action_at = e.seen)
           ORDER BY t.id FOR UPDATE OF t
      ) l;
    IF v_ends IS NOT NULL THEN
        SELECT coalesce(array_agg(s.step), '{}') INTO v_told
          FROM (
              SELECT array_agg(e.step_id::uuid) AS steps,
                     array_agg(jsonb_build_object(
                         'status', 'completed', 'outcome', e.status,
                         'output', jsonb_build_object(
                             'outcome', e.status, 'by', e.by, 'response', e.response,
                             'at', to_char(v_now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))::text) AS texts
                FROM jsonb_to_recordset(v_ends) AS e (status text, by uuid, response jsonb, step_id text)
          ) a
         CROSS JOIN LATERAL gorax_signal(a.steps, a.texts) AS s (step);
        UPDATE human_tasks t
           SET status = CASE WHEN d.is_told THEN d.status ELSE 'cancelled' END,
               completed_by = CASE WHEN d.is_told THEN d.by END,
               response_data = CASE WHEN d.is_told THEN d.response END,
               history = t.history || CASE WHEN d.is_told AND d.note IS NOT NULL THEN d.note ELSE '[]' END,
               completed_at = v_now, updated_at = v_now, next_action_at = NULL
          FROM (
              SELECT e.*, e.step_id::uuid = ANY (v_told) AS is_told
                FROM jsonb_to_recordset(v_ends) AS e (
                    tenant_id uuid, task_id uuid, status text, by uuid, response jsonb, note jsonb, step_id text)
          ) d
         WHERE t.tenant_id = d.tenant_id AND t.id = d.task_id;
        UPDATE human_task_assignees a SET is_open = false
          FROM jsonb_to_recordset(v_ends) AS e (tenant_id uuid, task_id uuid)
         WHERE a.tenant_id = e.tenant_id AND a.task_id = e.task_id;
    END IF;
    RETURN QUERY
    SELECT t.id, coalesce(d.step_id::uuid = ANY (v_told), false), t.status::text, t.completed_by, t.completed_at
      FROM jsonb_to_recordset(p_ends) AS e (tenant_id uuid, task_id uuid)
      JOIN human_tasks t ON t.tenant_id = e.tenant_id AND t.id = e.task_id
      LEFT JOIN jsonb_to_recordset(coalesce(v_ends, '[]')) AS d (task_id uuid, step_id text) ON d.task_id = e.task_id;
END
$function$;
