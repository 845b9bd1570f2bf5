-- One person's decision, in the transaction of the API's request: p_status is approved or rejected.
--
-- The API's role may not touch runs, so this runs as the owner, and only for the tenant that the transaction is bound
-- to. No row: the tenant has no such task. Whether p_by may decide is the caller's to know.
CREATE OR REPLACE FUNCTION gorax_decide_task(
    p_tenant uuid, p_task uuid, p_status text, p_by uuid, p_response jsonb
) RETURNS TABLE (
    task_id uuid, decided boolean, status text, completed_by uuid, completed_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $function$
BEGIN
    IF p_tenant IS DISTINCT FROM NULLIF(current_setting('app.current_tenant_id', true), '')::uuid THEN
        RAISE EXCEPTION 'the transaction is bound to another tenant' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY SELECT * FROM gorax_end_tasks(jsonb_build_array(jsonb_build_object(
        'tenant_id', p_tenant, 'task_id', p_task, 'status', p_status, 'by', p_by, 'response', p_response)));
END
$function$;
REVOKE ALL ON FUNCTION gorax_decide_task FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gorax_decide_task TO gorax_app;
