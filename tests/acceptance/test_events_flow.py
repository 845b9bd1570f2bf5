"""Events on the real daemon, from one run to another."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Api, flow, fresh, node, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


def listener(event: str, **config: Any) -> dict[str, Any]:
    return {
        "nodes": [
            node("heard", "event_trigger", {"event": event, **config}),
            node("f", "formula", {"expression": "trigger.body.n"}),
        ],
        "edges": [{"source": "heard", "target": "f"}],
    }


def runs_of(api: Api, workflow: Any) -> list[Any]:
    found = api.data("GET", "/executions", params={"workflow_id": workflow["id"], "limit": 100})
    assert isinstance(found, list)
    return found


def test_a_run_asks_another_one_and_waits_for_its_answer(api: Api) -> None:
    """Request and reply: a publisher, a listener that answers under the same key, and the wait for it."""
    ask, answer = fresh("ask").replace("-", "."), fresh("answer").replace("-", ".")
    replying = listener(ask)
    replying["nodes"].append(
        node("reply", "publish_event", {"event": answer, "correlation_key": "{{ trigger.correlation_key }}",
                                        "payload": {"twice": "{{ steps.f * 2 }}"}})
    )  # fmt: skip
    replying["edges"].append({"source": "f", "target": "reply"})
    other = api.publish(replying)
    key = {"correlation_key": "{{ env.execution_id }}"}
    asking = flow(
        node("ask", "publish_event", {"event": ask, "payload": {"n": "{{ item }}"}, **key}),
        node("wait", "wait_for_event", {"event": answer, **key}),
        node("got", "formula", {"expression": "steps.wait.body.twice"}),
        node("all", "loop", {"source": "{{ [1, 2, 3] }}"}),
        edges="start > all >body> ask > wait > got",
    )  # fmt: skip
    output = api.run(asking).output
    assert [each["output"] for each in output["all"]["iterations"]] == [2, 4, 6]
    assert len(runs_of(api, other)) == 3


def test_an_event_before_its_wait_and_one_after(api: Api) -> None:
    name = fresh("paid").replace("-", ".")
    waiting = flow(
        node("a", "wait_for_event", {"event": name, "correlation_key": "{{ trigger.body.order }}"}),
        node("b", "wait_for_event", {"event": name, "correlation_key": "{{ trigger.body.order }}"}),
        node("f", "formula", {"expression": "[steps.a.body, steps.b.body]"}),
    )
    api.data("POST", "/events", {"name": name, "correlation_key": "7", "payload": "before"})
    api.data("POST", "/events", {"name": name, "correlation_key": "8", "payload": "another's"})
    execution_id = api.start(api.publish(waiting), {"order": 7})
    until(lambda: [step["node_id"] for step in api.steps(execution_id) if step["status"] == "running"] == ["b"])
    api.data("POST", "/events", {"name": name, "correlation_key": 7, "payload": "after"})
    assert api.ended(execution_id)["output_data"] == {"f": ["before", "after"]}


def test_a_filter_and_a_prefix(api: Api) -> None:
    name = fresh("order").replace("-", ".")
    some = api.publish(listener(f"{name}.*", filter="trigger.body.n > 1"))
    for n in (1, 2):
        api.data("POST", "/events", {"name": f"{name}.made", "payload": {"n": n}})
    (run,) = until(lambda: runs_of(api, some))
    execution = api.ended(run["id"])
    assert execution["output_data"] == {"f": 2}
    assert execution["trigger_data"]["name"] == f"{name}.made"


def test_a_wait_in_a_branch_that_comes_too_late(api: Api) -> None:
    name = fresh("never").replace("-", ".")
    definition = flow(
        node("race", "parallel", {"wait_mode": "first"}), node("w", "wait_for_event", {"event": name}),
        node("d", "delay", {"duration": "50ms"}), edges="start > race >late> d, race >event> w",
    )  # fmt: skip
    run = api.run(definition)
    assert run.output["race"]["first_completed"] == "late"
    assert run.step("w")["error_code"] == "cancelled"
