-- Asks for the end of runs: a mark that their owner, or who claims them next, acts on. One that is ending already is left.
-- Returns those that were asked now. The caller holds the locks of their queue rows.
CREATE OR REPLACE FUNCTION gorax_request_cancel(p_runs uuid[], p_reason text) RETURNS SETOF uuid
LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN QUERY
    UPDATE execution_queue q
       SET end_requested = jsonb_build_object('kind', 'cancel', 'reason', p_reason), paused = false,
           wake_seq = q.wake_seq + 1,
           due_at = CASE WHEN q.owner IS NULL THEN NULL ELSE q.due_at END,
           ready_at = CASE WHEN q.owner IS NULL THEN coalesce(q.ready_at, clock_timestamp()) ELSE q.ready_at END
     WHERE q.execution_id = ANY (p_runs) AND q.end_requested IS NULL
    RETURNING q.execution_id;
    PERFORM pg_notify('gorax_wake', ''), pg_notify('gorax_ready', '');
END
$function$;
