-- Ends runs: the final state, and the queue row gone. Terminal is final: a run that has ended is left as it is.
-- Times are microseconds since the epoch. The caller holds the locks of the queue rows.
CREATE OR REPLACE FUNCTION gorax_record_ends(
    e_id uuid[],
    e_status text[],
    e_output text[],
    e_error text[],
    e_code text[],
    e_completed bigint[]
) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    UPDATE executions e
       SET status = a.status, output_data = a.output::jsonb, error_message = a.error, error_code = a.code,
           waiting_for = NULL, completed_at = timestamptz 'epoch' + a.completed * interval '1 microsecond'
      FROM unnest(e_id, e_status, e_output, e_error, e_code, e_completed)
           AS a (id, status, output, error, code, completed)
     -- By the id alone, see gorax_claim; completed_at is set exactly for what is terminal.
     WHERE e.id = a.id AND e.completed_at IS NULL;
    DELETE FROM execution_queue q WHERE q.execution_id = ANY (e_id);
END
$function$;
