-- Claim: hands up to p_limit ready runs to a worker, fairly between tenants, by priority within each.
--
-- Tenants with ready rows are found by a loose index scan, so the cost grows with tenants, not with the backlog. Each
-- tenant offers its first few rows; of all offers those win that leave their tenant with the least in flight. What is
-- in flight is counted from leased rows. A tenant with a limit is claimed under its own advisory lock, and counted
-- after the lock is held, so that two workers can't both take the last place; whoever misses the lock comes again.
-- With p_suspects only runs that lost two workers are claimed, for the caller to run alone; without it, none of them.
-- Every claim raises the row's token: the fence against all earlier owners.
CREATE OR REPLACE FUNCTION gorax_claim(p_worker uuid, p_limit integer, p_suspects boolean)
RETURNS TABLE (
    execution_id uuid,
    tenant_id uuid,
    token bigint,
    wake_seq bigint,
    end_requested text,
    recovered boolean,
    workflow_id uuid,
    workflow_version integer,
    trigger_type text,
    trigger_node text,
    trigger_data text,
    vars text,
    created_us bigint,
    started_us bigint,
    parent_execution_id uuid,
    parent_step_id uuid,
    depth integer,
    origin_id uuid
)
LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_tenants uuid[];
    v_limits integer[];
    v_ids uuid[];
BEGIN
    PERFORM 1 FROM workers w WHERE w.id = p_worker FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the worker''s lease is lost' USING ERRCODE = 'GX001';
    END IF;

    IF p_suspects THEN
        SELECT array_agg(s.execution_id) INTO v_ids
          FROM (
              SELECT q.execution_id FROM execution_queue q
               WHERE q.owner IS NULL AND q.ready_at IS NOT NULL AND NOT q.paused AND q.crashes >= 2 AND q.end_requested IS NULL
               ORDER BY q.ready_at LIMIT p_limit FOR UPDATE SKIP LOCKED
          ) s;
    ELSE
        WITH RECURSIVE ready AS (
            (SELECT q.tenant_id FROM execution_queue q
              WHERE q.owner IS NULL AND q.ready_at IS NOT NULL AND NOT q.paused ORDER BY q.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT q.tenant_id FROM execution_queue q
                     WHERE q.owner IS NULL AND q.ready_at IS NOT NULL AND NOT q.paused
                       AND q.tenant_id > r.tenant_id
                     ORDER BY q.tenant_id LIMIT 1)
              FROM ready r WHERE r.tenant_id IS NOT NULL
        )
        -- What is no whole number is no limit: one tenant's mistyped quota must not end the claims of all.
        SELECT array_agg(r.tenant_id), array_agg(CASE
                   WHEN t.quotas ->> 'max_concurrent_executions' ~ '^[0-9]{1,9}$'
                   THEN (t.quotas ->> 'max_concurrent_executions')::integer
                   ELSE -1
               END)
          INTO v_tenants, v_limits
          FROM ready r JOIN tenants t ON t.id = r.tenant_id
         WHERE t.status = 'active';
        IF v_tenants IS NULL THEN
            RETURN;
        END IF;

        IF (SELECT max(l) FROM unnest(v_limits) AS l) >= 0 THEN
            SELECT array_agg(a.tenant), array_agg(a.most) INTO v_tenants, v_limits
              FROM unnest(v_tenants, v_limits) AS a (tenant, most)
             WHERE a.most < 0 OR pg_try_advisory_xact_lock(720001, hashtext(a.tenant::text));
            IF v_tenants IS NULL THEN
                RETURN;
            END IF;
        END IF;

        WITH in_flight AS MATERIALIZED (
            SELECT q.tenant_id, count(*) AS busy FROM execution_queue q WHERE q.owner IS NOT NULL GROUP BY q.tenant_id
        ), tenant AS MATERIALIZED (
            SELECT a.tenant, coalesce(f.busy, 0) AS busy,
                   least(
                       greatest(p_limit / cardinality(v_tenants), 4),
                       CASE WHEN a.most < 0 THEN p_limit ELSE greatest(a.most - coalesce(f.busy, 0), 0) END
                   ) AS most
              FROM unnest(v_tenants, v_limits) AS a (tenant, most)
              LEFT JOIN in_flight f ON f.tenant_id = a.tenant
        ), offer AS MATERIALIZED (
            SELECT o.execution_id, t.busy + row_number() OVER (PARTITION BY t.tenant ORDER BY o.priority DESC, o.ready_at) AS place
              FROM tenant t
             CROSS JOIN LATERAL (
                 SELECT q.execution_id, q.priority, q.ready_at
                   FROM execution_queue q
                  WHERE q.tenant_id = t.tenant AND q.owner IS NULL AND q.ready_at IS NOT NULL AND NOT q.paused
                    AND (q.crashes < 2 OR q.end_requested IS NOT NULL)
                  ORDER BY q.priority DESC, q.ready_at, q.execution_id
                  LIMIT t.most
                    FOR UPDATE SKIP LOCKED
             ) o
        )
        SELECT array_agg(c.execution_id) INTO v_ids
          FROM (SELECT o.execution_id FROM offer o ORDER BY o.place, o.execution_id LIMIT p_limit) c;
    END IF;
    IF v_ids IS NULL THEN
        RETURN;
    END IF;

    UPDATE execution_queue q SET owner = p_worker, token = q.token + 1, due_at = NULL
     WHERE q.execution_id = ANY (v_ids);
    -- A run that was committed while this claim was under way may be younger than the claim.
    -- By id alone: a condition on the status would tempt a planner with old statistics to walk all that is pending.
    UPDATE executions e
       SET status = 'running', started_at = coalesce(e.started_at, greatest(v_now, e.created_at)), waiting_for = NULL
     WHERE e.id = ANY (v_ids) AND (e.started_at IS NULL OR e.waiting_for IS NOT NULL);

    RETURN QUERY
    SELECT q.execution_id, q.tenant_id, q.token, q.wake_seq, q.end_requested::text, q.token > 1,
           e.workflow_id, e.workflow_version, e.trigger_type::text, e.trigger_node::text, e.trigger_data::text,
           e.vars::text, (extract(epoch FROM e.created_at) * 1000000)::bigint,
           (extract(epoch FROM e.started_at) * 1000000)::bigint,
           e.parent_execution_id, e.parent_step_id, e.execution_depth, e.origin_id
      FROM execution_queue q JOIN executions e ON e.id = q.execution_id
     WHERE q.execution_id = ANY (v_ids) AND e.id = ANY (v_ids);
END
$function$;
