-- The three roles that the daemon works under, and the owner's right to switch to them.
-- phase: pre
--
-- owner           whoever runs this file; owns every object; is itself bound by FORCE ROW LEVEL SECURITY
-- gorax_worker    the engine: all tenants, through explicit policies, only on the tables that it needs
-- gorax_app       the API: one tenant per transaction (app.current_tenant_id)
-- gorax_readonly  reports: one tenant per transaction, SELECT only, no secrets
--
-- Roles belong to the whole cluster, so another database may have made them already, or be making them right now:
-- both are fine. An administrator may give them LOGIN. This file is short so that its row locks are held briefly.

DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['gorax_worker', 'gorax_app', 'gorax_readonly'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', v_role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- a migration of another database was quicker
        END;
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = v_role AND (rolsuper OR rolbypassrls)) THEN
            RAISE EXCEPTION 'role % would bypass row-level security', v_role
                USING HINT = format('Run ALTER ROLE %I NOSUPERUSER NOBYPASSRLS as an administrator.', v_role);
        END IF;
    END LOOP;
END
$$;

-- SET ROLE (or the start-up option role=) must work from the owner's own connection string.
DO $$
DECLARE
    v_role text;
    v_native boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['gorax_worker', 'gorax_app', 'gorax_readonly'] LOOP
        FOR v_try IN 1..20 LOOP
            -- From 16 on, membership alone doesn't allow SET ROLE.
            EXIT WHEN pg_has_role(current_user, v_role, CASE WHEN v_native THEN 'SET' ELSE 'MEMBER' END);
            BEGIN
                EXECUTE format('GRANT %I TO %I', v_role, current_user)
                    || CASE WHEN v_native THEN ' WITH SET TRUE, INHERIT FALSE' ELSE '' END;
            EXCEPTION
                WHEN unique_violation OR internal_error THEN
                    PERFORM pg_sleep(0.05);  -- the same grant, or another one of this role, is being made elsewhere
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'role % exists, and % may not switch to it', v_role, current_user
                        USING HINT = format('Run GRANT %I TO %I as an administrator.', v_role, current_user);
            END;
        END LOOP;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA public TO gorax_worker, gorax_app, gorax_readonly;
