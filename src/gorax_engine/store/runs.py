"""What is recorded of one run, read back to rebuild it; and the definitions that runs are pinned to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from gorax_engine.core.instants import format_instant
from gorax_engine.core.model import Classification, Json, StepError, StepKey
from gorax_engine.core.states import StepState
from gorax_engine.core.walk import StepRecord
from gorax_engine.store import queries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from gorax_engine.core.model import Instant
    from gorax_engine.store.session import Fetcher

_SQL: Final = queries.load("queue")


@dataclass(slots=True)
class OpenWait:
    """A wait that is still open: `attempt` of `step` goes on at `due` (None: it has no end), a timer with `output`.

    `child` is the run that a `sub_workflow` waits for, once it is started; `detail` what its end needs.
    """

    step: StepKey
    attempt: int
    kind: str
    due: Instant | None
    output: Json
    child: UUID | None = None
    detail: Json = None


def _decode(text: str | None) -> Json:
    return None if text is None else msgspec.json.decode(text)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of a run: attempts by step and attempt, and what loops have folded, by the loops' attempts."""

    steps: dict[tuple[StepKey, int], StepRecord]
    folded: dict[tuple[StepKey, int], list[Json]]


async def recorded(session: Fetcher, execution_id: UUID) -> Recorded:
    """Return what is needed to rebuild a run: no steps of iterations that are folded."""
    steps = await recorded_steps(session, execution_id, whole=False)
    folded: dict[tuple[StepKey, int], list[Json]] = {}
    for row in await session.fetch(_SQL.folded, execution_id):
        key = StepKey(row["node_id"], row["iteration_path"], row["round"]), row["retry_count"] + 1
        folded.setdefault(key, []).extend(_decode(row["results"]))
    return Recorded(steps, folded)


async def recorded_steps(
    session: Fetcher, execution_id: UUID, *, whole: bool = True
) -> dict[tuple[StepKey, int], StepRecord]:
    """Return the recorded attempts of a run, by step and attempt; those of folded iterations only with `whole`."""
    records: dict[tuple[StepKey, int], StepRecord] = {}
    for row in await session.fetch(_SQL.recorded_steps, execution_id, whole):
        state = StepState(row["status"])
        output = _decode(row["output_data"])
        records[StepKey(row["node_id"], row["iteration_path"], row["round"]), row["retry_count"] + 1] = StepRecord(
            state,
            row["completed_us"] or row["started_us"] or 0,
            output,
            row["outcome"],
            _error_of(row["error_code"], row["error_message"], output) if state is StepState.FAILED else None,
            row["started_us"],
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
        waits[step, row["attempt"]] = OpenWait(
            step,
            row["attempt"],
            row["kind"],
            row["due_us"],
            _decode(row["output"]),
            row["child_id"],
            _decode(row["detail"]),
        )
    return waits


async def signals(session: Fetcher, execution_id: UUID) -> dict[UUID, Json]:
    """Return what has come for the waits of a run, by the ids of their steps."""
    rows = await session.fetch(_SQL.signals, execution_id)
    return {row["step_id"]: _decode(row["resolution"]) for row in rows}


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended: its state, its output, its error, and the outputs of the steps that were asked for.

    `steps` is None where nobody has asked.
    """

    execution_id: UUID
    status: str
    output: Json
    error_code: str | None
    error_message: str | None
    steps: Mapping[str, Json] | None


async def child_ends(session: Fetcher, execution_ids: Sequence[UUID], steps: Sequence[str]) -> dict[UUID, ChildEnd]:
    """Return how runs ended, with the outputs of their top-level steps of these ids; what is gone is left out."""
    rows = await session.fetch(_SQL.child_outputs, execution_ids, steps)
    return {
        row["id"]: ChildEnd(
            row["id"],
            row["status"],
            _decode(row["output"]),
            row["error_code"],
            row["error_message"],
            _decode(row["steps"]) or {},
        )
        for row in rows
    }


async def definition(session: Fetcher, workflow_id: UUID, version: int) -> Json:
    """Return the definition of a published version, or None if it is gone."""
    rows = await session.fetch(_SQL.definition, workflow_id, version)
    return _decode(rows[0]["definition"]) if rows else None


@dataclass(frozen=True, slots=True)
class WaitForEvent:
    """A step that waits for an event, and the correlation key that it asks for, if it does."""

    step_id: UUID
    correlation_key: str | None


async def event_waits(session: Fetcher, execution_id: UUID, name: str) -> list[WaitForEvent]:
    """Return the steps of a run that wait for an event of this name."""
    return [WaitForEvent(*row.values()) for row in await session.fetch(_SQL.event_waits, execution_id, name)]


async def database_time(session: Fetcher) -> str:
    """Return the database's time as RFC 3339 text."""
    (row,) = await session.fetch(_SQL.database_time)
    return format_instant(row["now_us"])


async def new_execution_id(session: Fetcher) -> UUID:
    """Return an id for a run that begins now."""
    (row,) = await session.fetch(_SQL.new_execution_id)
    found: UUID = row["id"]
    return found


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run, with all that is needed to run it again."""

    id: UUID
    status: str
    workflow_id: UUID
    workflow_version: int
    published_version: int | None
    trigger_type: str
    trigger_node: str | None
    trigger_data: dict[str, Json]
    vars: Json
    origin_id: UUID | None
    created: Instant
    started: Instant | None


async def past_run(session: Fetcher, tenant_id: UUID, execution_id: UUID) -> PastRun | None:
    """Return a run of the tenant."""
    rows = await session.fetch(_SQL.past_run, execution_id, tenant_id)
    if not rows:
        return None
    values = dict(rows[0])
    values["trigger_data"] = _decode(values["trigger_data"]) or {}
    values["vars"] = _decode(values["vars"]) or {}
    return PastRun(**values)


async def recorded_inputs(session: Fetcher, execution_id: UUID) -> dict[tuple[StepKey, int], str]:
    """Return the recorded inputs of a run's attempts, as JSON."""
    return {
        (StepKey(row["node_id"], row["iteration_path"], row["round"]), row["retry_count"] + 1): row["input_data"]
        for row in await session.fetch(_SQL.recorded_inputs, execution_id)
    }
