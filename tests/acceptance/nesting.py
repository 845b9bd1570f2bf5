"""Pieces of workflows in each other, and what a run of them must leave behind, worked out piece by piece.

A `Piece` is a scope around another piece, or a leaf. `definition` makes the workflow; `Expected` plays it by the page
on the language: which rows there are (node, iteration path, round, attempt, status), which effects reach the outside
under which key how often, and the output. It knows nothing of the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Any
Row: TypeAlias = tuple[str, str, int, int, str]
"""Node, path, round, attempt, status."""

SCOPES = ("loop", "loop_concurrent", "loop_while", "parallel", "parallel_first", "try", "catch", "finally", "retry",
          "retry_twice", "node_retry", "circuit_breaker", "join", "branch")  # fmt: skip
LEAVES = ("task", "flaky", "delay", "human_task", "wait_for_event", "publish_event", "sub_workflow",
          "sub_workflow_async", "formula", "transform", "condition", "switch", "handled")  # fmt: skip

EVENT = "nesting.event"
CHILD = "nesting-child"
AT_ONCE = {"strategy": "fixed", "initial_delay": "10ms"}


@dataclass(frozen=True)
class Piece:
    """A leaf, or a scope of this kind around `inner`."""

    kind: str
    inner: Piece | None = None

    @property
    def name(self) -> str:
        return self.kind if self.inner is None else f"{self.kind}-{self.inner.name}"


def piece(*kinds: str) -> Piece:
    """Return scopes in each other, from the outermost to the leaf."""
    made: Piece | None = None
    for kind in reversed(kinds):
        made = Piece(kind, made)
    assert made is not None
    return made


Effect: TypeAlias = Callable[[str, int, Mapping[str, Json]], dict[str, Json]]
"""Makes a node that acts on the outside: its id, how many calls under one key fail before one succeeds, more keys."""


@dataclass
class _Graph:
    effect: Effect
    nodes: list[dict[str, Json]] = field(default_factory=list)
    edges: list[dict[str, Json]] = field(default_factory=list)

    def node(self, id: str, type: str, config: Json = None, **more: Json) -> str:
        self.nodes.append({"id": id, "type": type, "config": config or {}, **more})
        return id

    def act(self, id: str, fails: int = 0, **more: Json) -> str:
        self.nodes.append(self.effect(id, fails, {"retry": {"max_attempts": 1}, **more}))
        return id

    def edge(self, source: str, target: str, label: str | None = None) -> None:
        self.edges.append({"source": source, "target": target, **({"label": label} if label else {})})

    def build(self, made: Piece, id: str) -> tuple[str, str, str | None]:
        """Add a piece; return its first node, the one with which it ends, and the label of the edge that leaves it."""
        if made.inner is None:
            return self._leaf(made.kind, id)
        first, last, label = self.build(made.inner, f"{id}i")
        match made.kind:
            case "loop":
                self.node(id, "loop", {"source": ["a", "b"]})
                self.edge(id, first, "body")
            case "loop_concurrent":
                self.node(id, "loop", {"source": 3, "max_concurrency": 3})
                self.edge(id, first, "body")
            case "loop_while":
                self.node(id, "loop", {"while": "loop.index < 2"})
                self.edge(id, first, "body")
            case "parallel":
                self.node(id, "parallel")
                self.edge(id, first, "left")
                self.edge(id, self.act(f"{id}t"), "right")
            case "parallel_first":
                # The other branch waits for longer than any test: what it holds is cancelled.
                self.node(id, "parallel", {"wait_mode": "first"})
                self.edge(id, first, "left")
                self.edge(id, self.node(f"{id}w", "delay", {"duration": "1h"}), "right")
            case "try":
                self.node(id, "try")
                self.edge(id, first, "try")
            case "catch":
                self.node(id, "try")
                self.edge(id, self.node(f"{id}f", "fail", {"code": "scripted", "message": "As written."}), "try")
                self.edge(id, first, "catch")
            case "finally":
                self.node(id, "try")
                self.edge(id, self.act(f"{id}t"), "try")
                self.edge(id, first, "finally")
            case "retry" | "retry_twice":
                fails = 1 if made.kind == "retry" else 2
                self.node(id, "retry", {"max_attempts": 5, **AT_ONCE})
                self.edge(id, first, "body")
                self.edge(last, self.act(f"{id}t", fails), label)
            case "node_retry":
                # Not a retry scope, but the policy of a scope: its second attempt is a round of its own.
                self.node(id, "try", retry={"max_attempts": 2, **AT_ONCE})
                self.edge(id, first, "try")
                self.edge(last, self.act(f"{id}t", 1), label)
            case "circuit_breaker":
                self.node(id, "circuit_breaker")
                self.edge(id, first, "body")
            case _:
                return self._parted(made.kind, id, first, (last, label))
        return id, id, "done"

    def _parted(self, kind: str, id: str, first: str, last: tuple[str, str | None]) -> tuple[str, str, None]:
        """Two branches that come together again: a fork and a join, or a condition and what follows it."""
        is_join = kind == "join"
        self.node(id, *(("fork",) if is_join else ("condition", {"condition": "1 < 2"})))
        self.edge(id, first, None if is_join else "true")
        self.edge(id, self.act(f"{id}t"), None if is_join else "false")
        self.node(f"{id}j", *(("join",) if is_join else ("formula", {"expression": "7"})))
        self.edge(last[0], f"{id}j", last[1])
        self.edge(f"{id}t", f"{id}j")
        return id, f"{id}j", None

    def _leaf(self, kind: str, id: str) -> tuple[str, str, str | None]:
        label = None
        match kind:
            case "task":
                self.act(id)
            case "flaky":
                self.act(id, 1, retry={"max_attempts": 3, "retry_on": ["transient"], **AT_ONCE})
            case "delay":
                self.node(id, "delay", {"duration": "30ms"})
            case "human_task":
                self.node(id, "human_task", {"title": "Well?", "assignees": ["admin"]})
            case "wait_for_event":
                self.node(id, "wait_for_event", {"event": EVENT, "correlation_key": "{{ env.execution_id }}"})
            case "publish_event":
                self.node(id, "publish_event", {"event": "nesting.published", "payload": {"n": 1}})
            case "sub_workflow" | "sub_workflow_async":
                mode = "async" if kind.endswith("async") else "sync"
                self.node(id, "sub_workflow", {"workflow_id": CHILD, "input": {"n": 4}, "mode": mode})
            case "formula":
                self.node(id, "formula", {"expression": "2 * 3"})
            case "code":
                self.node(id, "code", {"script": "return 2 * 3"})
            case "transform":
                self.node(id, "transform", {"mapping": {"six": "{{ 2 * 3 }}"}})
            case "condition":
                self.node(id, "condition", {"condition": "true"})
                label = "true"
            case "switch":
                self.node(id, "switch", {"value": "{{ 2 }}", "cases": [{"name": "two", "value": 2}]})
                label = "two"
            case "handled":
                self.node(id, "fail", {"code": "scripted", "message": "As written."}, on_error="continue")
            case _:
                raise ValueError(kind)
        return id, id, label


def definition(made: Piece, effect: Effect) -> dict[str, Json]:
    """Return a workflow of the piece alone."""
    graph = _Graph(effect)
    graph.node("start", "manual_trigger")
    first, _, _ = graph.build(made, "x")
    graph.edge("start", first)
    return {"nodes": graph.nodes, "edges": graph.edges}


def child_definition() -> dict[str, Json]:
    """Return the workflow that must be published as CHILD."""
    return {
        "nodes": [
            {"id": "start", "type": "manual_trigger"},
            {"id": "twice", "type": "formula", "config": {"expression": "trigger.body.n * 2"}},
        ],
        "edges": [{"source": "start", "target": "twice"}],
        "output": "{{ steps.twice }}",
    }


class Expected:
    """What a run of `definition(made)` leaves behind. `calls` counts effects by (node, path)."""

    def __init__(self, made: Piece) -> None:
        self.rows: list[Row] = [("start", "", 0, 1, "completed")]
        self.calls: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[str] = Counter()
        self._rounds: dict[tuple[str, str], int] = {}
        output, leaf = self._play(made, "x", "", 0)
        self.output = {leaf: output}

    def _say(self, node: str, path: str, round: int, status: str = "completed", attempt: int = 1) -> None:
        self.rows.append((node, path, round, attempt, status))

    def _act(self, node: str, path: str, round: int, fails: int = 0, attempts: int = 1) -> bool:
        """An effect with so many attempts; say whether it succeeded."""
        for attempt in range(1, attempts + 1):
            self.calls[node, path] += 1
            good = self.calls[node, path] > fails
            self._say(node, path, round, "completed" if good else "failed", attempt)
            if good:
                return True
        return False

    def _round(self, node: str, path: str, round: int) -> int:
        """The number of the first round of a scope: no round of a step comes twice."""
        last = self._rounds.get((node, path))
        return round if last is None else max(round, last + 1)

    def _play(self, made: Piece, id: str, path: str, round: int) -> tuple[Json, str]:
        """Play a piece; return its output and the node whose output that is."""
        if made.inner is None:
            return self._leaf(made.kind, id, path, round), id
        inner, within = made.inner, f"{id}i"
        here = f"{path}.{id}" if path else id
        match made.kind:
            case "loop" | "loop_concurrent" | "loop_while":
                self._say(id, path, round)
                items: list[Json] = ["a", "b"] if made.kind == "loop" else [0, 1, 2] if "conc" in made.kind else [0, 1]
                iterations = [
                    {"index": index, "item": item, "output": self._play(inner, within, f"{here}[{index}]", round)[0]}
                    for index, item in enumerate(items)
                ]
                return {"iteration_count": len(items), "iterations": iterations}, id
            case "parallel":
                self._say(id, path, round)
                left = self._play(inner, within, f"{here}.left", round)[0]
                self._act(f"{id}t", f"{here}.right", round)
                branches = [("left", left), ("right", OK)]
                return {
                    "branches": [{"branch_name": name, "output": gives, "error": None} for name, gives in branches],
                    "total_branches": 2, "completed_branches": 2,
                }, id  # fmt: skip
            case "parallel_first":
                self._say(id, path, round)
                self._say(f"{id}w", f"{here}.right", round, "failed")
                return {"first_completed": "left", "result": self._play(inner, within, f"{here}.left", round)[0]}, id
            case "try":
                self._say(id, path, round)
                return _tried(try_output=self._play(inner, within, path, round)[0]), id
            case "catch":
                self._say(id, path, round)
                self._say(f"{id}f", path, round, "failed")
                handled = self._play(inner, within, path, round)[0]
                return {"try_error": {"code": "scripted"}, "success": False, "error_handled": True,
                        "catch_output": handled, "finally_output": None}, id  # fmt: skip
            case "finally":
                self._say(id, path, round)
                self._act(f"{id}t", path, round)
                return {**_tried(try_output=OK), "finally_output": self._play(inner, within, path, round)[0]}, id
            case "retry" | "retry_twice":
                self._say(id, path, round)
                return self._retry(made, id, path, round), id
            case "node_retry":
                own = self._round(id, path, round)
                self._play(inner, within, path, own)
                if not self._act(f"{id}t", path, own, 1):
                    self._say(id, path, round, "failed", 1)
                    self._rounds[id, path] = own
                    own += 1
                    self._play(inner, within, path, own)
                    assert self._act(f"{id}t", path, own, 1)
                    self._say(id, path, round, "completed", 2)
                else:
                    self._say(id, path, round)
                self._rounds[id, path] = own
                return _tried(try_output=OK), id
            case "circuit_breaker":
                self._say(id, path, round)
                gives = self._play(inner, within, path, round)[0]
                return {"circuit_breaker": id, "state": "closed", "output": gives}, id
            case "join":
                self._say(id, path, round)
                gives, last = self._play(inner, within, path, round)
                self._act(f"{id}t", path, round)
                self._say(f"{id}j", path, round)
                return {"completed_branches": 2, "branch_outputs": {last: gives, f"{id}t": OK}, "timed_out": False}, (
                    f"{id}j"
                )
            case "branch":
                self._say(id, path, round)
                self._play(inner, within, path, round)
                self._say(f"{id}t", path, round, "skipped")
                self._say(f"{id}j", path, round)
                return 7, f"{id}j"
            case _:
                raise ValueError(made.kind)

    def _retry(self, made: Piece, id: str, path: str, round: int) -> Json:
        assert made.inner is not None
        own = self._round(id, path, round)
        attempts: list[Json] = []
        fails = 1 if made.kind == "retry" else 2
        while True:
            self._play(made.inner, f"{id}i", path, own)
            number = len(attempts) + 1
            if self._act(f"{id}t", path, own, fails):
                attempts.append({"attempt": number, "success": True})
                break
            attempts.append({"attempt": number, "success": False, "error": {"code": FAULT}})
            own += 1
        if own > round:
            self._rounds[id, path] = own
        return {"output": OK, "attempts": attempts, "success": True, "retries": len(attempts) - 1}

    def _leaf(self, kind: str, id: str, path: str, round: int) -> Json:
        match kind:
            case "task":
                self._act(id, path, round)
                return OK
            case "flaky":
                self._act(id, path, round, 1, 3)
                return OK
            case "handled":
                self._say(id, path, round, "failed")
                return {"error": {"code": "scripted"}}
            case _:
                self.waits[kind] += 1
                self._say(id, path, round)
                return _GIVEN[kind]


OK = {"ok": True}
"""What every effect gives, as `plain` shows it."""
FAULT = "fault"
"""The code with which an effect fails, as `plain` shows it."""

_GIVEN: Mapping[str, Json] = {
    "delay": {"completed": True},
    "human_task": {"outcome": "approved"},
    "wait_for_event": {"name": EVENT},
    "publish_event": {"name": "nesting.published"},
    "sub_workflow": 8,
    "sub_workflow_async": {"status": "started"},
    "formula": 6,
    "code": 6,
    "transform": {"six": 6},
    "condition": {"result": True},
    "switch": {"case": "two"},
}


def _tried(**more: Json) -> Json:
    return {"success": True, "error_handled": False, "finally_output": None, **more}


def plain(value: Json, effect: Callable[[Mapping[str, Json]], Json | None]) -> Json:
    """Return an output without what differs from run to run. `effect` says what the output of an effect means."""
    if isinstance(value, list):
        return [plain(item, effect) for item in value]
    if not isinstance(value, dict):
        return value
    meant = effect(value)
    if meant is not None:
        return meant
    if "error_type" in value:
        return {"code": value["code"] if value["code"] == "scripted" else FAULT}
    for own in ({"outcome", "by"}, {"published_at"}, {"event_id"}, {"delayed_ms"}, {"execution_id", "status"}):
        if own <= value.keys():
            kept = ("outcome",) if "by" in own else ("completed",) if "delayed_ms" in own else ("name", "status")
            return {key: value[key] for key in kept if key in value}
    return {key: plain(item, effect) for key, item in value.items() if key != "duration_ms"}
