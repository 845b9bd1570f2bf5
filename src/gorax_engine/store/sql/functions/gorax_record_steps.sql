-- Writes attempts of steps. An attempt that ends replaces its own row of when it began (and keeps its start, where the
-- end doesn't know it: timers, cancels); one that has ended stays as it is.
-- Times are microseconds since the epoch. The caller holds the locks of the executions' queue rows.
CREATE OR REPLACE FUNCTION gorax_record_steps(
    s_id uuid[],
    s_execution uuid[],
    s_tenant uuid[],
    s_node text[],
    s_type text[],
    s_status text[],
    s_input text[],
    s_output text[],
    s_outcome text[],
    s_error text[],
    s_code text[],
    s_retry integer[],
    s_path text[],
    s_round integer[],
    s_started bigint[],
    s_completed bigint[]
) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO step_executions AS s (
        id, execution_id, tenant_id, node_id, node_type, status, input_data, output_data, outcome, error_message,
        error_code, retry_count, iteration_path, round, started_at, completed_at, duration_ms
    )
    SELECT a.id, a.execution, a.tenant, a.node, a.type, a.status, a.input::jsonb, a.output::jsonb, a.outcome, a.error,
           a.code, a.retry, a.path, a.round,
           timestamptz 'epoch' + a.started * interval '1 microsecond',
           timestamptz 'epoch' + a.completed * interval '1 microsecond',
           (a.completed - a.started) / 1000
      FROM unnest(s_id, s_execution, s_tenant, s_node, s_type, s_status, s_input, s_output, s_outcome, s_error, s_code,
                  s_retry, s_path, s_round, s_started, s_completed)
           AS a (id, execution, tenant, node, type, status, input, output, outcome, error, code, retry, path, round,
                 started, completed)
    ON CONFLICT (id) DO UPDATE
       SET status = excluded.status, output_data = excluded.output_data, outcome = excluded.outcome,
           error_message = excluded.error_message, error_code = excluded.error_code,
           started_at = coalesce(excluded.started_at, s.started_at), completed_at = excluded.completed_at,
           duration_ms = trunc(extract(
               epoch FROM excluded.completed_at - coalesce(excluded.started_at, s.started_at)
           ) * 1000)
     WHERE s.status IN ('pending', 'running');
END
$function$;
