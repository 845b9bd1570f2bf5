"""What is recorded of one run, read back to rebuild it; and the definitions that runs are pinned to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from gorax_engine.core.model import Classification, Json, StepError, StepKey
from gorax_engine.core.states import StepState
from gorax_engine.core.walk import StepRecord
from gorax_engine.store import queries

if TYPE_CHECKING:
    from uuid import UUID

    from gorax_engine.core.model import Instant
    from gorax_engine.store.session import Fetcher

_SQL: Final = queries.load("queue")


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A wait that is still open: `attempt` of `step` goes on at `due`, a timer with `output`."""

    step: StepKey
    attempt: int
    kind: str
    due: Instant
    output: Json


def _decode(text: str | None) -> Json:
    return None if text is None else msgspec.json.decode(text)


async def recorded_steps(session: Fetcher, execution_id: UUID) -> dict[tuple[StepKey, int], StepRecord]:
    """Return every recorded attempt of a run, by step and attempt."""
    records: dict[tuple[StepKey, int], StepRecord] = {}
    for row in await session.fetch(_SQL.recorded_steps, execution_id):
        state = StepState(row["status"])
        output = _decode(row["output_data"])
        records[StepKey(row["node_id"], row["iteration_path"], row["round"]), row["retry_count"] + 1] = StepRecord(
            state,
            row["completed_us"] or row["started_us"] or 0,
            output,
            row["outcome"],
            _error_of(row["error_code"], row["error_message"], output) if state is StepState.FAILED else None,
        )
    return records


_BOUND_FIELDS: Final = frozenset(
    {
        "code",
        "error_type",
        "error_message",
        "message",
        "classification",
        "node_id",
        "node_type",
        "retry_attempt",
        "max_retries",
        "timestamp",
    }
)


def _error_of(code: str | None, message: str | None, output: Json) -> StepError:
    """Rebuild the error of a failed attempt from its row: `output_data` keeps it as `{"error": {...}}`."""
    bound = output.get("error", {}) if isinstance(output, dict) else {}
    return StepError(
        code or "unknown",
        message or "",
        Classification(bound.get("classification", Classification.PERMANENT)),
        {key: value for key, value in bound.items() if key not in _BOUND_FIELDS},
    )


async def open_waits(session: Fetcher, execution_id: UUID) -> dict[tuple[StepKey, int], OpenWait]:
    """Return the open waits of a run, by step and attempt."""
    waits = {}
    for row in await session.fetch(_SQL.open_waits, execution_id):
        step = StepKey(row["node_id"], row["iteration_path"], row["round"])
        waits[step, row["attempt"]] = OpenWait(step, row["attempt"], row["kind"], row["due_us"], _decode(row["output"]))
    return waits


async def definition(session: Fetcher, workflow_id: UUID, version: int) -> Json:
    """Return the definition of a published version, or None if it is gone."""
    rows = await session.fetch(_SQL.definition, workflow_id, version)
    return _decode(rows[0]["definition"]) if rows else None
