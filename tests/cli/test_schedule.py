"""`gorax schedule`: what is sent, and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gorax_engine.cli.main import main
from tests.cli.conftest import Reply, StubServer

ID = "0b0e8f0e-3c1d-4a3b-9a65-0d8a6e6d1f10"
WORKFLOW = "5a0e8f0e-3c1d-4a3b-9a65-0d8a6e6d1f11"
ITEM = {
    "id": ID, "name": "nightly", "workflow_id": WORKFLOW, "cron_expression": "@daily", "timezone": "UTC",
    "enabled": True, "next_run_at": "2030-01-01T00:00:00Z", "last_run_at": None,
}  # fmt: skip


def test_list(stub: StubServer, capsys: Any) -> None:
    stub.on("GET", "/schedules", Reply(200, {"data": [ITEM], "next_cursor": None}))
    stub.on("GET", "/workflows", Reply(200, {"data": [{"id": WORKFLOW}], "next_cursor": None}))
    assert main(["schedule", "list", "--workflow", "orders", "--disabled"]) == 0
    assert stub.asked[0].query == {"name": "orders"}
    assert stub.asked[1].query == {"workflow_id": WORKFLOW, "enabled": "false", "limit": "50"}
    heading, row = capsys.readouterr().out.splitlines()
    assert " ".join(heading.split()) == "ID NAME WORKFLOW ID CRON EXPRESSION TIMEZONE ENABLED NEXT RUN AT LAST RUN AT"
    assert row.split() == [ID, "nightly", WORKFLOW, "@daily", "UTC", "yes", "2030-01-01T00:00:00Z", "-"]
    assert main(["--json", "schedule", "list", "--workflow", WORKFLOW]) == 0
    assert json.loads(capsys.readouterr().out) == [ITEM]
    assert stub.asked[2].query == {"workflow_id": WORKFLOW, "limit": "50"}


def test_list_of_a_workflow_that_is_not_there(stub: StubServer, capsys: Any) -> None:
    stub.on("GET", "/workflows", Reply(200, {"data": [], "next_cursor": None}))
    assert main(["schedule", "list", "--workflow", "orders"]) == 2
    assert "there is no workflow `orders`" in capsys.readouterr().err


def test_create(stub: StubServer, capsys: Any) -> None:
    stub.on("POST", "/schedules", Reply(201, {"data": ITEM}))
    assert main(["schedule", "create", "orders", "0 9 * * MON-FRI"]) == 0
    assert stub.asked[0].body == {"workflow": "orders", "cron_expression": "0 9 * * MON-FRI"}
    assert capsys.readouterr().out == f"nightly: created ({ID}), next at 2030-01-01T00:00:00Z\n"
    options = [
        "--name", "nightly", "--timezone", "Europe/Berlin", "--gap", "skip", "--fold", "both", "--starts-at", "a",
        "--ends-at", "b", "--input", '{"n": 0}', "--overlap", "queue", "--misfire", "all", "--misfire-limit", "5",
        "--catchup-window", "2h", "--jitter", "30s", "--priority", "0", "--description", "d", "--disabled",
    ]  # fmt: skip
    assert main(["--json", "schedule", "create", WORKFLOW, "@daily", *options]) == 0
    assert stub.asked[1].body == {
        "workflow_id": WORKFLOW, "cron_expression": "@daily", "name": "nightly", "timezone": "Europe/Berlin",
        "dst": {"gap": "skip", "fold": "both"}, "starts_at": "a", "ends_at": "b", "input": {"n": 0},
        "overlap_policy": "queue", "misfire_policy": "all", "misfire_limit": 5, "catchup_window": "2h",
        "jitter": "30s", "priority": 0, "description": "d", "enabled": False,
    }  # fmt: skip
    assert json.loads(capsys.readouterr().out) == ITEM


def test_what_is_wrong_is_told_with_its_place(stub: StubServer, capsys: Any) -> None:
    problem = {"pointer": "/timezone", "code": "invalid_schedule", "message": "It is no time zone."}
    stub.on("POST", "/schedules", Reply(422, {"detail": "Wrong.", "code": "invalid_schedule", "errors": [problem]}))
    assert main(["schedule", "create", "orders", "@daily", "--timezone", "x"]) == 1
    assert "/timezone: It is no time zone. [invalid_schedule]" in capsys.readouterr().err


def test_preview(stub: StubServer, capsys: Any) -> None:
    times = ["2030-01-01T00:00:00Z", "2030-01-02T00:00:00Z"]
    stub.on("POST", "/schedules/preview", Reply(200, {"data": {"occurrences": times}}))
    assert (
        main(["schedule", "preview", "@daily", "--count", "2", "--from", "2029-12-31T12:00:00Z", "--gap", "skip"]) == 0
    )
    assert stub.asked[0].body == {
        "cron_expression": "@daily", "count": 2, "from": "2029-12-31T12:00:00Z", "dst": {"gap": "skip"},
    }  # fmt: skip
    assert capsys.readouterr().out.splitlines() == times
    assert main(["schedule", "preview", "@daily", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"occurrences": times}


@pytest.mark.parametrize(("verb", "enabled"), [("enable", True), ("disable", False)])
def test_enable_and_disable(stub: StubServer, capsys: Any, verb: str, enabled: bool) -> None:
    stub.on("PATCH", f"/schedules/{ID}", Reply(200, {"data": {**ITEM, "next_run_at": None}}))
    assert main(["schedule", verb, ID]) == 0
    assert stub.asked[0].body == {"enabled": enabled}
    assert capsys.readouterr().out == f"nightly: {verb}d ({ID})\n"


def test_trigger_backfill_delete_and_show(stub: StubServer, capsys: Any) -> None:
    stub.on("POST", f"/schedules/{ID}/trigger", Reply(202, {"data": {"execution_id": "e", "status": "pending"}}))
    stub.on("POST", f"/schedules/{ID}/backfill", Reply(202, {"data": {"started": 3, "already": 1, "occurrences": []}}))
    stub.on("DELETE", f"/schedules/{ID}", Reply(200, {"data": ITEM}))
    stub.on("GET", f"/schedules/{ID}", Reply(200, {"data": ITEM}))
    assert main(["schedule", "trigger", ID]) == 0
    assert main(["schedule", "backfill", ID, "--start", "a", "--end", "b", "--limit", "9"]) == 0
    assert main(["schedule", "delete", ID]) == 0
    assert main(["schedule", "show", ID]) == 0
    assert stub.asked[1].body == {"start": "a", "end": "b", "limit": 9}
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["Execution e: pending", "3 started, 1 were there already", f"nightly: deleted ({ID})"]
    assert "cron_expression  @daily" in lines


@pytest.mark.parametrize(("found", "code"), [(0, "schedule_not_found"), (2, "ambiguous_name")])
def test_a_schedule_is_known_by_its_name_too(stub: StubServer, capsys: Any, found: int, code: str) -> None:
    stub.on("GET", "/schedules", Reply(200, {"data": [ITEM], "next_cursor": None}))
    stub.on("DELETE", f"/schedules/{ID}", Reply(200, {"data": ITEM}))
    assert main(["schedule", "delete", "nightly"]) == 0
    assert stub.asked[0].query == {"name": "nightly", "limit": "2"}
    stub.on("GET", "/schedules", Reply(200, {"data": [ITEM] * found, "next_cursor": None}))
    assert main(["schedule", "delete", "nightly"]) == 1
    assert f"[{code}]" in capsys.readouterr().err
    assert len(stub.asked) == 3


def test_occurrences(stub: StubServer, capsys: Any) -> None:
    item = {
        "schedule_id": ID, "scheduled_for": "2030-01-01T00:00:00Z", "status": "skipped", "reason": "overlap: x",
        "execution_id": None, "backfill": False, "through": None, "count": None, "decided_at": "2030-01-01T00:00:01Z",
    }  # fmt: skip
    stub.on("GET", f"/schedules/{ID}/occurrences", Reply(200, {"data": [item], "next_cursor": None}))
    assert main(["schedule", "occurrences", ID, "--limit", "5"]) == 0
    assert stub.asked[0].query == {"limit": "5"}
    assert "skipped  overlap: x" in capsys.readouterr().out
    assert main(["--json", "schedule", "occurrences", ID]) == 0
    assert json.loads(capsys.readouterr().out) == [item]
