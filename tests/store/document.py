"""Compares a migrated database with the schema document, item by item.

The document's own SQL is run into a schema beside the real one, so that Postgres itself says what the document means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .structure import COLUMNS, CONSTRAINTS, INDEXES, POLICIES, TABLES, fetch

if TYPE_CHECKING:
    from gorax_engine.store.database import Connection

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_POLICY = re.compile(r"^CREATE POLICY (\w+).*?;\s*$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True, order=True)
class Deviation:
    """One thing that the document says and the database doesn't do so."""

    item: str
    difference: str


def statements() -> list[str]:
    """Return the document's tables and indexes (sections 1 to 27) and its policies, in order."""
    text = (DOCS / "reference" / "database-schema.md").read_text(encoding="utf-8")
    tables, rest = text.split("\n## Entity Relationship Diagrams\n")
    found: list[str] = []
    for block in _BLOCK.findall(tables):
        for statement in re.split(r"(?<=;)\s*\n", block.split("CREATE OR REPLACE FUNCTION")[0]):
            bare = re.sub(r"^(?:--.*\n|\s)*", "", statement)
            if re.match(r"CREATE (TABLE|INDEX|POLICY)\b", bare) and "PARTITION OF" not in bare:
                found.append(bare)
    seen = {match[1] for match in _POLICY.finditer("\n".join(found))}
    for block in _BLOCK.findall(rest):
        found += [match[0] for match in _POLICY.finditer(block) if match[1] not in seen]
    return found


async def build(connection: Connection) -> None:
    """Make a schema `document` that is what the document says."""
    async with connection.transaction():
        await connection.execute("CREATE SCHEMA document")
        await connection.execute("SET LOCAL search_path = document")
        await connection.execute(
            "CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'"
        )
        for statement in statements():
            await connection.execute(statement)


async def items(connection: Connection, schema: str) -> dict[str, str]:
    """Return every item of a schema by name: tables, columns' types, defaults and nullability, and so on."""
    found: dict[str, str] = {}
    for row in await fetch(connection, TABLES, schema):
        found[f"{row['name']}"] = f"partitioned by {row['partitioned']}" if row["partitioned"] else "plain table"
    for row in await fetch(connection, COLUMNS, schema):
        name = f"{row['table']}.{row['name']}"
        found[f"{name} type"] = row["type"]
        found[f"{name} default"] = row["default"] or "no default"
        found[f"{name} nullability"] = "NOT NULL" if row["not_null"] else "NULL"
    for row in await fetch(connection, CONSTRAINTS, schema):
        found[f"{row['table']} constraint {row['name']}"] = row["definition"]
    for row in await fetch(connection, INDEXES, schema):
        found[f"{row['table']} index {row['name']}"] = re.sub(r".* USING ", "", row["definition"])
    for row in await fetch(connection, POLICIES, schema):
        using, check = (re.sub(r"\s+", " ", row[key] or "none") for key in ("using", "check"))
        found[f"{row['table']} policy {row['name']}"] = (
            f"for {row['command']} to {', '.join(row['roles'])} using {using} check {check}"
        )
    return found


async def compare(connection: Connection) -> set[Deviation]:
    """Return every item of the document that is absent or different in schema public."""
    await build(connection)
    wanted, real = (
        await items(connection, "document"),
        await items(connection, "public"),
    )
    return {
        Deviation(
            name,
            f"`{value}` → `{real[name]}`" if name in real else f"`{value}` → absent",
        )
        for name, value in wanted.items()
        if real.get(name) != value
    }


def listed() -> dict[Deviation, str]:
    """Return the deviations that docs/schema-deviations.md lists, with their reasons."""
    text = (DOCS / "schema-deviations.md").read_text(encoding="utf-8").split("\n## Tables without")[0]
    return {Deviation(item, difference): reason for item, difference, reason in _ROW.findall(text)}


def unsecured() -> set[str]:
    """Return the tables that docs/schema-deviations.md lists as having no row-level security."""
    text = (DOCS / "schema-deviations.md").read_text(encoding="utf-8").split("\n## Tables without")[1]
    return set(re.findall(r"^\| `(\w+)` \| .+ \|$", text, re.MULTILINE))
