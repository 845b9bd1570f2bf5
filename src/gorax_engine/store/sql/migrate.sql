-- name: try_lock
-- Polled, never waited for: a session that waits in pg_advisory_lock holds a snapshot, and CREATE INDEX CONCURRENTLY
-- run by the holder would wait for that session: a deadlock.
SELECT pg_try_advisory_lock(hashtext('gorax'), hashtext('migrate'));

-- name: unlock
SELECT pg_advisory_unlock(hashtext('gorax'), hashtext('migrate'));

-- name: create_ledger
CREATE TABLE IF NOT EXISTS public.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: create_function_ledger
CREATE TABLE IF NOT EXISTS public.schema_functions (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: grant_ledgers
-- The daemon checks the schema under its own roles.
GRANT SELECT ON public.schema_migrations, public.schema_functions TO gorax_worker, gorax_app, gorax_readonly;

-- name: ledgers_exist
SELECT to_regclass('public.schema_migrations') IS NOT NULL AND to_regclass('public.schema_functions') IS NOT NULL;

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gorax_worker');

-- name: applied
SELECT version, name, checksum FROM public.schema_migrations ORDER BY version;

-- name: record
INSERT INTO public.schema_migrations (version, name, checksum) VALUES ($1, $2, $3);

-- name: installed
SELECT name, checksum FROM public.schema_functions;

-- name: record_function
INSERT INTO public.schema_functions (name, checksum) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = clock_timestamp();

-- name: overloads
-- Every signature of a function name, ready for DROP FUNCTION.
SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.proname = $1 AND p.pronamespace = 'public'::regnamespace;
