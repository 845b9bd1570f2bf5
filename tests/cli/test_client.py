"""The client at the wire: headers, pages, problems, streams, and everything that can go wrong with a connection."""

import socket

import pytest

from gorax_engine.cli.client import CannotConnect, Client, Refused, parse_events, refusal
from gorax_engine.errors import Problem

from .conftest import Reply, StubServer


def test_sends_key_and_json_and_decodes_the_envelope(stub: StubServer) -> None:
    stub.on("POST", "/workflows", Reply(201, {"data": {"id": "w1"}}, {"ETag": '"7"'}))
    answer = Client(stub.url, "secret").call("POST", "/workflows", {"name": "ä"}, query={"a b": "c&d", "none": None})
    assert (answer.status, answer.data, answer.etag) == (201, {"id": "w1"}, '"7"')
    (asked,) = stub.asked
    assert asked.headers["Authorization"] == "Bearer secret"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == {"name": "ä"}
    assert asked.query == {"a b": "c&d"}


def test_follows_cursors_up_to_the_limit(stub: StubServer) -> None:
    stub.on(
        "GET",
        "/executions",
        Reply(body={"data": [1, 2], "next_cursor": "c1"}),
        Reply(body={"data": [3, 4], "next_cursor": "c2"}),
    )
    assert list(Client(stub.url, "k").pages("/executions", {"status": None}, 3)) == [1, 2, 3]
    assert [asked.query for asked in stub.asked] == [{"limit": "3"}, {"limit": "1", "cursor": "c1"}]


def test_an_empty_page_ends_the_list_even_with_a_cursor(stub: StubServer) -> None:
    stub.on("GET", "/executions", Reply(body={"data": [], "next_cursor": "again"}))
    assert list(Client(stub.url, "k").pages("/executions", {}, 10)) == []


def test_a_problem_document_becomes_a_sentence_a_code_and_problems(stub: StubServer) -> None:
    body = {
        "title": "Unprocessable Content",
        "detail": "The definition has 1 fault; see `errors`.",
        "code": "invalid_definition",
        "errors": [{"code": "cycle", "pointer": "/edges/0", "message": "Cut the cycle."}],
    }
    stub.on("PUT", "/workflows/w1", Reply(422, body))
    with pytest.raises(Refused) as caught:
        Client(stub.url, "k").call("PUT", "/workflows/w1", {})
    assert caught.value.message == "The definition has 1 fault; see `errors`."
    assert (caught.value.code, caught.value.status) == ("invalid_definition", 422)
    assert caught.value.problems == (Problem("cycle", "/edges/0", "Cut the cycle."),)


def test_an_error_that_is_not_ours_still_makes_a_sentence() -> None:
    assert refusal(502, b"<html>").message == "The server answered 502 Bad Gateway."
    assert refusal(599, b"[]").message == "The server answered 599."
    assert refusal(500, b'{"errors": ["text"]}').problems == ()


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CannotConnect, match=f"127.0.0.1:{port}.*refused"):
        Client(f"http://127.0.0.1:{port}", "k").get("/workflows")


def test_a_server_that_says_nothing_runs_into_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(CannotConnect, match=r"did not answer within 0\.05 s"):
            Client(f"http://127.0.0.1:{silent.getsockname()[1]}", "k").get("/workflows", timeout=0.05)


@pytest.mark.parametrize("server", ["ftp://host", "http://", "http://host:port"])
def test_a_server_that_is_not_a_url(server: str) -> None:
    with pytest.raises(CannotConnect):
        Client(server, "k").get("/workflows")


def test_a_key_that_no_header_can_carry_is_an_error_of_ours(stub: StubServer) -> None:
    with pytest.raises(CannotConnect):
        Client(stub.url, "line\nbreak").get("/workflows")


def test_html_with_200_is_not_gorax(stub: StubServer) -> None:
    stub.on("GET", "/workflows", Reply(raw=b"<html>"))
    with pytest.raises(CannotConnect, match="not JSON") as caught:
        Client(stub.url, "k").get("/workflows")
    assert caught.value.code == "not_gorax"


def test_a_base_path_is_kept(stub: StubServer) -> None:
    with pytest.raises(Refused):
        Client(stub.url + "/behind/", "k").get("/workflows")
    assert stub.asked[0].path == "/behind/api/v1/workflows"


def test_streams_events(stub: StubServer) -> None:
    stub.on("GET", "/executions/e/stream", Reply(raw=b": hello\n\nevent: snapshot\ndata: 1\ndata: 2\n\ndata: 3\n\n"))
    assert list(Client(stub.url, "k").stream("/executions/e/stream")) == [("snapshot", "1\n2"), ("message", "3")]
    assert stub.asked[0].headers["Accept"] == "text/event-stream"


def test_an_event_that_was_cut_off_is_not_delivered() -> None:
    assert list(parse_events(iter(["data: whole\n", "\n", "data: ha"]))) == [("message", "whole")]


def test_event_lines_with_carriage_returns_and_unknown_fields() -> None:
    lines = ["id: 4\r\n", "retry\r\n", "data:x\r\n", "data\r\n", "\r\n", "event: empty\r\n", "\r\n"]
    assert list(parse_events(iter(lines))) == [("message", "x\n")]
