-- name: claim_mails
-- Take mails that are due, for $2 seconds: until then nobody else sends them, and after a crash somebody does.
WITH due AS (
    SELECT id FROM task_mails WHERE next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE task_mails m
       SET attempts = m.attempts + 1, next_attempt_at = clock_timestamp() + make_interval(secs => $2)
      FROM due d WHERE m.id = d.id
    RETURNING m.id, m.tenant_id, m.task_id, m.recipients, m.subject, m.body, m.attempts
)
SELECT k.id, k.tenant_id, k.task_id, k.recipients, k.subject, k.body, k.attempts, t.execution_id, t.node_id,
       t.status = 'pending' AS is_open, t.config -> 'mail' ->> 'credential' AS credential,
       t.config -> 'mail' ->> 'from' AS sender
FROM taken k JOIN human_tasks t ON t.tenant_id = k.tenant_id AND t.id = k.task_id;

-- name: mail_done
-- A mail that is sent, or given up.
DELETE FROM task_mails WHERE id = $1;

-- name: postpone_mail
-- Another attempt in $2 seconds.
UPDATE task_mails SET next_attempt_at = clock_timestamp() + make_interval(secs => $2) WHERE id = $1;
