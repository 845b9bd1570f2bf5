-- What the tables alone can't tell afterwards: who wrote what, under which claim, and what a row was before.
-- Triggers of the test, in a schema of the test. A writer is known by the setting chaos.process in its DSN.

CREATE SCHEMA chaos;

CREATE TABLE chaos.worker_log (
    id uuid PRIMARY KEY, name text, process text, at timestamptz DEFAULT clock_timestamp(), gone_at timestamptz
);

CREATE TABLE chaos.queue_log (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, execution_id uuid, op text,
    old_owner uuid, new_owner uuid, old_token bigint, new_token bigint, old_crashes int, new_crashes int,
    parked boolean, process text, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos.queue_log (execution_id, seq);

CREATE TABLE chaos.execution_log (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, execution_id uuid, old_status text, new_status text,
    process text, owner_process text, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos.execution_log (execution_id, seq);

CREATE TABLE chaos.step_log (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, execution_id uuid, step_id uuid, node_id text, path text,
    round int, attempt int,
    old_status text, new_status text, token bigint, process text, owner_process text,
    xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX ON chaos.step_log (execution_id, node_id, seq);

-- What the storm knows itself, filled in before the check.
CREATE TABLE chaos.ledger (
    start_key text, kind text, acknowledged uuid, by_webhook boolean, status text, output jsonb, error_code text
);
-- is_top: in no scope's body.
CREATE TABLE chaos.node (workflow_id uuid, node_id text, max_attempts int, is_top boolean DEFAULT true);
CREATE TABLE chaos.edge (workflow_id uuid, source text, target text);
CREATE TABLE chaos.version (workflow_id uuid, version int, hash text);
CREATE TABLE chaos.sink (seq bigint, key text, path text, payload_hash text, at timestamptz);

CREATE FUNCTION chaos.on_worker() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO chaos.worker_log (id, name, process)
        VALUES (NEW.id, NEW.name, current_setting('chaos.process', true));
    ELSE
        UPDATE chaos.worker_log SET gone_at = clock_timestamp() WHERE id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR DELETE ON workers FOR EACH ROW EXECUTE FUNCTION chaos.on_worker();

CREATE FUNCTION chaos.on_queue() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.owner IS NOT DISTINCT FROM OLD.owner AND NEW.token = OLD.token
       AND NEW.crashes = OLD.crashes THEN
        RETURN NULL;
    END IF;
    INSERT INTO chaos.queue_log (
        execution_id, op, old_owner, new_owner, old_token, new_token, old_crashes, new_crashes, parked, process
    ) VALUES (
        coalesce(NEW.execution_id, OLD.execution_id), TG_OP, OLD.owner, NEW.owner, OLD.token, NEW.token, OLD.crashes,
        NEW.crashes, NEW.owner IS NULL AND NEW.ready_at IS NULL, current_setting('chaos.process', true)
    );
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE OR DELETE ON execution_queue FOR EACH ROW EXECUTE FUNCTION chaos.on_queue();

CREATE FUNCTION chaos.on_execution() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.status = OLD.status AND OLD.status IN ('pending', 'running') THEN
        RETURN NULL;
    END IF;
    INSERT INTO chaos.execution_log (execution_id, old_status, new_status, process, owner_process)
    SELECT NEW.id, OLD.status, NEW.status, current_setting('chaos.process', true),
           (SELECT w.process FROM public.execution_queue q JOIN chaos.worker_log w ON w.id = q.owner
             WHERE q.execution_id = NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON executions FOR EACH ROW EXECUTE FUNCTION chaos.on_execution();

CREATE FUNCTION chaos.on_step() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.step_log (
        execution_id, step_id, node_id, path, round, attempt, old_status, new_status, token, process, owner_process
    )
    SELECT NEW.execution_id, NEW.id, NEW.node_id, NEW.iteration_path, NEW.round, NEW.retry_count + 1, OLD.status, NEW.status, q.token,
           current_setting('chaos.process', true), w.process
      FROM (SELECT 1) AS one
      LEFT JOIN public.execution_queue q ON q.execution_id = NEW.execution_id
      LEFT JOIN chaos.worker_log w ON w.id = q.owner;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON step_executions FOR EACH ROW EXECUTE FUNCTION chaos.on_step();

CREATE TABLE chaos.signal_log (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, step_id uuid, execution_id uuid, resolution jsonb
);

CREATE FUNCTION chaos.on_signal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.signal_log (step_id, execution_id, resolution)
    VALUES (NEW.step_id, NEW.execution_id, NEW.resolution);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos AFTER INSERT ON signals FOR EACH ROW EXECUTE FUNCTION chaos.on_signal();
