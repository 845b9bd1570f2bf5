"""`gorax run` against a stub: names and files, waiting, and an exit code for every end."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.main import main

from .conftest import Reply, StubServer

ID = "018f0000-0000-7000-8000-000000000001"
RUN = "018f0000-0000-7000-8000-0000000000aa"


def execution(status: str, **more: Any) -> dict[str, Any]:
    return {"data": {"id": RUN, "status": status, "output_data": None, "error_message": None, **more}}


@pytest.fixture
def orders(stub: StubServer) -> StubServer:
    """A server that has the workflow `orders`."""
    stub.on("GET", "/workflows", Reply(body={"data": [{"id": ID, "name": "orders"}], "next_cursor": None}))
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": {"id": ID, "name": "orders"}}))
    stub.on("POST", f"/workflows/{ID}/execute", Reply(202, {"data": {"execution_id": RUN, "status": "pending"}}))
    return stub


def test_starts_by_name_and_prints_the_id(orders: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "orders", "--input", '{"total": 5}', "--idempotency-key", "k-1"]) == 0
    assert capsys.readouterr().out == f"{RUN}\n"
    asked = orders.asked[-1]
    assert asked.body == {"input": {"total": 5}}
    assert asked.headers["Idempotency-Key"] == "k-1"
    assert asked.query == {}


def test_starts_by_id_without_a_look_up_and_prints_json(orders: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "run", ID]) == 0
    assert json.loads(capsys.readouterr().out) == {"execution_id": RUN, "status": "pending"}
    assert orders.calls() == [f"POST /workflows/{ID}/execute"]
    assert orders.asked[0].body == {"input": {}}


def test_input_comes_from_a_file_or_stdin(orders: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.json").write_text('{"from": "file"}')
    assert main(["run", ID, "--input", "@in.json"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO('["stdin"]'))
    assert main(["run", ID, "--input", "@-"]) == 0
    assert [asked.body["input"] for asked in orders.asked] == [{"from": "file"}, ["stdin"]]


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 3)])
def test_waits_on_the_server_and_exits_by_the_end(
    orders: StubServer, status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = execution(status, output_data={"total": 5}, error_message="Boom." if status == "failed" else None)
    orders.on("POST", f"/workflows/{ID}/execute", Reply(200, ended))
    sentence = "The run has failed at the step `s`: Boom."
    orders.on("GET", f"/executions/{RUN}/explain", Reply(body={"sentence": sentence}))
    assert main(["run", ID, "--wait"]) == code
    (asked,) = [each for each in orders.asked if each.method == "POST"]
    assert asked.query == {"wait": "30"}
    captured = capsys.readouterr()
    assert f"Execution {RUN}: {status}" in captured.out
    assert '"total": 5' in captured.out
    assert ("at the step `s`: Boom." in captured.err) == (status == "failed")


def test_asks_on_when_the_server_no_longer_waits(orders: StubServer) -> None:
    orders.on("GET", f"/executions/{RUN}", Reply(body=execution("running")), Reply(body=execution("completed")))
    assert main(["run", ID, "--wait"]) == 0
    assert orders.calls()[-2:] == [f"GET /executions/{RUN}"] * 2


def test_still_running_is_exit_5(orders: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    orders.on("GET", f"/executions/{RUN}", Reply(body=execution("running")))
    assert main(["run", ID, "--wait", "--timeout", "0"]) == 5
    assert "still running" in capsys.readouterr().err


def test_no_such_workflow(orders: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "absent"]) == 1
    assert capsys.readouterr().err == "error: There is no workflow named 'absent'. [workflow_not_found]\n"


def test_a_file_is_applied_first(stub: StubServer, tmp_path: Path) -> None:
    (tmp_path / "wf.yaml").write_text("name: fresh\ndefinition: {nodes: []}\n")
    stub.on("GET", "/workflows", Reply(body={"data": [], "next_cursor": None}))
    stub.on("POST", "/workflows", Reply(201, {"data": {"id": ID, "name": "fresh"}}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": {"id": ID, "published_version": 1}}))
    stub.on("POST", f"/workflows/{ID}/execute", Reply(202, {"data": {"execution_id": RUN, "status": "pending"}}))
    assert main(["run", "wf.yaml"]) == 0
    assert stub.calls() == [
        "GET /workflows",
        "POST /workflows",
        f"POST /workflows/{ID}/publish",
        f"POST /workflows/{ID}/execute",
    ]


def test_a_file_with_two_workflows_is_refused(stub: StubServer, tmp_path: Path) -> None:
    one = {"name": "a", "definition": {}}
    (tmp_path / "two.json").write_text(json.dumps([one, {**one, "name": "b"}]))
    assert main(["run", "two.json"]) == 1
    assert stub.asked == []
