-- Tells people about tasks: a notification for each user, and one mail for all of them if the task has a mail server.
--
-- p_news is a list of {"tenant_id", "task_id", "to": [assignee, ...], "title", "message", "type", "kind"}. Roles stand
-- for their members; of one task at most 200 users are told. Service users, whose addresses end in .invalid, get no mail.
CREATE OR REPLACE FUNCTION gorax_tell_assignees(p_news jsonb) RETURNS void
LANGUAGE sql
AS $function$
    WITH news AS (
        SELECT n.tenant_id, n.task_id, n."to", n.title, n.message, n.type, n.kind, t.execution_id, t.config
          FROM jsonb_to_recordset(p_news) AS n (
              tenant_id uuid, task_id uuid, "to" jsonb, title text, message text, type text, kind text
          )
          JOIN human_tasks t ON t.tenant_id = n.tenant_id AND t.id = n.task_id
    ), told AS MATERIALIZED (
        SELECT n.*, u.id AS user_id, u.email
          FROM news n
         CROSS JOIN LATERAL (
             SELECT DISTINCT m.id, m.email
               FROM jsonb_array_elements(n."to") a
              CROSS JOIN LATERAL (
                  SELECT u.id, u.email FROM users u
                   WHERE a ->> 'type' = 'user' AND u.tenant_id = n.tenant_id AND u.id::text = a ->> 'id'
                     AND u.status = 'active'
                  UNION ALL
                  SELECT u.id, u.email
                    FROM roles r
                    JOIN user_roles ur ON ur.tenant_id = r.tenant_id AND ur.role_id = r.id
                    JOIN users u ON u.tenant_id = ur.tenant_id AND u.id = ur.user_id AND u.status = 'active'
                   WHERE a ->> 'type' = 'role' AND r.tenant_id = n.tenant_id AND r.name = a ->> 'name'
              ) m
              ORDER BY m.id
              LIMIT 200
         ) u
    ), noted AS (
        INSERT INTO notifications (tenant_id, user_id, title, message, type, link, metadata)
        SELECT t.tenant_id, t.user_id, t.title, t.message, t.type, '/tasks/' || t.task_id,
               jsonb_build_object('kind', t.kind, 'task_id', t.task_id, 'execution_id', t.execution_id)
          FROM told t
    )
    INSERT INTO task_mails (tenant_id, task_id, recipients, subject, body)
    SELECT t.tenant_id, t.task_id, array_agg(DISTINCT t.email::text), t.title, t.message
      FROM told t
     WHERE t.config ? 'mail' AND t.config -> 'mail' <> 'null' AND t.email NOT LIKE '%.invalid'
     GROUP BY t.tenant_id, t.task_id, t.title, t.message, t.kind;
$function$;
