-- What few flushes have besides records: human tasks, children, and what was asked of runs. See gorax_flush for p_more.
--
-- Returns what became of the children, as JSON, or NULL: {step, verdict, execution_id, workflow_id, version, claimed,
-- started_us, vars}. A child that can't be started, and one that is not waited for, is told to its step by a signal.
-- The caller holds the locks of the queue rows.
CREATE OR REPLACE FUNCTION gorax_follow_up(p_worker uuid, p_room integer, p_more jsonb) RETURNS text
LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    v_children jsonb := p_more -> 'children';
    v_workflows uuid[];
    v_count integer := coalesce(jsonb_array_length(p_more -> 'children'), 0);
    v_told jsonb;
BEGIN
    IF p_more ? 'resolved' THEN
        DELETE FROM signals s
         WHERE s.step_id IN (SELECT x::uuid FROM jsonb_array_elements_text(p_more -> 'resolved') AS r (x));
    END IF;
    IF p_more ? 'folds' THEN
        INSERT INTO loop_progress (step_id, first, upto, execution_id, tenant_id, prefix, round, results)
        SELECT (f.x ->> 'step')::uuid, (f.x ->> 'first')::integer, (f.x ->> 'upto')::integer, (f.x ->> 'run')::uuid,
               (f.x ->> 'tenant')::uuid, f.x ->> 'prefix', (f.x ->> 'round')::integer, f.x -> 'results'
          FROM jsonb_array_elements(p_more -> 'folds') AS f (x)
        ON CONFLICT DO NOTHING;
        -- What loops inside of these iterations have folded is no longer needed.
        DELETE FROM loop_progress l
         USING jsonb_array_elements(p_more -> 'folds') AS f (x)
         WHERE l.execution_id = (f.x ->> 'run')::uuid AND l.prefix <> f.x ->> 'prefix'
           AND starts_with(l.prefix, f.x ->> 'prefix') AND l.round = (f.x ->> 'round')::integer
           AND gorax_loop_index(l.prefix, f.x ->> 'prefix') < (f.x ->> 'upto')::integer;
    END IF;
    IF p_more ? 'tasks' THEN
        PERFORM gorax_open_tasks(p_more -> 'tasks');
    END IF;
    IF p_more ? 'marks' THEN
        UPDATE execution_queue q SET end_requested = q.end_requested || jsonb_build_object('at', m.x -> 'at')
          FROM jsonb_array_elements(p_more -> 'marks') AS m (x)
         WHERE q.execution_id = (m.x ->> 'run')::uuid AND q.end_requested IS NOT NULL AND NOT q.end_requested ? 'at';
    END IF;
    IF p_more ? 'cancels' THEN
        PERFORM gorax_request_cancel(
            ARRAY(SELECT (c.x ->> 'run')::uuid FROM jsonb_array_elements(p_more -> 'cancels') AS c (x)),
            'The run that started it has let it go.'
        );
    END IF;
    IF v_count = 0 THEN
        RETURN NULL;
    END IF;

    -- By id, else by name. One that is not there becomes an id that no workflow has, and the verdict says so.
    SELECT array_agg(coalesce(
               (SELECT w.id FROM workflows w
                 WHERE w.tenant_id = (c.x ->> 'tenant')::uuid
                   AND w.id = CASE WHEN c.x ->> 'workflow' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                                   THEN (c.x ->> 'workflow')::uuid END),
               (SELECT w.id FROM workflows w
                 WHERE w.tenant_id = (c.x ->> 'tenant')::uuid AND w.name = c.x ->> 'workflow' AND w.status <> 'archived'
                 LIMIT 1),
               '00000000-0000-0000-0000-000000000000') ORDER BY c.ord)
      INTO v_workflows
      FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, ord);

    WITH started AS (
        SELECT s.*, v_children -> (s.ordinal - 1) AS child, v_workflows[s.ordinal] AS workflow
          FROM gorax_start_executions(
                   p_worker, p_room,
                   ARRAY(SELECT (c.x ->> 'tenant')::uuid FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, o) ORDER BY o),
                   v_workflows,
                   array_fill('sub_workflow'::text, ARRAY[v_count]),
                   ARRAY(SELECT (c.x -> 'input')::text FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, o) ORDER BY o),
                   array_fill(NULL::text, ARRAY[v_count]),
                   ARRAY(SELECT coalesce(e.priority, 1::smallint)
                           FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, o)
                           LEFT JOIN executions e ON e.id = (c.x ->> 'run')::uuid ORDER BY o),
                   ARRAY(SELECT e.started_by
                           FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, o)
                           LEFT JOIN executions e ON e.id = (c.x ->> 'run')::uuid ORDER BY o),
                   array_fill('child'::text, ARRAY[v_count]),
                   ARRAY(SELECT c.x ->> 'step' FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, o) ORDER BY o),
                   array_fill(NULL::bytea, ARRAY[v_count]),
                   array_fill(2592000, ARRAY[v_count]),
                   array_fill(NULL::uuid, ARRAY[v_count]),
                   array_fill(NULL::text, ARRAY[v_count]),
                   array_fill(NULL::text, ARRAY[v_count]),
                   array_fill(NULL::text, ARRAY[v_count]),
                   array_fill(NULL::text, ARRAY[v_count]),
                   array_fill(NULL::text, ARRAY[v_count]),
                   array_fill(NULL::bytea, ARRAY[v_count]),
                   array_fill(NULL::inet, ARRAY[v_count]),
                   array_fill(NULL::integer, ARRAY[v_count]),
                   array_fill(NULL::text, ARRAY[v_count]),
                   true,
                   (SELECT jsonb_agg(jsonb_build_object('parent', c.x -> 'run', 'parent_step', c.x -> 'step', 'depth', c.x -> 'depth') ORDER BY o)
                      FROM jsonb_array_elements(v_children) WITH ORDINALITY AS c (x, o))
               ) s
    ), linked AS (
        UPDATE waits w SET child_id = s.execution_id
          FROM started s WHERE w.step_id = (s.child ->> 'step')::uuid AND s.verdict IN ('started', 'duplicate')
    )
    SELECT jsonb_agg(jsonb_build_object(
               'step', s.child ->> 'step', 'verdict', s.verdict, 'execution_id', s.execution_id, 'workflow_id', s.workflow,
               'version', s.workflow_version, 'claimed', s.claimed, 'started_us', s.started_us, 'vars', s.vars,
               'is_sync', (s.child ->> 'is_sync')::boolean, 'workflow', s.child ->> 'workflow'))
      INTO v_told
      FROM started s;

    PERFORM gorax_signal(array_agg((t.x ->> 'step')::uuid), array_agg(CASE
        WHEN t.x ->> 'verdict' IN ('started', 'duplicate') THEN jsonb_build_object(
            'status', 'completed',
            'output', jsonb_build_object(
                'execution_id', t.x -> 'execution_id', 'workflow_id', t.x -> 'workflow_id', 'status', 'started'))
        ELSE jsonb_build_object('status', 'failed', 'error', jsonb_build_object(
            'code', t.x ->> 'verdict',
            'message', format('The workflow `%s` can''t be started: %s.', t.x ->> 'workflow',
                              replace(t.x ->> 'verdict', '_', ' '))))
        END::text))
      FROM jsonb_array_elements(v_told) AS t (x)
     WHERE NOT (t.x ->> 'is_sync')::boolean OR t.x ->> 'verdict' NOT IN ('started', 'duplicate')
    HAVING count(*) > 0;
    RETURN v_told::text;
END
$function$;
