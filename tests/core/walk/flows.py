"""Small definitions in one line, run with the real node types in virtual time.

`t>items items:body>f` are edges, with their labels after a colon; `t` is the trigger. A node of type `step` does what
the test says, after 10 µs if that is nothing; a fault of a definition fails the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from gorax_engine.core.commands import CancelStep, OpenStep, StartStep
from gorax_engine.core.events import Event
from gorax_engine.core.expressions import ExpressionError
from gorax_engine.core.model import Completed, Failed, Json, NodeKind, NodeSpec, StepError, StepKey, Suspended
from gorax_engine.core.plan import Plan, compile_plan
from gorax_engine.core.reading import read
from gorax_engine.core.walk import scope_of
from gorax_engine.core.walk.recovery import CUT
from gorax_engine.nodes.api import NodeContext
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from tests.core.walk.driver import START, Result, Run

NodeLike: TypeAlias = dict[str, Any]
Answers: TypeAlias = Mapping[str, Result | Sequence[Result]]
"""What steps come to, by node id or place: always the same, or by attempts and rounds, the last one again and again."""


class Step:
    """A task whose fortunes the test says."""

    spec: Final = NodeSpec("step", NodeKind.TASK, {"type": "object"})

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Completed:
        raise NotImplementedError


REGISTRY: Final = NodeRegistry([*builtin_nodes(), Step()])


def node(type: str, policies: Mapping[str, Json] | None = None, /, **config: Json) -> NodeLike:
    """A node of a definition; `policies` stand beside its config."""
    return {"type": type, "config": config, **(policies or {})}


def formula(expression: str, policies: Mapping[str, Json] | None = None) -> NodeLike:
    return node("formula", policies, expression=expression)


def step(**policies: Json) -> NodeLike:
    return node("step", policies)


def broken(code: str = "boom", message: str = "It broke.", **policies: Json) -> NodeLike:
    """A node that fails."""
    return node("fail", policies, code=code, message=message)


def fails(code: str = "boom", after: int = 10) -> Result:
    return Result(ok=False, duration=after, failure=StepError(code, "It broke."))


def gives(output: Json = None, after: int = 10) -> Result:
    return Result(ok=True, duration=after, output=output)


def definition_of(edges: str, nodes: Mapping[str, NodeLike], **rest: Json) -> dict[str, Json]:
    pairs = [edge.partition(">")[::2] for edge in edges.split()]
    parts = [(*source.partition(":")[::2], target) for source, target in pairs]
    names = dict.fromkeys(name for source, _, target in parts for name in (source, target))
    named = {**dict.fromkeys(names, step()), "t": node("manual_trigger"), **nodes}
    return {
        "nodes": [{"id": name, **each} for name, each in named.items()],
        "edges": [
            {"source": source, "target": target, **({"label": label} if label else {})}
            for source, label, target in parts
        ],
        **rest,
    }


def plan_of(definition: Json) -> Plan:
    reading = read(definition, REGISTRY)
    assert reading.definition is not None, reading.problems
    return compile_plan(reading.definition, REGISTRY.specs)


def place(key: StepKey) -> str:
    """A step in short: `items[1].pay`, in a later round `pay#1`."""
    where = f"{key.path}.{key.node}" if key.path else key.node
    return f"{where}#{key.round}" if key.round else where


class Flow(Run):
    """A run of a definition; `says` is what its steps come to."""

    def __init__(self, definition: Json, says: Answers, ends: Sequence[Event], body: Json) -> None:
        self._says = {name: [said] if isinstance(said, Result) else list(said) for name, said in says.items()}
        super().__init__(plan_of(definition), self, tuple(ends), data={"body": body})

    def result(self, run: Run, start: StartStep) -> Result:
        """Evaluate the node, or do what the test says."""
        key, each = start.step, self.plan.nodes[start.step.node]
        frame = self.state.frame_of(each, key)
        if frame is None:
            return gives()  # it was cut off by what came at once after its start
        scope = scope_of(self.plan, self.state, frame, start.at)
        try:
            if each.kind is not NodeKind.WALK and each.when is not None and start.attempt == 1 and not each.when(scope):
                return Result(ok=True, duration=1, declines=True)
            if each.type in ("step", "circuit_breaker"):
                return self._say(key)
            context = NodeContext(
                "e", "t", "w", key.node, key.path, start.attempt, start.at, "k", b"", self.data, frame.roots
            )  # fmt: skip
            outcome = REGISTRY.pure(each.type).evaluate(each.config.render(scope), context)
        except ExpressionError as error:
            outcome = Failed(StepError(error.code, error.message))
        match outcome:
            case Completed(output=output, outcome=label, stop=stop):
                return Result(ok=True, duration=1, output=output, outcome=label, stop=stop)
            case Suspended(due_at=due, output=output):
                assert due is not None
                return Result(ok=True, duration=due - start.at, output=output)
            case Failed(error=failure):
                return Result(ok=False, duration=1, failure=failure)

    def _say(self, key: StepKey) -> Result:
        said = self._says.get(place(key)) or self._says.get(key.node) or [gives(key.node)]
        return said.pop(0) if len(said) > 1 else said[0]

    # --- what became of it --------------------------------------------------------------------------------------------

    @property
    def said(self) -> Json:
        """Its end: the output if it is completed, else the error's code."""
        return self.end.output if self.end.error is None else f"{self.end.status}: {self.end.error.code}"

    @property
    def states(self) -> dict[str, str]:
        """How each step ended, by its place; of several attempts, the last one."""
        return {
            place(key): "cancelled" if row.outcome == CUT else row.state.value
            for (key, _), row in sorted(self.rows.items(), key=lambda item: item[0])
        }

    @property
    def outputs(self) -> dict[str, Json]:
        return {place(key): row.output for (key, _), row in self.rows.items()}

    @property
    def began(self) -> list[str]:
        """What was started or opened, in its order; further attempts with their number."""
        return [
            place(command.step) + ("" if command.attempt == 1 else f" {command.attempt}")
            for command in self.commands
            if isinstance(command, StartStep | OpenStep)
        ]

    @property
    def cancelled(self) -> list[str]:
        return [place(command.step) for command in self.commands if isinstance(command, CancelStep)]

    @property
    def took(self) -> int:
        """How long it took, in µs."""
        return self.end.at - START


def flow(
    edges: str,
    nodes: Mapping[str, NodeLike] | None = None,
    says: Answers | None = None,
    *,
    ends: Sequence[Event] = (),
    body: Json = None,
    **rest: Json,
) -> Flow:
    """Run a definition to its end. `rest` are further keys of it."""
    return begin(edges, nodes, says, ends=ends, body=body, **rest).finish()


def begin(
    edges: str,
    nodes: Mapping[str, NodeLike] | None = None,
    says: Answers | None = None,
    *,
    ends: Sequence[Event] = (),
    body: Json = None,
    **rest: Json,
) -> Flow:
    """Begin a run of a definition."""
    return Flow(definition_of(edges, nodes or {}, **rest), says or {}, ends, body).begin("t")
