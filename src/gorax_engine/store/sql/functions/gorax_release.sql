-- Release: gives back everything a draining worker still holds, and signs it off. Nothing is counted as a crash.
--
-- The worker's row goes first, which waits for claims and starts that are made in its name right now. What they have
-- claimed is seen only by a statement that begins after them: it must not be left with an owner that nobody rescues.
CREATE OR REPLACE FUNCTION gorax_release(p_worker uuid)
RETURNS integer
LANGUAGE plpgsql
AS $function$
DECLARE
    v_freed integer;
BEGIN
    DELETE FROM workers w WHERE w.id = p_worker;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM execution_queue q WHERE q.owner = p_worker ORDER BY q.execution_id FOR UPDATE;
    UPDATE execution_queue q
       SET owner = NULL, ready_at = coalesce(q.ready_at, clock_timestamp()), due_at = NULL
     WHERE q.owner = p_worker;
    GET DIAGNOSTICS v_freed = ROW_COUNT;
    PERFORM pg_notify('gorax_ready', '');
    RETURN v_freed;
END
$function$;
