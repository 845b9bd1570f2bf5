"""Random workflows of scopes within scopes, with a script that says what every attempt of every step will come to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from gorax_engine.core.commands import StartStep
from gorax_engine.core.events import Event, RunCancelled, RunFailed
from gorax_engine.core.model import (
    SECOND,
    Definition,
    Edge,
    Json,
    Node,
    OnError,
    RetryPolicy,
    RetryStrategy,
    StepError,
    WorkflowSettings,
)
from gorax_engine.core.plan import Plan, compile_plan
from gorax_engine.core.structure import SCOPES
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from tests.core.walk.driver import START, Result, Run
from tests.core.walk.graphs import SPECS as SCRIPTED

SPECS: Final = {**NodeRegistry(builtin_nodes()).specs, **SCRIPTED}
EVERYTHING: Final = ("transient", "permanent")
LONG: Final = 70 * SECOND
"""Longer than the patience with what must run before the end."""


@dataclass(frozen=True)
class Workflow:
    """A plan with a seed for what its steps come to.

    `luck` is the share of attempts that succeed. `patient`: no step takes longer than the patience.
    """

    plan: Plan
    seed: int
    luck: float
    patient: bool
    ends: tuple[Event, ...] = ()

    def result(self, run: Run, start: StartStep) -> Result:
        step, node = start.step, self.plan.nodes[start.step.node]
        rng = Random(f"{self.seed}:{step.node}:{step.path}:{step.round}:{start.attempt}")
        ok = rng.random() < self.luck
        duration = 0 if rng.random() < 0.1 else rng.randrange(5_000)
        if not self.patient and rng.random() < 0.05:
            duration += LONG
        output: Json = {"n": rng.randrange(100), "at": step.path, "round": step.round}
        outcome = rng.choice(node.outcomes) if node.outcomes and ok else None
        return Result(
            ok,
            duration,
            output,
            outcome,
            stop=ok and rng.random() < 0.005,
            transient=rng.random() < 0.6,
            declines=start.attempt == 1 and node.scope is None and rng.random() < 0.03,
        )

    def run(self) -> Run:
        return Run(self.plan, self, self.ends)


def random_workflow(rng: Random, size: int, *, patient: bool = True, ends: int = 0) -> Workflow:
    """A workflow of about `size` nodes, at most four scopes deep, to which `ends` ends from without come."""
    grower = _Grower(rng, size)
    grower.body("t", None, 0)
    settings = WorkflowSettings(max_concurrency=rng.choice((None, None, 1, 2, 3)))
    plan = compile_plan(Definition(tuple(grower.nodes), tuple(grower.edges), settings=settings), SPECS)
    told: list[Event] = []
    for at in sorted(START + rng.randrange(40_000) for _ in range(ends)):
        force = rng.random() < 0.2
        failed = RunFailed(StepError("timeout", "The run took too long."), at, force)
        told.append(failed if rng.random() < 0.5 else RunCancelled(at, "enough", force))
    return Workflow(plan, rng.getrandbits(32), rng.choice((0.5, 0.75, 0.9, 0.98)), patient, tuple(told))


@dataclass
class _Grower:
    rng: Random
    left: int
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes.append(Node("t", "trigger", "t", {}))

    def body(self, source: str, label: str | None, depth: int) -> None:
        """Let `source` lead to a graph of its own: each node of it follows some before it, or the source."""
        made: list[str] = []
        count = self.rng.choice((1, 1, 2, 3)) if depth else self.rng.choice((2, 3, 4, 5))
        while count > 0 and (self.left > 0 or not made):
            count -= 1
            self.left -= 1
            joins = len(made) >= 2 and self.rng.random() < 0.25
            wanted = self.rng.choice((2, 3) if joins else (0, 1, 1, 1, 2))
            if label == "catch":
                wanted = max(wanted, 1)  # of several heads each would be a handler of its own
            before = self.rng.sample(made, min(len(made), wanted))
            name = self._node(depth, sources=len(before) if joins else 0)
            for each in before:
                self._edge(each, name, self._label_of(each))
            if not before:
                self._edge(source, name, label)
            made.append(name)

    def _node(self, depth: int, sources: int) -> str:
        rng, name = self.rng, f"n{len(self.nodes)}"
        scopes = ("loop", "parallel", "try", "try", "retry", "circuit_breaker")
        kind = rng.choice(("plain", "plain", "choice", *(scopes if depth < 4 and self.left > 0 else ())))
        kind = "join" if sources else kind
        config = self._configs().get(kind, dict)()
        entries = self._entries(kind)
        if "catch" not in entries:
            config.pop("catches", None)
        if kind == "join" and config["join_strategy"] == "wait_n":
            config["required_count"] = rng.randint(1, sources)
        self.nodes.append(
            Node(
                name,
                kind,
                name,
                config,
                retry=self._policy() if kind != "join" and rng.random() < 0.3 else None,
                timeout=rng.randrange(1, 12_000) if kind in scopes and rng.random() < 0.3 else None,
                on_error=OnError.CONTINUE if rng.random() < 0.3 else OnError.FAIL,
                when=rng.choice(("true", "trigger.x == 2")) if rng.random() < 0.1 else None,
                rounds=self._policy() if kind == "retry" else None,
            )
        )
        for label in entries:
            self.body(name, label, depth + 1)
        return name

    def _entries(self, kind: str) -> tuple[str, ...]:
        rng = self.rng
        match kind:
            case "loop" | "retry" | "circuit_breaker":
                return ("body",)
            case "parallel":
                return ("left", "middle", "right")[: rng.choice((1, 2, 3))]
            case "try":
                return (
                    "try",
                    *(("catch",) if rng.random() < 0.6 else ()),
                    *(("finally",) if rng.random() < 0.6 else ()),
                )
            case _:
                return ()

    def _policy(self) -> RetryPolicy:
        rng = self.rng
        return RetryPolicy(
            rng.choice((1, 2, 2, 3)),
            rng.choice(list(RetryStrategy)),
            initial_delay=rng.randrange(2_000),
            retry_on=EVERYTHING if rng.random() < 0.5 else (),
        )

    def _configs(self) -> dict[str, Callable[[], dict[str, Any]]]:
        rng = self.rng
        return {
            "choice": lambda: {"labels": ["a", "b"]},
            "loop": lambda: {
                **rng.choice(
                    (
                        {"source": rng.randrange(4)},
                        {"source": {"b": 1, "a": [2]}},
                        {"source": "trigger.many ?? [1, 2, 3]"},
                        {"while": f"loop.index < {rng.randrange(4)}"},
                    )
                ),
                "max_concurrency": rng.choice((1, 1, 2, 5)),
                "on_error": rng.choice(("stop", "continue")),
                **({"break_conditions": [{"condition": "loop.index >= 1"}]} if rng.random() < 0.3 else {}),
            },
            "parallel": lambda: {
                "wait_mode": rng.choice(("all", "first")),
                "max_concurrency": rng.choice((0, 1, 2)),
                "failure_mode": rng.choice(("stop_all", "continue")),
            },
            "try": lambda: rng.choice(
                (
                    {},
                    {"error_binding": "problem"},
                    {"catches": [{"error_types": [rng.choice(("timeout", "permanent"))]}]},
                    {"catches": [{"propagate_as": "other"}]},
                )
            ),
            "join": lambda: {
                "join_strategy": rng.choice(("wait_all", "wait_n")),
                "cancel_remaining": rng.random() < 0.7,
                "timeout_ms": rng.choice((0, 1, 3)),
                "on_timeout": rng.choice(("fail", "continue")),
            },
        }

    def _label_of(self, source: str) -> str | None:
        """The label of an edge that leads on from a node."""
        node = next(node for node in self.nodes if node.id == source)
        if self.rng.random() < 0.12:
            return "error"
        if node.type == "choice":
            return self.rng.choice((None, "a", "b"))
        return "done" if node.type in SCOPES else None

    def _edge(self, source: str, target: str, label: str | None) -> None:
        self.edges.append(Edge(f"e{len(self.edges)}", source, target, label))
