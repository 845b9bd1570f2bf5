"""`gorax workflow` against a stub: tables, applying only what changed, and every fault of a definition."""

import json
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.main import main

from .conftest import Reply, StubServer

ID = "018f0000-0000-7000-8000-000000000001"
DEFINITION = {"nodes": [{"id": "a", "type": "manual_trigger", "name": "A"}], "edges": []}


def workflow(**more: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "name": "orders",
        "status": "active",
        "version": 2,
        "published_version": 2,
        "revision": 5,
        "updated_at": "2026-01-02T03:04:05Z",
        "definition": DEFINITION,
        **more,
    }


@pytest.fixture
def file(tmp_path: Path, stub: StubServer) -> str:
    """A file with the workflow, in the current folder."""
    (tmp_path / "orders.json").write_text(json.dumps({"name": "orders", "definition": DEFINITION}))
    return "orders.json"


def test_lists_as_a_table_and_as_json(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [workflow(name="evil\x1b[31m")], "next_cursor": None}))
    assert main(["workflow", "list", "--status", "active"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "NAME", "STATUS", "PUBLISHED", "VERSION", "UPDATED", "AT"]
    assert row.split() == [ID, "evil", "[31m", "active", "2", "2026-01-02T03:04:05Z"]
    assert stub.asked[0].query == {"status": "active", "limit": "50"}
    assert main(["workflow", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "evil\x1b[31m"


def test_shows_by_name(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [workflow()], "next_cursor": None}))
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    assert main(["workflow", "show", "orders"]) == 0
    out = capsys.readouterr().out
    assert "name               orders" in out
    assert "manual_trigger" in out


def test_apply_creates_and_publishes(stub: StubServer, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [], "next_cursor": None}))
    stub.on("POST", "/workflows", Reply(201, {"data": workflow(status="draft", published_version=None)}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": workflow(published_version=1)}))
    assert main(["workflow", "apply", file]) == 0
    assert capsys.readouterr().out == f"orders: created, version 1 ({ID})\n"
    assert stub.asked[1].body == {"name": "orders", "definition": DEFINITION}


def test_apply_publishes_what_changed_and_guards_against_other_writers(
    stub: StubServer, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [workflow()], "next_cursor": None}))
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}, headers={"ETag": '"5"'}))
    stub.on("PUT", f"/workflows/{ID}", Reply(body={"data": workflow(revision=6)}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": workflow(published_version=3)}))
    assert main(["workflow", "apply", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"id": ID, "name": "orders", "action": "updated", "version": 3}]
    put = next(asked for asked in stub.asked if asked.method == "PUT")
    assert put.headers["If-Match"] == '"5"'


def test_apply_leaves_alone_what_has_not_changed(
    stub: StubServer, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [workflow()], "next_cursor": None}))
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    stub.on("PUT", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": workflow()}))
    assert main(["workflow", "apply", file]) == 0
    assert capsys.readouterr().out == f"orders: unchanged, version 2 ({ID})\n"


def test_a_refused_definition_shows_each_fault_on_its_line(
    stub: StubServer, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [], "next_cursor": None}))
    faults = [
        {"code": "no_trigger", "pointer": "/nodes", "message": "Add a trigger."},
        {"code": "cycle", "pointer": "/edges/0", "message": "Cut it."},
    ]
    stub.on("POST", "/workflows", Reply(422, {"detail": "2 faults.", "code": "invalid_definition", "errors": faults}))
    assert main(["workflow", "apply", file]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: orders.json: orders: 2 faults. [invalid_definition]",
        "  orders.json#/definition/nodes: Add a trigger. [no_trigger]",
        "  orders.json#/definition/edges/0: Cut it. [cycle]",
    ]


def test_validate_names_file_and_pointer(stub: StubServer, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = {
        "valid": False,
        "errors": [{"code": "cycle", "pointer": "/edges/0", "message": "Cut it."}],
        "warnings": [{"code": "unreachable", "pointer": "/nodes/1", "message": "Nothing leads here."}],
    }
    stub.on("POST", "/workflows/validate", Reply(body={"data": verdict}))
    assert main(["workflow", "validate", file]) == 1
    captured = capsys.readouterr()
    assert "  orders.json#/definition/edges/0: Cut it. [cycle]" in captured.err
    assert "warning: orders.json#/definition/nodes/1: Nothing leads here. [unreachable]" in captured.out
    assert main(["workflow", "validate", file, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [{"file": "orders.json", "name": "orders", **verdict}]


def test_validate_of_a_good_file(stub: StubServer, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("POST", "/workflows/validate", Reply(body={"data": {"valid": True, "errors": [], "warnings": []}}))
    assert main(["workflow", "validate", file]) == 0
    assert capsys.readouterr().out == "orders.json: orders is valid\n"


def test_a_bad_file_is_refused_before_anything_is_sent(
    stub: StubServer, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("name: [")
    assert main(["workflow", "apply", file, "bad.yaml"]) == 1
    assert "bad.yaml is not YAML" in capsys.readouterr().err
    assert stub.asked == []


def test_publish(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": workflow(published_version=3)}))
    assert main(["workflow", "publish", ID]) == 0
    assert "published as version 3" in capsys.readouterr().out
