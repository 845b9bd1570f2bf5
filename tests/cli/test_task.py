"""`gorax task` and `gorax notification` against a stub."""

import json
from typing import Any

import pytest

from gorax_engine.cli.main import main

from .conftest import Reply, StubServer

TASK = "018f0000-0000-7000-8000-0000000000aa"


def task(**more: Any) -> dict[str, Any]:
    assignees = [{"type": "user", "id": "u1"}, {"type": "role", "name": "ops"}]
    return {"id": TASK, "status": "pending", "task_type": "approval", "title": "Go?", "assignees": assignees,
            "due_date": None, "overdue": False, "created_at": "t", **more}  # fmt: skip


def test_lists_with_filters(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", "/tasks", Reply(body={"data": [task()], "next_cursor": None}))
    assert main(["task", "list", "--mine", "--status", "pending", "--overdue", "--execution", "e", "--limit", "3"]) == 0
    assert stub.asked[0].query == {
        "assignee": "me", "status": "pending", "overdue": "true", "execution_id": "e", "limit": "3",
    }  # fmt: skip
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == [TASK, "pending", "approval", "Go?", "user", "u1,", "role", "ops", "-", "no", "t"]
    assert main(["task", "list", "--assignee", "u1", "--json"]) == 0
    assert stub.asked[1].query == {"assignee": "u1", "limit": "50"}
    assert json.loads(capsys.readouterr().out)[0]["id"] == TASK


def test_shows(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", f"/tasks/{TASK}", Reply(body={"data": task(form_fields=[{"name": "n"}])}))
    assert main(["task", "show", TASK]) == 0
    assert '[{"name": "n"}]' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "verb", "body"),
    [
        (["approve", TASK], "approve", {}),
        (["approve", TASK, "--comment", "ok", "--data", '{"n": 1}'], "approve", {"comment": "ok", "data": {"n": 1}}),
        (["reject", TASK, "--reason", "no"], "reject", {"reason": "no"}),
        (["submit", TASK, "--data", "{}"], "submit", {"data": {}}),
        (["delegate", TASK, "ops", "--comment", "away"], "delegate", {"to": "ops", "comment": "away"}),
    ],
)
def test_acts(
    stub: StubServer, capsys: pytest.CaptureFixture[str], arguments: list[str], verb: str, body: dict[str, Any]
) -> None:
    stub.on("POST", f"/tasks/{TASK}/{verb}", Reply(body={"data": task(status="approved")}))
    assert main(["task", *arguments]) == 0
    assert stub.asked[0].body == body
    assert capsys.readouterr().out == f"Task {TASK}: approved\n"


def test_a_refusal_shows_every_fault(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    faults = [{"code": "required_field", "pointer": "/data/n", "message": "`n` is needed."}]
    body = {"detail": "The form is not filled in right.", "code": "invalid_response", "errors": faults}
    stub.on("POST", f"/tasks/{TASK}/submit", Reply(422, body))
    assert main(["task", "submit", TASK]) == 1
    assert "/data/n: `n` is needed. [required_field]" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["[1]", "{", "@nowhere.json"])
def test_data_must_be_an_object(stub: StubServer, data: str) -> None:
    assert main(["task", "submit", TASK, "--data", data]) == 2
    assert stub.asked == []


def test_notifications(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    note = {"id": TASK, "type": "info", "title": "Go?", "message": "m", "is_read": False, "created_at": "t"}
    stub.on("GET", "/notifications", Reply(body={"data": [note], "next_cursor": None}))
    stub.on("POST", f"/notifications/{TASK}/read", Reply(body={"data": note}))
    assert main(["notification", "list", "--unread"]) == 0
    assert stub.asked[0].query == {"unread": "true", "limit": "50"}
    assert main(["notification", "read", TASK]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Read: Go?"
