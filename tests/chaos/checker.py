"""The checker of invariants: each is a named query in `invariants.sql` that returns what breaks it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    import asyncpg

    from tests.chaos.sink import Call
    from tests.chaos.workload import Start, Workflow

SHOWN: Final = 5
SCOPES: Final = ("loop", "parallel", "try", "retry", "circuit_breaker")


@dataclass(frozen=True, slots=True)
class Invariant:
    """A promise: `query` returns a row for each breach of it."""

    name: str
    meaning: str
    query: str


@dataclass(frozen=True, slots=True)
class Breach:
    """An invariant that does not hold, with the first rows that show it."""

    invariant: Invariant
    rows: int
    examples: Sequence[dict[str, Any]]

    def __str__(self) -> str:
        lines = [f"{self.invariant.name}: {self.rows} rows break it. {self.invariant.meaning}"]
        lines += ["    " + ", ".join(f"{key}={value}" for key, value in row.items()) for row in self.examples]
        return "\n".join(lines)


def invariants() -> list[Invariant]:
    """Read `invariants.sql`."""
    text = (Path(__file__).parent / "invariants.sql").read_text()
    found = []
    for block in re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]:
        name, *lines = block.strip().splitlines()
        meaning = " ".join(line.removeprefix("-- ") for line in lines if line.startswith("-- "))
        query = "\n".join(line for line in lines if not line.startswith("-- "))
        found.append(Invariant(name, meaning, query.rstrip().removesuffix(";")))
    return found


async def install_witness(connection: asyncpg.Connection[Any]) -> None:
    """Add the witness's triggers to a migrated database (as superuser)."""
    await connection.execute((Path(__file__).parent / "witness.sql").read_text())


async def record_workflows(connection: asyncpg.Connection[Any], workflows: Iterable[Workflow]) -> None:
    """Tell the witness the graphs that were published."""
    for workflow in workflows:
        nodes = workflow.definition["nodes"]
        await connection.executemany(
            "INSERT INTO chaos.node VALUES ($1, $2, $3, $4)",
            [(workflow.id, node["id"], _max_attempts(node), not node["id"].startswith("in_")) for node in nodes],
        )
        await connection.executemany(
            "INSERT INTO chaos.edge VALUES ($1, $2, $3)",
            [(workflow.id, edge["source"], edge["target"]) for edge in _waited_for(workflow.definition)],
        )
    await connection.execute(
        "INSERT INTO chaos.version SELECT workflow_id, version, md5(definition::text) FROM workflow_versions"
    )


def _waited_for(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the edges whose target begins only after their source has ended: none into a body, none into a join."""
    types = {node["id"]: node["type"] for node in definition["nodes"]}
    return [
        edge
        for edge in definition["edges"]
        if types[edge["target"]] != "join"
        and (types[edge["source"]] not in SCOPES or edge.get("label") in ("done", "error"))
    ]


def _max_attempts(node: dict[str, Any]) -> int:
    retry: dict[str, int] = node.get("retry", {})
    return retry.get("max_attempts", 4 if node["type"] == "http_request" else 1)


async def check(
    connection: asyncpg.Connection[Any], starts: Iterable[Start], calls: Iterable[Call], *, only: Sequence[str] = ()
) -> list[Breach]:
    """Fill in what the storm knows, ask every invariant (or those in `only`), and return those that don't hold."""
    await connection.execute("TRUNCATE chaos.ledger, chaos.sink")
    await connection.copy_records_to_table("ledger", schema_name="chaos", records=_ledger(starts))
    await connection.copy_records_to_table(
        "sink",
        schema_name="chaos",
        records=[
            (number, call.key, call.path, call.payload_hash, datetime.fromtimestamp(call.at, UTC))
            for number, call in enumerate(calls)
        ],
    )
    await connection.execute("ANALYZE")
    breaches = []
    for invariant in invariants():
        if only and invariant.name not in only:
            continue
        rows = await connection.fetch(invariant.query, timeout=120)
        if rows:
            breaches.append(Breach(invariant, len(rows), [dict(row) for row in rows[:SHOWN]]))
    return breaches


def _ledger(starts: Iterable[Start]) -> list[tuple[str, str, UUID | None, bool, str, str | None, str | None]]:
    return [
        (
            start.key,
            start.kind,
            start.acknowledged,
            start.by_webhook,
            start.expected.status,
            start.expected.output_json,
            start.expected.error_code,
        )
        for start in starts
    ]
