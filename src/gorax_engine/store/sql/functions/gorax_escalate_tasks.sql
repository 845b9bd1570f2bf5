-- Carries out what the clock does to open tasks without ending them: reminders and escalation.
--
-- p_moves is a list of {"tenant_id", "task_id", "seen", "next_action_at", "limit_at", "due_date"?, "level", "to"?,
-- "note", "news"}. `seen` is the next_action_at that the move was decided for: if it is another one by now, somebody was
-- faster. `to` are those who may decide from now on, too; `news` are told (see gorax_tell_assignees). Rows that others
-- hold are skipped: the next round finds them. Returns how many tasks were moved.
CREATE OR REPLACE FUNCTION gorax_escalate_tasks(p_moves jsonb) RETURNS integer
LANGUAGE plpgsql
AS $function$
DECLARE
    v_moves jsonb;
BEGIN
    SELECT jsonb_agg(to_jsonb(l)) INTO v_moves
      FROM (
          SELECT m.*
            FROM jsonb_to_recordset(p_moves) AS m (
                tenant_id uuid, task_id uuid, seen timestamptz, next_action_at timestamptz, limit_at timestamptz,
                due_date timestamptz, level integer, "to" jsonb, note jsonb, news jsonb
            )
            JOIN human_tasks t ON t.tenant_id = m.tenant_id AND t.id = m.task_id
           WHERE t.status = 'pending' AND t.next_action_at = m.seen
           ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
      ) l;
    IF v_moves IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE human_tasks t
       SET next_action_at = m.next_action_at, limit_at = m.limit_at, due_date = coalesce(m.due_date, t.due_date),
           escalation_level = m.level, history = t.history || m.note, updated_at = clock_timestamp(),
           assignees = t.assignees || coalesce(
               (SELECT jsonb_agg(a ORDER BY n) FROM jsonb_array_elements(m."to") WITH ORDINALITY AS e (a, n)
                 WHERE NOT t.assignees @> jsonb_build_array(a)), '[]')
      FROM jsonb_to_recordset(v_moves) AS m (
          tenant_id uuid, task_id uuid, next_action_at timestamptz, limit_at timestamptz, due_date timestamptz,
          level integer, "to" jsonb, note jsonb
      )
     WHERE t.tenant_id = m.tenant_id AND t.id = m.task_id;
    INSERT INTO human_task_assignees (tenant_id, task_id, kind, assignee)
    SELECT DISTINCT m.tenant_id, m.task_id, a ->> 'type', coalesce(a ->> 'id', a ->> 'name')
      FROM jsonb_to_recordset(v_moves) AS m (tenant_id uuid, task_id uuid, "to" jsonb)
     CROSS JOIN LATERAL jsonb_array_elements(m."to") a
     WHERE jsonb_typeof(m."to") = 'array'
    ON CONFLICT DO NOTHING;
    PERFORM gorax_tell_assignees(coalesce(
        (SELECT jsonb_agg(n)
           FROM jsonb_to_recordset(v_moves) AS m (news jsonb) CROSS JOIN LATERAL jsonb_array_elements(m.news) n),
        '[]'));
    RETURN jsonb_array_length(v_moves);
END
$function$;
