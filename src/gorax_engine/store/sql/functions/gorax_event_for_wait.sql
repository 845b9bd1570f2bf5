-- Which event may a wait have? The id of the oldest one, NULL if there is none.
--
-- It may have an event of its name and, if it names one, its key, that was kept when it opened or came later. Of what
-- other waits of its run got, it may have only what came after it opened, when it was as open as they. The two queries
-- differ in the key alone, so that each goes through an index in the order of publishing.
CREATE OR REPLACE FUNCTION gorax_event_for_wait(
    p_tenant uuid, p_name text, p_key text, p_run uuid, p_step uuid, p_opened timestamptz
) RETURNS uuid
LANGUAGE sql STABLE
AS $function$
    SELECT CASE WHEN p_key IS NULL THEN (
        SELECT e.id FROM events e
         WHERE e.tenant_id = p_tenant AND e.name = p_name AND e.expires_at > p_opened
           AND NOT EXISTS (
               SELECT FROM event_deliveries d
                WHERE d.event_id = e.id AND d.execution_id = p_run
                  AND (d.step_id = p_step OR p_opened > e.published_at))
         ORDER BY e.published_at, e.id LIMIT 1
    ) ELSE (
        SELECT e.id FROM events e
         WHERE e.tenant_id = p_tenant AND e.name = p_name AND e.correlation_key = p_key AND e.expires_at > p_opened
           AND NOT EXISTS (
               SELECT FROM event_deliveries d
                WHERE d.event_id = e.id AND d.execution_id = p_run
                  AND (d.step_id = p_step OR p_opened > e.published_at))
         ORDER BY e.published_at, e.id LIMIT 1
    ) END
$function$;
