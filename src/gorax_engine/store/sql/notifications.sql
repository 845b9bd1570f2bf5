-- name: list_notifications
-- A page of what a user was told, newest first.
SELECT id, title, message, type, link, metadata, is_read, read_at, created_at
FROM notifications
WHERE tenant_id = $1 AND user_id = $2
  AND ($3::boolean IS NULL OR is_read = NOT $3)
  AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $6;

-- name: read_notification
-- Mark one as read; when it was read first stays. No row: the user has no such notification.
UPDATE notifications
   SET is_read = true, read_at = coalesce(read_at, clock_timestamp()),
       updated_at = CASE WHEN is_read THEN updated_at ELSE clock_timestamp() END
 WHERE tenant_id = $1 AND user_id = $2 AND id = $3
RETURNING id, title, message, type, link, metadata, is_read, read_at, created_at;
