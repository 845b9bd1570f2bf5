"""The HTTP API as its clients meet it: envelopes, errors, paging, preconditions, keys, and bodies meant to do harm."""

from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import datetime
from typing import Any

import httpx2
import pytest

from .harness import Api, Dev, flow, fresh, gorax, node, until
from .postgres import dsn_of_dev
from .sink import Reply, Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]

MINIMAL = flow(node("f", "formula", {"expression": "1"}))
DELAYED = flow(node("d", "delay", {"duration": "1h"}))


def problem(answer: httpx2.Response, status: int, code: str | None = None) -> Any:
    """Check that an answer is a problem document, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    document = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id", "errors"} <= set(document)
    assert document["status"] == status
    assert code is None or document["code"] == code
    for error in document["errors"]:
        assert set(error) == {"pointer", "code", "message"}
    return document


class TestWorkflows:
    def test_life_of_a_workflow(self, api: Api) -> None:
        name = fresh()
        answer = api("POST", "/workflows", {"name": name, "description": "d", "definition": MINIMAL})
        assert answer.status_code == 201
        created = answer.json()["data"]
        assert created["status"] == "draft"
        assert answer.headers["location"].endswith(created["id"])
        problem(api("POST", f"/workflows/{created['id']}/execute", {"input": {}}), 409)
        published = api.data("POST", f"/workflows/{created['id']}/publish")
        assert (published["status"], published["version"]) == ("active", 1)
        changed = api.data(
            "PUT", f"/workflows/{created['id']}",
            {"name": name, "definition": flow(node("f", "formula", {"expression": "2"}))},
        )  # fmt: skip
        assert changed["version"] == 1
        first = api.data("POST", f"/workflows/{created['id']}/execute", {"input": 1}, params={"wait": 30})
        assert (first["workflow_version"], first["output_data"]) == (1, {"f": 1})
        api.data("POST", f"/workflows/{created['id']}/publish")
        second = api.data("POST", f"/workflows/{created['id']}/execute", {"input": 1}, params={"wait": 30})
        assert (second["workflow_version"], second["output_data"]) == (2, {"f": 2})
        versions = api.data("GET", f"/workflows/{created['id']}/versions")
        assert sorted(version["version"] for version in versions) == [1, 2]
        assert api.data("GET", f"/workflows/{created['id']}/versions/1")["definition"]["nodes"][1]["config"] == {
            "expression": "1"
        }
        problem(api("GET", f"/workflows/{created['id']}/versions/3"), 404)
        api.data("DELETE", f"/workflows/{created['id']}")
        problem(api("POST", f"/workflows/{created['id']}/execute", {"input": {}}), 409)
        assert api.create(MINIMAL, name)["name"] == name

    def test_patch_status_active_publishes_the_first_time(self, api: Api) -> None:
        created = api.create(MINIMAL)
        patched = api.data("PATCH", f"/workflows/{created['id']}", {"status": "active"})
        assert (patched["status"], patched["version"]) == ("active", 1)
        off = api.data("PATCH", f"/workflows/{created['id']}", {"status": "inactive"})
        assert off["status"] == "inactive"
        problem(api("POST", f"/workflows/{created['id']}/execute", {"input": {}}), 409)
        assert api.data("PATCH", f"/workflows/{created['id']}", {"status": "active"})["version"] == 1

    def test_a_taken_name_is_a_conflict(self, api: Api) -> None:
        created = api.create(MINIMAL)
        problem(api("POST", "/workflows", {"name": created["name"], "definition": MINIMAL}), 409)

    def test_list_pages_and_filters(self, api: Api) -> None:
        made = [api.create(MINIMAL)["id"] for _ in range(3)]
        seen: list[str] = []
        cursor = None
        while True:
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            body = api("GET", "/workflows", params=query).json()
            assert set(body) == {"data", "next_cursor"}
            assert len(body["data"]) <= 2
            seen += [item["id"] for item in body["data"]]
            cursor = body["next_cursor"]
            if cursor is None:
                break
        assert set(made) <= set(seen)
        assert len(seen) == len(set(seen))
        assert all(item["status"] == "draft" for item in api.data("GET", "/workflows", params={"status": "draft"}))
        for bad in ({"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "nonsense"}, {"status": "nonsense"}):
            assert api("GET", "/workflows", params=bad).status_code in {400, 422}
        assert api("GET", "/workflows", params={"limit": 200}).status_code == 200

    def test_if_match(self, api: Api) -> None:
        created = api.create(MINIMAL)
        path = f"/workflows/{created['id']}"
        tag = api("GET", path).headers["etag"]
        body = {"name": created["name"], "definition": MINIMAL, "description": "new"}
        assert api("PUT", path, body, headers={"If-Match": tag}).status_code == 200
        problem(api("PUT", path, body, headers={"If-Match": tag}), 412)
        problem(api("DELETE", path, headers={"If-Match": tag}), 412)
        assert api("GET", path).headers["etag"] != tag


class TestDefinitions:
    def test_all_faults_at_once_with_pointers(self, api: Api) -> None:
        definition = {
            "nodes": [
                node("a", "formula", {"expression": "1 +"}),
                node("a", "htp_request", {}),
                node("b", "http_request", {}),
                node("c", "formula", {"expression": "steps.zzz + steps.d"}),
                node("d", "formula", {"expression": "1"}),
                node("s", "switch", {"value": "1", "cases": [{"name": "x", "value": 1}]}),
            ],
            "edges": [
                {"source": "a", "target": "nowhere"}, {"source": "b", "target": "c"}, {"source": "c", "target": "b"},
                {"source": "c", "target": "d"}, {"source": "s", "target": "d", "label": "nope"},
                {"source": "c", "target": "d"},
            ],
        }  # fmt: skip
        document = problem(api("POST", "/workflows", {"name": fresh(), "definition": definition}), 422)
        codes = {error["code"] for error in document["errors"]}
        assert codes >= {
            "no_trigger", "duplicate_id", "edge_to_nowhere", "duplicate_edge", "unknown_type", "invalid_config",
            "invalid_expression", "unknown_reference", "unknown_outcome", "cycle",
        }, codes  # fmt: skip
        near = next(error for error in document["errors"] if error["code"] == "unknown_type")
        assert "http_request" in near["message"]
        assert near["pointer"] == "/nodes/1/type"
        verdict = api("POST", "/workflows/validate", {"definition": definition})
        assert verdict.status_code == 200
        data = verdict.json()["data"]
        assert set(data) == {"valid", "errors", "warnings"}
        assert data["valid"] is False
        assert data["errors"] == document["errors"]

    @pytest.mark.parametrize(
        ("definition", "code"),
        [
            ({"nodes": [], "edges": []}, "no_nodes"),
            ({"nodes": [node("f", "formula", {"expression": "1"})], "edges": []}, "no_trigger"),
            (flow(node("a", "formula", {"expression": "steps.b"}), node("b", "stop")), "not_before"),
            (flow(node("a", "formula", {"expression": "1"}), edges="start > a > a"), "cycle"),
            (flow(node("c", "if", {"condition": "true"}), node("f", "stop"), edges="start > c >x> f"),
             "unknown_outcome"),
            (flow(node("c", "condition", {"condition": "true +"})), "invalid_expression"),
            (flow(node("s", "stop", {"output": "{{ nope.x }}"})), None),
            (flow(node("f", "formula", {"expression": "1"}), output="{{ steps.nope }}"), "unknown_reference"),
            (flow(node("f", "formula", {"expression": "1"}, timeout="soon")), "invalid_config"),
            (flow(node("f", "formula", {"expression": "1"}, retry={"max_attempts": 0})), "invalid_config"),
            (flow(node("f", "formula", {"expression": "1"}, on_error="ignore")), "invalid_config"),
            (flow(node("f", "formula", {"expression": "1"}, when="1 +")), "invalid_expression"),
            ([], None),
            ("text", None),
            (None, None),
        ],
    )  # fmt: skip
    def test_each_fault(self, api: Api, definition: Any, code: str | None) -> None:
        document = problem(api("POST", "/workflows", {"name": fresh(), "definition": definition}), 422)
        assert document["errors"]
        assert code is None or code in {error["code"] for error in document["errors"]}, document

    def test_an_unreachable_node_is_a_warning(self, api: Api) -> None:
        definition = flow(node("f", "formula", {"expression": "1"}))
        definition["nodes"].append(node("lost", "formula", {"expression": "1"}))
        verdict = api.data("POST", "/workflows/validate", {"definition": definition})
        assert verdict["valid"] is True
        assert {warning["code"] for warning in verdict["warnings"]} == {"unreachable"}

    def test_shapes_of_gorax_are_read_and_stored_canonically(self, api: Api) -> None:
        definition = {
            "nodes": [
                {"id": "w", "type": "trigger:webhook", "position": {"x": 1, "y": 2},
                 "data": {"name": "In", "config": {"path": f"/webhooks/{fresh()}", "method": "POST"}}},
                {"id": "if-1", "type": "control:if",
                 "data": {"name": "If", "config": {"condition": "{{trigger.body.a == 1}}"}}},
                {"id": "http-1", "type": "action:http",
                 "data": {"name": "Call", "config": {"url": "http://127.0.0.1:1/", "followRedirects": True}}},
                {"id": "t", "type": "action:transform", "config": {"mapping": {"x": "steps.if-1.result"}}},
            ],
            "edges": [
                {"id": "e1", "source": "w", "target": "if-1"},
                {"id": "e2", "source": "if-1", "target": "http-1", "sourceHandle": "false"},
                {"id": "e3", "source": "if-1", "target": "t", "sourceHandle": "true"},
            ],
        }  # fmt: skip
        created = api.create(definition)["definition"]
        assert [item["type"] for item in created["nodes"]] == [
            "webhook_trigger",
            "condition",
            "http_request",
            "transform",
        ]
        assert created["nodes"][0]["name"] == "In"
        assert created["nodes"][0]["position"] == {"x": 1, "y": 2}
        assert created["nodes"][2]["config"]["follow_redirects"] is True
        assert api.run(definition, {"a": 1}).output == {"t": {"x": True}}


class TestExecutions:
    def test_execute_answers_202_and_wait_200(self, api: Api) -> None:
        workflow = api.publish(MINIMAL)
        answer = api("POST", f"/workflows/{workflow['id']}/execute", {"input": {"a": 1}})
        assert answer.status_code == 202
        assert set(answer.json()["data"]) == {"execution_id", "status"}
        answer = api("POST", f"/workflows/{workflow['id']}/execute", {"input": {"a": 1}}, params={"wait": 30})
        assert answer.status_code == 200
        execution = answer.json()["data"]
        assert set(execution) == {
            "id", "workflow_id", "workflow_version", "status", "waiting_for", "trigger_type", "trigger_data",
            "output_data",
            "error_message", "error_code", "parent_execution_id", "execution_depth", "retry_of", "created_at",
            "started_at", "completed_at",
        }  # fmt: skip
        assert execution["status"] == "completed"
        assert execution["execution_depth"] == 0
        for name in ("created_at", "started_at", "completed_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", execution[name])
        assert execution["created_at"] <= execution["started_at"] <= execution["completed_at"]

    def test_wait_ends_without_the_run(self, api: Api) -> None:
        workflow = api.publish(DELAYED)
        answer = api("POST", f"/workflows/{workflow['id']}/execute", {"input": None}, params={"wait": 1})
        assert answer.status_code == 202
        assert set(answer.json()["data"]) == {"execution_id", "status"}

    def test_execute_without_a_body(self, api: Api) -> None:
        workflow = api.publish(flow(node("f", "formula", {"expression": "trigger.body ?? 'none'"})))
        assert api("POST", f"/workflows/{workflow['id']}/execute").status_code == 202

    def test_steps_have_the_columns_of_the_document(self, api: Api) -> None:
        run = api.run(MINIMAL, 1)
        assert set(run.step("f")) >= {
            "id", "execution_id", "node_id", "node_type", "input_data", "output_data", "status", "error_message",
            "started_at", "completed_at", "duration_ms", "retry_count", "iteration_path", "attempt", "error_code",
        }  # fmt: skip
        assert run.step("f")["input_data"] == {"expression": "1"} or run.step("f")["input_data"] is not None

    def test_list_filters(self, api: Api) -> None:
        workflow = api.publish(flow(node("b", "fail", {"code": "x", "message": fresh("needle")})))
        other = api.publish(MINIMAL)
        failed, done = api.start(workflow), api.start(other)
        message = api.ended(failed)["error_message"]
        api.ended(done)

        def ids(**query: Any) -> list[str]:
            return [item["id"] for item in api.data("GET", "/executions", params=query)]

        assert ids(workflow_id=workflow["id"]) == [failed]
        assert ids(error_search=message) == [failed]
        assert done not in ids(status="failed")
        assert failed in ids(status="failed", trigger_type="api")
        assert failed not in ids(trigger_type="webhook")
        created = api.execution(failed)["created_at"]
        assert failed in ids(start_date=created)
        assert failed not in ids(end_date=created)
        assert failed not in ids(start_date="2100-01-01T00:00:00Z")
        body = api("GET", "/executions", params={"limit": 1}).json()
        assert len(body["data"]) == 1
        following = api("GET", "/executions", params={"limit": 1, "cursor": body["next_cursor"]}).json()
        assert following["data"][0]["id"] != body["data"][0]["id"]

    def test_steps_are_paged(self, api: Api) -> None:
        run = api.run(flow(*[node(f"n{i}", "formula", {"expression": "1"}) for i in range(4)]))
        path = f"/executions/{run.execution['id']}/steps"
        body = api("GET", path, params={"limit": 3}).json()
        rest = api("GET", path, params={"limit": 3, "cursor": body["next_cursor"]}).json()
        names = [step["node_id"] for step in body["data"] + rest["data"]]
        assert names == ["start", "n0", "n1", "n2", "n3"]
        assert rest["next_cursor"] is None

    def test_cancel(self, api: Api, sink: Sink) -> None:
        hold = threading.Event()
        url = sink.on(path := f"/cancel/{fresh()}", Reply(hold=hold))
        definition = flow(node("call", "http_request", {"url": url}), node("later", "formula", {"expression": "1"}))
        execution_id = api.start(api.publish(definition))
        try:
            sink.wait_for(path)
            explained = until(lambda: _blocked(api, execution_id, "running_step"))
            assert explained["state"] == "running"
            answer = api("POST", f"/executions/{execution_id}/cancel")
            assert answer.status_code in {200, 202}
            execution = api.ended(execution_id)
        finally:
            hold.set()
        assert execution["status"] == "cancelled"
        assert execution["completed_at"] is not None
        statuses = {step["node_id"]: (step["status"], step["error_code"]) for step in api.steps(execution_id)}
        assert statuses == {"start": ("completed", None), "call": ("failed", "cancelled"), "later": ("skipped", None)}
        problem(api("POST", f"/executions/{execution_id}/cancel"), 409)
        assert api.data("GET", f"/executions/{execution_id}/explain")["blocker"] == "none"

    def test_cancel_a_parked_run(self, api: Api) -> None:
        execution_id = api.start(api.publish(DELAYED))
        until(lambda: api.execution(execution_id)["waiting_for"])
        assert api.data("POST", f"/executions/{execution_id}/cancel", params={"force": "true"})["status"] == "cancelled"
        statuses = {step["node_id"]: (step["status"], step["error_code"]) for step in api.steps(execution_id)}
        assert statuses["d"] == ("failed", "cancelled")

    def test_stream(self, api: Api) -> None:
        definition = flow(node("d", "delay", {"duration": "400ms"}), node("f", "formula", {"expression": "1"}))
        execution_id = api.start(api.publish(definition))
        seen: list[tuple[str, Any]] = []
        with api.http.stream("GET", f"/api/v1/executions/{execution_id}/stream") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    seen.append((name, json.loads(line.removeprefix("data: "))))
        assert [data["status"] for name, data in seen if name == "execution"][-1] == "completed"
        assert {data["node_id"] for name, data in seen if name == "step"} == {"start", "d", "f"}


def _blocked(api: Api, execution_id: str, blocker: str) -> Any:
    explained = api.data("GET", f"/executions/{execution_id}/explain")
    return explained if explained["blocker"] == blocker else None


class TestIdempotencyKey:
    def test_on_execute(self, api: Api) -> None:
        workflow, key = api.publish(MINIMAL), {"Idempotency-Key": str(uuid.uuid4())}
        path = f"/workflows/{workflow['id']}/execute"
        first = api("POST", path, {"input": {"a": 1}}, headers=key)
        again = api("POST", path, {"input": {"a": 1}}, headers=key)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["data"]["execution_id"] == again.json()["data"]["execution_id"]
        problem(api("POST", path, {"input": {"a": 2}}, headers=key), 422)
        waited = api("POST", path, {"input": {"a": 1}}, headers=key, params={"wait": 20})
        assert waited.json()["data"]["id"] == first.json()["data"]["execution_id"]

    def test_on_create(self, api: Api) -> None:
        key, body = {"Idempotency-Key": str(uuid.uuid4())}, {"name": fresh(), "definition": MINIMAL}
        first = api("POST", "/workflows", body, headers=key)
        again = api("POST", "/workflows", body, headers=key)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        problem(api("POST", "/workflows", {**body, "name": fresh()}, headers=key), 422)

    def test_concurrent_starts_with_one_key_are_one_run(self, api: Api) -> None:
        workflow, key = api.publish(MINIMAL), {"Idempotency-Key": str(uuid.uuid4())}
        answers: list[httpx2.Response] = []

        def start() -> None:
            client = Api(api.url, api.key)
            answers.append(client("POST", f"/workflows/{workflow['id']}/execute", {"input": 1}, headers=key))
            client.close()

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert len({answer.json()["data"]["execution_id"] for answer in answers if answer.status_code == 202}) == 1
        assert len(api.data("GET", "/executions", params={"workflow_id": workflow["id"]})) == 1


class TestRefusals:
    @pytest.mark.parametrize("header", [None, "Bearer nonsense", "Bearer", "Basic dTpw", "Bearer gorax_" + "x" * 40])
    def test_401(self, dev: Dev, header: str | None) -> None:
        headers = {} if header is None else {"Authorization": header}
        answer = httpx2.get(dev.url + "/api/v1/workflows", headers=headers)
        problem(answer, 401)
        assert "www-authenticate" in answer.headers

    def test_403_names_no_secret(self, dev: Dev, api: Api) -> None:
        made = api.data("POST", "/api-keys", {"name": fresh(), "role": "viewer"})
        viewer = Api(dev.url, made["key"])
        assert viewer("GET", "/workflows").status_code == 200
        document = problem(viewer("POST", "/workflows", {"name": fresh(), "definition": MINIMAL}), 403)
        assert "workflow:create" in document["detail"]
        viewer.close()

    def test_404_405_413_415(self, dev: Dev, api: Api) -> None:
        problem(api("GET", f"/workflows/{uuid.uuid4()}"), 404)
        problem(api("GET", f"/executions/{uuid.uuid4()}"), 404)
        problem(api("GET", f"/executions/{uuid.uuid4()}/steps"), 404)
        problem(api("GET", f"/executions/{uuid.uuid4()}/explain"), 404)
        problem(api("POST", f"/executions/{uuid.uuid4()}/cancel"), 404)
        problem(api("POST", f"/workflows/{uuid.uuid4()}/execute", {"input": 1}), 404)
        problem(api("GET", "/nonsense"), 404)
        assert api("GET", "/workflows/not-a-uuid").status_code in {404, 422}
        answer = api("DELETE", "/workflows")
        problem(answer, 405)
        assert "allow" in answer.headers
        big = {"name": fresh(), "definition": MINIMAL, "description": "x" * 1_100_000}
        problem(api("POST", "/workflows", big), 413)
        problem(api("POST", "/workflows", content=b"<a/>", headers={"Content-Type": "text/xml"}), 415)

    def test_422_points_at_the_fault(self, api: Api) -> None:
        document = problem(api("POST", "/workflows", {"name": "", "definition": MINIMAL, "nonsense": 1}), 422)
        assert {error["pointer"] for error in document["errors"]} == {"/name", "/nonsense"}
        problem(api("POST", "/workflows", {"definition": MINIMAL}), 422)
        problem(api("POST", "/workflows", []), 422)

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"input": "\\u0000"}', b'{"input": "\\ud800"}', b'{"input": NaN}', b'{"input": Infinity}',
            b'{"input": ' + b"1" * 5000 + b"}", b'{"input": ' + b"[" * 200_000, b"[" * 200_000 + b"]" * 200_000,
            b'{"input": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", b"{", b"", b"\xff\xfe",
            b'{"a": 1e999999}',
            b'{"input": "' + b"x" * 1_048_577 + b'"}', b"nonsense", b'{"input": "\xed\xa0\x80"}', b'{"\\u0000": 1}',
        ],
        ids=["nul", "surrogate", "nan", "infinity", "digits", "open", "brackets", "braces", "cut", "empty", "utf-16",
             "exponent", "megabyte", "word", "raw-surrogate", "nul-key"],
    )  # fmt: skip
    def test_bodies_that_mean_harm(self, dev: Dev, api: Api, raw: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        for path in ("/workflows", "/workflows/validate"):
            answer = api("POST", path, content=raw, headers=headers)
            problem(answer, 413 if len(raw) > 1_048_576 else 400)
        workflow = api.publish(MINIMAL)
        answer = api("POST", f"/workflows/{workflow['id']}/execute", content=raw, headers=headers)
        if raw:
            problem(answer, 413 if len(raw) > 1_048_576 else 400)
        assert httpx2.get(dev.management + "/readyz").status_code == 200
        assert dev.process.code is None

    def test_a_chunked_body_is_bounded_too(self, dev: Dev, api: Api) -> None:
        def chunks() -> Any:
            for _ in range(40):
                yield b" " * 65_536

        try:
            answer = api("POST", "/workflows", content=chunks(), headers={"Content-Type": "application/json"})
        except httpx2.TransportError:
            return  # Cut off while it was still sending.
        problem(answer, 413)


class TestTenants:
    def test_another_tenants_objects_are_absent(self, dev: Dev, api: Api) -> None:
        rival_key = _second_tenant(dev)
        rival = Api(dev.url, rival_key)
        workflow = api.publish(DELAYED)
        execution_id = api.start(workflow)
        try:
            for method, path, body in [
                ("GET", f"/workflows/{workflow['id']}", None),
                ("PUT", f"/workflows/{workflow['id']}", {"name": "n", "definition": MINIMAL}),
                ("PATCH", f"/workflows/{workflow['id']}", {"description": "n"}),
                ("DELETE", f"/workflows/{workflow['id']}", None),
                ("POST", f"/workflows/{workflow['id']}/publish", None),
                ("POST", f"/workflows/{workflow['id']}/execute", {"input": 1}),
                ("GET", f"/workflows/{workflow['id']}/versions", None),
                ("GET", f"/executions/{execution_id}", None),
                ("GET", f"/executions/{execution_id}/steps", None),
                ("GET", f"/executions/{execution_id}/explain", None),
                ("GET", f"/executions/{execution_id}/stream", None),
                ("POST", f"/executions/{execution_id}/cancel", None),
            ]:
                problem(rival(method, path, body), 404)
            assert rival.data("GET", "/workflows") == []
            assert rival.data("GET", "/executions") == []
            assert rival.data("GET", "/executions", params={"workflow_id": workflow["id"]}) == []
            assert rival.create(MINIMAL, workflow["name"])["name"] == workflow["name"]
        finally:
            rival.close()
        assert api.execution(execution_id)["status"] == "running"

    def test_keys_are_shown_once_and_can_be_revoked(self, dev: Dev, api: Api) -> None:
        made = api.data("POST", "/api-keys", {"name": fresh()})
        other = Api(dev.url, made["key"])
        assert other("GET", "/workflows").status_code == 200
        listed = api("GET", "/api-keys").text
        assert made["id"] in listed
        assert made["key"] not in listed
        assert api("DELETE", f"/api-keys/{made['id']}").is_success
        until(lambda: other("GET", "/workflows").status_code == 401)
        other.close()


def _second_tenant(dev: Dev) -> str:
    """Make a tenant in the embedded database of `dev` with the command for operators; return its key."""
    made = gorax("--json", "tenant", "create", fresh("rival"), env={"GORAX_DATABASE__DSN": dsn_of_dev(dev.folder)})
    assert made.code == 0, made.err
    return str(made.json()["api_key"])


class TestOpenApi:
    def test_document(self, dev: Dev, api: Api) -> None:
        answer = api("GET", "/openapi.json")
        document = answer.json()
        assert document["openapi"].startswith("3.1")
        operations = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        assert len(operations) > 15
        for method, path, operation in operations:
            if "openapi" not in path:
                assert re.search(r"[a-z_]+:[a-z_]+", json.dumps(operation)), f"{method} {path} names no permission"
        assert "/api/v1/workflows/{workflow_id}/execute" in document["paths"] or any(
            path.endswith("/execute") for path in document["paths"]
        )
        page = httpx2.get(dev.url + "/api/docs")
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]

    def test_request_ids(self, api: Api) -> None:
        answer = api("GET", "/nonsense")
        assert answer.headers["x-request-id"] == answer.json()["request_id"]

    def test_times_are_utc(self, api: Api) -> None:
        created = api.create(MINIMAL)
        assert datetime.fromisoformat(created["created_at"]).utcoffset() is not None
        assert created["created_at"].endswith("Z")
