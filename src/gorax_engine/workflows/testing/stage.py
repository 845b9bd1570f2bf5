"""What each step of a simulated run comes to: its mock's answer, or what the node itself makes of its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from gorax_engine.core.expressions import CREDENTIALS, ExpressionError
from gorax_engine.core.failures import is_true
from gorax_engine.core.instants import format_instant
from gorax_engine.core.json_edge import Unencodable
from gorax_engine.core.model import Completed, Failed, NodeKind, StepError, Suspended
from gorax_engine.engine.recorder import encode_bounded
from gorax_engine.nodes.api import NodeContext
from gorax_engine.vault.masking import MASK
from gorax_engine.workflows.testing.answering import Ending, FillIn, WrongAnswer, ending_of, ending_of_wait, within
from gorax_engine.workflows.testing.cases import ANYWHERE
from gorax_engine.workflows.testing.trace import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gorax_engine.core.commands import StartStep
    from gorax_engine.core.expressions import Scope
    from gorax_engine.core.model import Instant, Json, Outcome
    from gorax_engine.core.plan import PlanNode
    from gorax_engine.nodes.api import TaskNode
    from gorax_engine.nodes.registry import NodeRegistry
    from gorax_engine.workflows.testing.cases import Answer, Case

EXECUTION: Final = UUID("00000000-0000-7000-8000-000000000001")
TENANT: Final = UUID("00000000-0000-7000-8000-000000000002")
WORKFLOW: Final = UUID("00000000-0000-7000-8000-000000000003")

CODE: Final = "code"
NO_SANDBOX: Final = "sandbox_unavailable"

_WAITS: Final = frozenset({"human_task", "wait_for_event", "sub_workflow"})
"""Types whose mocks answer a wait: what the node itself makes of its config comes first."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What runs of cases share: pure node types, what checks forms, and what runs `code`."""

    registry: NodeRegistry
    fill_in: FillIn
    scripts: TaskNode


@dataclass(frozen=True, slots=True)
class Prepared:
    """A step that may act: its config as rendered, and as it is recorded."""

    config: Mapping[str, Json]
    given: Json


class Stuck(Exception):
    """A case can't go on; the text says why and how to mend it."""

    def __init__(self, message: str, place: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class Stage:
    """Where the steps of one case act."""

    def __init__(self, case: Case, surroundings: Surroundings) -> None:
        self._case = case
        self._around = surroundings
        self._calls: dict[tuple[str, str], int] = {}

    def roots(self) -> dict[str, Json]:
        """Return the expression roots of the run, but for `steps`."""
        case = self._case
        env = {
            "tenant_id": str(TENANT),
            "execution_id": str(EXECUTION),
            "workflow_id": str(WORKFLOW),
            "workflow_version": 1,
            "started_at": format_instant(case.now),
        }
        return {"trigger": case.trigger, "vars": dict(case.vars), "env": {**env, **case.env}}

    def prepare(self, node: PlanNode, command: StartStep, scope: Scope) -> Prepared | Failed | None:
        """Render a step's config; None if its `when` is false."""
        try:
            if node.when is not None and command.attempt == 1 and not is_true(node.when(scope), "`when`"):
                return None
            if node.kind is NodeKind.TASK and node.credentials:
                scope = scope.child({CREDENTIALS: stand_ins(node)})
            config = node.config.render(scope)
            given = node.config.record(config) if config or node.kind is NodeKind.TASK else None
            encode_bounded(given)
        except ExpressionError as error:
            return Failed(StepError(error.code, error.message))
        except Unencodable as error:
            return Failed(StepError("type_error", f"The step's input can't be stored: {error}."))
        return Prepared(config, given)

    def answer(self, node: PlanNode, command: StartStep) -> Answer | None:
        """Return what the mock of a step says to this call; None if it has no mock. Raises Stuck."""
        mock = self._case.mocks.get(node.id)
        if mock is None:
            return None
        path, place = command.step.path, place_of(command.step)
        number = self._calls[node.id, path] = self._calls.get((node.id, path), 0) + 1
        answers = mock.get(path) or mock.get(ANYWHERE)
        if answers is None:
            known = ", ".join(f"`{each}`" for each in mock)
            message = f"The mock of `{node.id}` says nothing for the path `{path}`: it has {known}."
            raise Stuck(f"{message} Add it, or `*` for all others.", place)
        answer = answers.of_call(number)
        if answer is None:
            count = len(answers.listed)
            message = (
                f"`{place}` is called {number} times, but its mock lists {count} answer{'s' if count > 1 else ''}:"
            )
            raise Stuck(f"{message} add one, or give one answer without a list, which is for all calls.", place)
        return answer

    async def ending(
        self, node: PlanNode, command: StartStep, prepared: Prepared, answer: Answer | None, scope: Scope, now: Instant
    ) -> Ending:
        """Return how an attempt ends, and when. Raises Stuck if nobody says it."""
        outside = node.kind is NodeKind.TASK
        if answer is not None and (outside or node.type not in _WAITS):
            return within(node, ending_of(node, answer, now), now)
        if outside and node.type != CODE:
            raise _unmocked(node, command)
        outcome = await self._evaluate(node, command, prepared.config, scope)
        if isinstance(outcome, Failed) and outcome.error.code == NO_SANDBOX:
            raise _unmocked(node, command)
        if not isinstance(outcome, Suspended):
            return Ending(now, outcome)
        if outcome.wait is None:
            return within(node, Ending(outcome.due_at, Completed(outcome.output)), now)
        if answer is None:
            raise _unmocked(node, command)
        try:
            return within(node, ending_of_wait(node, outcome, answer, now, self._around.fill_in), now)
        except WrongAnswer as wrong:
            raise Stuck(str(wrong), place_of(command.step)) from wrong

    async def _evaluate(self, node: PlanNode, command: StartStep, config: Mapping[str, Json], scope: Scope) -> Outcome:
        context = self._context(node, command, scope)
        try:
            if node.kind is NodeKind.TASK:
                return await self._around.scripts.run(config, context)
            return self._around.registry.pure(node.type).evaluate(config, context)
        except ExpressionError as error:
            return Failed(StepError(error.code, error.message))
        except Unencodable as error:
            return Failed(StepError("type_error", f"The step's input can't be stored: {error}."))
        except Exception as error:  # noqa: BLE001 - a fault of a node fails its step, as in the engine
            return Failed(StepError("node_crashed", f"The node type {node.type} failed: {type(error).__name__}."))

    def _context(self, node: PlanNode, command: StartStep, scope: Scope) -> NodeContext:
        step = command.step
        return NodeContext(
            str(EXECUTION),
            str(TENANT),
            str(WORKFLOW),
            step.node,
            step.path,
            command.attempt,
            command.at,
            f"{EXECUTION}:{step.node}:{step.path}",
            EXECUTION.bytes,
            self._case.trigger,
            scope.roots if node.sees_roots else {},
        )


def _unmocked(node: PlanNode, command: StartStep) -> Stuck:
    place, kind = place_of(command.step), node.type
    what = {
        "human_task": "waits for people",
        "wait_for_event": "waits for an event",
        "sub_workflow": "runs another workflow",
        "code": "runs a script, for which there is no sandbox here",
    }.get(kind, "acts on the outside")
    example = {"human_task": "{outcome: approved}", "wait_for_event": "{body: ...}"}.get(kind, "{output: ...}")
    return Stuck(
        f"The step `{place}` ({kind}) {what}, and the case doesn't say what comes of it: "
        f"add `mocks: {{{node.id}: {example}}}`.",
        place,
    )


def stand_ins(node: PlanNode) -> dict[str, Json]:
    """Return a value for each credential that a step names: as many fields as it looks up, all of them masked."""
    found: dict[str, Json] = {name: {"name": name, "type": MASK} for name in node.credentials}
    for reference in node.config.references:
        if reference.root != CREDENTIALS or len(reference.path) < 2:
            continue
        here = found[str(reference.path[0])]
        for token in reference.path[1:-1]:
            inner = here.get(token)
            here = here[token] = inner if isinstance(inner, dict) else {}
        here.setdefault(reference.path[-1], MASK)
    return found
