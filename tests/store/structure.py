"""Describes the structure of a database in words that don't depend on the server's version, the month or the owner."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

    from gorax_engine.store.database import Connection

COLUMNS = """
SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attidentity <> '' THEN 'GENERATED AS IDENTITY' ELSE pg_get_expr(d.adbin, d.adrelid) END AS default,
       a.attnotnull AS not_null
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname, a.attnum
"""

CONSTRAINTS = """
SELECT c.relname AS table, k.conname AS name, k.contype::text AS kind, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid AND NOT c.relispartition
WHERE c.relnamespace = $1::regnamespace AND k.contype IN ('p', 'u', 'f', 'c', 'x')
ORDER BY c.relname, k.conname
"""

INDEXES = """
SELECT c.relname AS table, i.relname AS name, pg_get_indexdef(i.oid) AS definition
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class c ON c.oid = x.indrelid AND NOT c.relispartition
WHERE c.relnamespace = $1::regnamespace AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid)
ORDER BY c.relname, i.relname
"""

POLICIES = """
SELECT c.relname AS table, p.polname AS name, p.polpermissive AS permissive,
       CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                     ELSE 'DELETE' END AS command,
       ARRAY(SELECT CASE WHEN r = 0 THEN 'PUBLIC' WHEN r = c.relowner THEN 'OWNER' ELSE pg_get_userbyid(r)::text END
             FROM unnest(p.polroles) AS r ORDER BY 1) AS roles,
       pg_get_expr(p.polqual, p.polrelid) AS using, pg_get_expr(p.polwithcheck, p.polrelid) AS check
FROM pg_policy p
JOIN pg_class c ON c.oid = p.polrelid AND NOT c.relispartition
WHERE c.relnamespace = $1::regnamespace
ORDER BY c.relname, p.polname
"""

TABLES = """
SELECT c.relname AS name, pg_get_partkeydef(c.oid) AS partitioned, c.reloptions AS options,
       c.relrowsecurity AS secured, c.relforcerowsecurity AS forced
FROM pg_class c
WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY c.relname
"""

GRANTS = """
SELECT g.object, pg_get_userbyid(g.grantee)::text AS role, g.columns,
       string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type) AS rights
FROM (
    SELECT c.relname AS object, x.grantee, x.privilege_type, NULL::text AS columns
    FROM pg_class c, aclexplode(c.relacl) AS x
    WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND x.grantee <> c.relowner
    UNION ALL
    SELECT c.relname, x.grantee, x.privilege_type, string_agg(a.attname, ', ' ORDER BY a.attnum)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) AS x
    WHERE c.relnamespace = $1::regnamespace AND x.grantee <> c.relowner
    GROUP BY c.relname, x.grantee, x.privilege_type
) AS g
GROUP BY g.object, g.grantee, g.columns
ORDER BY g.object, role, g.columns NULLS FIRST
"""

FUNCTIONS = """
SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
       l.lanname AS language, p.provolatile::text AS volatility, p.prosecdef AS definer, p.proconfig AS settings,
       p.prosrc AS body,
       ARRAY(SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee)::text END
             FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
             WHERE x.grantee <> p.proowner ORDER BY 1) AS executors
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = $1::regnamespace
ORDER BY p.proname, arguments
"""

HEAD = """\
-- The structure that the migrations lead to. Generated: GORAX_WRITE_SCHEMA=1 pytest tests/store/test_schema.py
-- Partitions, which depend on the month, and repeatable functions, which have their own files, are left out."""

VOLATILITY = {"i": "IMMUTABLE", "s": "STABLE", "v": "VOLATILE"}


async def fetch(connection: Connection, query: str, schema: str) -> list[asyncpg.Record]:
    """Run one of the queries above on one schema, with all its names unqualified."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL search_path = {schema}")
        return list(await connection.fetch(query, schema))


async def describe(connection: Connection, leave_out: frozenset[str]) -> str:
    """Return the structure of schema public as text; functions named in `leave_out` are not part of it."""
    rows = {
        name: await fetch(connection, query, "public")
        for name, query in {
            "columns": COLUMNS,
            "constraints": CONSTRAINTS,
            "indexes": INDEXES,
            "policies": POLICIES,
            "grants": GRANTS,
        }.items()
    }
    parts = [HEAD]
    for table in await fetch(connection, TABLES, "public"):
        name = table["name"]
        lines = [_column(row) for row in rows["columns"] if row["table"] == name]
        lines += [f"CONSTRAINT {r['name']} {r['definition']}" for r in rows["constraints"] if r["table"] == name]
        head = f"CREATE TABLE {name} (\n    " + ",\n    ".join(lines) + "\n)"
        head += f" PARTITION BY {table['partitioned']}" if table["partitioned"] else ""
        head += f" WITH ({', '.join(table['options'])})" if table["options"] else ""
        text = [head + ";"]
        text += [f"{r['definition']};" for r in rows["indexes"] if r["table"] == name]
        text += [f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;"] * table["secured"]
        text += [f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY;"] * table["forced"]
        text += [_policy(r) for r in rows["policies"] if r["table"] == name]
        text += [_grant(r) for r in rows["grants"] if r["object"] == name]
        parts.append("\n".join(text))
    functions = await fetch(connection, FUNCTIONS, "public")
    parts += [_function(row) for row in functions if row["name"] not in leave_out]
    return "\n\n".join(parts) + "\n"


def _column(row: asyncpg.Record) -> str:
    default = f" DEFAULT {row['default']}" if row["default"] else ""
    return f"{row['name']} {row['type']}{default}{' NOT NULL' if row['not_null'] else ''}"


def _policy(row: asyncpg.Record) -> str:
    using = f" USING {row['using']}" if row["using"] else ""
    check = f" WITH CHECK {row['check']}" if row["check"] else ""
    kind = "" if row["permissive"] else " AS RESTRICTIVE"
    text = f"CREATE POLICY {row['name']} ON {row['table']}{kind} FOR {row['command']} TO {', '.join(row['roles'])}"
    return re.sub(r"\s+", " ", f"{text}{using}{check};")


def _grant(row: asyncpg.Record) -> str:
    columns = f" ({row['columns']})" if row["columns"] else ""
    return f"GRANT {row['rights']}{columns} ON {row['object']} TO {row['role']};"


def _function(row: asyncpg.Record) -> str:
    body = "-- differs by server version" if row["name"] == "gorax_uuid7" else row["body"].strip()
    settings = "".join(f" SET {each}" for each in row["settings"] or ())
    return (
        f"CREATE FUNCTION {row['name']}({row['arguments']}) RETURNS {row['result']}\n"
        f"    LANGUAGE {row['language']} {VOLATILITY[row['volatility']]}"
        f"{' SECURITY DEFINER' if row['definer'] else ''}{settings}\n"
        f"AS $$\n{body}\n$$;\n"
        f"-- may be executed by: {', '.join(row['executors']) or 'the owner alone'}"
    )
