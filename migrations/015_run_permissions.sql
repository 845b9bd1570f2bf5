-- Pausing, resuming and signalling runs are permissions of their own; who may cancel a run had what they amount to.
-- phase: pre

INSERT INTO permissions (resource, action) VALUES ('execution', 'pause'), ('execution', 'resume'), ('execution', 'signal');

INSERT INTO role_permissions (tenant_id, role_id, permission_id)
SELECT held.tenant_id, held.role_id, added.id
FROM role_permissions held
JOIN permissions cancel ON cancel.id = held.permission_id AND cancel.resource = 'execution' AND cancel.action = 'cancel'
CROSS JOIN permissions added
WHERE added.resource = 'execution' AND added.action IN ('pause', 'resume', 'signal');
