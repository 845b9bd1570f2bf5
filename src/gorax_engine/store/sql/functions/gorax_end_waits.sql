-- Closes all that runs which have ended still wait for: their waits, what came for them, their
-- human tasks, and what their loops have folded.
-- The caller holds the locks of the queue rows.
CREATE OR REPLACE FUNCTION gorax_end_waits(p_runs uuid[]) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    v_tasks uuid[];
BEGIN
    WITH gone AS (
        DELETE FROM waits w WHERE w.execution_id = ANY (p_runs) RETURNING w.step_id, w.kind
    )
    SELECT array_agg(g.step_id) INTO v_tasks FROM gone g WHERE g.kind IN ('human_task', 'in_doubt');
    IF v_tasks IS NOT NULL THEN
        PERFORM gorax_close_tasks(v_tasks);
    END IF;
    DELETE FROM signals s WHERE s.execution_id = ANY (p_runs);
    DELETE FROM loop_progress l WHERE l.execution_id = ANY (p_runs);
END
$function$;
