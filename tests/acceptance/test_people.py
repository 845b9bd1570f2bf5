"""Human tasks on the real daemon: half decided, everything restarted, and the other half."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .conftest import empty_folder
from .harness import Api, flow, node, until
from .postgres import run_postgres
from .test_crash_resume import Site, patiently
from .test_daemon import migrated

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

SCOPES = ["loop", "parallel"]


def twenty(scope: str) -> dict[str, Any]:
    """A run with 20 tasks at once."""
    content = {"title": "Well?", "assignees": ["admin"]}
    if scope == "loop":
        return flow(
            node("all", "loop", {"source": 20, "max_concurrency": 20}), node("h", "human_task", content),
            node("after", "formula", {"expression": "[loop.index, steps.h.outcome]"}),
            edges="start > all >body> h > after",
        )  # fmt: skip
    tasks = [node(f"h{number}", "human_task", content) for number in range(20)]
    edges = ", ".join(f"all >{each['id']}> {each['id']}" for each in tasks)
    return flow(node("all", "parallel"), *tasks, edges=f"start > all, {edges}")


def tasks_of(api: Api, execution_id: str, status: str = "pending") -> list[Any]:
    found = api.data("GET", "/tasks", params={"execution_id": execution_id, "status": status, "limit": 100})
    assert isinstance(found, list)
    return found


def all_open(api: Api, execution_id: str) -> bool:
    return len(tasks_of(api, execution_id)) == 20


def parked(api: Api, execution_id: str) -> bool:
    return bool(api.execution(execution_id)["waiting_for"] == "human_task")


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    with empty_folder() as home, run_postgres(home, fsync=True) as postgres:
        made = Site(postgres, *migrated(postgres, folder), folder)
        try:
            yield made
        finally:
            made.down()


def test_twenty_tasks_outlive_everything(site: Site) -> None:
    api = site.up()
    runs = {scope: api.start(api.publish(twenty(scope))) for scope in SCOPES}
    for execution_id in runs.values():
        until(partial(all_open, api, execution_id))
        for task in tasks_of(api, execution_id)[:10]:
            assert api("POST", f"/tasks/{task['id']}/approve", {"comment": "first"}).status_code == 200
    site.kill()
    site.postgres.kill()
    site.postgres.restart()
    api = site.up()
    for execution_id in runs.values():
        assert patiently(partial(api.execution, execution_id))["status"] == "running"
        for task in tasks_of(api, execution_id):
            assert api("POST", f"/tasks/{task['id']}/approve", {"comment": "second"}).status_code == 200
    for scope, execution_id in runs.items():
        execution = api.ended(execution_id)
        assert execution["status"] == "completed", execution
        done = Counter(task["status"] for task in tasks_of(api, execution_id, "approved"))
        assert done == {"approved": 20}
        steps = [step for step in api.steps(execution_id, attempts="all") if step["node_type"] == "human_task"]
        assert Counter((step["status"], step["attempt"]) for step in steps) == {("completed", 1): 20}
        assert Counter(step["output_data"]["response"]["comment"] for step in steps) == {"first": 10, "second": 10}
        if scope == "loop":
            given = execution["output_data"]["all"]["iterations"]
            assert [each["output"] for each in given] == [[number, "approved"] for number in range(20)]


def test_a_decision_is_heard_within_a_second(api: Api) -> None:
    took = []
    workflow = api.publish(flow(node("h", "human_task", {"title": "Well?", "assignees": ["admin"]})))
    for _ in range(3):
        execution_id = api.start(workflow)
        (task,) = until(partial(tasks_of, api, execution_id))
        until(partial(parked, api, execution_id))
        began = time.monotonic()
        api.data("POST", f"/tasks/{task['id']}/approve", {})
        assert api.ended(execution_id)["status"] == "completed"
        took.append(time.monotonic() - began)
    assert max(took) < 1.0, took


def test_of_two_who_decide_at_once_one_gets_a_conflict(api: Api) -> None:
    workflow = api.publish(
        flow(
            node("h", "human_task", {"title": "Well?", "assignees": ["admin"]}),
            node("yes", "formula", {"expression": "'yes'"}), node("no", "formula", {"expression": "'no'"}),
            edges="start > h >approved> yes, h >rejected> no",
        )
    )  # fmt: skip
    for _ in range(5):
        execution_id = api.start(workflow)
        (task,) = until(partial(tasks_of, api, execution_id))
        codes: dict[str, int] = {}
        barrier = threading.Barrier(2)

        def decide(verb: str, id: str = task["id"], codes: dict[str, int] = codes, at: Any = barrier) -> None:
            at.wait()
            codes[verb] = api("POST", f"/tasks/{id}/{verb}", {}).status_code

        threads = [threading.Thread(target=decide, args=(verb,)) for verb in ("approve", "reject")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(codes.values()) == [200, 409]
        winner = "yes" if codes["approve"] == 200 else "no"
        assert api.ended(execution_id)["output_data"] == {winner: winner}


def test_cancelling_the_run_cancels_its_tasks(api: Api) -> None:
    execution_id = api.start(api.publish(twenty("loop")))
    until(partial(all_open, api, execution_id))
    api.data("POST", f"/executions/{execution_id}/cancel", {})
    assert api.ended(execution_id)["status"] == "cancelled"
    assert len(tasks_of(api, execution_id, "cancelled")) == 20
    (task, *_) = tasks_of(api, execution_id, "cancelled")
    assert api("POST", f"/tasks/{task['id']}/approve", {}).status_code == 409
