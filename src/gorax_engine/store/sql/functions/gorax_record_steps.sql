-- Writes attempts of steps. An attempt that ends replaces its own row of when it began; one that has ended stays as it is.
--
-- Each column is one text, its values separated by U+001F, the ASCII unit separator, which JSON can't hold unescaped; an
-- empty value is NULL. For the driver and for Postgres that is several times cheaper than arrays. s_run is the place of
-- the execution in p_ids (from 1). s_more is JSON of what few attempts have: outcome, error, code, retry, path, round.
-- Times are microseconds since the epoch. The caller holds the locks of the executions' queue rows.
CREATE OR REPLACE FUNCTION gorax_record_steps(
    p_ids uuid[],
    p_tenants uuid[],
    s_id text,
    s_run text,
    s_node text,
    s_type text,
    s_status text,
    s_input text,
    s_output text,
    s_more text,
    s_started text,
    s_completed text
) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    INSERT INTO step_executions AS s (
        id, execution_id, tenant_id, node_id, node_type, status, input_data, output_data, outcome, error_message,
        error_code, retry_count, iteration_path, round, started_at, completed_at, duration_ms
    )
    SELECT a.id, p_ids[a.run], p_tenants[a.run], a.node, a.type, a.status, a.input::jsonb, a.output::jsonb,
           a.more ->> 'outcome', a.more ->> 'error', a.more ->> 'code', coalesce((a.more ->> 'retry')::integer, 0),
           coalesce(a.more ->> 'path', ''), coalesce((a.more ->> 'round')::integer, 0),
           timestamptz 'epoch' + a.started * interval '1 microsecond',
           timestamptz 'epoch' + a.completed * interval '1 microsecond',
           (a.completed - a.started) / 1000
      FROM unnest(
               string_to_array(s_id, E'\x1f')::uuid[],
               string_to_array(s_run, E'\x1f')::integer[],
               string_to_array(s_node, E'\x1f'),
               string_to_array(s_type, E'\x1f'),
               string_to_array(s_status, E'\x1f'),
               string_to_array(s_input, E'\x1f', ''),
               string_to_array(s_output, E'\x1f', ''),
               string_to_array(s_more, E'\x1f', '')::jsonb[],
               string_to_array(s_started, E'\x1f', '')::bigint[],
               string_to_array(s_completed, E'\x1f', '')::bigint[]
           ) AS a (id, run, node, type, status, input, output, more, started, completed)
    ON CONFLICT (id) DO UPDATE
       SET status = excluded.status, output_data = excluded.output_data, outcome = excluded.outcome,
           error_message = excluded.error_message, error_code = excluded.error_code,
           started_at = coalesce(excluded.started_at, s.started_at),
           -- A cancel is timed by Postgres, a start by a worker, whose view of the time may be a little ahead.
           completed_at = CASE
               WHEN excluded.completed_at < s.started_at AND excluded.started_at IS NULL THEN s.started_at
               ELSE excluded.completed_at
           END,
           duration_ms = coalesce(
               excluded.duration_ms, greatest(extract(epoch FROM excluded.completed_at - s.started_at) * 1000, 0)::bigint
           )
     WHERE s.status IN ('pending', 'running');
END
$function$;
