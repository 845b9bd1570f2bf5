"""The node types: what each gives, and how it fails."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from .harness import Api, flow, free_port, fresh, node, until
from .sink import Reply, Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


class TestTriggers:
    def test_input_becomes_the_body_and_the_output_of_the_trigger(self, api: Api) -> None:
        run = api.run(flow(node("f", "formula", {"expression": "steps.start.body.a"})), {"a": [1, None]})
        assert run.output == {"f": [1, None]}
        assert run.execution["trigger_type"] == "api"
        assert run.execution["trigger_data"] == {"body": {"a": [1, None]}}
        assert run.step("start")["output_data"] == {"body": {"a": [1, None]}}

    @pytest.mark.parametrize("type", ["trigger:webhook", "webhook", "trigger:schedule", "manual", "trigger:manual"])
    def test_gorax_names_are_read_and_stored_as_the_canonical_ones(self, api: Api, type: str) -> None:
        config = {"cron": "0 9 * * *"} if "schedule" in type else {}
        created = api.create({"nodes": [node("t", type, config), node("f", "action:formula", {"expression": "1"})],
                              "edges": [{"id": "e", "source": "t", "target": "f"}]})  # fmt: skip
        word = type.removeprefix("trigger:")
        assert [item["type"] for item in created["definition"]["nodes"]] == [f"{word}_trigger", "formula"]

    def test_an_api_start_works_with_a_webhook_trigger(self, api: Api) -> None:
        definition = {
            "nodes": [node("hook", "webhook_trigger"), node("f", "formula", {"expression": "trigger.body.n + 1"})],
            "edges": [{"source": "hook", "target": "f"}],
        }
        assert api.run(definition, {"n": 1}).output == {"f": 2}


class TestHttpRequest:
    def call(self, url: str, **config: Any) -> dict[str, Any]:
        return flow(node("call", "http_request", {"url": url, **config}))

    def test_request_and_output(self, api: Api, sink: Sink) -> None:
        url = sink.on("/full", Reply(201, {"id": 7}, {"X-Kind": "new"}))
        definition = flow(
            node(
                "call",
                "http_request",
                {
                    "method": "PUT",
                    "url": url + "/{{ trigger.body.name }}",
                    "headers": {"X-Number": "{{ trigger.body.n }}"},
                    "query": {"q": "{{ trigger.body.name }}", "n": 3},
                    "body": {"n": "{{ trigger.body.n }}", "text": "n is ${trigger.body.n}", "none": None},
                },
            )
        )
        sink.on("/full/a%20b%2Fc", Reply(201, {"id": 7}, {"X-Kind": "new"}))
        run = api.run(definition, {"name": "a b/c", "n": 5})
        output = run.output["call"]
        assert set(output) == {"status_code", "headers", "body"}
        assert (output["status_code"], output["body"], output["headers"]["x-kind"]) == (201, {"id": 7}, "new")
        (asked,) = sink.asked("/full/a%20b%2Fc")
        assert asked.method == "PUT"
        assert sorted(asked.query.split("&")) == ["n=3", "q=a%20b%2Fc"]
        assert asked.body == {"n": 5, "text": "n is 5", "none": None}
        assert asked.headers["x-number"] == "5"
        assert asked.headers["content-type"].startswith("application/json")
        assert asked.headers["idempotency-key"] == f"{run.execution['id']}:call:"

    def test_a_body_of_one_template_keeps_its_type(self, api: Api, sink: Sink) -> None:
        url = sink.on("/whole", Reply())
        api.run(self.call(url, method="POST", body="{{ trigger.body }}"), {"a": [1, {"b": None}]})
        assert sink.asked("/whole")[0].body == {"a": [1, {"b": None}]}

    @pytest.mark.parametrize(
        ("auth", "header", "value"),
        [
            ({"basic": {"username": "u", "password": "p"}}, "authorization", "Basic dTpw"),
            ({"type": "basic", "username": "u", "password": "p"}, "authorization", "Basic dTpw"),
            ({"bearer": {"token": "t"}}, "authorization", "Bearer t"),
            ({"type": "bearer", "token": "t"}, "authorization", "Bearer t"),
            ({"api_key": {"key": "k"}}, "x-api-key", "k"),
            ({"type": "api_key", "api_key": "k", "header": "X-Mine"}, "x-mine", "k"),
        ],
    )  # fmt: skip
    def test_auth(self, api: Api, sink: Sink, auth: Any, header: str, value: str) -> None:
        path = f"/auth/{fresh()}"
        run = api.run(self.call(sink.on(path, Reply()), auth=auth))
        assert run.status == "completed"
        assert sink.asked(path)[0].headers[header] == value

    @pytest.mark.parametrize("status", [404, 418])
    def test_a_status_outside_success_fails_and_keeps_the_response(self, api: Api, sink: Sink, status: int) -> None:
        url = sink.on(f"/no/{status}", Reply(status, {"why": "no"}))
        run = api.run(self.call(url))
        assert run.error[0] == "http_status"
        step = run.step("call")
        assert (step["status"], step["error_code"], step["attempt"], step["retry_count"]) == (
            "failed",
            "http_status",
            1,
            0,
        )
        error = step["output_data"]["error"]
        assert error["response"]["status_code"] == status
        assert error["response"]["body"] == {"why": "no"}
        assert error["code"] == "http_status"
        assert error["http_status_code"] == status

    def test_success_may_be_widened_and_narrowed(self, api: Api, sink: Sink) -> None:
        url = sink.on("/404", Reply(404, {"none": True}))
        assert api.run(self.call(url, success=[200, "400-404"])).output["call"]["status_code"] == 404
        url = sink.on("/204", Reply(204, raw=b""))
        assert api.run(self.call(url, success=[200])).error[0] == "http_status"

    def test_response_modes(self, api: Api, sink: Sink) -> None:
        url = sink.on("/text", Reply(raw=b'{"a": 1}', headers={"Content-Type": "text/plain"}))
        assert api.run(self.call(url)).output["call"]["body"] == '{"a": 1}'
        assert api.run(self.call(url, response="json")).output["call"]["body"] == {"a": 1}
        url = sink.on("/json", Reply(body={"a": 1}))
        assert api.run(self.call(url)).output["call"]["body"] == {"a": 1}
        assert api.run(self.call(url, response="text")).output["call"]["body"] == '{"a": 1}'

    def test_redirects_are_followed_unless_told_otherwise(self, api: Api, sink: Sink) -> None:
        url = sink.on("/from", Reply(302, headers={"Location": "/to"}))
        assert api.run(self.call(url)).output["call"]["body"] == {"ok": True}
        assert api.run(self.call(url, follow_redirects=False)).output["call"]["status_code"] == 302

    def test_pages_by_cursor_and_by_link(self, api: Api, sink: Sink) -> None:
        url = sink.on("/pages", Reply(body={"items": [1, 2], "next": "c2"}), Reply(body={"items": [3], "next": None}))
        pagination: Any = {"items": "response.body.items", "cursor": {"param": "after", "from": "response.body.next"}}
        output = api.run(self.call(url, pagination=pagination)).output["call"]
        assert (output["body"], output["pages"]) == ([1, 2, 3], 2)
        assert [asked.query for asked in sink.asked("/pages")] == ["", "after=c2"]
        url = sink.on("/links", Reply(body={"items": [1], "next": "/links?p=2"}), Reply(body={"items": [2]}))
        pagination = {"items": "response.body.items", "next": "response.body.next", "max_pages": 5}
        assert api.run(self.call(url, pagination=pagination)).output["call"]["body"] == [1, 2]

    def test_the_timeout_of_the_config(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        url = sink.on("/slow", Reply(hold=hold))
        try:
            run = api.run(
                flow(node("call", "http_request", {"url": url, "timeout": "200ms"}, retry={"max_attempts": 1}))
            )
        finally:
            hold.set()
        assert run.error[0] == "timeout"

    def test_nobody_listens(self, api: Api) -> None:
        definition = flow(
            node("call", "http_request", {"url": f"http://127.0.0.1:{free_port()}/"}, retry={"max_attempts": 1})
        )
        assert api.run(definition).error[0] == "connection_failed"


class TestTransform:
    def transform(self, api: Api, config: Any, input: Any = None) -> Any:
        return api.run(flow(node("t", "transform", config)), input).output["t"]

    def test_mapping_takes_paths_and_templates_and_nests(self, api: Api) -> None:
        mapping = {"a": "trigger.body.x", "b": {"c": "{{ trigger.body.x + 1 }}", "d": "x = ${trigger.body.x}"}}
        assert self.transform(api, {"mapping": mapping}, {"x": 1}) == {"a": 1, "b": {"c": 2, "d": "x = 1"}}

    def test_expression_and_default(self, api: Api) -> None:
        assert self.transform(api, {"expression": "trigger.body.x"}, {"x": {"y": 1}}) == {"y": 1}
        assert self.transform(api, {"expression": "trigger.body.no", "default": "d"}, {"x": 1}) == "d"

    def test_a_missing_path_names_itself_and_what_is_there(self, api: Api) -> None:
        run = api.run(flow(node("t", "transform", {"mapping": {"a": "trigger.body.nope"}})), {"x": 1, "y": 2})
        code, message = run.error
        assert code == "missing_path"
        assert "trigger.body.nope" in message
        assert "x" in message
        assert "y" in message
        assert run.step("t")["error_message"] == message

    def test_over_a_list(self, api: Api) -> None:
        items = [{"k": "a", "n": 3}, {"k": "b", "n": 1}, {"k": "a", "n": 2}, {"k": "a", "n": 2}, {"k": "c", "n": 0}]
        config: Any = {
            "source": "trigger.body.items",
            "filter": "item.n > 0",
            "dedupe": "item.k + string(item.n)",
            "sort": [{"by": "item.n", "order": "desc"}],
        }
        assert [item["n"] for item in self.transform(api, config, {"items": items})] == [3, 2, 1]
        config = {
            "source": "{{ trigger.body.items }}",
            "group": {"by": "item.k"},
            "aggregate": {"total": {"op": "sum", "of": "item.n"}, "count": {"op": "count"}},
            "mapping": {"key": "item.key", "total": "item.total"},
            "limit": 2,
        }
        assert self.transform(api, config, {"items": items}) == [{"key": "a", "total": 7}, {"key": "b", "total": 1}]


class TestFormula:
    @pytest.mark.parametrize(
        ("expression", "value"),
        [
            ("upper(trigger.body.s) + '!'", "ÄB!"),
            ("len(trigger.body.l)", 3),
            ("sum(trigger.body.l)", 6),
            ("filter(trigger.body.l, # > 1)", [2, 3]),
            ("map(trigger.body.l, {# * 2})", [2, 4, 6]),
            ("trigger.body.l[1:]", [2, 3]),
            ("trigger.body.l[-1]", 3),
            ("trigger.body.nope ?? 'x'", "x"),
            ("trigger.body.nope?.deeper", None),
            ("2 ** 10 % 1000", 24),
            ("9007199254740993 + 1", 9007199254740994),
            ("7 / 2", 3.5),
            ("round(2.5)", 3),
            ("dateFormat(dateParse('2024-02-03', '2006-01-02'), '02.01.2006')", "03.02.2024"),
            ("'abc' matches '^a.c$' and not ('x' in ['y'])", True),
            ("'ab' startsWith 'a' && 'ab' ends_with 'b'", True),
            ("trigger.s", "äb"),
            ("{'a': 1, b: [2]}", {"a": 1, "b": [2]}),
            ("1..3", [1, 2, 3]),
            ("trigger.body.l | map(# + 1) | sum()", 9),
            ("let x = 2; x * x", 4),
            ("env.workflow_version", 1),
            ("substr('hello', 1, 3)", "ell"),
            ("'a' == 1", False),
        ],
    )
    def test_the_raw_value(self, api: Api, expression: str, value: Any) -> None:
        run = api.run(flow(node("f", "formula", {"expression": expression})), {"s": "äb", "l": [1, 2, 3]})
        assert run.output == {"f": value}
        assert type(run.output["f"]) is type(value)

    def test_no_implicit_conversions(self, api: Api) -> None:
        assert api.run(flow(node("f", "formula", {"expression": "'a' + 1"}))).error[0] == "type_error"

    def test_hyphens_in_node_ids(self, api: Api) -> None:
        definition = flow(node("http-1", "formula", {"expression": "{body: 5}"}),
                          node("f", "formula", {"expression": "steps.http-1.body - 1"}))  # fmt: skip
        assert api.run(definition).output == {"f": 4}

    def test_output_is_an_alias_unless_there_is_such_a_key(self, api: Api) -> None:
        definition = flow(
            node("a", "formula", {"expression": "{x: 1}"}),
            node("b", "formula", {"expression": "{output: {x: 2}}"}),
            node("f", "formula", {"expression": "[steps.a.output.x, steps.a.x, steps.b.output.x]"}),
        )
        assert api.run(definition).output == {"f": [1, 1, 2]}

    def test_now_is_stable_within_a_step(self, api: Api) -> None:
        assert api.run(flow(node("f", "formula", {"expression": "now() == now()"}))).output == {"f": True}


class TestConditionAndSwitch:
    def branches(self, condition: str, **config: Any) -> dict[str, Any]:
        return flow(
            node("c", "condition", {"condition": condition, **config}),
            node("yes", "formula", {"expression": "'yes'"}),
            node("no", "formula", {"expression": "'no'"}),
            node("after", "formula", {"expression": "1"}),
            edges="start > c >true> yes > after, c >false> no > after",
        )

    @pytest.mark.parametrize("condition", ["trigger.body.n > 1", "{{ trigger.body.n > 1 }}"])
    def test_the_branch_not_taken_is_skipped_and_the_join_runs(self, api: Api, condition: str) -> None:
        run = api.run(self.branches(condition), {"n": 2})
        assert run.output == {"after": 1}
        assert run.statuses() == {
            "start": "completed", "c": "completed", "yes": "completed", "no": "skipped", "after": "completed",
        }  # fmt: skip
        assert run.step("c")["output_data"] == {"result": True}
        assert api.run(self.branches(condition), {"n": 1}).statuses()["yes"] == "skipped"

    def test_stop_on(self, api: Api) -> None:
        run = api.run(self.branches("true", stop_on_true=True))
        assert run.status == "completed"
        assert run.statuses()["yes"] == "skipped"
        assert run.statuses()["after"] == "skipped"
        run = api.run(self.branches("false", stop_on_false=True))
        assert (run.status, run.statuses()["no"]) == ("completed", "skipped")
        assert api.run(self.branches("true", stop_on_false=True)).output == {"after": 1}

    def test_a_condition_must_be_true_or_false(self, api: Api) -> None:
        assert api.run(self.branches("1")).error[0] == "type_error"

    def test_labels_may_stand_in_source_handle(self, api: Api) -> None:
        definition = self.branches("true")
        for edge in definition["edges"]:
            if "label" in edge:
                edge["sourceHandle"] = edge.pop("label")
        assert api.run(definition).statuses()["no"] == "skipped"

    def test_an_unlabelled_edge_is_live_on_any_outcome(self, api: Api) -> None:
        definition = flow(
            node("c", "control:if", {"condition": "false"}), node("f", "formula", {"expression": "1"}),
            edges="start > c > f",
        )  # fmt: skip
        assert api.run(definition).output == {"f": 1}

    @pytest.mark.parametrize(("n", "taken"), [(1, "one"), (2, "two"), (3, "other")])
    @pytest.mark.parametrize(
        "config",
        [
            {"value": "{{ trigger.body.n }}", "cases": [{"name": "one", "value": 1}, {"name": "two", "value": 2}]},
            {"value": "trigger.body.n", "cases": [{"name": "one", "value": 1}, {"name": "two", "value": 2}]},
            {"cases": [{"name": "one", "condition": "trigger.body.n == 1"},
                       {"name": "two", "condition": "trigger.body.n < 3"}]},
        ],
    )  # fmt: skip
    def test_switch(self, api: Api, config: Any, n: int, taken: str) -> None:
        definition = flow(
            node("s", "switch", config),
            *[node(name, "formula", {"expression": "1"}) for name in ("one", "two", "other")],
            edges="start > s >one> one, s >two> two, s >default> other",
        )
        run = api.run(definition, {"n": n})
        assert run.output == {taken: 1}
        assert run.step("s")["output_data"] == {"case": {"other": "default"}.get(taken, taken)}


class TestDelay:
    def test_a_short_one_gives_its_length(self, api: Api) -> None:
        run = api.run(flow(node("d", "delay", {"duration": "100ms"}), node("f", "formula", {"expression": "1"})))
        assert run.output == {"f": 1}
        assert run.step("d")["output_data"] == {"duration": "100ms", "delayed_ms": 100, "completed": True}
        assert run.step("d")["duration_ms"] >= 100

    @pytest.mark.parametrize("type", ["delay", "control:delay", "control:wait", "wait"])
    def test_a_moment_that_has_passed(self, api: Api, type: str) -> None:
        assert api.run(flow(node("d", type, {"until": "2020-01-01T00:00:00Z"}))).status == "completed"

    def test_a_long_one_parks_the_run(self, api: Api) -> None:
        workflow = api.publish(
            flow(node("d", "delay", {"duration": "PT5.5S"}), node("f", "formula", {"expression": "1"}))
        )
        execution_id = api.start(workflow)
        until(lambda: api.execution(execution_id)["waiting_for"] == "timer")
        execution = api.execution(execution_id)
        assert execution["status"] == "running"
        explained = api.data("GET", f"/executions/{execution_id}/explain")
        assert explained["blocker"] == "timer"
        assert set(explained) == {"state", "blocker", "sentence", "since", "details"}
        assert api.data("GET", "/executions", params={"waiting_for": "timer"})[0]["id"] == execution_id
        ended = api.ended(execution_id)
        assert (ended["status"], ended["waiting_for"], ended["output_data"]) == ("completed", None, {"f": 1})


class TestStopAndFail:
    def test_stop_ends_the_run_with_its_output_and_cancels_what_runs(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        url = sink.on("/held", Reply(hold=hold))
        definition = flow(
            node("slow", "http_request", {"url": url}),
            node("d", "delay", {"duration": "300ms"}),
            node("s", "stop", {"output": {"n": "{{ trigger.body.n }}"}}),
            node("never", "formula", {"expression": "1"}),
            edges="start > slow > never, start > d > s",
        )
        try:
            run = api.run(definition, {"n": 4})
        finally:
            hold.set()
        assert run.output == {"n": 4}
        assert run.statuses() == {
            "start": "completed", "slow": "failed", "d": "completed", "s": "completed", "never": "skipped",
        }  # fmt: skip
        assert run.step("slow")["error_code"] == "cancelled"

    def test_fail(self, api: Api) -> None:
        run = api.run(
            flow(node("f", "fail", {"code": "too_poor", "message": "You have {{ trigger.body.n }}"})), {"n": 1}
        )
        assert run.error == ("too_poor", "You have 1")
        assert run.step("f")["error_code"] == "too_poor"
        assert run.execution["output_data"] is None
