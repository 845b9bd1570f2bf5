-- name: owner_statement
-- The statement that makes, or mends, the role that owns a database: it may create the engine's roles and no more.
-- Utility statements take no parameters, so the server quotes the name and the password into their text.
SELECT format(
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $1) THEN 'ALTER' ELSE 'CREATE' END
    || ' ROLE %I LOGIN NOSUPERUSER NOCREATEDB CREATEROLE NOBYPASSRLS NOREPLICATION PASSWORD %L',
    $1::text, $2::text
) AS statement;

-- name: database_statement
-- The statement that creates a database, from a template; no row if the database exists.
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE %I', $1::text, $2::text, $3::text) AS statement
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = $1);
