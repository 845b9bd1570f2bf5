-- name: accepted_exactly_once
-- 1: whatever was acknowledged is there, once, and nothing is there that nobody asked for.
SELECT 'lost or changed' AS fault, l.start_key, l.acknowledged
  FROM chaos.ledger l LEFT JOIN executions e ON e.id = l.acknowledged WHERE e.id IS NULL
UNION ALL
SELECT 'not asked for', NULL, e.id FROM executions e LEFT JOIN chaos.ledger l ON l.acknowledged = e.id
 WHERE l.start_key IS NULL AND e.parent_execution_id IS NULL AND e.trigger_type <> 'schedule'
UNION ALL
SELECT 'two keys, one run', min(l.start_key), l.acknowledged FROM chaos.ledger l GROUP BY l.acknowledged HAVING count(*) > 1;

-- name: delivery_starts_once
-- 2: of all deliveries under one key one is processed; the others name its run.
SELECT e.dedupe_key, count(*) FILTER (WHERE e.status = 'processed') AS processed, count(DISTINCT e.execution_id) AS runs
  FROM webhook_events e WHERE e.dedupe_key IS NOT NULL
 GROUP BY e.webhook_id, e.dedupe_key
HAVING count(*) FILTER (WHERE e.status = 'processed') <> 1 OR count(DISTINCT e.execution_id) <> 1;

-- name: every_occurrence_starts_once
-- 2: each second from a schedule's creation to its last occurrence has one run, which names it; no run is without one.
SELECT coalesce(o.schedule_id, x.schedule) AS schedule, coalesce(g.second, x.second) AS second, o.status, o.reason, x.runs
  FROM (
      SELECT s.id, t.second FROM schedules s
       CROSS JOIN LATERAL generate_series(
           date_trunc('second', s.created_at) + interval '1 second',
           (SELECT max(l.scheduled_for) FROM schedule_occurrences l WHERE l.schedule_id = s.id), '1 second') AS t (second)
  ) g
  LEFT JOIN schedule_occurrences o ON o.schedule_id = g.id AND o.scheduled_for = g.second
  FULL JOIN (
      SELECT (e.trigger_data ->> 'schedule_id')::uuid AS schedule, (e.trigger_data ->> 'scheduled_for')::timestamptz AS second,
             count(*) AS runs, (array_agg(e.id))[1] AS run
        FROM executions e WHERE e.trigger_type = 'schedule' GROUP BY 1, 2
  ) x ON x.schedule = g.id AND x.second = g.second
 WHERE o.status IS DISTINCT FROM 'started' OR x.runs IS DISTINCT FROM 1 OR o.execution_id IS DISTINCT FROM x.run;

-- name: delivery_has_event
-- 1: a run that a webhook started has the delivery's row.
SELECT l.start_key, l.acknowledged FROM chaos.ledger l
 WHERE l.by_webhook AND NOT EXISTS (SELECT 1 FROM webhook_events e WHERE e.execution_id = l.acknowledged);

-- name: terminal_holds_nothing
-- 3: a run that has ended has no queue row, no lease, no wait, no signal, and no task that is open.
SELECT e.id, e.status, q.owner, q.ready_at, w.kind, s.step_id AS signal, t.id AS task
  FROM executions e
  LEFT JOIN execution_queue q ON q.execution_id = e.id
  LEFT JOIN waits w ON w.execution_id = e.id
  LEFT JOIN signals s ON s.execution_id = e.id
  LEFT JOIN human_tasks t ON t.execution_id = e.id AND t.status = 'pending'
 WHERE e.status IN ('completed', 'failed', 'cancelled')
   AND (q.execution_id IS NOT NULL OR w.step_id IS NOT NULL OR s.step_id IS NOT NULL OR t.id IS NOT NULL);

-- name: live_is_reachable
-- 4: a live run is ready, leased to a registered worker, or parked with a time to wake or a wait that somebody will end;
-- no queue row is without its run.
SELECT coalesce(e.id, q.execution_id) AS execution_id, e.status, q.owner, q.ready_at, q.due_at, w.id AS worker
  FROM (SELECT * FROM executions WHERE status IN ('pending', 'running')) e
  FULL JOIN execution_queue q ON q.execution_id = e.id
  LEFT JOIN workers w ON w.id = q.owner
 WHERE e.id IS NULL OR q.execution_id IS NULL
    OR (q.owner IS NOT NULL AND w.id IS NULL)
    OR (q.owner IS NULL AND q.ready_at IS NULL AND q.due_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM waits x
         WHERE x.execution_id = q.execution_id AND x.kind IN ('human_task', 'event', 'sub_workflow')));

-- name: all_ended
-- 4: after the quiet nothing is left alive.
SELECT e.id, e.status, e.waiting_for, q.owner, w.name, q.token, q.ready_at, q.due_at, q.crashes, l.kind
  FROM executions e
  LEFT JOIN execution_queue q ON q.execution_id = e.id
  LEFT JOIN workers w ON w.id = q.owner
  LEFT JOIN chaos.ledger l ON l.acknowledged = e.id
 WHERE e.status IN ('pending', 'running');

-- name: one_lease_at_a_time
-- 5: a run is claimed only when nobody owns it.
SELECT execution_id, old_owner, new_owner, old_token, new_token FROM chaos.queue_log
 WHERE op = 'UPDATE' AND old_owner IS NOT NULL AND new_owner IS NOT NULL AND old_owner <> new_owner;

-- name: tokens_rise
-- 6: every claim has a higher token than all before it, and nothing else changes the token.
SELECT execution_id, op, old_token, new_token, old_owner, new_owner FROM chaos.queue_log
 WHERE op = 'UPDATE'
   AND ((new_owner IS NOT NULL AND old_owner IS NULL AND new_token <> old_token + 1)
     OR (new_owner IS NULL AND new_token <> old_token) OR new_token < old_token);

-- name: no_stale_write
-- 6: a step is written by the process that owns the run's claim, or by the transaction that cancels the run.
SELECT s.execution_id, s.node_id, s.new_status, s.process, s.owner_process, s.token
  FROM chaos.step_log s
 WHERE s.process IS DISTINCT FROM s.owner_process
   AND NOT EXISTS (
       SELECT 1 FROM chaos.execution_log e
        WHERE e.execution_id = s.execution_id AND e.xid = s.xid AND e.new_status = 'cancelled'
   );

-- name: no_stale_end
-- 6: a run is ended by the process that owns it, or by a cancel.
SELECT e.execution_id, e.old_status, e.new_status, e.process, e.owner_process FROM chaos.execution_log e
 WHERE e.new_status IN ('completed', 'failed') AND e.process IS DISTINCT FROM e.owner_process;

-- name: attempts_are_contiguous
-- 7: the attempts of a step are numbered 1..n.
SELECT execution_id, node_id, iteration_path, round, count(*) AS rows, max(retry_count) + 1 AS last
  FROM step_executions GROUP BY execution_id, node_id, iteration_path, round
HAVING min(retry_count) <> 0 OR max(retry_count) + 1 <> count(*);

-- name: only_failures_are_repeated
-- 7: there is a next attempt only after a failed one.
SELECT a.execution_id, a.node_id, a.retry_count + 1 AS attempt, a.status
  FROM step_executions a JOIN step_executions b USING (execution_id, node_id, iteration_path, round)
 WHERE b.retry_count = a.retry_count + 1 AND a.status <> 'failed';

-- name: one_success_per_step
-- 8: a step succeeds at most once.
SELECT execution_id, node_id, iteration_path, round, count(*) FROM step_executions WHERE status = 'completed'
 GROUP BY execution_id, node_id, iteration_path, round HAVING count(*) > 1;

-- name: steps_follow_their_predecessors
-- 9: no attempt of a step is on record before all nodes that lead to it have ended.
SELECT s.execution_id, s.node_id, s.path, s.round, g.source
  FROM chaos.step_log s
  JOIN executions e ON e.id = s.execution_id
  JOIN chaos.edge g ON g.workflow_id = e.workflow_id AND g.target = s.node_id
 WHERE s.new_status IN ('running', 'completed') AND s.old_status IS NULL
   AND NOT EXISTS (
       SELECT 1 FROM chaos.step_log p
        WHERE p.execution_id = s.execution_id AND p.node_id = g.source AND p.path = s.path AND p.round = s.round
          AND p.new_status IN ('completed', 'failed', 'skipped') AND (p.seq < s.seq OR p.xid = s.xid)
   );

-- name: times_follow_the_graph
-- 9: by its recorded time no step starts before its predecessors have ended.
SELECT s.execution_id, s.node_id, g.source, s.started_at - p.completed_at AS by
  FROM step_executions s
  JOIN executions e ON e.id = s.execution_id
  JOIN chaos.edge g ON g.workflow_id = e.workflow_id AND g.target = s.node_id
  JOIN LATERAL (
      SELECT max(p.completed_at) AS completed_at FROM step_executions p
       WHERE p.execution_id = s.execution_id AND p.node_id = g.source
         AND p.iteration_path = s.iteration_path AND p.round = s.round
  ) p ON true
 WHERE s.started_at < p.completed_at;

-- name: skipped_was_never_tried
-- 10: a skipped node has one row, without a start, and no other attempt.
SELECT s.execution_id, s.node_id, s.started_at, count(*) OVER (PARTITION BY s.execution_id, s.node_id) AS rows
  FROM step_executions s
 WHERE s.status = 'skipped'
   AND (s.started_at IS NOT NULL OR s.retry_count <> 0
        OR EXISTS (SELECT 1 FROM step_executions o
                    WHERE o.execution_id = s.execution_id AND o.node_id = s.node_id AND o.id <> s.id
                      AND o.iteration_path = s.iteration_path AND o.round = s.round));

-- name: every_node_is_decided
-- 11: once a run has ended, each node outside of scopes has a row, and no step runs any more.
SELECT e.id, e.status, n.node_id, s.status AS last
  FROM executions e
  JOIN chaos.node n ON n.workflow_id = e.workflow_id
  LEFT JOIN LATERAL (
      SELECT s.status FROM step_executions s WHERE s.execution_id = e.id AND s.node_id = n.node_id
       ORDER BY s.retry_count DESC LIMIT 1
  ) s ON true
 WHERE e.status IN ('completed', 'failed', 'cancelled') AND n.is_top
   AND coalesce(s.status, 'absent') NOT IN ('completed', 'failed', 'skipped')
UNION ALL
SELECT e.id, e.status, s.node_id, s.status
  FROM executions e JOIN step_executions s ON s.execution_id = e.id
 WHERE e.status IN ('completed', 'failed', 'cancelled') AND s.status NOT IN ('completed', 'failed', 'skipped');

-- name: failure_has_a_cause
-- 12: a failed run or step says why.
SELECT 'run' AS what, id, error_code, error_message FROM executions
 WHERE status = 'failed' AND (coalesce(error_code, '') = '' OR coalesce(error_message, '') = '')
UNION ALL
SELECT 'step', id, error_code, error_message FROM step_executions
 WHERE status = 'failed' AND (coalesce(error_code, '') = '' OR coalesce(error_message, '') = '');

-- name: attempts_within_the_limit
-- 13: no step has more attempts than its policy allows; what a dead worker began is begun again under the same number.
SELECT s.execution_id, s.node_id, max(s.retry_count) + 1 AS attempts, n.max_attempts
  FROM step_executions s JOIN executions e ON e.id = s.execution_id
  JOIN chaos.node n ON n.workflow_id = e.workflow_id AND n.node_id = s.node_id
 GROUP BY s.execution_id, s.node_id, s.iteration_path, s.round, n.max_attempts HAVING max(s.retry_count) + 1 > n.max_attempts;

-- name: runs_move_as_the_table_says
-- 14: every change of a run's state is legal, and terminal is final.
SELECT execution_id, old_status, new_status, process FROM chaos.execution_log
 WHERE (coalesce(old_status, ''), new_status) NOT IN (
     ('', 'pending'), ('', 'running'), ('pending', 'running'), ('pending', 'failed'), ('pending', 'cancelled'),
     ('running', 'completed'), ('running', 'failed'), ('running', 'cancelled'));

-- name: steps_move_as_the_table_says
-- 14: every change of a step's state is legal, and what has ended is not written again.
SELECT execution_id, node_id, attempt, old_status, new_status, process FROM chaos.step_log
 WHERE old_status IN ('completed', 'failed', 'skipped') OR (old_status = 'running' AND new_status IN ('pending', 'skipped'));

-- name: ended_has_its_time
-- 15: completed_at is set exactly when a run or step has ended, and times are in order.
SELECT 'run' AS what, id, status, created_at, started_at, completed_at FROM executions
 WHERE (completed_at IS NOT NULL) <> (status IN ('completed', 'failed', 'cancelled'))
    OR started_at < created_at OR completed_at < started_at OR completed_at < created_at
    OR (status = 'completed' AND started_at IS NULL)
UNION ALL
SELECT 'step', id, status, NULL, started_at, completed_at FROM step_executions
 WHERE (completed_at IS NOT NULL) <> (status IN ('completed', 'failed', 'skipped'))
    OR completed_at < started_at OR (status = 'completed' AND started_at IS NULL);

-- name: version_is_pinned
-- 16: the version that a run is pinned to exists and is what was published.
SELECT e.id, e.workflow_id, e.workflow_version FROM executions e
  LEFT JOIN workflow_versions v ON v.workflow_id = e.workflow_id AND v.version = e.workflow_version
  LEFT JOIN chaos.version c ON c.workflow_id = v.workflow_id AND c.version = v.version
 WHERE v.workflow_id IS NULL OR md5(v.definition::text) IS DISTINCT FROM c.hash;

-- name: timers_are_not_early
-- 20: a delay lasts at least as long as it was to, from the moment that enabled it: the end of the last predecessor.
SELECT s.execution_id, s.node_id, p.ended AS enabled_at, s.completed_at, s.output_data ->> 'delayed_ms' AS delayed_ms
  FROM step_executions s
  JOIN executions e ON e.id = s.execution_id
  JOIN LATERAL (
      SELECT max(p.completed_at) AS ended
        FROM chaos.edge g JOIN step_executions p ON p.execution_id = s.execution_id AND p.node_id = g.source
         AND p.iteration_path = s.iteration_path AND p.round = s.round
       WHERE g.workflow_id = e.workflow_id AND g.target = s.node_id
  ) p ON true
 WHERE s.node_type = 'delay' AND s.status = 'completed'
   AND s.completed_at < p.ended + (s.output_data ->> 'delayed_ms')::int * interval '1 millisecond';

-- name: tenant_is_the_same_everywhere
-- 24: whatever belongs to a run belongs to its tenant.
SELECT 'step' AS what, s.id FROM step_executions s JOIN executions e ON e.id = s.execution_id WHERE s.tenant_id <> e.tenant_id
UNION ALL SELECT 'queue', q.execution_id FROM execution_queue q JOIN executions e ON e.id = q.execution_id WHERE q.tenant_id <> e.tenant_id
UNION ALL SELECT 'wait', w.step_id FROM waits w JOIN executions e ON e.id = w.execution_id WHERE w.tenant_id <> e.tenant_id
UNION ALL SELECT 'key', k.execution_id FROM start_keys k JOIN executions e ON e.id = k.execution_id WHERE k.tenant_id <> e.tenant_id
UNION ALL SELECT 'event', v.id FROM webhook_events v JOIN executions e ON e.id = v.execution_id WHERE v.tenant_id <> e.tenant_id
UNION ALL SELECT 'workflow', w.id FROM workflows w JOIN executions e ON e.workflow_id = w.id WHERE w.tenant_id <> e.tenant_id;

-- name: one_payload_per_key
-- 30: whatever is sent again under a key is the same.
SELECT key, count(DISTINCT payload_hash) AS payloads, count(DISTINCT path) AS paths FROM chaos.sink
 GROUP BY key HAVING count(DISTINCT payload_hash) > 1 OR count(DISTINCT path) > 1;

-- name: calls_are_accounted_for
-- 30: the outside was called at most once for each attempt, once more for each time the run was taken from a worker, and
-- once more where a cancel came between the call and the record of its start.
SELECT c.key, c.calls, s.attempts, h.taken
  FROM (SELECT key, count(*) AS calls FROM chaos.sink GROUP BY key) c
  LEFT JOIN LATERAL (
      SELECT count(*) AS attempts FROM step_executions s
       WHERE s.execution_id = split_part(c.key, ':', 1)::uuid AND s.node_id = split_part(c.key, ':', 2)
         AND s.iteration_path = split_part(c.key, ':', 3) AND s.status <> 'skipped'
  ) s ON true
  LEFT JOIN LATERAL (
      SELECT count(*) AS taken FROM chaos.queue_log q
       WHERE q.execution_id = split_part(c.key, ':', 1)::uuid
         AND q.op = 'UPDATE' AND q.old_owner IS NOT NULL AND q.new_owner IS NULL AND NOT q.parked
  ) h ON true
  LEFT JOIN executions e ON e.id = split_part(c.key, ':', 1)::uuid
 WHERE c.calls > s.attempts + h.taken + (e.status = 'cancelled')::int;

-- name: recorded_is_not_run_again
-- 30: no call arrives after the step's success, or its last failure, is on record. (A cancel ends steps behind the back
-- of their worker, which hears of it a moment later.)
SELECT c.key, c.path, c.at, s.at AS recorded, s.new_status, s.attempt
  FROM chaos.sink c
  JOIN LATERAL (
      SELECT s.at, s.new_status, s.attempt FROM chaos.step_log s
       WHERE s.execution_id = split_part(c.key, ':', 1)::uuid AND s.node_id = split_part(c.key, ':', 2)
         AND s.path = split_part(c.key, ':', 3) AND s.new_status IN ('completed', 'failed', 'skipped')
       ORDER BY s.round DESC, s.attempt DESC, s.seq LIMIT 1
  ) s ON true
  JOIN executions e ON e.id = split_part(c.key, ':', 1)::uuid
 WHERE c.at > s.at AND e.status <> 'cancelled';

-- name: recorded_success_was_witnessed
-- 30: a step that says it called has called.
SELECT s.execution_id, s.node_id FROM step_executions s
 WHERE s.node_type = 'http_request' AND s.status = 'completed'
   AND NOT EXISTS (SELECT 1 FROM chaos.sink c WHERE c.key = s.execution_id || ':' || s.node_id || ':' || s.iteration_path);

-- name: everything_is_accounted_for
-- 33: accepted = completed + failed + cancelled + live.
SELECT * FROM (
    SELECT (SELECT count(*) FROM chaos.ledger) AS accepted,
           (SELECT count(*) FROM executions
             WHERE status IN ('completed', 'failed', 'cancelled') AND parent_execution_id IS NULL
               AND trigger_type <> 'schedule') AS ended,
           (SELECT count(*) FROM execution_queue q JOIN executions e ON e.id = q.execution_id
             WHERE e.parent_execution_id IS NULL AND e.trigger_type <> 'schedule') AS live
) n WHERE accepted <> ended + live;

-- name: given_up_after_three_workers
-- A run is given up as worker_lost only when three workers were taken from it with no progress in between.
SELECT e.id FROM executions e
 WHERE e.error_code = 'worker_lost'
   AND NOT EXISTS (SELECT 1 FROM chaos.queue_log q WHERE q.execution_id = e.id AND q.old_crashes = 2 AND q.new_crashes = 3);

-- name: outcome_is_as_expected
-- The workload is deterministic: each run ends as its kind and input say, with that output, whatever happened to it.
-- (But a storm may take three workers from one run; it is then given up, as the invariant before this one watches.)
SELECT l.kind, e.id, e.status, l.status AS expected, e.error_code, e.error_message, e.output_data, l.output AS expected_output
  FROM chaos.ledger l JOIN executions e ON e.id = l.acknowledged
 WHERE e.status NOT IN ('pending', 'running')
   AND e.error_code IS DISTINCT FROM 'worker_lost'
   AND (e.status <> l.status OR e.output_data IS DISTINCT FROM l.output OR e.error_code IS DISTINCT FROM l.error_code);

-- name: one_child_per_attempt
-- An attempt of a sub_workflow starts one run, whoever dies meanwhile, one level below its own; nothing else is a child.
SELECT c.id, c.parent_execution_id, c.parent_step_id, c.execution_depth, p.execution_depth AS depth_of_parent, s.node_type
  FROM executions c
  LEFT JOIN executions p ON p.id = c.parent_execution_id AND p.tenant_id = c.tenant_id
  LEFT JOIN step_executions s ON s.id = c.parent_step_id AND s.execution_id = p.id
 WHERE (c.parent_execution_id IS NOT NULL
        AND (s.node_type IS DISTINCT FROM 'sub_workflow' OR c.execution_depth IS DISTINCT FROM p.execution_depth + 1))
    OR (c.parent_execution_id IS NULL AND c.execution_depth <> 0)
    OR EXISTS (SELECT 1 FROM executions o WHERE o.parent_step_id = c.parent_step_id AND o.id <> c.id);

-- name: a_step_outlives_its_child
-- A step that waits for a child completes after the child has.
SELECT s.execution_id, s.node_id, c.id AS child, c.status
  FROM executions c
  JOIN step_executions s ON s.id = c.parent_step_id AND s.status = 'completed'
   AND NOT coalesce(s.input_data, '{}') @> '{"mode": "async"}'
 WHERE c.status <> 'completed'
    OR NOT EXISTS (
        SELECT 1 FROM chaos.step_log l
          JOIN chaos.execution_log x ON x.execution_id = c.id AND x.new_status = 'completed' AND x.xid < l.xid
         WHERE l.step_id = s.id AND l.new_status = 'completed');

-- name: no_child_is_forgotten
-- When a parent has failed or was cancelled, no child for which it still waited goes on to a good end of its own.
SELECT p.id, p.status, c.id AS child, c.status AS status_of_child
  FROM executions c
  JOIN executions p ON p.id = c.parent_execution_id AND p.status IN ('failed', 'cancelled')
  JOIN step_executions s ON s.id = c.parent_step_id AND s.error_code = 'cancelled'
 WHERE c.status = 'completed' AND c.completed_at > p.completed_at + interval '20 seconds';

-- name: a_wait_is_signalled_once
-- What a wait gets, it gets once, and the step that waited ends with it, unless it was cut off.
SELECT l.step_id, count(*) AS signals, min(s.status) AS step
  FROM chaos.signal_log l LEFT JOIN step_executions s ON s.id = l.step_id
 GROUP BY l.step_id
HAVING count(*) > 1 OR bool_or(s.id IS NULL)
    OR bool_or(s.status <> 'completed' AND s.error_code NOT IN ('cancelled', 'timeout')
               AND l.resolution ->> 'status' = 'completed');

-- name: a_task_is_decided_once
-- A step opens one task; once it has ended, the task has the same end (if the run did not end before it heard).
SELECT t.id, t.status, t.step_id, s.status AS step, s.error_code
  FROM human_tasks t LEFT JOIN step_executions s ON s.id::text = t.step_id
 WHERE s.id IS NULL OR (s.status = 'completed') <> (t.status = 'approved') AND s.error_code IS DISTINCT FROM 'cancelled'
    OR EXISTS (SELECT 1 FROM human_tasks o WHERE o.step_id = t.step_id AND o.id <> t.id);

-- name: finally_has_run
-- Whoever cancels a run: a try that had begun has run its finally to the end.
SELECT e.id, t.status, s.status AS tidy, s.error_code
  FROM executions e
  JOIN step_executions t ON t.execution_id = e.id AND t.node_id = 'try' AND t.status <> 'skipped'
  LEFT JOIN step_executions s ON s.execution_id = e.id AND s.node_id = 'in_tidy'
 WHERE e.status IN ('completed', 'cancelled') AND s.status IS DISTINCT FROM 'completed';
