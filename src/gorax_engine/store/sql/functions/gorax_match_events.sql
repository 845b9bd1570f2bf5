-- Match events: finds the open waits for committed events, and gives up to p_limit of them an event.
--
-- Returns whether no wait is left without; else call it again. A wait gets the oldest event that it may have, which
-- need not be one of these: if an older one was left over, that comes first.
CREATE OR REPLACE FUNCTION gorax_match_events(p_events uuid[], p_limit integer) RETURNS boolean
LANGUAGE plpgsql
AS $function$
DECLARE
    v_found integer;
    v_steps uuid[];
BEGIN
    -- Waits without a key and those with the event's key: two queries, so that each has its index.
    SELECT count(*), array_agg(DISTINCT c.step_id) INTO v_found, v_steps
      FROM (
          SELECT f.step_id
            FROM (
                SELECT w.step_id, w.execution_id, w.created_at, e.id AS event_id, e.published_at
                  FROM events e
                  JOIN waits w ON w.tenant_id = e.tenant_id AND w.event_name = e.name AND w.correlation_key IS NULL
                 WHERE e.id = ANY (p_events) AND w.kind = 'event' AND e.expires_at > w.created_at
                UNION ALL
                SELECT w.step_id, w.execution_id, w.created_at, e.id AS event_id, e.published_at
                  FROM events e
                  JOIN waits w ON w.tenant_id = e.tenant_id AND w.event_name = e.name
                              AND w.correlation_key = e.correlation_key
                 WHERE e.id = ANY (p_events) AND w.kind = 'event' AND e.expires_at > w.created_at
            ) f
           WHERE NOT EXISTS (SELECT FROM signals s WHERE s.step_id = f.step_id)
             AND NOT EXISTS (
                 SELECT FROM event_deliveries d
                  WHERE d.event_id = f.event_id AND d.execution_id = f.execution_id
                    AND (d.step_id = f.step_id OR f.created_at > f.published_at))
           LIMIT p_limit
      ) c;
    IF v_steps IS NULL THEN
        -- If this is lost in a crash, somebody looks in vain once more.
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF gorax_deliver_events(v_steps) > 0 AND v_found >= p_limit THEN
        RETURN false;
    ELSIF v_found >= p_limit THEN
        RETURN true; -- all of them are about to get theirs from somebody else; the sweep looks for those that are left
    END IF;
    UPDATE events e SET matched = true
     WHERE e.id IN (SELECT l.id FROM events l WHERE l.id = ANY (p_events) AND NOT l.matched FOR UPDATE SKIP LOCKED);
    RETURN true;
END
$function$;
