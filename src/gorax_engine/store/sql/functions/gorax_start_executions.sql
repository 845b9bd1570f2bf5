-- Accept: writes a group of starts, of any tenants, in one transaction: start keys, executions, queue rows, deliveries.
--
-- One call serves all requests that arrived together; the caller's commit makes them all durable. State is judged here,
-- at the last moment: the workflow must be active and published, its tenant active, the webhook enabled. With p_worker,
-- up to p_room of the new runs are claimed for that worker in the same breath, if nothing of their tenant is queued
-- before them and the tenant has no concurrency limit (limited tenants are claimed by gorax_claim alone).
--
-- p_links, for starts that follow from other runs, has an object for each start: parent, parent_step, depth (a child);
-- retry_of, origin, version, id, resumes (a retry or replay; one that resumes finds its steps recorded, and is rebuilt
-- by whoever claims it); schedule (an occurrence); source_event (the replay of a delivery).
--
-- A delivery with a p_refusals, {status, reason, response}, starts nothing: only its row in webhook_events is written.
-- p_elapsed is how long a delivery has taken so far, in milliseconds.
--
-- Returns one row for each start, by its ordinal: verdict started | duplicate | mismatch | workflow_not_found |
-- workflow_archived | webhook_not_found | not_published | workflow_inactive | tenant_suspended | refused. For a duplicate,
-- execution_id and event_id are those of the first.
CREATE OR REPLACE FUNCTION gorax_start_executions(
    p_worker uuid,
    p_room integer,
    p_tenants uuid[],
    p_workflows uuid[],
    p_trigger_types text[],
    p_trigger_data text[],
    p_trigger_nodes text[],
    p_priorities smallint[],
    p_started_by uuid[],
    p_key_kinds text[],
    p_keys text[],
    p_body_hashes bytea[],
    p_key_ttls integer[],
    p_webhooks uuid[],
    p_methods text[],
    p_paths text[],
    p_queries text[],
    p_headers text[],
    p_bodies text[],
    p_raw_bodies bytea[],
    p_addresses inet[],
    p_elapsed integer[],
    p_refusals text[],
    p_ring boolean,
    p_links jsonb DEFAULT NULL
) RETURNS TABLE (
    ordinal integer,
    verdict text,
    execution_id uuid,
    event_id uuid,
    claimed boolean,
    workflow_version integer,
    started_us bigint,
    vars text,
    status text
)
LANGUAGE plpgsql
AS $function$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
    v_ids uuid[];
    v_events uuid[];
    v_verdicts text[];
    v_versions integer[];
    v_limited boolean[];
    v_vars text[];
    v_claimed boolean[];
    v_room integer := p_room;
BEGIN
    IF p_worker IS NOT NULL THEN
        PERFORM 1 FROM workers w WHERE w.id = p_worker FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the worker''s lease is lost' USING ERRCODE = 'GX001';
        END IF;
    END IF;

    SELECT array_agg(coalesce((p_links -> (a.ord::integer - 1) ->> 'id')::uuid, gorax_uuid7()) ORDER BY a.ord),
           array_agg(CASE WHEN a.webhook IS NOT NULL THEN gorax_uuid7() END ORDER BY a.ord),
           array_agg(CASE
               WHEN a.refusal IS NOT NULL THEN 'refused'
               WHEN w.id IS NULL THEN 'workflow_not_found'
               WHEN w.status = 'archived' THEN 'workflow_archived'
               WHEN t.status <> 'active' THEN 'tenant_suspended'
               WHEN a.webhook IS NOT NULL AND (h.id IS NULL OR NOT h.enabled) THEN 'webhook_not_found'
               WHEN w.published_version IS NULL THEN 'not_published'
               WHEN w.status <> 'active' THEN 'workflow_inactive'
               ELSE 'started'
           END ORDER BY a.ord),
           array_agg(coalesce((p_links -> (a.ord::integer - 1) ->> 'version')::integer, w.published_version) ORDER BY a.ord),
           array_agg(coalesce(t.quotas ->> 'max_concurrent_executions' ~ '^[0-9]{1,9}$', false) ORDER BY a.ord),
           array_agg((t.settings -> 'vars')::text ORDER BY a.ord)
      INTO v_ids, v_events, v_verdicts, v_versions, v_limited, v_vars
      FROM unnest(p_tenants, p_workflows, p_webhooks, p_refusals)
           WITH ORDINALITY AS a (tenant, workflow, webhook, refusal, ord)
      LEFT JOIN workflows w ON w.id = a.workflow AND w.tenant_id = a.tenant
      LEFT JOIN tenants t ON t.id = a.tenant
      LEFT JOIN webhooks h ON h.id = a.webhook AND h.tenant_id = a.tenant;

    -- The key decides who is first: a concurrent holder of the same key is waited for here. In key order, so that two
    -- groups that share keys can't wait for each other.
    INSERT INTO start_keys (tenant_id, kind, key, execution_id, event_id, body_hash, created_at, expires_at)
    SELECT a.tenant, a.kind, a.key, v_ids[a.ord], v_events[a.ord], a.body_hash, v_now, v_now + make_interval(secs => a.ttl)
      FROM unnest(p_tenants, p_key_kinds, p_keys, p_body_hashes, p_key_ttls)
           WITH ORDINALITY AS a (tenant, kind, key, body_hash, ttl, ord)
     WHERE a.key IS NOT NULL AND v_verdicts[a.ord] = 'started'
     ORDER BY a.tenant, a.kind, a.key
    ON CONFLICT ON CONSTRAINT start_keys_pkey DO UPDATE
       SET execution_id = excluded.execution_id, event_id = excluded.event_id, body_hash = excluded.body_hash,
           created_at = excluded.created_at, expires_at = excluded.expires_at
     WHERE start_keys.expires_at <= v_now;

    SELECT array_agg(CASE
               WHEN k.execution_id IS NULL OR k.execution_id = v_ids[a.ord] THEN v_verdicts[a.ord]
               WHEN k.body_hash IS DISTINCT FROM a.body_hash THEN 'mismatch'
               ELSE 'duplicate'
           END ORDER BY a.ord),
           array_agg(coalesce(k.execution_id, v_ids[a.ord]) ORDER BY a.ord),
           array_agg(CASE WHEN k.execution_id <> v_ids[a.ord] THEN k.event_id ELSE v_events[a.ord] END ORDER BY a.ord)
      INTO v_verdicts, v_ids, v_events
      FROM unnest(p_tenants, p_key_kinds, p_keys, p_body_hashes)
           WITH ORDINALITY AS a (tenant, kind, key, body_hash, ord)
      LEFT JOIN start_keys k
        ON k.tenant_id = a.tenant AND k.kind = a.kind AND k.key = a.key
       -- A repeat gets the answer of the first, whatever became of the workflow since.
       AND (v_verdicts[a.ord] = 'started'
            OR v_verdicts[a.ord] IN ('not_published', 'workflow_inactive', 'workflow_archived')
               AND k.expires_at > v_now);

    SELECT array_agg(coalesce(c.chosen, false) ORDER BY a.ord)
      INTO v_claimed
      FROM unnest(p_tenants) WITH ORDINALITY AS a (tenant, ord)
      LEFT JOIN (
          SELECT s.ord, row_number() OVER (ORDER BY s.priority DESC, s.ord) <= v_room AS chosen
            FROM unnest(p_tenants, p_priorities) WITH ORDINALITY AS s (tenant, priority, ord)
           WHERE p_worker IS NOT NULL
             AND v_verdicts[s.ord] = 'started'
             AND NOT v_limited[s.ord]
             AND NOT EXISTS (
                 SELECT 1 FROM execution_queue q
                  WHERE q.tenant_id = s.tenant AND q.owner IS NULL AND q.ready_at IS NOT NULL AND NOT q.paused
             )
      ) c ON c.ord = a.ord;

    INSERT INTO executions (
        id, tenant_id, workflow_id, workflow_version, status, trigger_type, trigger_data, trigger_node, priority,
        started_by, vars, created_at, started_at, parent_execution_id, parent_step_id, execution_depth, retry_of, origin_id
    )
    SELECT v_ids[a.ord], a.tenant, a.workflow, v_versions[a.ord],
           CASE WHEN v_claimed[a.ord] THEN 'running' ELSE 'pending' END,
           a.trigger_type, a.trigger_data::jsonb, a.trigger_node, a.priority,
           a.started_by, v_vars[a.ord]::jsonb, v_now, CASE WHEN v_claimed[a.ord] THEN v_now END,
           (p_links -> (a.ord::integer - 1) ->> 'parent')::uuid, (p_links -> (a.ord::integer - 1) ->> 'parent_step')::uuid,
           coalesce((p_links -> (a.ord::integer - 1) ->> 'depth')::integer, 0),
           (p_links -> (a.ord::integer - 1) ->> 'retry_of')::uuid, (p_links -> (a.ord::integer - 1) ->> 'origin')::uuid
      FROM unnest(p_tenants, p_workflows, p_trigger_types, p_trigger_data, p_trigger_nodes, p_priorities, p_started_by)
           WITH ORDINALITY AS a (tenant, workflow, trigger_type, trigger_data, trigger_node, priority, started_by, ord)
     WHERE v_verdicts[a.ord] = 'started';

    INSERT INTO execution_queue (
        execution_id, tenant_id, workflow_id, priority, ready_at, owner, token, created_at, schedule_id
    )
    SELECT v_ids[a.ord], a.tenant, a.workflow, a.priority, v_now,
           CASE WHEN v_claimed[a.ord] THEN p_worker END,
           CASE WHEN v_claimed[a.ord] OR (p_links -> (a.ord::integer - 1) ->> 'resumes')::boolean THEN 1 ELSE 0 END, v_now,
           (p_links -> (a.ord::integer - 1) ->> 'schedule')::uuid
      FROM unnest(p_tenants, p_workflows, p_priorities) WITH ORDINALITY AS a (tenant, workflow, priority, ord)
     WHERE v_verdicts[a.ord] = 'started'
     ORDER BY v_ids[a.ord];

    IF array_position(p_webhooks, NULL) IS DISTINCT FROM 1 OR cardinality(array_remove(p_webhooks, NULL)) > 0 THEN
        INSERT INTO webhook_events (
            id, tenant_id, webhook_id, execution_id, request_method, request_path, request_query, request_headers,
            request_body, raw_body, source_ip, response_status, status, filtered_reason, error_message, dedupe_key,
            processing_time_ms, source_event_id, created_at
        )
        SELECT CASE WHEN v_verdicts[a.ord] = 'duplicate' THEN gorax_uuid7() ELSE v_events[a.ord] END,
               a.tenant, a.webhook, CASE WHEN a.refusal IS NULL THEN v_ids[a.ord] END, a.method, a.path, a.query::jsonb,
               a.headers::jsonb, a.body::jsonb, a.raw_body, a.address,
               CASE v_verdicts[a.ord] WHEN 'started' THEN 202 WHEN 'duplicate' THEN 200
                                      ELSE (a.refusal ->> 'response')::integer END,
               CASE v_verdicts[a.ord] WHEN 'started' THEN 'processed' WHEN 'duplicate' THEN 'filtered'
                                      ELSE a.refusal ->> 'status' END,
               CASE WHEN v_verdicts[a.ord] = 'duplicate' THEN 'duplicate'
                    WHEN a.refusal ->> 'status' = 'filtered' THEN a.refusal ->> 'reason' END,
               CASE WHEN a.refusal ->> 'status' = 'failed' THEN a.refusal ->> 'reason' END,
               a.key, a.elapsed + (extract(epoch FROM clock_timestamp() - v_now) * 1000)::integer,
               (p_links -> (a.ord::integer - 1) ->> 'source_event')::uuid, v_now
          FROM unnest(p_tenants, p_webhooks, p_methods, p_paths, p_queries, p_headers, p_bodies, p_raw_bodies, p_keys,
                      p_addresses, p_elapsed, p_refusals::jsonb[])
               WITH ORDINALITY AS a (tenant, webhook, method, path, query, headers, body, raw_body, key, address, elapsed,
                                     refusal, ord)
         WHERE a.webhook IS NOT NULL AND v_verdicts[a.ord] IN ('started', 'duplicate', 'refused');

        -- Last, so that the rows of busy webhooks are held for no longer than the commit; in the order of their ids.
        PERFORM 1 FROM webhooks h
          WHERE h.id IN (SELECT a.webhook FROM unnest(p_webhooks, v_verdicts) AS a (webhook, verdict) WHERE a.verdict = 'started')
          ORDER BY h.id FOR NO KEY UPDATE;
        UPDATE webhooks h SET trigger_count = h.trigger_count + s.started, last_triggered_at = greatest(h.last_triggered_at, v_now)
          FROM (
              SELECT a.webhook, count(*) AS started FROM unnest(p_webhooks, v_verdicts) AS a (webhook, verdict)
               WHERE a.verdict = 'started' AND a.webhook IS NOT NULL GROUP BY a.webhook
          ) s
         WHERE h.id = s.webhook;
    END IF;

    IF p_ring AND EXISTS (
        SELECT 1 FROM unnest(v_verdicts, v_claimed) AS a (verdict, claimed)
         WHERE a.verdict = 'started' AND NOT a.claimed
    ) THEN
        PERFORM pg_notify('gorax_ready', '');
    END IF;

    RETURN QUERY
    SELECT a.ord::integer, a.verdict, a.id, a.event, a.claimed, a.version,
           (extract(epoch FROM v_now) * 1000000)::bigint, a.vars,
           CASE WHEN a.verdict = 'refused' THEN NULL
                WHEN a.verdict = 'duplicate' THEN (SELECT e.status::text FROM executions e WHERE e.id = a.id)
                WHEN a.claimed THEN 'running'
                ELSE 'pending'
           END
      FROM unnest(v_verdicts, v_ids, v_events, v_claimed, v_versions, v_vars)
           WITH ORDINALITY AS a (verdict, id, event, claimed, version, vars, ord);
END
$function$;
