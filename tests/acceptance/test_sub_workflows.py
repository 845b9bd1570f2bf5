"""Sub-workflows on the real daemon: publishing, circles, links, cancels."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from .harness import Api, flow, fresh, node, until
from .sink import Reply, Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


def sub(workflow: str, **config: Any) -> dict[str, Any]:
    return node("sub", "sub_workflow", {"workflow_id": workflow, **config})


def children(api: Api, execution_id: str) -> list[Any]:
    """Return the runs that a run has started."""
    found = [api.execution(each["id"]) for each in api.data("GET", "/executions", params={"limit": 100})]
    return [each for each in found if each["parent_execution_id"] == execution_id]


class TestMappings:
    def test_by_name_and_by_id(self, api: Api) -> None:
        name = fresh("child")
        child = api.publish(flow(node("f", "formula", {"expression": "trigger.body.n * 2"})), name)
        for reference in (name, child["id"]):
            run = api.run(flow(sub(reference, input_mapping={"n": "{{ trigger.body.n }}"})), {"n": 21})
            assert run.output == {"sub": {"f": 42}}

    def test_what_gorax_writes(self, api: Api) -> None:
        """Camel case, milliseconds, and `waitForResult`."""
        child = api.publish(flow(node("f", "formula", {"expression": "trigger.body.n * 2"})))
        gorax = {
            "id": "sub", "type": "action:subworkflow", "data": {"config": {
                "workflowId": child["id"], "inputMapping": {"n": "${trigger.n}"},
                "outputMapping": {"twice": "output.f"}, "waitForResult": True, "timeoutMs": 20_000}},
        }  # fmt: skip
        assert api.run(flow(gorax), {"n": 4}).output == {"sub": {"twice": 8}}


class TestNesting:
    def test_a_circle_is_refused(self, api: Api) -> None:
        names = [fresh("circle") for _ in range(2)]
        first = api.publish(flow(sub(names[1])), names[0])
        answer = api("POST", "/workflows", {"name": names[1], "definition": flow(sub(names[0]))})
        assert answer.status_code == 422, answer.text
        (fault,) = answer.json()["errors"]
        assert fault["code"] == "cycle"
        assert all(name in fault["message"] for name in names)
        assert api.data("GET", f"/workflows/{first['id']}")["name"] == names[0]

    def test_what_a_template_names_meets_the_limit_when_it_runs(self, api: Api) -> None:
        name = fresh("again")
        again = sub("{{ trigger.body.name }}", input={"name": "{{ trigger.body.name }}"})
        api.publish(flow(again), name)
        run = api.run(flow(again), {"name": name})
        assert run.error[0] == "depth_exceeded"


class TestCutting:
    def test_cancelling_the_parent_reaches_the_request_of_the_grandchild(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        path = "/" + fresh("grandchild")
        sink.on(path, Reply(hold=hold))
        names = [fresh("down") for _ in range(2)]
        api.publish(flow(node("call", "http_request", {"url": sink.url + path})), names[0])
        api.publish(flow(sub(names[0])), names[1])
        top = api.start(api.publish(flow(sub(names[1]))))
        sink.wait_for(path)
        (child,) = children(api, top)
        (grandchild,) = children(api, child["id"])
        api.data("POST", f"/executions/{top}/cancel")
        for each in (top, child["id"], grandchild["id"]):
            assert api.ended(each)["status"] == "cancelled"
        hold.set()
        assert len(sink.asked(path)) == 1

    def test_the_end_of_a_child_says_why(self, api: Api) -> None:
        name = fresh("failing")
        api.publish(flow(node("f", "fail", {"code": "scripted", "message": "As written."})), name)
        run = api.run(flow(sub(name)))
        assert run.error[0] == "scripted"
        assert "As written." in run.error[1]


class TestParking:
    def test_a_parent_waits_for_a_child_that_waits_for_people(self, api: Api) -> None:
        name = fresh("asks")
        ask = node("h", "human_task", {"title": "Well?", "assignees": ["admin"]})
        api.publish({**flow(ask), "output": "{{ steps.h.outcome }}"}, name)
        parent = api.start(api.publish(flow(sub(name))))
        until(lambda: api.execution(parent)["waiting_for"] == "sub_workflow")
        (child,) = children(api, parent)
        (task,) = api.data("GET", "/tasks", params={"execution_id": child["id"]})
        api.data("POST", f"/tasks/{task['id']}/approve", {})
        assert api.ended(parent)["output_data"] == {"sub": "approved"}
