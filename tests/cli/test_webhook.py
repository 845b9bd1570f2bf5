"""`gorax webhook`: what is sent, where secrets come from, and what is printed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.main import main
from tests.cli.conftest import Reply, StubServer

ID = "0b0e8f0e-3c1d-4a3b-9a65-0d8a6e6d1f10"
EVENT = "01a20ef6-d796-7000-a48b-04d4de2e723d"
ITEM = {
    "id": ID, "path": "shop/orders", "url": "/webhooks/shop/orders", "methods": ["POST"], "auth_type": "secret",
    "enabled": True, "managed": False, "workflow_id": EVENT, "trigger_count": 3, "last_triggered_at": None,
}  # fmt: skip


def pipe(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


@pytest.fixture
def known(stub: StubServer) -> StubServer:
    """A server with one webhook."""
    stub.on("GET", "/webhooks", Reply(200, {"data": [ITEM], "next_cursor": None}))
    stub.on("GET", f"/webhooks/{ID}", Reply(200, {"data": ITEM}))
    return stub


def test_webhooks_are_listed_and_known_by_path_or_id(known: StubServer, capsys: Any) -> None:
    assert main(["webhook", "list", "--workflow", EVENT, "--disabled"]) == 0
    assert known.asked[0].query == {"workflow_id": EVENT, "enabled": "false", "limit": "50"}
    assert "shop/orders" in capsys.readouterr().out
    for name in (ID, "shop/orders", "/webhooks/shop/orders/"):
        assert main(["webhook", "show", name]) == 0
    assert known.calls()[1:] == [
        f"GET /webhooks/{ID}", "GET /webhooks", f"GET /webhooks/{ID}", "GET /webhooks", f"GET /webhooks/{ID}",
    ]  # fmt: skip
    assert main(["webhook", "show", "absent"]) == 1
    assert "[webhook_not_found]" in capsys.readouterr().err


def test_a_generated_secret_is_printed_once(known: StubServer, capsys: Any) -> None:
    known.on("POST", "/webhooks", Reply(201, {"data": {**ITEM, "secret": "g3nerated"}}))
    options = ["--auth-type", "secret", "--method", "post", "--method", "PUT", "--allow-ip", "10.0.0.0/8"]
    assert main(["webhook", "create", "orders", *options, "--node", "hook", "--rate-limit", "5"]) == 0
    assert known.asked[0].body == {
        "workflow": "orders", "auth_type": "secret", "methods": ["POST", "PUT"], "allowed_ips": ["10.0.0.0/8"],
        "node_id": "hook", "rate_limit": 5,
    }  # fmt: skip
    assert capsys.readouterr().out == (
        f"/webhooks/shop/orders: made ({ID})\nSecret: g3nerated\nKeep it; it is not shown again.\n"
    )


def test_secrets_come_from_stdin_or_a_file(
    known: StubServer, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    known.on("PATCH", f"/webhooks/{ID}", Reply(200, {"data": {**ITEM, "secret": None}}))
    known.on("POST", f"/webhooks/{ID}/rotate-secret", Reply(200, {"data": {**ITEM, "secret": None}}))
    pipe(monkeypatch, b" s3cret \n")
    assert main(["webhook", "update", "shop/orders", "--secret-from", "-"]) == 0
    (tmp_path / "secret").write_bytes(b"of-file\r\n")
    assert main(["webhook", "rotate-secret", ID, "--from", str(tmp_path / "secret"), "--grace", "0s"]) == 0
    sent = [asked.body for asked in known.asked if asked.method != "GET"]
    assert sent == [{"secret": " s3cret "}, {"secret": "of-file", "grace": "0s"}]
    out = capsys.readouterr().out
    assert "s3cret" not in out
    assert "of-file" not in out


@pytest.mark.parametrize("raw", [b"", b"\n", b"\xff", b"s" * 5000])
def test_what_is_no_secret_is_refused_and_not_shown(
    known: StubServer, monkeypatch: pytest.MonkeyPatch, capsys: Any, raw: bytes
) -> None:
    pipe(monkeypatch, raw)
    assert main(["webhook", "rotate-secret", ID, "--from", "-"]) == 1
    assert "[no_secret]" in capsys.readouterr().err
    assert known.asked == []


def test_no_argument_takes_a_secret(known: StubServer) -> None:
    assert main(["webhook", "rotate-secret", ID, "s3cret"]) == 2
    assert main(["webhook", "create", "orders", "--secret", "s3cret"]) == 2
    assert main(["webhook", "update", ID]) == 2
    assert known.asked == []


def test_switching_and_deleting(known: StubServer, capsys: Any) -> None:
    known.on("PATCH", f"/webhooks/{ID}", Reply(200, {"data": {**ITEM, "enabled": False}}), Reply(200, {"data": ITEM}))
    known.on("DELETE", f"/webhooks/{ID}", Reply(200, {"data": ITEM}))
    assert main(["webhook", "disable", "shop/orders"]) == 0
    assert main(["webhook", "enable", "shop/orders"]) == 0
    assert main(["webhook", "delete", "shop/orders"]) == 0
    assert [asked.body for asked in known.asked if asked.method == "PATCH"] == [{"enabled": False}, {"enabled": True}]
    assert capsys.readouterr().out.splitlines() == [
        "shop/orders: disabled", "shop/orders: enabled", f"shop/orders: deleted ({ID})",
    ]  # fmt: skip


RULE = {
    "id": ID, "passed": False, "logic_group": 0, "field_path": "$.a", "operator": "equals", "value": 1, "actual": 2,
    "found": True, "reason": "no",
}  # fmt: skip


def test_a_request_is_tried_out(known: StubServer, capsys: Any) -> None:
    verdict = {
        "accepted": False, "code": "filtered", "reason": "No filter holds.", "workflow": {"name": "orders"},
        "filters": {"passed": False, "reason": "No filter holds.", "rules": [RULE]}, "trigger_data": {},
    }  # fmt: skip
    accepted = {**verdict, "accepted": True, "code": None, "reason": None}
    known.on("POST", f"/webhooks/{ID}/test", Reply(200, {"data": verdict}), Reply(200, {"data": accepted}))
    options = ["--header", "X-Kind: a", "--query", "q=1", "--body", '{"a": 2}']
    assert main(["webhook", "test", ID, *options]) == 1
    assert known.asked[0].body == {
        "method": "POST", "headers": {"X-Kind": "a"}, "query": {"q": "1"}, "body": {"a": 2},
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "It would start nothing: No filter holds. [filtered]" in out
    assert "$.a" in out
    assert main(["webhook", "test", ID]) == 0
    assert "It would start orders." in capsys.readouterr().out
    for bad in (["--header", "X"], ["--query", "q"], ["--body", "{"]):
        assert main(["webhook", "test", ID, *bad]) == 2


def test_deliveries_are_listed_and_shown(known: StubServer, capsys: Any) -> None:
    item = {"id": EVENT, "status": "failed", "created_at": "2026-01-01T00:00:00Z", "error_message": "bad"}
    known.on("GET", f"/webhooks/{ID}/events", Reply(200, {"data": [item], "next_cursor": None}))
    known.on("GET", f"/webhooks/events/{EVENT}", Reply(200, {"data": {**item, "raw_body": "e30="}}))
    assert main(["webhook", "events", "shop/orders", "--status", "failed", "--since", "2026-01-01T00:00:00Z"]) == 0
    assert known.asked[-1].query == {"status": "failed", "since": "2026-01-01T00:00:00Z", "limit": "50"}
    assert main(["--json", "webhook", "events", "--event", EVENT]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n{")[2].join(("{", "")))["raw_body"] == "e30="
    assert main(["webhook", "events"]) == 2
    assert main(["webhook", "events", ID, "--event", EVENT]) == 2


def test_deliveries_are_replayed(known: StubServer, capsys: Any) -> None:
    done = {"execution_id": ID, "event_id": ID, "source_event_id": EVENT, "status": "pending"}
    refusal = Reply(409, {"detail": "5 times already.", "code": "replay_limit"})
    known.on("POST", f"/webhooks/events/{EVENT}/replay", Reply(202, {"data": done}), refusal)
    assert main(["webhook", "replay", EVENT]) == 0
    assert capsys.readouterr().out == f"{EVENT}: started {ID}\n"
    assert main(["webhook", "replay", EVENT]) == 1
    assert "5 times already. [replay_limit]" in capsys.readouterr().err
    many = {"replayed": [{**done, "requested_event_id": EVENT}], "refused": [], "more": True}
    known.on("POST", f"/webhooks/{ID}/events/replay", Reply(202, {"data": many}))
    options = ["--webhook", "shop/orders", "--status", "failed", "--since", "2026-01-01T00:00:00Z"]
    assert main(["webhook", "replay", *options]) == 0
    assert known.asked[-1].body == {"status": "failed", "since": "2026-01-01T00:00:00Z", "limit": 100}
    assert "There are more" in capsys.readouterr().out
    for bad in ([], ["--status", "failed"], ["--webhook", ID], [EVENT, "--status", "failed"]):
        assert main(["webhook", "replay", *bad]) == 2


def test_filters(known: StubServer, capsys: Any) -> None:
    path = f"/webhooks/{ID}/filters"
    item = {**RULE, "webhook_id": ID, "enabled": True}
    known.on("GET", path, Reply(200, {"data": [item], "next_cursor": None}))
    known.on("POST", path, Reply(201, {"data": item}))
    known.on("DELETE", f"{path}/{EVENT}", Reply(200, {"data": item}))
    known.on("POST", f"{path}/test", Reply(200, {"data": {"passed": False, "reason": "No.", "rules": [RULE]}}))
    assert main(["webhook", "filters", "list", ID]) == 0
    assert main(["webhook", "filters", "add", ID, "$.a", "in", "[1, 2]", "--group", "3"]) == 0
    assert known.asked[-1].body == {"field_path": "$.a", "operator": "in", "value": [1, 2], "logic_group": 3}
    assert main(["webhook", "filters", "add", ID, "$.a", "exists"]) == 0
    assert known.asked[-1].body == {"field_path": "$.a", "operator": "exists", "logic_group": 0}
    assert main(["webhook", "filters", "add", ID, "$.a", "equals", "paid"]) == 2
    assert main(["webhook", "filters", "remove", ID, EVENT]) == 0
    capsys.readouterr()
    assert main(["webhook", "filters", "test", ID, "--body", "{}"]) == 1
    assert capsys.readouterr().out.startswith("No.\n")
