"""Human tasks on the real daemon: a run waits, somebody (or the clock) decides, and it goes on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .harness import Api, Dev, Run, flow, node, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]

ASK: dict[str, Any] = {"title": "Go?", "assignees": ["admin"]}


def ask(edges: str = "", **config: Any) -> dict[str, Any]:
    yes, no, late = (node(name, "formula", {"expression": f"'{name}'"}) for name in ("yes", "no", "late"))
    if edges:
        return flow(node("ask", "human_task", {**ASK, **config}), yes, no, late, edges=edges)
    return flow(node("ask", "human_task", {**ASK, **config}), node("after", "formula", {"expression": "steps.ask"}))


EVERY_WAY = "start > ask >approved> yes, ask >rejected> no, ask >expired> late"


def begin(api: Api, definition: Any) -> tuple[str, str]:
    """Start a run and wait for its task; return both ids."""
    execution = api.start(api.publish(definition), {})

    def look() -> Any:
        tasks = api.data("GET", "/tasks", params={"execution_id": execution, "status": "pending"})
        return tasks[0]["id"] if tasks else None

    return execution, until(look)


def end(api: Api, execution: str) -> Run:
    return Run(api.ended(execution), api.steps(execution))


@pytest.fixture
def editor(dev: Dev, api: Api) -> Any:
    """Somebody with the role editor, who is asked nothing."""
    key = api.data("POST", "/api-keys", {"name": "e", "role": "editor"})
    client = Api(dev.url, key["key"])
    yield client, key["user_id"]
    client.close()


def test_a_run_waits_without_holding_anything_and_gets_the_decision(api: Api) -> None:
    execution, task = begin(api, ask())
    parked = until(lambda: (run := api.execution(execution))["waiting_for"] and run)
    assert (parked["status"], parked["waiting_for"]) == ("running", "human_task")
    assert api.data("GET", f"/executions/{execution}/explain")["blocker"] == "human_task"
    decided = api.data("POST", f"/tasks/{task}/approve", {"comment": "yes", "data": {"n": 1}})
    output = end(api, execution).output["after"]
    assert output == {
        "outcome": "approved", "by": decided["completed_by"], "at": decided["completed_at"],
        "response": {"comment": "yes", "n": 1},
    }  # fmt: skip


@pytest.mark.parametrize(("verb", "way"), [("approve", "yes"), ("submit", "yes"), ("reject", "no")])
def test_the_edge_of_the_outcome_is_taken(api: Api, verb: str, way: str) -> None:
    execution, task = begin(api, ask(EVERY_WAY))
    api.data("POST", f"/tasks/{task}/{verb}", {})
    run = end(api, execution)
    assert run.output == {way: way}
    assert {name for name, status in run.statuses().items() if status == "skipped"} == {"yes", "no", "late"} - {way}


@pytest.mark.parametrize(("verb", "code"), [("reject", "task_rejected"), (None, "task_expired")])
def test_an_outcome_without_an_edge_fails_the_step(api: Api, verb: str | None, code: str) -> None:
    execution, task = begin(api, ask(timeout="1h" if verb else "1s"))
    if verb:
        api.data("POST", f"/tasks/{task}/{verb}", {"reason": "no"})
    assert end(api, execution).error[0] == code


@pytest.mark.parametrize(("on_timeout", "way"), [("auto_approve", "yes"), ("auto_reject", "no"), ("expire", "late")])
def test_the_clock_decides(api: Api, on_timeout: str, way: str) -> None:
    run = api.run(ask(EVERY_WAY, timeout="500ms", on_timeout=on_timeout))
    assert run.output == {way: way}
    assert run.step("ask")["output_data"]["by"] is None


def test_escalation_lets_others_decide(api: Api, editor: Any) -> None:
    client, _ = editor
    execution, task = begin(api, ask(timeout="500ms", on_timeout="escalate", escalate_to="editor"))
    until(lambda: api.data("GET", f"/tasks/{task}")["escalation_level"] == 1 or None)
    assert [each["id"] for each in client.data("GET", "/tasks", params={"assignee": "me", "execution_id": execution})]
    client.data("POST", f"/tasks/{task}/approve", {})
    assert end(api, execution).status == "completed"


def test_two_at_once_and_somebody_who_is_not_asked(api: Api, editor: Any) -> None:
    client, user = editor
    execution, task = begin(api, ask())
    assert client("POST", f"/tasks/{task}/approve", {}).json()["code"] == "not_assigned"
    api.data("POST", f"/tasks/{task}/delegate", {"to": user})
    start = threading.Barrier(2)

    def decide(who: Api, verb: str) -> Any:
        start.wait()
        return who("POST", f"/tasks/{task}/{verb}", {})

    with ThreadPoolExecutor(2) as pool:
        answers = [
            each.result() for each in (pool.submit(decide, api, "approve"), pool.submit(decide, client, "reject"))
        ]
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    winner = next(answer.json()["data"]["status"] for answer in answers if answer.status_code == 200)
    assert (end(api, execution).status == "completed") is (winner == "approved")


def test_a_form_that_is_wrong_leaves_the_task_open(api: Api) -> None:
    execution, task = begin(api, ask(form_fields=[{"name": "n", "type": "number", "required": True}]))
    answer = api("POST", f"/tasks/{task}/submit", {"data": {"n": "one"}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_response")
    api.data("POST", f"/tasks/{task}/submit", {"data": {"n": 1}})
    assert end(api, execution).output["after"]["response"] == {"n": 1}


def test_cancelling_the_run_cancels_its_tasks(api: Api) -> None:
    execution, task = begin(api, ask())
    api.data("POST", f"/executions/{execution}/cancel")
    assert end(api, execution).status == "cancelled"
    assert api.data("GET", f"/tasks/{task}")["status"] == "cancelled"
    assert api("POST", f"/tasks/{task}/approve", {}).json()["code"] == "task_already_decided"


def test_the_time_of_the_step_cancels_the_task(api: Api) -> None:
    definition = ask()
    definition["nodes"][1]["timeout"] = "500ms"
    execution, task = begin(api, definition)
    assert end(api, execution).error[0] == "timeout"
    assert api.data("GET", f"/tasks/{task}")["status"] == "cancelled"
