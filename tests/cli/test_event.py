"""`gorax event publish` against a stub."""

import json
from pathlib import Path

import pytest

from gorax_engine.cli.main import main

from .conftest import Reply, StubServer

ANSWER = {"data": {"event_id": "018f", "name": "order.paid", "correlation_key": None}}


def test_publishes_and_prints_the_id(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("POST", "/events", Reply(202, ANSWER))
    options = ["--key", "A-1", "--payload", '{"total": 1}', "--ttl", "1h", "--idempotency-key", "k"]
    assert main(["event", "publish", "order.paid", *options]) == 0
    assert capsys.readouterr().out == "018f\n"
    (asked,) = stub.asked
    assert asked.body == {"name": "order.paid", "payload": {"total": 1}, "correlation_key": "A-1", "ttl": "1h"}
    assert asked.headers["Idempotency-Key"] == "k"


def test_key_and_payload_may_be_left_out(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("POST", "/events", Reply(202, ANSWER))
    assert main(["--json", "event", "publish", "order.paid"]) == 0
    assert json.loads(capsys.readouterr().out) == ANSWER["data"]
    assert stub.asked[0].body == {"name": "order.paid", "payload": None}


def test_the_payload_may_be_a_file(stub: StubServer, tmp_path: Path) -> None:
    stub.on("POST", "/events", Reply(202, ANSWER))
    (tmp_path / "p.json").write_text("[1]")
    assert main(["event", "publish", "e", "--payload", f"@{tmp_path / 'p.json'}"]) == 0
    assert stub.asked[0].body["payload"] == [1]


def test_a_payload_that_is_no_json_is_a_usage_error(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["event", "publish", "e", "--payload", "{"]) == 2
    assert "--payload" in capsys.readouterr().err
    assert stub.asked == []
