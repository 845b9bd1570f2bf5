-- name: due_tasks
-- Open tasks to which something is due, oldest first. (now() is stable, so the index is searched.)
SELECT id, tenant_id, title, assignees::text AS assignees, config::text AS config, escalation_level,
       (extract(epoch FROM due_date) * 1000000)::bigint AS due_us,
       (extract(epoch FROM limit_at) * 1000000)::bigint AS limit_us,
       (extract(epoch FROM next_action_at) * 1000000)::bigint AS next_us,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us
FROM human_tasks
WHERE status = 'pending' AND next_action_at <= now()
ORDER BY next_action_at
LIMIT $1;

-- name: end_tasks
-- Decisions of the clock; returns how many tasks they ended.
SELECT count(*) FILTER (WHERE decided) AS ended FROM gorax_end_tasks($1::text::jsonb);

-- name: escalate_tasks
-- Reminders and escalation; returns how many tasks were moved.
SELECT gorax_escalate_tasks($1::text::jsonb) AS moved;
