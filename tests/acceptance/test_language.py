"""Rules of docs/workflow-language.md that only a whole engine can show: other runs, events, verbs on runs, secrets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from .harness import Api, Dev, Run, flow, fresh, node, until
from .sink import Reply, Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


def say(id: str, expression: str, **more: Any) -> dict[str, Any]:
    return node(id, "formula", {"expression": expression}, **more)


def call(id: str, url: str, **more: Any) -> dict[str, Any]:
    return node(id, "http_request", {"url": url}, retry={"max_attempts": 1}, **more)


def end(api: Api, execution: str) -> Run:
    return Run(api.ended(execution), api.steps(execution))


def sub(id: str, workflow: str, **config: Any) -> dict[str, Any]:
    return node(id, "sub_workflow", {"workflow_name": workflow, **config})


def parked(api: Api, execution: str, what: str) -> None:
    """Wait until a run waits for something."""
    until(lambda: api.execution(execution)["waiting_for"] == what)


def children(api: Api, parent: str) -> list[Any]:
    listed = api.data("GET", "/executions", params={"trigger_type": "sub_workflow", "limit": 200})
    return [each for each in listed if each["parent_execution_id"] == parent]


@pytest.fixture(scope="module")
def doubled(api: Api) -> str:
    """A workflow that doubles n."""
    name = fresh("double")
    api.publish(flow(say("twice", "trigger.body.n * 2"), output={"result": "{{ steps.twice }}"}), name)
    return name


class TestSubWorkflow:
    def test_sync_gives_the_childs_output_and_links_the_two(self, api: Api, doubled: str) -> None:
        run = api.run(flow(sub("child", doubled, input_mapping={"n": "{{ trigger.body.n }}"})), {"n": 4})
        assert run.output == {"child": {"result": 8}}
        (child,) = children(api, run.execution["id"])
        assert (child["execution_depth"], child["trigger_type"]) == (1, "sub_workflow")
        assert api.execution(child["id"])["trigger_data"] == {"body": {"n": 4}}

    @pytest.mark.parametrize(
        "path",
        ["output.result", "${output.result}", "{{ output.result }}", "twice", "steps.twice", "${twice}", "result"],
    )
    def test_output_mapping_in_both_forms(self, api: Api, doubled: str, path: str) -> None:
        run = api.run(flow(sub("child", doubled, input={"n": 3}, output_mapping={"got": path})))
        assert run.output == {"child": {"got": 6}}

    def test_an_output_mapping_that_finds_nothing(self, api: Api, doubled: str) -> None:
        run = api.run(flow(sub("child", doubled, input={"n": 3}, output_mapping={"got": "output.nothing"})))
        assert run.error[0] == "missing_path"

    def test_by_id(self, api: Api) -> None:
        workflow = api.publish(flow(say("one", "1")))
        run = api.run(flow(node("child", "sub_workflow", {"workflow_id": workflow["id"]})))
        assert run.output == {"child": {"one": 1}}

    @pytest.mark.parametrize("config", [{"mode": "async"}, {"wait_for_result": False}])
    def test_async_goes_on_at_once(self, api: Api, config: dict[str, Any]) -> None:
        name = fresh("slow")
        workflow = api.publish(flow(node("nap", "delay", {"duration": "1h"})), name)
        run = api.run(flow(sub("child", name, **config)))
        output = run.output["child"]
        assert output == {"execution_id": output["execution_id"], "workflow_id": workflow["id"], "status": "started"}
        assert api.execution(output["execution_id"])["status"] in ("pending", "running")
        api.data("POST", f"/executions/{output['execution_id']}/cancel")

    def test_a_failure_is_the_steps_with_the_childs_code(self, api: Api) -> None:
        name = fresh("bad")
        api.publish(flow(node("bad", "fail", {"code": "no_stock", "message": "None left."})), name)
        run = api.run(flow(sub("child", name), say("mend", "steps.child.error"),
                           edges="start > child >error> mend"))  # fmt: skip
        error = run.output["mend"]
        assert (error["code"], error["classification"], error["child_status"]) == ("no_stock", "permanent", "failed")
        assert "None left." in error["message"]
        assert api.execution(error["child_execution_id"])["status"] == "failed"
        assert run.step("child")["attempt"] == 1

    def test_what_can_not_be_started(self, api: Api) -> None:
        draft = api.create(flow(say("one", "1")), fresh("draft"))
        assert api.run(flow(sub("child", fresh("nobody")))).error[0] == "workflow_not_found"
        assert api.run(flow(sub("child", draft["name"]))).error[0] == "not_published"

    @pytest.mark.parametrize(("policy", "status"), [("cancel", "cancelled"), ("abandon", "completed")])
    @pytest.mark.parametrize("way", ["timeout", "config timeout", "cancel"])
    def test_what_becomes_of_the_child(self, api: Api, way: str, policy: str, status: str) -> None:
        name = fresh("slow")
        api.publish(flow(node("nap", "delay", {"duration": "3s"})), name)
        config = {"cancel_policy": policy, **({"timeout": "500ms"} if way == "config timeout" else {})}
        child = {**sub("child", name, **config), **({"timeout": "500ms"} if way == "timeout" else {})}
        execution = api.start(api.publish(flow(child)))
        (begun,) = until(lambda: children(api, execution))
        if way == "cancel":
            api.data("POST", f"/executions/{execution}/cancel")
        parent = end(api, execution)
        assert parent.step("child")["error_code"] == ("cancelled" if way == "cancel" else "timeout")
        assert api.ended(begun["id"])["status"] == status

    def test_a_cancelled_child(self, api: Api) -> None:
        name = fresh("slow")
        api.publish(flow(node("nap", "delay", {"duration": "1h"})), name)
        execution = api.start(api.publish(flow(sub("child", name))))
        (begun,) = until(lambda: children(api, execution))
        api.data("POST", f"/executions/{begun['id']}/cancel")
        assert end(api, execution).error[0] == "child_cancelled"

    def test_a_child_at_depth_ten_runs_and_below_it_there_is_none(self, api: Api) -> None:
        name = fresh("deep")
        again = node(
            "again", "sub_workflow", {"workflow_name": "{{ trigger.body.name }}", "input": "{{ trigger.body }}"}
        )
        workflow = api.publish(flow(again), name)
        execution = api.start(workflow, {"name": name})
        assert end(api, execution).error[0] == "depth_exceeded"
        depth, at = 0, execution
        while found := children(api, at):
            (child,) = found
            depth, at = child["execution_depth"], child["id"]
        assert depth == 10

    def test_a_parent_that_waits_holds_nothing(self, api: Api) -> None:
        name = fresh("slow")
        api.publish(flow(node("wait", "wait_for_event", {"event": name})), name)
        execution = api.start(api.publish(flow(sub("child", name))))
        parked(api, execution, "sub_workflow")
        api.data("POST", "/events", {"name": name, "payload": 5})
        assert end(api, execution).output["child"]["wait"]["body"] == 5


class TestEvents:
    def test_one_run_tells_another(self, api: Api) -> None:
        name = fresh("paid")
        config = {"event": name, "correlation_key": "{{ trigger.body.order }}"}
        waiting = api.start(api.publish(flow(node("paid", "wait_for_event", config))), {"order": 7})
        other = api.start(api.publish(flow(node("paid", "wait_for_event", {**config, "timeout": "1s"}))), {"order": 8})
        parked(api, waiting, "event")
        told = api.run(flow(node("tell", "publish_event", {**config, "payload": {"sum": 3}})), {"order": "7"})
        event = end(api, waiting).output["paid"]
        assert (event["id"], event["name"]) == (told.output["tell"]["event_id"], name)
        assert (event["correlation_key"], event["body"]) == ("7", {"sum": 3})
        assert end(api, other).error[0] == "timeout"

    def test_an_event_starts_a_workflow_with_its_data(self, api: Api) -> None:
        name = fresh("order")
        definition = flow(say("sum", "trigger.body.sum"), edges="start > sum")
        definition["nodes"][0] = node(
            "start", "event_trigger", {"event": f"{name}.*", "filter": "trigger.body.sum > 1"}
        )
        workflow = api.publish(definition)
        for paid in (1, 2):
            api.data("POST", "/events", {"name": f"{name}.made", "payload": {"sum": paid}})
        (run,) = until(lambda: api.data("GET", "/executions", params={"workflow_id": workflow["id"]}))
        assert end(api, run["id"]).output == {"sum": 2}
        trigger = api.execution(run["id"])["trigger_data"]
        assert trigger == {"name": f"{name}.made", "correlation_key": None, "body": {"sum": 2}}


class TestVerbs:
    def test_a_paused_run_begins_nothing_and_resumes_with_what_came_meanwhile(self, api: Api, sink: Sink) -> None:
        path, hold = f"/{fresh()}", threading.Event()
        url = sink.on(path, Reply(hold=hold, body=1))
        execution = api.start(api.publish(flow(call("a", url), say("b", "steps.a.body"))))
        sink.wait_for(path)
        api.data("POST", f"/executions/{execution}/pause")
        hold.set()
        parked(api, execution, "paused")
        assert {step["node_id"]: step["status"] for step in api.steps(execution)} == {
            "start": "completed", "a": "completed",
        }  # fmt: skip
        api.data("POST", f"/executions/{execution}/resume")
        assert end(api, execution).output == {"b": 1}

    def test_a_signal_is_for_one_run(self, api: Api) -> None:
        name = fresh("go")
        workflow = api.publish(flow(node("wait", "wait_for_event", {"event": name, "correlation_key": "x"})))
        one, other = api.start(workflow), api.start(workflow)
        for execution in (one, other):
            parked(api, execution, "event")
        answer = api.data("POST", f"/executions/{one}/signal", {"name": name, "payload": 5})
        assert answer["delivered"] == 1
        assert end(api, one).output["wait"]["body"] == 5
        assert api.execution(other)["status"] == "running"
        api.data("POST", f"/executions/{other}/cancel")

    def failed(self, api: Api, sink: Sink) -> tuple[str, str, str, str]:
        """A run whose second call failed, and the paths of both."""
        first, second = f"/{fresh()}", f"/{fresh()}"
        replies = Reply(500), Reply(body="well")
        definition = flow(call("a", sink.on(first, Reply(body=1))), call("b", sink.on(second, *replies)),
                          say("c", "[steps.a.body, steps.b.body, trigger.body]"))  # fmt: skip
        workflow = api.publish(definition)
        execution = api.start(workflow, "in")
        assert end(api, execution).error[0] == "http_status"
        return execution, first, second, workflow["id"]

    def test_retry_takes_over_what_succeeded_under_the_first_runs_keys(self, api: Api, sink: Sink) -> None:
        old, first, second, _ = self.failed(api, sink)
        new = api.data("POST", f"/executions/{old}/retry", {})
        run = end(api, new["execution_id"])
        assert run.output == {"c": [1, "well", "in"]}
        assert api.execution(run.execution["id"])["retry_of"] == old
        assert len(sink.asked(first)) == 1
        keys = [asked.headers["idempotency-key"] for asked in sink.asked(second)]
        assert keys == [f"{old}:b:"] * 2
        assert api.execution(old)["status"] == "failed"

    def test_a_chain_of_retries_keeps_the_first_key(self, api: Api, sink: Sink) -> None:
        path = f"/{fresh()}"
        url = sink.on(path, Reply(500), Reply(500), Reply(body=1))
        first = api.start(api.publish(flow(call("a", url))))
        api.ended(first)
        second = api.data("POST", f"/executions/{first}/retry", {})["execution_id"]
        api.ended(second)
        third = api.data("POST", f"/executions/{second}/retry", {})["execution_id"]
        assert end(api, third).status == "completed"
        assert {asked.headers["idempotency-key"] for asked in sink.asked(path)} == {f"{first}:a:"}

    def test_replay_begins_afresh_under_keys_of_its_own(self, api: Api, sink: Sink) -> None:
        old, first, _, _ = self.failed(api, sink)
        new = api.data("POST", f"/executions/{old}/replay", {"input": "edited"})["execution_id"]
        assert end(api, new).output == {"c": [1, "well", "edited"]}
        assert [asked.headers["idempotency-key"] for asked in sink.asked(first)] == [f"{old}:a:", f"{new}:a:"]

    def test_retry_from_a_step_of_a_completed_run(self, api: Api, sink: Sink) -> None:
        path = f"/{fresh()}"
        run = api.run(flow(call("a", sink.on(path, Reply(body=1))), say("b", "steps.a.body"), say("c", "steps.b")))
        assert api("POST", f"/executions/{run.execution['id']}/retry", {}).json()["code"] == "nothing_failed"
        new = api.data("POST", f"/executions/{run.execution['id']}/retry", {"from_step": "b"})["execution_id"]
        assert end(api, new).output == {"c": 1}
        assert len(sink.asked(path)) == 1

    def test_retry_on_the_current_version(self, api: Api, sink: Sink) -> None:
        old, first, _, workflow = self.failed(api, sink)
        definition = flow(call("a", sink.url + first), say("c", "steps.a.body"))
        api.data("PUT", f"/workflows/{workflow}", {"name": fresh(), "definition": definition})
        api.data("POST", f"/workflows/{workflow}/publish")
        new = api.data("POST", f"/executions/{old}/retry", {"version": "current"})["execution_id"]
        assert end(api, new).output == {"c": 1}
        assert (api.execution(new)["workflow_version"], len(sink.asked(first))) == (2, 1)

    def test_retry_goes_on_within_scopes(self, api: Api, sink: Sink) -> None:
        path = f"/{fresh()}"
        url = sink.on(path, Reply(body=0), Reply(500), Reply(body=1), Reply(body=2))
        definition = flow(node("items", "loop", {"source": 3}), call("a", url), edges="start > items >body> a")
        old = api.start(api.publish(definition))
        assert end(api, old).status == "failed"
        new = end(api, api.data("POST", f"/executions/{old}/retry", {})["execution_id"])
        assert [each["output"]["body"] for each in new.output["items"]["iterations"]] == [0, 1, 2]
        keys = [asked.headers["idempotency-key"] for asked in sink.asked(path)]
        assert keys == [f"{old}:a:items[{at}]" for at in (0, 1, 1, 2)]

    @pytest.mark.parametrize("force", [False, True])
    def test_cancel_runs_the_finally_parts_first_unless_forced(self, api: Api, sink: Sink, *, force: bool) -> None:
        path = f"/{fresh()}"
        definition = flow(
            node("t", "try"), node("slow", "delay", {"duration": "1h"}), call("last", sink.on(path, Reply(body=1))),
            edges="start > t >try> slow, t >finally> last",
        )  # fmt: skip
        execution = api.start(api.publish(definition))
        parked(api, execution, "timer")
        api.data("POST", f"/executions/{execution}/cancel", params={"force": str(force).lower()})
        run = end(api, execution)
        assert (run.status, run.step("slow")["error_code"]) == ("cancelled", "cancelled")
        assert len(sink.asked(path)) == (0 if force else 1)


class TestSecrets:
    def test_a_secret_reaches_its_node_and_nothing_that_is_recorded(self, dev: Dev, api: Api, sink: Sink) -> None:
        name, secret, path = fresh("key"), f"s3cret-{fresh()}-value", f"/{fresh()}"
        api.data("POST", "/credentials", {"name": name, "type": "api_key", "value": {"key": secret}})
        url = sink.on(path, Reply(401, body={"you sent": secret}), Reply(body={"you sent": secret}))
        headers, body = {"X-Key": f"{{{{ credentials.{name} }}}}"}, f"${{credentials.{name}.key}}"
        asked = {"url": url, "method": "POST", "headers": headers, "body": body}
        definition = flow(
            node("a", "http_request", asked, on_error="continue", retry={"max_attempts": 1}),
            node("b", "http_request", {**asked, "auth": {"credential": name}}),
            say("c", "steps.b.body"),
        )
        run = api.run(definition)
        assert [each.headers["x-key"] for each in sink.asked(path)] == [secret, secret]
        assert sink.asked(path)[1].headers["x-api-key"] == secret
        assert secret not in str((run.execution, api.steps(run.execution["id"], "all")))
        assert run.output == {"c": {"you sent": "***MASKED***"}}
        assert run.step("a")["output_data"]["error"]["response"]["body"] == {"you sent": "***MASKED***"}
        assert secret not in dev.process.text()

    def test_elsewhere_they_are_refused_on_save(self, api: Api) -> None:
        answer = api("POST", "/workflows", {"name": fresh(), "definition": flow(say("a", "credentials.stripe"))})
        assert answer.json()["errors"][0]["code"] == "invalid_expression"


class TestBreakerOfANode:
    def test_it_guards_the_attempts_of_a_task(self, api: Api, sink: Sink) -> None:
        path = f"/{fresh()}"
        guarded = call("a", sink.on(path, Reply(500)), circuit_breaker={"name": fresh(), "max_failures": 2})
        definition = flow(node("items", "loop", {"source": 4, "on_error": "continue"}), guarded,
                          edges="start > items >body> a",
                          output="{{ map(steps.items.iterations, .error.code) }}")  # fmt: skip
        assert api.run(definition).output == ["http_status", "http_status", "circuit_open", "circuit_open"]
        assert len(sink.asked(path)) == 2

    def test_only_tasks_have_one(self, api: Api) -> None:
        definition = flow(say("a", "1", circuit_breaker={}))
        answer = api("POST", "/workflows", {"name": fresh(), "definition": definition})
        assert answer.json()["errors"][0]["pointer"].endswith("/nodes/1/circuit_breaker")


def test_code_sees_the_variables_of_its_loop(api: Api) -> None:
    script = "return context.item * context.steps.base + context.loop.index + context.input"
    definition = flow(
        say("base", "10"), node("items", "loop", {"source": [1, 2]}),
        node("a", "code", {"script": script, "input": 100}), edges="start > base > items >body> a",
        output="{{ map(steps.items.iterations, .output) }}",
    )  # fmt: skip
    assert api.run(definition).output == [110, 121]
