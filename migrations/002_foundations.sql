-- What the tables stand on: ids that carry their time, row-level security, monthly partitions.
-- phase: pre

-- The document's name for a random id, without the extension that usually brings it.
CREATE FUNCTION uuid_generate_v4() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$ SELECT gen_random_uuid() $$;

-- A UUIDv7 by the database's clock. Twelve bits below the millisecond keep the ids of one backend in order, as
-- Postgres 18's own function does. Both are single expressions that the planner inlines.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION gorax_uuid7() RETURNS uuid
            LANGUAGE sql VOLATILE PARALLEL SAFE
        AS 'SELECT uuidv7()';
    ELSE
        -- 48 bits of milliseconds and 12 of fraction are 15 hexadecimal digits; the version goes in between. The
        -- variant and the rest come from a random uuid. A double holds the product exactly until 2041, and to a
        -- microsecond long after.
        CREATE FUNCTION gorax_uuid7() RETURNS uuid
            LANGUAGE sql VOLATILE PARALLEL SAFE
        AS $f$
            SELECT (overlay(lpad(to_hex((date_part('epoch', clock_timestamp()) * 4096000)::bigint), 15, '0')
                            PLACING '7' FROM 13 FOR 0)
                    || substr(gen_random_uuid()::text, 20))::uuid
        $f$;
    END IF;
END
$$;

-- The lowest UUIDv7 of a moment's millisecond: `id >= gorax_uuid7_floor(t)` means "made at t or later", and prunes.
CREATE FUNCTION gorax_uuid7_floor(p_at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT (lpad(to_hex(greatest(0, floor(extract(epoch FROM p_at) * 1000))::bigint), 12, '0')
            || '70008000000000000000')::uuid
$$;

-- The moment (to the millisecond) that a UUIDv7 carries; NULL for every other uuid.
CREATE FUNCTION gorax_uuid7_time(p_id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT CASE WHEN substr(p_id::text, 15, 1) = '7' THEN
        to_timestamp(('x' || substr(p_id::text, 1, 8) || substr(p_id::text, 10, 4))::bit(48)::bigint / 1000.0)
    END
$$;

-- Row-level security for one table, the same way everywhere:
--   owner_access               the owner is bound by FORCE like anybody else; this lets migrations, SECURITY DEFINER
--                              functions and foreign-key checks work. It names a role, not PUBLIC, so nobody
--                              else gains by it.
--   tenant_isolation_<name>    the API and reports see and write the rows of the transaction's tenant. An unset
--                              tenant (NULL, or '' after a SET LOCAL has ended) matches no row.
--   worker_access              the engine serves all tenants; only where p_worker.
-- p_key is the column that names the tenant; NULL leaves the tenant's policies to the caller.
-- Policies are permissive, so they are ORed: each must be right on its own.
CREATE FUNCTION gorax_protect(
    p_table regclass, p_worker boolean, p_name text DEFAULT NULL, p_key text DEFAULT 'tenant_id'
)
    RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    v_mine text;
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', p_table);
    EXECUTE format('CREATE POLICY owner_access ON %s TO CURRENT_USER USING (true) WITH CHECK (true)', p_table);
    IF p_key IS NOT NULL THEN
        v_mine := format('%I = NULLIF(current_setting(''app.current_tenant_id'', true), '''')::uuid', p_key);
        EXECUTE format('CREATE POLICY %I ON %s TO gorax_app, gorax_readonly USING (%s) WITH CHECK (%s)',
                       'tenant_isolation_' || coalesce(p_name, p_table::text), p_table, v_mine, v_mine);
    END IF;
    IF p_worker THEN
        EXECUTE format('CREATE POLICY worker_access ON %s TO gorax_worker USING (true) WITH CHECK (true)', p_table);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION gorax_protect FROM PUBLIC;

-- Creates the monthly partitions of every partitioned table, from last month to `months_ahead` months ahead.
-- Safe to call at any time and from several sessions. There is no DEFAULT partition, so this must run at least
-- once in that time; gorax_partition_months_ahead() is the metric that warns.
-- A partition is built apart and attached, because CREATE TABLE ... PARTITION OF would lock out readers and writers.
-- Partitions get no grants, and only the owner's policy: they are reached through their parent alone.
CREATE FUNCTION gorax_ensure_partitions(months_ahead int DEFAULT 3) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_parent text;
    v_month timestamp;
    v_name text;
    v_fill int;
    v_made int := 0;
BEGIN
    IF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'months_ahead must be between 0 and 120' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('gorax'), hashtext('partitions'));
    FOR v_parent IN
        SELECT relname FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace ORDER BY relname
    LOOP
        -- Rows that are written once fill their pages; these two are updated, and room on the page keeps that cheap.
        v_fill := CASE v_parent WHEN 'executions' THEN 85 WHEN 'step_executions' THEN 90 ELSE 100 END;
        FOR v_ahead IN -1..months_ahead LOOP
            v_month := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(months => v_ahead);
            v_name := v_parent || to_char(v_month, '_YYYY_MM');
            CONTINUE WHEN to_regclass('public.' || quote_ident(v_name)) IS NOT NULL;
            EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING ALL) WITH (fillfactor = %s)',
                           v_name, v_parent, v_fill);
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', v_name);
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', v_name);
            EXECUTE format('CREATE POLICY owner_access ON public.%I TO CURRENT_USER USING (true) WITH CHECK (true)',
                           v_name);
            EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                           v_parent, v_name,
                           gorax_uuid7_floor(v_month AT TIME ZONE 'UTC'),
                           gorax_uuid7_floor((v_month + interval '1 month') AT TIME ZONE 'UTC'));
            v_made := v_made + 1;
        END LOOP;
    END LOOP;
    RETURN v_made;
END
$$;
REVOKE ALL ON FUNCTION gorax_ensure_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gorax_ensure_partitions TO gorax_worker;

-- How many whole months after this one have a partition in every partitioned table; -1 when even this one lacks it.
CREATE FUNCTION gorax_partition_months_ahead() RETURNS int
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_ahead int := 0;
BEGIN
    LOOP
        IF EXISTS (
            SELECT FROM pg_class
            WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace
              AND to_regclass('public.' || quote_ident(relname || to_char(
                      date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(months => v_ahead),
                      '_YYYY_MM'))) IS NULL
        ) OR v_ahead > 120 THEN
            RETURN v_ahead - 1;
        END IF;
        v_ahead := v_ahead + 1;
    END LOOP;
END
$$;
