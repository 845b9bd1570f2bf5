"""What the bench runs: definitions, the no-op and the holding task node, and the values that a run of them leaves."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import anyio

from gorax_engine.core.model import Json
from gorax_engine.nodes.api import Completed, NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.store.bench import LimitRun

BODY: Final[dict[str, Json]] = {"n": 0, "name": "order 4711", "tags": ["new", "eu", {"weight": 3}]}
LABELS: Final = ("in stock", "to be packed", "to be sent")


class Noop:
    """A task node that does nothing, with all that the engine does around one that has effects outside."""

    spec = NodeSpec(name="bench_noop", kind=NodeKind.TASK, schema={"type": "object"})

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        """Return at once."""
        return Completed({"ok": True})


class Hold:
    """A task node that holds its step for `seconds`."""

    spec = NodeSpec(
        name="bench_hold",
        kind=NodeKind.TASK,
        schema={"type": "object", "properties": {"seconds": {"type": "number"}}},
    )

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        """Wait, then return."""
        await anyio.sleep(config["seconds"])
        return Completed({"ok": True})


def chain(nodes: list[dict[str, Json]]) -> dict[str, Json]:
    """Return a definition that runs `nodes` one after another behind a manual trigger."""
    ids = ["start", *(node["id"] for node in nodes)]
    edges = [{"id": f"e{i}", "source": a, "target": b} for i, (a, b) in enumerate(pairwise(ids))]
    return {"nodes": [{"id": "start", "type": "manual_trigger", "config": {}}, *nodes], "edges": edges}


def pure(steps: int) -> dict[str, Json]:
    """A chain of transforms, each of which reads the one before."""
    return chain([_transform(index) for index in range(1, steps + 1)])


def _transform(index: int) -> dict[str, Json]:
    before = "trigger.body.n" if index == 1 else f"steps.s{index - 1}.n"
    mapping = {
        "n": f"{{{{ {before} + 1 }}}}",
        "label": f"step {index} of {{{{ trigger.body.name }}}}: {LABELS[index % len(LABELS)]}",
        "tags": "{{ trigger.body.tags }}",
    }
    return {"id": f"s{index}", "type": "transform", "config": {"mapping": mapping}}


def durable(steps: int) -> dict[str, Json]:
    """A chain of no-op tasks, each committed before the next starts."""
    return chain([{"id": f"s{index}", "type": "bench_noop", "config": {}} for index in range(1, steps + 1)])


def http(steps: int, url: str) -> dict[str, Json]:
    """A chain of HTTP calls."""
    return chain(
        [
            {"id": f"s{index}", "type": "http_request", "config": {"method": "POST", "url": url, "body": {"n": index}}}
            for index in range(1, steps + 1)
        ]
    )


def fanout(width: int) -> dict[str, Json]:
    """`width` no-op tasks side by side."""
    nodes: list[dict[str, Json]] = [
        {"id": f"s{index}", "type": "bench_noop", "config": {}} for index in range(1, width + 1)
    ]
    edges = [{"id": f"e{index}", "source": "start", "target": f"s{index}"} for index in range(1, width + 1)]
    return {"nodes": [{"id": "start", "type": "manual_trigger", "config": {}}, *nodes], "edges": edges}


def loop(iterations: int) -> dict[str, Json]:
    """A loop around one transform, an iteration after the other."""
    return _loop({"source": iterations, "max_iterations": max(iterations, 1)}, _step_of_loop())


def loop_http(iterations: int, concurrency: int, url: str) -> dict[str, Json]:
    """A loop around an HTTP call, many iterations at a time."""
    call = {"id": "s1", "type": "http_request", "config": {"method": "POST", "url": url, "body": {"n": "{{ item }}"}}}
    return _loop({"source": iterations, "max_iterations": iterations, "max_concurrency": concurrency}, call)


def _step_of_loop() -> dict[str, Json]:
    mapping = {
        "n": "{{ item + 1 }}",
        "label": f"step {{{{ loop.index }}}} of {{{{ trigger.body.name }}}}: {LABELS[0]}",
        "tags": "{{ trigger.body.tags }}",
    }
    return {"id": "s1", "type": "transform", "config": {"mapping": mapping}}


def _loop(config: dict[str, Json], body: dict[str, Json]) -> dict[str, Json]:
    return {
        "nodes": [
            {"id": "start", "type": "manual_trigger", "config": {}},
            {"id": "items", "type": "loop", "config": config},
            body,
            {"id": "count", "type": "formula", "config": {"expression": "steps.items.iteration_count"}},
        ],
        "edges": [
            {"id": "e1", "source": "start", "target": "items"},
            {"id": "e2", "source": "items", "target": "s1", "label": "body"},
            {"id": "e3", "source": "items", "target": "count", "label": "done"},
        ],
    }


def child() -> dict[str, Json]:
    """What a parent runs: one formula."""
    return chain([{"id": "s1", "type": "formula", "config": {"expression": "trigger.body.n + 1"}}])


def parent(child_id: str) -> dict[str, Json]:
    """One sub-workflow, waited for."""
    config = {"workflow_id": child_id, "input_mapping": {"n": "{{ trigger.body.n }}"}}
    return chain([{"id": "s1", "type": "sub_workflow", "config": config}])


def due_at(moment: str) -> dict[str, Json]:
    """One durable timer until a moment."""
    return chain([{"id": "s1", "type": "delay", "config": {"until": moment}}])


def hold(seconds: float) -> dict[str, Json]:
    """One step that holds."""
    return chain([{"id": "s1", "type": "bench_hold", "config": {"seconds": seconds}}])


def parked(duration: str) -> dict[str, Json]:
    """One durable timer."""
    return chain([{"id": "s1", "type": "delay", "config": {"duration": duration}}])


def webhook() -> dict[str, Json]:
    """What a webhook starts."""
    nodes: list[dict[str, Any]] = [
        {"id": "start", "type": "webhook_trigger", "config": {"path": "bench"}},
        {"id": "s1", "type": "transform", "config": {"mapping": {"id": "{{ trigger.body.name }}"}}},
    ]
    return {"nodes": nodes, "edges": [{"id": "e1", "source": "start", "target": "s1"}]}


def limit_run(mode: str, steps: int, _number: int) -> LimitRun:
    """Return the values that a run of `pure` or `durable` leaves in its rows."""
    rows: list[tuple[str, str, Json, Json]] = [("start", "manual_trigger", None, {"body": BODY})]
    last: Json = None
    for index in range(1, steps + 1):
        if mode == "pure":
            label = f"step {index} of {BODY['name']}: {LABELS[index % len(LABELS)]}"
            last = {"n": index, "label": label, "tags": BODY["tags"]}
            rows.append((f"s{index}", "transform", {"mapping": last}, last))
        else:
            last = {"ok": True}
            rows.append((f"s{index}", "bench_noop", {}, last))
    return LimitRun({"body": BODY}, rows, {f"s{steps}": last})
