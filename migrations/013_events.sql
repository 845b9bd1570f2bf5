-- Events: what is published is kept for a while, for the waits that are open and for those that come later.
-- phase: pre

-- `matched` and `dispatched` say what is still owed: a look through the open waits, and the starts of workflows. Who
-- publishes does both at once, after its commit; a sweep does what was left. So the row is its own outbox.
CREATE TABLE events (
    id UUID PRIMARY KEY DEFAULT gorax_uuid7(),
    tenant_id UUID NOT NULL,
    name VARCHAR(255) NOT NULL,
    correlation_key VARCHAR(255),
    payload JSONB,
    published_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    expires_at TIMESTAMPTZ NOT NULL,              -- waits that open later than this don't get it
    delete_after TIMESTAMPTZ NOT NULL,            -- not before expires_at; the idempotency key must outlive a retry
    idempotency_key TEXT,
    matched BOOLEAN NOT NULL DEFAULT false,
    dispatched BOOLEAN NOT NULL DEFAULT false,
    CONSTRAINT chk_events_idempotency_key CHECK (length(idempotency_key) <= 2048)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Ordered by published_at, which no other index has: the planner would rather walk the primary key in its order if most
-- events have one name, and then look for the rare one among all of them.
CREATE INDEX events_by_name ON events (tenant_id, name, published_at, id);
CREATE INDEX events_by_key ON events (tenant_id, name, correlation_key, published_at, id) WHERE correlation_key IS NOT NULL;
CREATE UNIQUE INDEX events_idempotency ON events (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX events_unmatched ON events (id) WHERE NOT matched;
CREATE INDEX events_undispatched ON events (id) WHERE NOT dispatched;
CREATE INDEX events_expiry ON events (delete_after);

-- Which waits got an event: a wait gets one event, and a later wait of the same run doesn't get that event again.
CREATE TABLE event_deliveries (
    event_id UUID NOT NULL,
    execution_id UUID NOT NULL,
    step_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    delivered_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, execution_id, step_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- Which published workflows an event starts, from their trigger nodes. `position` is the node's place: of several nodes
-- of one workflow the first that fits is the trigger.
CREATE TABLE event_subscriptions (
    tenant_id UUID NOT NULL,
    workflow_id UUID NOT NULL,
    node_id VARCHAR(255) NOT NULL,
    pattern VARCHAR(255) NOT NULL,                -- a name, or `order.*`, or `*`
    filter TEXT,                                  -- an expression over the event as trigger data
    position INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, workflow_id, node_id),
    CONSTRAINT event_subscriptions_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id)
        REFERENCES workflows(tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX event_subscriptions_pattern ON event_subscriptions (tenant_id, pattern);

-- Whether the kept events have been looked through for a wait of the kind event. Until then the sweep owes it that.
ALTER TABLE waits ADD COLUMN event_sought BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX waits_event_unsought ON waits (created_at) WHERE kind = 'event' AND NOT event_sought;

SELECT gorax_protect('events', p_worker => true);
SELECT gorax_protect('event_deliveries', p_worker => true);
SELECT gorax_protect('event_subscriptions', p_worker => true);
GRANT SELECT, INSERT, UPDATE, DELETE ON events, event_deliveries TO gorax_worker;
GRANT SELECT ON event_subscriptions TO gorax_worker;
GRANT SELECT, INSERT ON events TO gorax_app;
GRANT SELECT ON event_deliveries TO gorax_app;
GRANT SELECT, INSERT, DELETE ON event_subscriptions TO gorax_app;
GRANT SELECT ON events, event_deliveries, event_subscriptions TO gorax_readonly;

-- Workflows that are published already listen from now on.
INSERT INTO event_subscriptions (tenant_id, workflow_id, node_id, pattern, filter, position)
SELECT v.tenant_id, v.workflow_id, n.node ->> 'id', n.node -> 'config' ->> 'event', n.node -> 'config' ->> 'filter',
       n.position
  FROM workflows w
  JOIN workflow_versions v
    ON v.tenant_id = w.tenant_id AND v.workflow_id = w.id AND v.version = w.published_version
 CROSS JOIN LATERAL jsonb_array_elements(v.definition -> 'nodes') WITH ORDINALITY AS n (node, position)
 WHERE w.status <> 'archived' AND n.node ->> 'type' = 'event_trigger' AND n.node -> 'config' ->> 'event' IS NOT NULL;
