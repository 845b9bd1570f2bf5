-- Signal: tells waits that what they waited for has come, and wakes their runs.
--
-- p_steps are the waits' step ids, p_resolutions what came, as JSON:
--   {"status": "completed", "output": ..., "outcome": "approved"}   or
--   {"status": "failed", "error": {"code": ..., "message": ..., "classification": "permanent", "details": {...}}}
-- The queue rows are locked first, in id order. The first signal of a wait wins. Returns the steps that were signalled
-- now: those of waits that were signalled before, or whose run has ended, are not among them.
-- A run that nobody owns becomes ready; an owner is told by wake_seq. The caller's commit rings, but not for p_worker,
-- which is the caller, and knows.
CREATE OR REPLACE FUNCTION gorax_signal(p_steps uuid[], p_resolutions text[], p_worker uuid DEFAULT NULL)
RETURNS SETOF uuid
LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    v_runs uuid[];
BEGIN
    v_runs := ARRAY(SELECT DISTINCT w.execution_id FROM waits w WHERE w.step_id = ANY (p_steps));
    SELECT array_agg(l.execution_id) INTO v_runs
      FROM (
          SELECT q.execution_id FROM execution_queue q
           WHERE q.execution_id = ANY (v_runs) ORDER BY q.execution_id FOR UPDATE
      ) l;
    IF v_runs IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH told AS (
        INSERT INTO signals (step_id, execution_id, tenant_id, resolution)
        SELECT w.step_id, w.execution_id, w.tenant_id, a.resolution::jsonb
          FROM unnest(p_steps, p_resolutions) AS a (step, resolution)
          JOIN waits w ON w.step_id = a.step
         WHERE w.execution_id = ANY (v_runs)
        ON CONFLICT ON CONSTRAINT signals_pkey DO NOTHING
        RETURNING step_id, execution_id
    ), woken AS (
        UPDATE execution_queue q
           SET wake_seq = q.wake_seq + 1,
               ready_at = CASE WHEN q.owner IS NULL THEN coalesce(q.ready_at, clock_timestamp()) ELSE q.ready_at END,
               due_at = CASE WHEN q.owner IS NULL THEN NULL ELSE q.due_at END
         WHERE q.execution_id IN (SELECT t.execution_id FROM told t)
        RETURNING q.owner
    )
    SELECT t.step_id FROM told t
     WHERE (SELECT count(CASE WHEN w.owner IS NULL THEN pg_notify('gorax_ready', '')::text
                              WHEN w.owner IS DISTINCT FROM p_worker THEN pg_notify('gorax_wake', '')::text
                         END) FROM woken w) >= 0;
END
$function$;
