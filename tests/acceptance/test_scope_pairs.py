"""Every scope around every leaf, and around every scope, on the real daemon: what a run of them leaves behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pytest

from .harness import TERMINAL, Api, fresh
from .nesting import CHILD, EVENT, LEAVES, OK, SCOPES, Expected, Piece, child_definition, definition, piece, plain
from .sink import Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

FAILS = (0, 1, 2)


def output_of_call(value: Mapping[str, Any]) -> Any:
    return OK if "status_code" in value else None


@pytest.fixture(scope="module")
def child(api: Api) -> Iterator[None]:
    """The workflow that sub-workflows call."""
    made = api.publish(child_definition(), CHILD)
    yield
    api.data("DELETE", f"/workflows/{made['id']}")


def start(api: Api, sink: Sink, made: Piece) -> str:
    urls = {fails: sink.fail_first(f"/nesting/{fails}", fails) for fails in FAILS}

    def effect(id: str, fails: int, more: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": id, "type": "http_request", "config": {"method": "POST", "url": urls[fails]}, **more}

    return api.start(api.publish(definition(made, effect), fresh(made.name)))


def bring(api: Api, events: Counter[str]) -> None:
    """Decide all tasks that are open, and publish what is waited for."""
    for task in api.data("GET", "/tasks", params={"status": "pending", "limit": 100}):
        api("POST", f"/tasks/{task['id']}/approve", {})
    for execution_id in list(events):
        if api.execution(execution_id)["status"] not in TERMINAL:
            api.data("POST", "/events", {"name": EVENT, "correlation_key": execution_id})
        else:
            del events[execution_id]


def all_end(api: Api, runs: Mapping[str, str], expected: Mapping[str, Expected]) -> None:
    """Bring what the runs wait for until they have all ended."""
    events = Counter({runs[name]: each.waits["wait_for_event"] for name, each in expected.items()})
    events += Counter()
    left = set(runs.values())
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"{len(left)} of {len(runs)} runs have not ended"
        bring(api, events)
        left = {each for each in left if api.execution(each)["status"] not in TERMINAL}


def every_step(api: Api, execution_id: str) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        params = {"attempts": "all", "limit": 200, **({"cursor": cursor} if cursor else {})}
        answer = api("GET", f"/executions/{execution_id}/steps", params=params).json()
        found += answer["data"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def compare(api: Api, made: Piece, expected: Expected, execution_id: str, keys: Counter[str]) -> list[str]:
    """Say what is not as it must be."""
    run = api.execution(execution_id)
    if run["status"] != "completed":
        return [f"{made.name}: {run['status']}, {run['error_code']}: {run['error_message']}"]
    faults = []
    output = plain(run["output_data"], output_of_call)
    if output != expected.output:
        faults.append(f"{made.name}: output {output}, not {expected.output}")
    rows = Counter(
        (step["node_id"], step["iteration_path"], step["round"], step["attempt"], step["status"])
        for step in every_step(api, execution_id)
    )
    wanted = Counter(expected.rows)
    if rows != wanted:
        faults.append(f"{made.name}: rows too many {list(rows - wanted)}, missing {list(wanted - rows)}")
    called = {key: times for key, times in keys.items() if key.startswith(execution_id)}
    if called != {f"{execution_id}:{node}:{path}": times for (node, path), times in expected.calls.items()}:
        faults.append(f"{made.name}: calls {called}, not {expected.calls}")
    return faults


@pytest.mark.parametrize(
    "pieces",
    [[piece(outer, leaf) for leaf in (*LEAVES, "code")] for outer in SCOPES]
    + [[piece(outer, inner, "task") for inner in SCOPES] for outer in SCOPES],
    ids=[f"{outer}-{what}" for what, outer in product(("leaves", "scopes"), SCOPES)],
)
def test_what_a_run_leaves_behind(api: Api, sink: Sink, child: None, pieces: list[Piece]) -> None:
    expected = {made.name: Expected(made) for made in pieces}
    runs = {made.name: start(api, sink, made) for made in pieces}
    all_end(api, runs, expected)
    keys = sink.keys()
    faults = [fault for made in pieces for fault in compare(api, made, expected[made.name], runs[made.name], keys)]
    assert not faults, "\n".join(faults)
