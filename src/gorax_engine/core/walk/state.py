"""What the walk knows of one run: which nodes are decided, what they gave, which scopes are open, what is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, TypeAlias

from gorax_engine.core.expressions import Scope
from gorax_engine.core.model import StepKey
from gorax_engine.core.states import ExecutionState

if TYPE_CHECKING:
    from gorax_engine.core.model import Instant, Json, StepError
    from gorax_engine.core.plan import Body, Plan, PlanNode


class NodeState(IntEnum):
    """Where a node of a body stands. READY waits for a free place under `max_concurrency`."""

    UNDECIDED = 0
    READY = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    SKIPPED = 5


UNDECIDED, READY, RUNNING, SUCCEEDED, FAILED, SKIPPED = (int(state) for state in NodeState)
DECIDED = SUCCEEDED
"""States from here on are final."""
_TIMERS_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Success:
    """A body or scope ended well."""

    output: Json


@dataclass(frozen=True, slots=True)
class Failure:
    """A body or scope ended badly; `bound` is the error as templates see it, from the step where it came from."""

    error: StepError
    bound: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A body or scope was cut off."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run ends as completed; `output` is what a `stop` gave, if `has_output`, else the run's usual one."""

    output: Json = None
    has_output: bool = False


Result: TypeAlias = Success | Failure | Cancelled | Stopped
CANCELLED: Final = Cancelled()


class Frame:
    """One body at work: the top of the run, one iteration, one branch, one round. Only the walk changes it.

    nodes: bytearray of NodeState.   pending: undecided incoming edges.   live: 1 where an incoming edge is live.
    attempts: running node -> its attempt.   scopes: open scope -> its run.   arrived: join -> sources that have come.
    continues: 1 where the node ended with a live outgoing edge (such a node is no leaf).
    remaining: how many nodes are not decided.
    outputs: node id -> output, the `steps` root here, with those of the frames around as they were when it opened.
    result: set when the frame is closing early, before all its nodes are decided.
    """

    __slots__ = (
        "arrived",
        "attempts",
        "body",
        "continues",
        "ended",
        "live",
        "nodes",
        "opened",
        "outputs",
        "owner",
        "path",
        "pending",
        "place",
        "remaining",
        "result",
        "roots",
        "round",
        "scopes",
    )

    def __init__(
        self,
        body: Body,
        owner: ScopeRun | None,
        place: int,
        path: str,
        round_number: int,
        outputs: dict[str, Json],
        roots: Mapping[str, Json],
        opened: Instant,
    ) -> None:
        count = len(body.nodes)
        self.body = body
        self.owner = owner
        self.place = place
        self.path = path
        self.round = round_number
        self.nodes = bytearray(count)
        self.pending = list(body.incoming)
        self.live = bytearray(count)
        self.continues = bytearray(count)
        self.attempts: dict[int, int] = {}
        self.scopes: dict[int, ScopeRun] = {}
        self.arrived: dict[int, list[int]] = {}
        self.remaining = count
        self.outputs = outputs
        self.roots = {**roots, "steps": outputs}
        self.opened = opened
        self.result: Result | None = None
        self.ended = False

    def key(self, node: PlanNode) -> StepKey:
        """Return the step of one of its nodes."""
        return StepKey(node.id, self.path, self.round) if self.path or self.round else node.key


@dataclass(slots=True, eq=False)
class ScopeRun:
    """One attempt of a scope that is open. `children` are its frames at work.

    `result` is set when it is to end as soon as they have: with what, whatever they bring.
    """

    frame: Frame
    index: int
    attempt: int
    opened: Instant
    round: int
    children: list[Frame] = field(default_factory=list)
    result: Result | None = None

    @property
    def node(self) -> PlanNode:
        return self.frame.body.nodes[self.index]


@dataclass(slots=True, eq=False)
class LoopRun(ScopeRun):
    """`items` (None for a while loop) with their `keys`; `results` by index, `ended` when those not folded yet ended.

    `next` is the next iteration to begin; `over`: none begins any more, `broken`: because of a break condition.
    `waiting` are ended frames whose break conditions are still to be judged, `judged` how many have been. `last` is the
    iteration that a `while` looks back to.

    The first `whole` iterations have ended, the first `folded` of them are recorded together. Of a run that is rebuilt,
    `kept` is how many were: they have no frames, and those that have begun and not ended are `absent`.
    """

    items: list[Json] | None = None
    keys: list[str] | None = None
    next: int = 0
    judged: int = 0
    over: bool = False
    results: dict[int, Json] = field(default_factory=dict)
    ended: dict[int, Instant] = field(default_factory=dict)
    broken: bool = False
    whole: int = 0
    folded: int = 0
    kept: int = 0
    absent: int = 0
    waiting: dict[int, Frame] = field(default_factory=dict)
    last: Frame | None = None


@dataclass(slots=True, eq=False)
class ParallelRun(ScopeRun):
    """`results` by branch; `next` is the next branch to begin; `failure` the last one."""

    next: int = 0
    results: dict[int, Json] = field(default_factory=dict)
    failure: Failure | None = None
    outputs: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class TryRun(ScopeRun):
    """`phase` says which body is at work; `ahead` is what the scope comes to, once a finally has run."""

    phase: str = "try"
    output: dict[str, Json] = field(default_factory=dict)
    ahead: Result | None = None
    outputs: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class RetryRun(ScopeRun):
    """`attempts` are the rounds that have failed, as its output shows them."""

    attempts: list[Json] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class BreakerRun(ScopeRun):
    """A body behind a circuit breaker."""


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that the walk does at a moment.

    `kind`: timeout (of a scope), reopen (a scope's next attempt), round (a retry scope's next), join (its timeout),
    force (the end of the patience with what must run before the run ends).
    """

    kind: str
    frame: Frame
    index: int = -1
    attempt: int = 0


class WalkState:
    """The state of one run. Only the walk changes it.

    frames: the open ones, by body, path and round.   running: how many steps are at work.
    ready: those that wait for a place.   timers: a heap of (due, number, timer).
    rounds: (scope, path) -> the last round that it used there.
    folded: attempts of loops -> of how many first iterations it is recorded what they gave, until they open.
    roots: all expression roots at the top; but for `steps` they are frozen at the start.   at: when the last event was.
    """

    __slots__ = (
        "at",
        "folded",
        "forced",
        "frames",
        "ready",
        "roots",
        "rounds",
        "running",
        "seed",
        "status",
        "timers",
        "timers_made",
        "timers_most",
        "top",
    )

    def __init__(self, plan: Plan, roots: Mapping[str, Json], seed: bytes) -> None:
        self.status = ExecutionState.RUNNING
        self.top = Frame(plan.top, None, 0, "", 0, {}, roots, 0)
        self.roots = self.top.roots
        self.frames: dict[tuple[int, str, int], Frame] = {(0, "", 0): self.top}
        self.running = 0
        self.ready: deque[tuple[Frame, int]] = deque()
        self.timers: list[tuple[Instant, int, Timer]] = []
        self.timers_made = 0
        self.timers_most = _TIMERS_KEPT
        self.rounds: dict[tuple[str, str], int] = {}
        self.seed = seed
        self.at: Instant = 0
        self.forced = False
        self.folded: dict[tuple[StepKey, int], int] = {}

    @property
    def outputs(self) -> Mapping[str, Json]:
        """The outputs of the steps at the top, by node id."""
        return self.top.outputs

    def frame_of(self, node: PlanNode, step: StepKey) -> Frame | None:
        """Return the open frame that a step is in."""
        if node.body == 0:
            return self.top if not (step.path or step.round) else None
        return self.frames.get((node.body, step.path, step.round))

    def set_timer(self, due: Instant, timer: Timer) -> None:
        """Add a timer."""
        self.timers_made += 1
        heappush(self.timers, (due, self.timers_made, timer))
        if len(self.timers) >= self.timers_most:
            # Those that mean nothing any more hold on to their frames: no more of them than of the others are kept.
            self.timers[:] = [entry for entry in self.timers if is_alive(entry[2])]
            heapify(self.timers)
            self.timers_most = max(_TIMERS_KEPT, 2 * len(self.timers))

    def next_due(self) -> tuple[Instant, Timer] | None:
        """Return the next timer that still means something."""
        while self.timers:
            due, _, timer = self.timers[0]
            if is_alive(timer):
                return due, timer
            heappop(self.timers)
        return None


def is_alive(timer: Timer) -> bool:
    """Say whether what the timer is about is still as it was when the timer was set."""
    frame = timer.frame
    if frame.ended:
        return False
    match timer.kind:
        case "force":
            return True
        case "join":
            return frame.nodes[timer.index] < DECIDED
        case "reopen":
            return frame.attempts.get(timer.index) == timer.attempt and timer.index not in frame.scopes
        case _:
            run = frame.scopes.get(timer.index)
            return run is not None and run.attempt == timer.attempt and run.result is None


def scope_of(plan: Plan, state: WalkState, frame: Frame, now: Instant) -> Scope:
    """Return what expressions see in a frame at this moment; `now` is what `now()` gives."""
    return Scope(frame.roots, now, plan.settings.missing, state.seed)
