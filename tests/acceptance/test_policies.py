"""What every node may say (retry, timeout, on_error, when) and every workflow (settings, output), on real runs."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import httpx2
import pytest

from .harness import Api, Dev, flow, fresh, node, until
from .sink import Reply, Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]

RETRY = {"max_attempts": 3, "strategy": "fixed", "initial_delay": "10ms"}


def ok(id: str) -> dict[str, Any]:
    return node(id, "formula", {"expression": "1"})


def bad(id: str, **more: Any) -> dict[str, Any]:
    return node(id, "fail", {"code": "broken", "message": "It broke."}, **more)


class TestFailures:
    def test_an_error_edge_handles_and_the_others_die(self, api: Api) -> None:
        definition = flow(bad("b"), ok("next"), node("caught", "formula", {"expression": "steps.b.error.code"}),
                          edges="start > b > next, b >error> caught")  # fmt: skip
        run = api.run(definition)
        assert run.output == {"caught": "broken"}
        assert run.statuses() == {"start": "completed", "b": "failed", "next": "skipped", "caught": "completed"}
        assert run.execution["error_code"] is None

    def test_error_edges_die_on_success(self, api: Api) -> None:
        run = api.run(flow(ok("a"), ok("caught"), ok("next"), edges="start > a >error> caught, a > next"))
        assert run.output == {"next": 1}
        assert run.statuses()["caught"] == "skipped"

    def test_on_error_continue_leaves_the_row_failed_and_goes_on(self, api: Api) -> None:
        definition = flow(bad("b", on_error="continue"), node("f", "formula", {"expression": "steps.b.error.message"}))
        run = api.run(definition)
        assert run.output == {"f": "It broke."}
        assert run.statuses()["b"] == "failed"
        error = run.step("b")["output_data"]["error"]
        assert error["code"] == "broken"
        assert {"error_type", "error_message", "message", "classification", "node_id", "node_type", "retry_attempt",
                "max_retries", "timestamp"} <= set(error)  # fmt: skip

    def test_an_unhandled_failure_fails_the_run_and_cancels_its_siblings(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        url = sink.on("/sibling", Reply(hold=hold))
        definition = flow(
            node("slow", "http_request", {"url": url}), node("d", "delay", {"duration": "300ms"}), bad("b"),
            ok("later"),
            edges="start > slow > later, start > d > b",
        )  # fmt: skip
        try:
            run = api.run(definition)
        finally:
            hold.set()
        assert run.error == ("broken", "It broke.")
        assert run.statuses() == {
            "start": "completed", "d": "completed", "b": "failed", "slow": "failed", "later": "skipped",
        }  # fmt: skip
        assert run.step("slow")["error_code"] == "cancelled"

    def test_error_workflow_is_started(self, api: Api) -> None:
        name = fresh("oncall")
        target = api.publish(flow(node("f", "formula", {"expression": "trigger.body"})), name)
        run = api.run(flow(bad("b"), settings={"error_workflow": name}))
        assert run.status == "failed"

        def alerted() -> Any:
            found = api.data("GET", "/executions", params={"workflow_id": target["id"], "status": "completed"})
            return found[0] if found else None

        alert = api.execution(until(alerted)["id"])
        body = alert["output_data"]["f"]
        assert body["execution_id"] == run.execution["id"]
        assert body["error"]["code"] == "broken"


class TestRetry:
    def test_transient_failures_are_repeated_under_one_key(self, api: Api, sink: Sink) -> None:
        path = f"/flaky/{fresh()}"
        url = sink.on(path, Reply(503), Reply(drop=True), Reply(body={"ok": 1}))
        run = api.run(
            flow(node("call", "http_request", {"method": "POST", "url": url}, retry={"initial_delay": "20ms"}))
        )
        assert run.output["call"]["body"] == {"ok": 1}
        keys = {asked.headers["idempotency-key"] for asked in sink.asked(path)}
        assert keys == {f"{run.execution['id']}:call:"}
        step = run.step("call")
        assert (step["attempt"], step["retry_count"], step["status"]) == (3, 2, "completed")
        every = [step for step in api.steps(run.execution["id"], "all") if step["node_id"] == "call"]
        assert [(step["attempt"], step["status"], step["error_code"]) for step in every] == [
            (1, "failed", "http_status"), (2, "failed", "connection_failed"), (3, "completed", None),
        ]  # fmt: skip

    def test_the_default_is_four_attempts_on_transient_errors_only(self, api: Api, sink: Sink) -> None:
        path = f"/default/{fresh()}"
        url = sink.on(path, Reply(429, headers={"Retry-After": "0"}))
        run = api.run(flow(node("call", "http_request", {"url": url})))
        assert run.error[0] == "http_status"
        assert len(sink.asked(path)) == 4
        path = f"/permanent/{fresh()}"
        run = api.run(flow(node("call", "http_request", {"url": sink.on(path, Reply(400))})))
        assert (run.error[0], len(sink.asked(path))) == ("http_status", 1)

    def test_retry_after_is_obeyed(self, api: Api, sink: Sink) -> None:
        path = f"/later/{fresh()}"
        url = sink.on(path, Reply(503, headers={"Retry-After": "2"}), Reply())
        run = api.run(flow(node("call", "http_request", {"url": url}, retry={"initial_delay": "10ms"})))
        first, second = (step for step in api.steps(run.execution["id"], "all") if step["node_id"] == "call")
        waited = datetime.fromisoformat(second["started_at"]) - datetime.fromisoformat(first["completed_at"])
        assert 2 <= waited.total_seconds() < 4

    def test_status_codes_retry_on_and_give_up_on(self, api: Api, sink: Sink) -> None:
        def attempts(status: int, **retry: Any) -> int:
            path = f"/codes/{fresh()}"
            definition = flow(
                node("call", "http_request", {"url": sink.on(path, Reply(status))},
                     retry={"max_attempts": 2, "initial_delay": 0.01, **retry})
            )  # fmt: skip
            assert api.run(definition).error[0] == "http_status"
            return len(sink.asked(path))

        assert attempts(404) == 1
        assert attempts(404, status_codes=[404]) == 2
        assert attempts(503, give_up_on=["http_status"]) == 1
        assert attempts(404, retry_on=["http_status"]) == 2

    def test_pure_nodes_are_not_repeated_unless_told(self, api: Api) -> None:
        run = api.run(flow(bad("b")))
        assert len([step for step in api.steps(run.execution["id"], "all") if step["node_id"] == "b"]) == 1
        run = api.run(flow(bad("b", retry={**RETRY, "retry_on": ["broken"]})))
        assert run.error[0] == "broken"
        assert len([step for step in api.steps(run.execution["id"], "all") if step["node_id"] == "b"]) == 3

    def test_keys_of_gorax_are_mapped(self, api: Api) -> None:
        retry = {
            "enabled": True,
            "maxRetries": 2,
            "initialBackoffMs": 10,
            "max_backoff_ms": 50,
            "backoff_multiplier": 2,
        }
        created = api.create(flow(node("b", "fail", {"retry": retry})))
        stored = next(item for item in created["definition"]["nodes"] if item["id"] == "b")["retry"]
        assert stored == {
            "max_attempts": 3,
            "initial_delay": 0.01,
            "max_delay": 0.05,
            "multiplier": 2,
            "retry_on": ["transient"],
        }

    def test_a_backoff_is_explained_and_survives_in_its_row(self, api: Api, sink: Sink) -> None:
        path = f"/backoff/{fresh()}"
        url = sink.on(path, Reply(503, headers={"Retry-After": "30"}))
        execution_id = api.start(api.publish(flow(node("call", "http_request", {"url": url}))))
        until(lambda: api.data("GET", f"/executions/{execution_id}/explain")["blocker"] == "retry_backoff")
        assert api.execution(execution_id)["waiting_for"] == "retry_backoff"
        api.data("POST", f"/executions/{execution_id}/cancel")
        assert api.ended(execution_id)["status"] == "cancelled"


class TestTimeouts:
    def test_of_a_node_is_per_attempt_and_retried(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        path = f"/hang/{fresh()}"
        url = sink.on(path, Reply(hold=hold), Reply())
        definition = flow(
            node(
                "call",
                "http_request",
                {"url": url},
                timeout="300ms",
                retry={"max_attempts": 2, "initial_delay": "10ms"},
            )
        )
        try:
            run = api.run(definition)
        finally:
            hold.set()
        assert run.status == "completed"
        first = next(step for step in api.steps(run.execution["id"], "all") if step["node_id"] == "call")
        assert first["error_code"] == "timeout"

    def test_of_a_delay(self, api: Api) -> None:
        assert api.run(flow(node("d", "delay", {"duration": "1h"}, timeout="200ms"))).error[0] == "timeout"

    @pytest.mark.parametrize("duration", ["3s", "1h"])
    def test_of_the_run(self, api: Api, duration: str) -> None:
        run = api.run(flow(node("d", "delay", {"duration": duration}), ok("f"), settings={"timeout": "700ms"}))
        assert run.error[0] == "timeout"
        assert run.statuses() == {"start": "completed", "d": "failed", "f": "skipped"}
        assert run.step("d")["error_code"] == "cancelled"


class TestWhen:
    def test_false_skips_the_node_and_kills_its_edges(self, api: Api) -> None:
        definition = flow(ok("a"), node("b", "formula", {"expression": "1"}, when="trigger.body.n > 1"), ok("c"))
        run = api.run(definition, {"n": 1})
        assert run.output == {}  # The edge to `b` was live, so `a` is no leaf.
        assert run.statuses() == {"start": "completed", "a": "completed", "b": "skipped", "c": "skipped"}
        assert api.run(definition, {"n": 2}).output == {"c": 1}

    def test_on_a_task_and_with_braces(self, api: Api, sink: Sink) -> None:
        path = f"/when/{fresh()}"
        call = node("call", "http_request", {"url": sink.on(path, Reply())}, when="{{ false }}")
        assert api.run(flow(call)).statuses()["call"] == "skipped"
        assert sink.asked(path) == []

    def test_what_is_no_boolean_fails_the_step(self, api: Api) -> None:
        assert api.run(flow(node("a", "formula", {"expression": "1"}, when="'yes'"))).error[0] == "type_error"

    def test_a_skipped_step_is_missing(self, api: Api) -> None:
        definition = flow(
            node("a", "formula", {"expression": "1"}, when="false"),
            ok("b"),
            node("c", "formula", {"expression": "steps.a ?? 'none'"}),
            node("d", "formula", {"expression": "steps.a + 1"}),
            edges="start > a > c, start > b > c > d, a > d",
        )
        run = api.run(definition)
        assert run.step("c")["output_data"] == "none"
        assert run.error[0] == "missing_path"
        assert "steps.a" in run.error[1]


class TestSettingsAndOutput:
    def test_output_template(self, api: Api) -> None:
        run = api.run(flow(ok("a"), output={"n": "{{ steps.a + trigger.body.n }}", "fixed": [1, "x"]}), {"n": 1})
        assert run.output == {"n": 2, "fixed": [1, "x"]}
        assert api.run(flow(ok("a"), output="{{ steps.a }}")).output == 1

    def test_an_output_that_misses_a_path_fails_the_run(self, api: Api) -> None:
        run = api.run(flow(ok("a"), output="{{ trigger.body.nope }}"), {"n": 1})
        assert run.error[0] == "missing_path"

    def test_leaves(self, api: Api) -> None:
        definition = flow(ok("a"), ok("b"), ok("c"), edges="start > a > c, start > b")
        assert api.run(definition).output == {"b": 1, "c": 1}
        assert api.run({"nodes": [node("t", "manual_trigger")], "edges": []}, {"n": 1}).output == {
            "t": {"body": {"n": 1}}
        }

    def test_missing_null(self, api: Api) -> None:
        definition = flow(node("f", "formula", {"expression": "trigger.body.nope"}), settings={"missing": "null"})
        assert api.run(definition, {}).output == {"f": None}

    def test_max_concurrency(self, api: Api, sink: Sink) -> None:
        holds = [threading.Event() for _ in range(3)]
        paths = [f"/slot/{fresh()}" for _ in range(3)]
        nodes = [node(f"n{i}", "http_request", {"url": sink.on(paths[i], Reply(hold=holds[i]))}) for i in range(3)]
        definition = flow(*nodes, edges="start > n0, start > n1, start > n2", settings={"max_concurrency": 2})
        execution_id = api.start(api.publish(definition))
        try:
            until(lambda: sum(len(sink.asked(path)) for path in paths) == 2)
            begun = [step for step in api.steps(execution_id) if step["node_id"].startswith("n")]
            assert len([step for step in begun if step["status"] == "running"]) <= 2
            assert sum(len(sink.asked(path)) for path in paths) == 2
        finally:
            for hold in holds:
                hold.set()
        assert api.ended(execution_id)["status"] == "completed"
        assert sum(len(sink.asked(path)) for path in paths) == 3

    def test_independent_steps_run_at_the_same_time(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        paths = [f"/both/{fresh()}" for _ in range(2)]
        nodes = [
            node(f"n{i}", "http_request", {"url": sink.on(path, Reply(hold=hold))}) for i, path in enumerate(paths)
        ]
        execution_id = api.start(api.publish(flow(*nodes, edges="start > n0, start > n1")))
        try:
            for path in paths:
                sink.wait_for(path)
        finally:
            hold.set()
        assert api.ended(execution_id)["status"] == "completed"


class TestTemplates:
    def render(self, api: Api, value: Any, input: Any) -> Any:
        return api.run(flow(node("s", "stop", {"output": value})), input).output

    def test_types_and_text(self, api: Api) -> None:
        value = {
            "whole": "{{ trigger.body.o }}",
            "dollar": "${trigger.body.n}",
            "text": "n={{ trigger.body.n }}, none={{ trigger.body.none }}, o={{ trigger.body.o }}",
            "literal": "\\{{ no }} and \\${no}",
            "list": ["{{ trigger.body.n }}"],
        }
        assert self.render(api, value, {"n": 1, "none": None, "o": {"a": [True]}}) == {
            "whole": {"a": [True]},
            "dollar": 1,
            "text": 'n=1, none=, o={"a":[true]}',
            "literal": "{{ no }} and ${no}",
            "list": [1],
        }

    def test_a_value_is_rendered_once(self, api: Api) -> None:
        assert self.render(api, "{{ trigger.body.t }}", {"t": "{{ env.tenant_id }}"}) == "{{ env.tenant_id }}"

    def test_roots(self, api: Api) -> None:
        run = api.run(flow(node("s", "stop", {"output": "{{ env }}"})))
        assert set(run.output) == {"tenant_id", "execution_id", "workflow_id", "workflow_version", "started_at"}
        assert run.output["execution_id"] == run.execution["id"]

    def test_a_missing_path_fails_the_step_with_what_was_there(self, api: Api, sink: Sink) -> None:
        definition = flow(node("call", "http_request", {"url": sink.url, "body": {"a": "{{ trigger.body.user.nme }}"}}))
        run = api.run(definition, {"user": {"name": "Ada", "age": 36}})
        code, message = run.error
        assert code == "missing_path"
        for part in ("trigger.body.user.nme", "name", "age"):
            assert part in message


def test_whatever_ends_gives_its_place_back(dev: Dev, api: Api, sink: Sink) -> None:
    wait, call = node("d", "delay", {"duration": "50ms"}), node("h", "http_request", {"url": sink.url + "/free"})
    for definition in (
        flow(wait, call), flow(call, wait), flow(wait, call, edges="start > d, start > h"), flow(wait, ok("a"), call),
        flow(call, bad("b")), flow(wait, bad("b"), call), flow(call, node("s", "stop"), ok("a")),
    ):  # fmt: skip
        assert api.run(definition).status in {"completed", "failed"}

    def none_in_flight() -> bool:
        return "gorax_executions_in_flight 0.0" in httpx2.get(dev.management + "/metrics").text

    until(none_in_flight, timeout=10)
