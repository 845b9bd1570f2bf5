"""`gorax workflow` against a stub: tables, applying only what changed, and every fault of a definition."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.main import main
from gorax_engine.cli.workflow_files import read_workflows

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


def test_several_are_all_checked_before_the_first_is_saved(
    stub: StubServer, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.yaml").write_text("- {name: b, definition: {nodes: []}}\n- {name: c, definition: {nodes: []}}\n")
    good = {"valid": True, "errors": [], "warnings": []}
    bad = {"valid": False, "errors": [{"code": "no_nodes", "pointer": "/nodes", "message": "Add."}], "warnings": []}
    stub.on(
        "POST", "/workflows/validate", Reply(body={"data": good}), Reply(body={"data": good}), Reply(body={"data": bad})
    )
    assert main(["workflow", "apply", file, "more.yaml"]) == 1
    assert "more.yaml#/1/definition/nodes: Add. [no_nodes]" in capsys.readouterr().err
    assert stub.calls() == ["POST /workflows/validate"] * 3


def test_a_file_from_standard_input(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("POST", "/workflows/validate", Reply(body={"data": {"valid": True, "errors": [], "warnings": []}}))
    text = "name: orders\ndefinition: {nodes: []}\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["workflow", "validate", "-"]) == 0
    assert capsys.readouterr().out == "-: orders is valid\n"


@pytest.mark.parametrize("name", ["out.yaml", "out.json"])
def test_what_is_exported_is_what_apply_reads(stub: StubServer, tmp_path: Path, name: str) -> None:
    stored = workflow(description="All orders", definition={**DEFINITION, "settings": {"timeout": "1h"}})
    stub.on("GET", "/workflows", Reply(body={"data": [stored], "next_cursor": None}))
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": stored}))
    assert main(["workflow", "export", "orders", "--output", name]) == 0
    (read,) = read_workflows(tmp_path / name)
    assert read.body() == {key: stored[key] for key in ("name", "description", "definition")}


def test_exports_all_or_a_version_to_standard_output(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    other = "018f0000-0000-7000-8000-000000000002"
    stub.on("GET", "/workflows", Reply(body={"data": [workflow(), {"id": other, "name": "a"}], "next_cursor": None}))
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    stub.on("GET", f"/workflows/{other}", Reply(body={"data": workflow(id=other, name="a")}))
    assert main(["workflow", "export", "--all", "--format", "json"]) == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == ["a", "orders"]
    stub.on("GET", f"/workflows/{ID}/versions/1", Reply(body={"data": {"definition": {"nodes": []}}}))
    assert main(["workflow", "export", ID, "--version", "1"]) == 0
    assert capsys.readouterr().out == "name: orders\ndefinition:\n  nodes: []\n"


@pytest.mark.parametrize("arguments", [[], ["orders", "--all"], ["a", "b", "--version", "1"]])
def test_export_must_be_told_what(stub: StubServer, arguments: list[str]) -> None:
    assert main(["workflow", "export", *arguments]) == 2
    assert stub.asked == []


def test_versions_and_restore(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    version = {"version": 1, "created_at": "2026-01-02T03:04:05Z", "created_by": "ann"}
    stub.on("GET", f"/workflows/{ID}/versions", Reply(body={"data": [version], "next_cursor": None}))
    assert main(["workflow", "versions", ID]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["1", "2026-01-02T03:04:05Z", "ann"]
    stub.on("POST", f"/workflows/{ID}/versions/1/restore", Reply(body={"data": workflow()}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": workflow(published_version=3)}))
    assert main(["workflow", "restore", ID, "1"]) == 0
    assert capsys.readouterr().out == "orders: version 1 is the draft\n"
    assert main(["workflow", "restore", ID, "1", "--publish"]) == 0
    assert capsys.readouterr().out == "orders: version 1 is published as version 3\n"


@pytest.mark.parametrize("verb", ["archive", "delete"])
def test_archives_once_all_are_found(stub: StubServer, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    stub.on("DELETE", f"/workflows/{ID}", Reply(body={"data": workflow(status="archived")}))
    stub.on("GET", "/workflows", Reply(body={"data": [], "next_cursor": None}))
    assert main(["workflow", verb, ID, "absent"]) == 1
    assert "DELETE" not in " ".join(stub.calls())
    assert main(["workflow", verb, ID]) == 0
    assert capsys.readouterr().out == f"{ID}: archived ({ID})\n"


def test_publish(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", f"/workflows/{ID}", Reply(body={"data": workflow()}))
    stub.on("POST", f"/workflows/{ID}/publish", Reply(body={"data": workflow(published_version=3)}))
    assert main(["workflow", "publish", ID]) == 0
    assert "published as version 3" in capsys.readouterr().out
