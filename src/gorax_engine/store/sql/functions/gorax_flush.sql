-- Flush: records what a worker's executions have to say, in one transaction, behind the fence.
--
-- The fence: the worker's own row must still exist (taken FOR KEY SHARE: heartbeats go on, a rescuer waits), else the
-- whole flush fails with GX001. Every execution's queue row must still carry the worker and the token of its claim;
-- if some don't, nothing is written and their ids come back as stale: the caller drops those and sends the rest again.
-- Queue rows are locked first and in id order, as every transaction does that changes an execution.
--
-- Steps come as columns of text, their values separated by U+001F (see gorax_record_steps).
--
-- Idempotent: step ids are derived from what they record, so a flush that is sent again after an unknown commit writes
-- the same rows; an ended or parked execution of it comes back as stale. Times are microseconds since the epoch.
--
-- p_more is what few flushes have, an object of lists, or NULL:
--   folds      what iterations of loops gave, recorded together: {run, tenant, step, first, upto, prefix, round, results}
--   tasks      human tasks to open, see gorax_open_tasks
--   children   runs to start for steps that are among the waits: {step, run, tenant, workflow (id or name), input, depth,
--              is_sync}; p_room of them may be claimed for the worker at once
--   cancels    children to be cancelled: {run}
--   resolved   steps whose wait ended by a signal, which is now spent
--   tells      waits of parents to be signalled of the end of their child: {run, step, resolution}
--   marks      what was asked of a run is now being done: {run, at}
-- Queue rows of parents and children are locked together with the runs' own.
--
-- A park succeeds only while wake_seq is what the worker last saw; those that were woken come back in not_parked.
CREATE OR REPLACE FUNCTION gorax_flush(
    p_worker uuid,
    p_ids uuid[],
    p_tenants uuid[],
    p_tokens bigint[],
    s_count integer,
    s_id text,
    s_run text,
    s_node text,
    s_type text,
    s_status text,
    s_input text,
    s_output text,
    s_more text,
    s_started text,
    s_completed text,
    w_step uuid[],
    w_execution uuid[],
    w_tenant uuid[],
    w_node text[],
    w_path text[],
    w_round integer[],
    w_attempt integer[],
    w_kind text[],
    w_due bigint[],
    w_output text[],
    w_event text[],
    w_key text[],
    w_detail text[],
    w_closed uuid[],
    e_id uuid[],
    e_status text[],
    e_output text[],
    e_error text[],
    e_code text[],
    e_completed bigint[],
    e_waited uuid[],
    k_id uuid[],
    k_due bigint[],
    k_wake_seq bigint[],
    k_waiting_for text[],
    d_id uuid[],
    d_at bigint[],
    o_tenant uuid[],
    o_kind text[],
    o_payload text[],
    p_more jsonb,
    p_room integer,
    OUT stale uuid[],
    OUT not_parked uuid[],
    OUT children text
)
LANGUAGE plpgsql
AS $function$
DECLARE
    v_live uuid[];
    v_crashed boolean;
    v_tasks uuid[];
    v_runs uuid[];
BEGIN
    PERFORM 1 FROM workers w WHERE w.id = p_worker FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the worker''s lease is lost' USING ERRCODE = 'GX001';
    END IF;

    IF p_more IS NOT NULL THEN
        v_runs := p_ids || ARRAY(
            SELECT (c.x ->> 'run')::uuid FROM jsonb_array_elements(p_more -> 'cancels') AS c (x)
            UNION ALL SELECT (t.x ->> 'run')::uuid FROM jsonb_array_elements(p_more -> 'tells') AS t (x));
        PERFORM 1 FROM execution_queue q WHERE q.execution_id = ANY (v_runs) ORDER BY q.execution_id FOR UPDATE;
    END IF;
    SELECT array_agg(l.id), bool_or(l.crashes > 0) INTO v_live, v_crashed
      FROM (
          SELECT q.execution_id AS id, q.crashes
            FROM execution_queue q
            JOIN unnest(p_ids, p_tokens) AS a (id, token) ON q.execution_id = a.id
           WHERE q.owner = p_worker AND q.token = a.token
           ORDER BY q.execution_id
             FOR UPDATE OF q
      ) l;
    IF coalesce(cardinality(v_live), 0) < cardinality(p_ids) THEN
        stale := ARRAY(SELECT a FROM unnest(p_ids) AS a WHERE a <> ALL (coalesce(v_live, '{}')));
        RETURN;
    END IF;

    IF s_count > 0 THEN
        PERFORM gorax_record_steps(
            p_ids, p_tenants, s_id, s_run, s_node, s_type, s_status, s_input, s_output, s_more, s_started, s_completed
        );
        IF v_crashed THEN
            -- Progress is an attempt that ended: the start of the step that kills its workers must not clear the count.
            UPDATE execution_queue q SET crashes = 0
             WHERE q.crashes > 0 AND (q.end_requested IS NULL OR q.end_requested ->> 'kind' <> 'worker_lost')
               AND q.execution_id IN (
                   SELECT p_ids[a.run::integer]
                     FROM unnest(string_to_array(s_run, E'\x1f'), string_to_array(s_status, E'\x1f')) AS a (run, status)
                    WHERE a.status <> 'running'
               );
        END IF;
    END IF;

    IF cardinality(w_closed) > 0 THEN
        WITH gone AS (
            DELETE FROM waits w WHERE w.step_id = ANY (w_closed) RETURNING w.step_id, w.kind
        )
        SELECT array_agg(g.step_id) INTO v_tasks FROM gone g WHERE g.kind IN ('human_task', 'in_doubt');
        IF v_tasks IS NOT NULL THEN
            PERFORM gorax_close_tasks(v_tasks);
        END IF;
    END IF;
    IF cardinality(w_step) > 0 THEN
        INSERT INTO waits (
            step_id, tenant_id, execution_id, node_id, iteration_path, round, attempt, kind, due_at, output, event_name,
            correlation_key, detail
        )
        SELECT a.step, a.tenant, a.execution, a.node, a.path, a.round, a.attempt, a.kind,
               timestamptz 'epoch' + a.due * interval '1 microsecond', a.output::jsonb, a.event,
               a.key, a.detail::jsonb
          FROM unnest(w_step, w_tenant, w_execution, w_node, w_path, w_round, w_attempt, w_kind, w_due, w_output, w_event,
                      w_key, w_detail)
               AS a (step, tenant, execution, node, path, round, attempt, kind, due, output, event, key, detail)
        ON CONFLICT (step_id) DO NOTHING;
    END IF;

    IF p_more IS NOT NULL THEN
        children := gorax_follow_up(p_worker, p_room, p_more);
    END IF;

    IF cardinality(d_id) > 0 THEN
        UPDATE execution_queue q SET deadline_at = timestamptz 'epoch' + a.at * interval '1 microsecond'
          FROM unnest(d_id, d_at) AS a (id, at) WHERE q.execution_id = a.id;
    END IF;

    IF cardinality(e_id) > 0 THEN
        PERFORM gorax_record_ends(e_id, e_status, e_output, e_error, e_code, e_completed);
        IF cardinality(e_waited) > 0 THEN
            PERFORM gorax_end_waits(e_waited);
        END IF;
    END IF;

    IF p_more ? 'tells' THEN
        PERFORM gorax_signal(
            ARRAY(SELECT (t.x ->> 'step')::uuid FROM jsonb_array_elements(p_more -> 'tells') AS t (x)),
            ARRAY(SELECT t.x ->> 'resolution' FROM jsonb_array_elements(p_more -> 'tells') AS t (x)),
            p_worker
        );
    END IF;

    IF cardinality(o_tenant) > 0 THEN
        INSERT INTO outbox (tenant_id, kind, payload)
        SELECT a.tenant, a.kind, a.payload::jsonb FROM unnest(o_tenant, o_kind, o_payload) AS a (tenant, kind, payload);
    END IF;

    IF cardinality(k_id) > 0 THEN
        WITH parked AS (
            UPDATE execution_queue q
               SET owner = NULL, ready_at = NULL, due_at = timestamptz 'epoch' + a.due * interval '1 microsecond'
              FROM unnest(k_id, k_due, k_wake_seq) AS a (id, due, wake_seq)
             WHERE q.execution_id = a.id AND q.wake_seq = a.wake_seq
            RETURNING q.execution_id
        ), told AS (
            UPDATE executions e SET waiting_for = a.waiting_for
              FROM unnest(k_id, k_waiting_for) AS a (id, waiting_for)
             WHERE e.id = a.id AND a.id IN (SELECT p.execution_id FROM parked p)
        )
        SELECT array_agg(a) INTO not_parked FROM unnest(k_id) AS a WHERE a NOT IN (SELECT p.execution_id FROM parked p);
    END IF;
END
$function$;
