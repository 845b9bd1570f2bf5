-- name: list_filters
-- The filters of a webhook in their order.
SELECT id, webhook_id, field_path, operator, value, logic_group, enabled, created_at, updated_at
FROM webhook_filters WHERE tenant_id = $1 AND webhook_id = $2 ORDER BY logic_group, created_at, id;

-- name: get_filter
-- One filter of a webhook.
SELECT id, webhook_id, field_path, operator, value, logic_group, enabled, created_at, updated_at
FROM webhook_filters WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3;

-- name: insert_filters
-- New filters, in their order: what one transaction makes would all be of one moment.
INSERT INTO webhook_filters (tenant_id, webhook_id, field_path, operator, value, logic_group, enabled, created_at)
SELECT $1, $2, f.field_path, f.operator, coalesce(f.value, 'null'), f.logic_group, f.enabled,
       clock_timestamp() + f.place * interval '1 microsecond'
FROM ROWS FROM (jsonb_to_recordset($3::jsonb)
    AS (field_path text, operator text, value jsonb, logic_group integer, enabled boolean))
    WITH ORDINALITY AS f (field_path, operator, value, logic_group, enabled, place)
RETURNING id, webhook_id, field_path, operator, value, logic_group, enabled, created_at, updated_at;

-- name: change_filter
-- Write what may be set of a filter.
UPDATE webhook_filters
SET field_path = $4, operator = $5, value = coalesce($6::jsonb, 'null'), logic_group = $7, enabled = $8, updated_at = now()
WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3
RETURNING id, webhook_id, field_path, operator, value, logic_group, enabled, created_at, updated_at;

-- name: delete_filter
-- Drop one filter.
DELETE FROM webhook_filters WHERE tenant_id = $1 AND webhook_id = $2 AND id = $3
RETURNING id, webhook_id, field_path, operator, value, logic_group, enabled, created_at, updated_at;

-- name: delete_filters
-- Drop all filters of a webhook.
DELETE FROM webhook_filters WHERE tenant_id = $1 AND webhook_id = $2;
