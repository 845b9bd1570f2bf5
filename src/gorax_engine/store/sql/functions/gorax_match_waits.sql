-- Match waits: looks through the kept events for committed waits, and gives each the oldest that it may have.
--
-- Returns how many got one. Locked rows of waits are left unmarked for the sweep: nobody is waited for while locks are
-- held out of their order.
CREATE OR REPLACE FUNCTION gorax_match_waits(p_steps uuid[]) RETURNS integer
LANGUAGE plpgsql
AS $function$
DECLARE
    v_steps uuid[];
    v_given integer := 0;
BEGIN
    SELECT array_agg(w.step_id) INTO v_steps
      FROM waits w
     WHERE w.step_id = ANY (p_steps) AND w.kind = 'event'
       AND NOT EXISTS (SELECT FROM signals s WHERE s.step_id = w.step_id)
       AND gorax_event_for_wait(
               w.tenant_id, w.event_name, w.correlation_key, w.execution_id, w.step_id, w.created_at) IS NOT NULL;
    IF v_steps IS NULL THEN
        -- If this is lost in a crash, somebody looks in vain once more.
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSE
        v_given := gorax_deliver_events(v_steps);
    END IF;
    UPDATE waits w SET event_sought = true
     WHERE w.step_id IN (
         SELECT l.step_id FROM waits l
          WHERE l.step_id = ANY (p_steps) AND l.kind = 'event' AND NOT l.event_sought
          FOR UPDATE SKIP LOCKED);
    RETURN v_given;
END
$function$;
