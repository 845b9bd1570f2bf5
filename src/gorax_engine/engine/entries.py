"""What executions have to say to the journal: entries, the batches that they are committed in, and their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import msgspec

from gorax_engine.store import queue
from gorax_engine.store.queue import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gorax_engine.core.model import Instant, Json
    from gorax_engine.store.queue import EndRow, OutboxRow, ParkRow, StepRow, WaitRow
    from gorax_engine.store.runs import ChildEnd, OpenWait

MAX_ROWS: Final = 2_000
MAX_BYTES: Final = 4 * 1024 * 1024


class Owner:
    """An execution as the journal knows it: its fence, and whether it is still this worker's.

    `lost` is set when the fence refused it; `rejected` when Postgres refused its rows (`on_void` is called for both);
    `woken` when a park failed. `on_child` is told of each run that was started for one of its steps.
    """

    __slots__ = ("batch", "execution_id", "fence", "lost", "on_child", "on_void", "rejected", "token", "woken")

    def __init__(self, execution_id: UUID, tenant_id: UUID, token: int, on_void: Callable[[], None]) -> None:
        self.execution_id = execution_id
        self.fence = (str(execution_id), str(tenant_id), str(token))
        self.token = token
        self.on_void = on_void
        self.on_child: Callable[[StartedChild], None] = _nobody_asks
        self.lost = False
        self.rejected: str | None = None
        self.woken = False
        self.batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class ChildStart:
    """A run to be started for a step of a run; `input` is JSON of its trigger data."""

    step_id: UUID
    run: UUID
    tenant_id: UUID
    workflow: str
    input: str
    depth: int
    is_sync: bool


@dataclass(frozen=True, slots=True)
class StartedChild:
    """What became of a child: its id, if it was started."""

    step_id: UUID
    execution_id: UUID | None


@dataclass(frozen=True, slots=True)
class Tell:
    """The end of a run, to be told to the step of its parent: as JSON, and as `end` to who is in the same memory."""

    run: UUID
    step_id: UUID
    resolution: str
    end: ChildEnd


@dataclass(slots=True)
class FollowUp:
    """What few entries have besides records; see gorax_flush.

    `cancels` are waits for children that are to be cancelled: their ids may be known only when the flush is sent.
    """

    tasks: list[tuple[UUID, msgspec.Raw]] = field(default_factory=list)
    children: list[ChildStart] = field(default_factory=list)
    cancels: list[OpenWait] = field(default_factory=list)
    resolved: list[UUID] = field(default_factory=list)
    folds: list[Json] = field(default_factory=list)
    tells: list[Tell] = field(default_factory=list)
    mark: Instant | None = None


class Entry:
    """What one execution has to say in one batch."""

    __slots__ = ("closed_waits", "deadline", "end", "follow", "outbox", "owner", "park", "steps", "waits")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.steps: dict[str, StepRow] = {}
        self.waits: list[WaitRow] = []
        self.closed_waits: list[UUID] = []
        self.end: EndRow | None = None
        self.park: ParkRow | None = None
        self.deadline: tuple[UUID, Instant] | None = None
        self.outbox: list[OutboxRow] = []
        self.follow: FollowUp | None = None

    @property
    def follow_up(self) -> FollowUp:
        """What it has besides records, to be added to."""
        if self.follow is None:
            self.follow = FollowUp()
        return self.follow


class Batch:
    """Entries that are committed together. `done` is set when they are durable, or void.

    `then` is called when they are durable, before those who wait for `done` have their turn.
    """

    __slots__ = ("bytes", "done", "entries", "rows", "then")

    def __init__(self) -> None:
        self.entries: dict[UUID, Entry] = {}
        self.done = anyio.Event()
        self.rows = 0
        self.bytes = 0
        self.then: list[Callable[[], None]] = []

    @property
    def full(self) -> bool:
        return self.rows >= MAX_ROWS or self.bytes >= MAX_BYTES

    @property
    def crowded(self) -> bool:
        """Is it as large as a flush may be?"""
        return self.bytes >= MAX_BYTES


def _nobody_asks(_child: StartedChild) -> None:
    """What is told of children whose run has let go."""


def first_claim(child: ChildStart, row: dict[str, Json]) -> Claim:
    """The claim that came with the start of a child: the first of the run, so its token is 1."""
    return Claim(
        execution_id=UUID(row["execution_id"]),
        tenant_id=child.tenant_id,
        token=1,
        wake_seq=0,
        end_requested=None,
        recovered=False,
        workflow_id=UUID(row["workflow_id"]),
        workflow_version=row["version"],
        trigger_type="sub_workflow",
        trigger_node=None,
        trigger_data=child.input,
        vars=row["vars"],
        created=row["started_us"],
        started=row["started_us"],
        parent_execution_id=child.run,
        parent_step_id=child.step_id,
        depth=child.depth,
    )


def children_of(entries: Sequence[Entry]) -> dict[UUID, tuple[Owner, ChildStart]]:
    """Return the runs that entries start, with who starts them, by the step that waits for them."""
    return {
        child.step_id: (entry.owner, child)
        for entry in entries
        if entry.follow is not None
        for child in entry.follow.children
    }


def _follow_up(entries: Sequence[Entry]) -> str | None:
    """Return what the entries have besides records, as gorax_flush takes it."""
    found = [(entry, entry.follow) for entry in entries if entry.follow is not None]
    if not found:
        return None
    more: dict[str, list[Json]] = {
        "folds": [fold for _, follow in found for fold in follow.folds],
        "tasks": [task for _, follow in found for _, task in follow.tasks],
        "children": [
            {
                "step": str(child.step_id),
                "run": str(child.run),
                "tenant": str(child.tenant_id),
                "workflow": child.workflow,
                "input": msgspec.Raw(child.input.encode()),
                "depth": child.depth,
                "is_sync": child.is_sync,
            }
            for _, follow in found
            for child in follow.children
        ],
        "cancels": [
            {"run": str(wait.child)} for _, follow in found for wait in follow.cancels if wait.child is not None
        ],
        "resolved": [str(step_id) for _, follow in found for step_id in follow.resolved],
        "tells": [
            {"run": str(tell.run), "step": str(tell.step_id), "resolution": tell.resolution}
            for _, follow in found
            for tell in follow.tells
        ],
        "marks": [
            {"run": str(entry.owner.execution_id), "at": follow.mark}
            for entry, follow in found
            if follow.mark is not None
        ],
    }
    return msgspec.json.encode({key: rows for key, rows in more.items() if rows}).decode()


def rows_of(entries: Sequence[Entry]) -> queue.Flush:
    """Return the rows of a flush, in the order of the entries. Raises what encoding raises, for data of a node."""
    more = _follow_up(entries)
    return queue.Flush(
        fence=[entry.owner.fence for entry in entries],
        steps=[row for entry in entries for row in entry.steps.values()],
        step_runs=[str(place) for place, entry in enumerate(entries, 1) for _ in entry.steps],
        waits=[row for entry in entries for row in entry.waits],
        closed_waits=[step_id for entry in entries for step_id in entry.closed_waits],
        ends=[entry.end for entry in entries if entry.end is not None],
        parks=[entry.park for entry in entries if entry.park is not None],
        deadlines=[entry.deadline for entry in entries if entry.deadline is not None],
        outbox=[row for entry in entries for row in entry.outbox],
        more=more,
    )
