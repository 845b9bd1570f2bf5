-- Sweep: acts on everything whose time has come, whoever owns it. Any worker may run it at any time.
--
-- Timers: parked runs whose due_at has passed become ready. Deadlines: runs past theirs get the mark and a wake; the
-- owner or the next claimant ends them. Dead workers: rows whose heartbeat is older than their lease are taken with
-- SKIP LOCKED (a flush holds FOR KEY SHARE and is waited for by nobody), deleted, and their queue rows freed, all in
-- this transaction. A run that loses its third worker without progress is marked as worker_lost.
CREATE OR REPLACE FUNCTION gorax_sweep(
    p_limit integer,
    OUT timers integer,
    OUT deadlines integer,
    OUT rescued integer,
    OUT quarantined integer,
    OUT lost_workers text[],
    OUT suspects boolean,
    OUT next_due_us bigint
)
LANGUAGE plpgsql
AS $function$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_dead uuid[];
BEGIN
    UPDATE execution_queue q SET ready_at = v_now, due_at = NULL
     WHERE q.execution_id = ANY (ARRAY(
         SELECT d.execution_id FROM execution_queue d
          WHERE d.owner IS NULL AND d.ready_at IS NULL AND NOT d.paused AND d.due_at <= v_now
          ORDER BY d.due_at LIMIT p_limit FOR UPDATE SKIP LOCKED
     ));
    GET DIAGNOSTICS timers = ROW_COUNT;

    rescued := 0;
    quarantined := 0;
    -- The lock is taken and the age judged again on the locked row: a heartbeat that came first saves its worker.
    SELECT array_agg(d.id), array_agg(d.name) INTO v_dead, lost_workers
      FROM (
          SELECT w.id, w.name FROM workers w
           WHERE w.heartbeat_at + w.lease_ms * interval '1 millisecond' < clock_timestamp()
           ORDER BY w.id LIMIT 16 FOR UPDATE SKIP LOCKED
      ) d;
    IF v_dead IS NOT NULL THEN
        DELETE FROM workers w WHERE w.id = ANY (v_dead);
        SELECT count(*), count(*) FILTER (WHERE l.crashes >= 2 AND l.end_requested ->> 'kind' IS DISTINCT FROM 'worker_lost')
          INTO rescued, quarantined
          FROM (
              SELECT q.crashes, q.end_requested FROM execution_queue q
               WHERE q.owner = ANY (v_dead) ORDER BY q.execution_id FOR UPDATE
          ) l;
        UPDATE execution_queue q
           SET owner = NULL, ready_at = coalesce(q.ready_at, v_now), due_at = NULL, crashes = q.crashes + 1,
               wake_seq = q.wake_seq + 1,
               end_requested = CASE WHEN q.crashes >= 2 AND q.end_requested ->> 'kind' IS DISTINCT FROM 'worker_lost'
                                    THEN jsonb_strip_nulls(jsonb_build_object('kind', 'worker_lost', 'was', q.end_requested))
                                    ELSE q.end_requested END
         WHERE q.owner = ANY (v_dead);
        PERFORM pg_notify('gorax_ready', '');
    END IF;
    UPDATE execution_queue q
       SET end_requested = '{"kind": "timeout"}', paused = false, wake_seq = q.wake_seq + 1, due_at = NULL,
           ready_at = CASE WHEN q.owner IS NULL THEN coalesce(q.ready_at, v_now) ELSE q.ready_at END
     WHERE q.execution_id = ANY (ARRAY(
         SELECT d.execution_id FROM execution_queue d
          WHERE d.deadline_at <= v_now AND d.end_requested IS NULL
          ORDER BY d.deadline_at LIMIT p_limit FOR UPDATE SKIP LOCKED
     ));
    GET DIAGNOSTICS deadlines = ROW_COUNT;

    IF deadlines > 0 THEN
        PERFORM pg_notify('gorax_wake', '');
    END IF;
    IF timers + deadlines > 0 THEN
        PERFORM pg_notify('gorax_ready', '');
    END IF;

    suspects := EXISTS (
        SELECT 1 FROM execution_queue q
         WHERE q.owner IS NULL AND q.crashes >= 2 AND q.ready_at IS NOT NULL AND NOT q.paused AND q.end_requested IS NULL
    );

    SELECT (extract(epoch FROM min(q.due_at)) * 1000000)::bigint INTO next_due_us
      FROM execution_queue q WHERE q.owner IS NULL AND q.ready_at IS NULL AND NOT q.paused AND q.due_at IS NOT NULL;
END
$function$;
