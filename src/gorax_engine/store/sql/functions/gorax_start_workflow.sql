-- Starts a run within the caller's own transaction: it exists if, and only if, that transaction commits.
--
-- The tenant is the one that the session's user is mapped to in database_users; nothing that a session may set decides it.
-- The run is that of the published version of an active workflow of this name; its trigger data is {"body": input}. A
-- repeated key gives, for 30 days, the id of the first run, and raises with another workflow or input. While another
-- transaction holds the same key uncommitted, the call waits for its end.
--
-- SQLSTATEs: 42501 the user has no tenant, or it is suspended, or the user may create objects in public; P0002 no such
-- workflow; 55000 it has no published version or is not active; 23505 the key was used with another workflow or input;
-- 22023 an argument can't be; 54000 it is too large or too deep; 22003 a number in it has more than 64 digits; 53400 the
-- tenant's queue is full (see its quotas max_queued_executions and max_queue_age_seconds).
CREATE OR REPLACE FUNCTION gorax_start_workflow(
    workflow_name text, input jsonb DEFAULT '{}', idempotency_key text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    v_tenant uuid;
    v_workflow uuid;
    v_found record;
    v_refusal text;
BEGIN
    -- Whoever may create objects in public could put an operator or a function of its own before ours, and would act as
    -- the owner of this function. Servers that come from releases before 15 let everybody create there.
    IF session_user <> current_user AND has_schema_privilege(session_user, 'public', 'CREATE')
       AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user) THEN
        RAISE EXCEPTION 'the database user % may create objects in the schema public', session_user USING
            ERRCODE = 'insufficient_privilege',
            HINT = 'Run REVOKE CREATE ON SCHEMA public FROM PUBLIC as an administrator, and grant it to no such user.';
    END IF;
    SELECT u.tenant_id INTO v_tenant FROM database_users u WHERE u.role_name = session_user;
    IF v_tenant IS NULL THEN
        RAISE EXCEPTION 'the database user % starts workflows of no tenant', session_user USING
            ERRCODE = 'insufficient_privilege',
            HINT = format('Map it: gorax tenant map-user TENANT %s', session_user);
    END IF;
    IF workflow_name IS NULL OR length(workflow_name) > 255 THEN
        RAISE EXCEPTION 'workflow_name must be the name of a workflow' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF length(idempotency_key) NOT BETWEEN 1 AND 255 THEN
        RAISE EXCEPTION 'idempotency_key must have 1 to 255 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF pg_column_size(input) > 1048576 OR octet_length(input::text) > 1048576 THEN
        RAISE EXCEPTION 'input is larger than 1 MiB as JSON' USING ERRCODE = 'program_limit_exceeded',
            HINT = 'Keep the data in a table and give its key.';
    END IF;
    -- What no worker could read must not be accepted: the bounds are those of the API.
    IF jsonb_path_exists(input, 'strict $.**{64} ? (@.type() == "array" || @.type() == "object")') THEN
        RAISE EXCEPTION 'input is nested more than 64 levels deep' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF jsonb_path_exists(input, 'strict $.** ? (@.type() == "number" && (@ >= 1e64 || @ <= -1e64))') THEN
        RAISE EXCEPTION 'input has a number of more than 64 digits' USING ERRCODE = 'numeric_value_out_of_range',
            HINT = 'Give it as text.';
    END IF;

    SELECT w.id INTO v_workflow FROM workflows w
     WHERE w.tenant_id = v_tenant AND w.name = workflow_name AND w.status <> 'archived';
    -- A repeat starts nothing, and gets its answer however full the queue is.
    IF NOT EXISTS (
        SELECT FROM start_keys k
         WHERE k.tenant_id = v_tenant AND k.kind = 'sql' AND k.key = idempotency_key AND k.expires_at > now()
    ) THEN
        v_refusal := gorax_admission(v_tenant);
    END IF;
    IF v_refusal IS NOT NULL THEN
        RAISE EXCEPTION 'the tenant has too much queued (%)', v_refusal USING ERRCODE = 'configuration_limit_exceeded',
            HINT = 'Try again when some of it has run.';
    END IF;

    SELECT * INTO v_found FROM gorax_start_executions(
        NULL, 0, ARRAY[v_tenant], ARRAY[coalesce(v_workflow, '00000000-0000-0000-0000-000000000000')], ARRAY['sql'],
        ARRAY[jsonb_build_object('body', input)::text], ARRAY[NULL::text], ARRAY[1::smallint], ARRAY[NULL::uuid],
        ARRAY[CASE WHEN idempotency_key IS NOT NULL THEN 'sql' END], ARRAY[idempotency_key],
        ARRAY[sha256(convert_to(workflow_name || E'\n' || coalesce(input::text, ''), 'UTF8'))], ARRAY[2592000],
        ARRAY[NULL::uuid], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[NULL::text],
        ARRAY[NULL::bytea], ARRAY[NULL::inet], ARRAY[NULL::integer], ARRAY[NULL::text], true
    );
    CASE
        WHEN v_found.verdict IN ('started', 'duplicate') THEN
            RETURN v_found.execution_id;
        WHEN v_found.verdict = 'mismatch' THEN
            RAISE EXCEPTION 'the idempotency_key was used with another workflow or input'
                USING ERRCODE = 'unique_violation', HINT = 'Use a new key for a new run.';
        WHEN v_found.verdict = 'tenant_suspended' THEN
            RAISE EXCEPTION 'the tenant is suspended' USING ERRCODE = 'insufficient_privilege';
        WHEN v_found.verdict = 'workflow_not_found' THEN
            RAISE EXCEPTION 'there is no workflow named %', quote_literal(workflow_name) USING ERRCODE = 'no_data_found';
        ELSE
            RAISE EXCEPTION 'the workflow % can''t be started: %', quote_literal(workflow_name), v_found.verdict
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Publish and activate it.';
    END CASE;
END
$function$;

GRANT EXECUTE ON FUNCTION gorax_start_workflow(text, jsonb, text) TO PUBLIC;
