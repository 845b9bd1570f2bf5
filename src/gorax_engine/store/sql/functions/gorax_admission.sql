-- Whether a tenant may queue more: NULL, or which limit is reached: max_queued_executions | max_queue_age_seconds.
--
-- What is queued is what is ready and not claimed; it is counted only as far as the limit. The limits are the tenant's
-- quotas (-1: none), or else the operator's, which are given (0: none).
CREATE OR REPLACE FUNCTION gorax_admission(
    p_tenant uuid, p_max_depth integer DEFAULT 0, p_max_age integer DEFAULT 0
) RETURNS text
LANGUAGE plpgsql STABLE
AS $function$
DECLARE
    v_depth integer;
    v_age integer;
BEGIN
    SELECT CASE WHEN t.quotas ->> 'max_queued_executions' = '-1' THEN NULL
                WHEN t.quotas ->> 'max_queued_executions' ~ '^[0-9]{1,9}$'
                THEN (t.quotas ->> 'max_queued_executions')::integer ELSE nullif(p_max_depth, 0) END,
           CASE WHEN t.quotas ->> 'max_queue_age_seconds' = '-1' THEN NULL
                WHEN t.quotas ->> 'max_queue_age_seconds' ~ '^[0-9]{1,9}$'
                THEN (t.quotas ->> 'max_queue_age_seconds')::integer ELSE nullif(p_max_age, 0) END
      INTO v_depth, v_age
      FROM tenants t WHERE t.id = p_tenant;
    IF v_depth IS NOT NULL AND (
        SELECT count(*) FROM (
            SELECT 1 FROM execution_queue q
             WHERE q.tenant_id = p_tenant AND q.owner IS NULL AND q.ready_at IS NOT NULL AND NOT q.paused
             LIMIT v_depth
        ) c
    ) >= v_depth THEN
        RETURN 'max_queued_executions';
    END IF;
    IF v_age IS NOT NULL AND EXISTS (
        SELECT 1 FROM execution_queue q
         WHERE q.tenant_id = p_tenant AND q.owner IS NULL AND NOT q.paused
           AND q.ready_at < clock_timestamp() - make_interval(secs => v_age)
    ) THEN
        RETURN 'max_queue_age_seconds';
    END IF;
    RETURN NULL;
END
$function$;
