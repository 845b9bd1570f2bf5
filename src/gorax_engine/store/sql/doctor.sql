-- name: session
-- Who this connection is, and the server's settings that decide whether a commit survives a power cut.
SELECT current_user::text AS role,
       session_user::text AS login,
       ARRAY(SELECT rolname::text FROM pg_roles
             WHERE rolname IN (current_user, session_user) AND (rolsuper OR rolbypassrls)
             ORDER BY 1) AS unbound,
       pg_is_in_recovery() AS standby,
       pg_backend_pid() AS backend,
       clock_timestamp() AS clock,
       current_setting('fsync')::boolean AS fsync,
       current_setting('full_page_writes')::boolean AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('max_connections')::integer AS max_connections;

-- name: months_ahead
-- How many months after this one have all their partitions.
SELECT gorax_partition_months_ahead();
