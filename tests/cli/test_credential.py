"""`gorax credential`: where secrets come from, and what is sent."""

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
ITEM = {
    "id": ID, "name": "stripe", "type": "api_key", "status": "active", "version": 1, "expires_at": None,
    "last_used_at": None, "description": "Payments",
}  # fmt: skip


def pipe(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))


@pytest.mark.parametrize(
    ("type", "raw", "value"),
    [
        ("api_key", b"sk_live_1\n", {"key": "sk_live_1"}),
        ("api_key", b'{"key": "sk_live_1", "region": "eu"}', {"key": "sk_live_1", "region": "eu"}),
        ("bearer_token", b" spaces stay ", {"token": " spaces stay "}),
        ("bearer_token", b"12345\r\n", {"token": "12345"}),
        ("basic_auth", b'{"username": "u", "password": "p"}\n', {"username": "u", "password": "p"}),
        ("unheard_of", b'{"a": {"b": 1}}', {"a": {"b": 1}}),
    ],
)
def test_the_secret_comes_from_stdin(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch, capsys: Any, type: str, raw: bytes, value: dict[str, Any]
) -> None:
    stub.on("POST", "/credentials", Reply(201, {"data": ITEM}))
    pipe(monkeypatch, raw)
    assert main(["credential", "create", "stripe", "--type", type]) == 0
    assert stub.asked[0].body == {"name": "stripe", "type": type, "value": value}
    assert capsys.readouterr().out == f"stripe: stored ({ID})\n"


def test_or_from_a_file(stub: StubServer, tmp_path: Path) -> None:
    stub.on("POST", "/credentials", Reply(201, {"data": ITEM}))
    (tmp_path / "key").write_text("sk_live_1")
    options = ["--from", str(tmp_path / "key"), "--description", "Payments", "--expires-at", "2030-01-01T00:00:00Z"]
    assert main(["--json", "credential", "create", "stripe", "--type", "api_key", *options]) == 0
    assert stub.asked[0].body == {
        "name": "stripe", "type": "api_key", "value": {"key": "sk_live_1"}, "description": "Payments",
        "expires_at": "2030-01-01T00:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("type", "raw", "words"),
    [
        ("basic_auth", b"s3cret", "username, password"),
        ("api_key", b"\n", "must be a JSON object with the fields of its type: key"),
        ("custom", b"[1]", "must be a JSON object"),
        ("custom", b"\xff", "not UTF-8"),
        ("custom", b"s" * ((1 << 20) + 1), "larger than 1 MiB"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch, capsys: Any, type: str, raw: bytes, words: str
) -> None:
    pipe(monkeypatch, raw)
    assert main(["credential", "create", "stripe", "--type", type]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert "[no_secret]" in err
    assert "s3cret" not in err
    assert stub.asked == []


def test_no_argument_takes_a_secret(stub: StubServer) -> None:
    assert main(["credential", "create", "stripe", "--type", "api_key", "--value", "x"]) == 2
    assert main(["credential", "create", "stripe", "x", "--type", "api_key"]) == 2
    assert stub.asked == []


def test_names_and_ids_lead_to_the_same(stub: StubServer, capsys: Any) -> None:
    stub.on("GET", "/credentials", Reply(200, {"data": [ITEM], "next_cursor": None}))
    stub.on("GET", f"/credentials/{ID}", Reply(200, {"data": ITEM}))
    assert main(["credential", "show", "stripe"]) == 0
    assert main(["credential", "show", ID]) == 0
    assert stub.calls() == ["GET /credentials", f"GET /credentials/{ID}"]
    assert stub.asked[0].query == {"name": "stripe"}
    assert "Payments" in capsys.readouterr().out
    stub.on("GET", "/credentials", Reply(200, {"data": [], "next_cursor": None}))
    assert main(["credential", "show", "absent"]) == 1
    assert "[credential_not_found]" in capsys.readouterr().err


def test_a_change_sends_what_is_given(stub: StubServer, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    stub.on("GET", "/credentials", Reply(200, {"data": [ITEM], "next_cursor": None}))
    stub.on("PATCH", f"/credentials/{ID}", Reply(200, {"data": {**ITEM, "version": 2}}))
    pipe(monkeypatch, b"sk_live_2\n")
    assert main(["credential", "update", "stripe", "--from", "-"]) == 0
    assert main(["credential", "update", "stripe", "--status", "revoked", "--expires-at", "never"]) == 0
    sent = [asked.body for asked in stub.asked if asked.method == "PATCH"]
    assert sent == [{"value": {"key": "sk_live_2"}}, {"status": "revoked", "expires_at": None}]
    assert "stripe: active, version 2" in capsys.readouterr().out
    assert main(["credential", "update", "stripe"]) == 2


def test_lists_the_log_and_deleting(stub: StubServer, capsys: Any) -> None:
    stub.on("GET", "/credentials", Reply(200, {"data": [ITEM], "next_cursor": None}))
    access = {"accessed_at": "2026-01-01T00:00:00Z", "access_type": "read", "success": True, "node_id": "charge"}
    stub.on("GET", f"/credentials/{ID}/access-log", Reply(200, {"data": [access], "next_cursor": None}))
    stub.on("DELETE", f"/credentials/{ID}", Reply(200, {"data": ITEM}))
    assert main(["credential", "list", "--type", "api_key"]) == 0
    assert main(["credential", "access-log", "stripe"]) == 0
    assert main(["credential", "delete", "stripe"]) == 0
    out = capsys.readouterr().out
    assert "charge" in out
    assert f"stripe: deleted ({ID})" in out
    assert main(["credential", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [ITEM]
    # One that is gone has no name any more, and still a log.
    assert main(["credential", "access-log", ID]) == 0
    assert stub.calls()[-1] == f"GET /credentials/{ID}/access-log"
