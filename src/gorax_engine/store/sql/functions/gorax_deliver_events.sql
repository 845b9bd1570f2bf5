-- Deliver: gives waits the events that they wait for. p_steps are the waits' step ids; returns how many got one.
--
-- An event reaches every open wait of its name (and of its key, if the wait names one). A wait gets one event: the
-- oldest that it may have (gorax_event_for_wait).
--
-- Publishers commit the event, then call gorax_match_events; workers commit the wait, then call gorax_match_waits.
-- Whoever commits last sees both sides, so no pair is missed; a sweep calls both for what a death left undone. All of
-- them end here, and here the queue rows of the runs are held while it is decided who gets what: two at once can't give
-- one wait two events, nor one event twice to a run that may have it once.
--
-- The queue rows are locked first, all of them: call it once in a transaction, before anything is written.
CREATE OR REPLACE FUNCTION gorax_deliver_events(p_steps uuid[]) RETURNS integer
LANGUAGE plpgsql
AS $function$
DECLARE
    v_steps uuid[];
    v_events uuid[];
    v_resolutions text[];
    v_round integer;
    v_given integer := 0;
BEGIN
    PERFORM 1 FROM execution_queue q
      WHERE q.execution_id IN (SELECT w.execution_id FROM waits w WHERE w.step_id = ANY (p_steps))
      ORDER BY q.execution_id FOR UPDATE;
    LOOP
        -- Two waits of a run that opened after an event must not both take it: the one that opened first does, and the
        -- other one looks again in the next round.
        SELECT array_agg(c.step_id), array_agg(c.event_id), array_agg(c.resolution)
          INTO v_steps, v_events, v_resolutions
          FROM (
              SELECT w.step_id, e.id AS event_id, w.created_at > e.published_at AS late,
                     row_number() OVER (
                         PARTITION BY w.execution_id, e.id
                         ORDER BY w.created_at > e.published_at, w.created_at, w.step_id
                     ) AS turn,
                     jsonb_build_object('status', 'completed', 'output', jsonb_build_object(
                         'id', e.id, 'name', e.name, 'correlation_key', e.correlation_key, 'body', e.payload,
                         'published_at', to_char(e.published_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                     ))::text AS resolution
                FROM waits w
                JOIN events e ON e.id = gorax_event_for_wait(
                         w.tenant_id, w.event_name, w.correlation_key, w.execution_id, w.step_id, w.created_at)
               WHERE w.step_id = ANY (p_steps) AND w.kind = 'event'
                 AND NOT EXISTS (SELECT FROM signals s WHERE s.step_id = w.step_id)
          ) c
         WHERE c.turn = 1 OR NOT c.late;
        EXIT WHEN v_steps IS NULL;
        WITH told AS (
            INSERT INTO event_deliveries (event_id, execution_id, step_id, tenant_id)
            SELECT a.event_id, w.execution_id, w.step_id, w.tenant_id
              FROM gorax_signal(v_steps, v_resolutions) AS g (step_id)
              JOIN unnest(v_steps, v_events) AS a (step_id, event_id) ON a.step_id = g.step_id
              JOIN waits w ON w.step_id = g.step_id
            RETURNING 1
        )
        SELECT count(*) INTO v_round FROM told;
        v_given := v_given + v_round;
        EXIT WHEN v_round = 0 OR v_given = cardinality(p_steps);
    END LOOP;
    RETURN v_given;
END
$function$;
