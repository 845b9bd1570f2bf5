"""`gorax execution` against a stub, and the pictures that `watch` draws."""

import json
from typing import Any

import pytest
from rich.console import Console

from gorax_engine.cli.client import CannotConnect, Client
from gorax_engine.cli.main import main
from gorax_engine.cli.watch import MAX_ITERATIONS, RECONNECT, Picture, View, follow, tree

from .conftest import Reply, StubServer

RUN = "018f0000-0000-7000-8000-0000000000aa"


def execution(status: str = "running", **more: Any) -> dict[str, Any]:
    return {"id": RUN, "status": status, "waiting_for": None, "error_message": None, "error_code": None, **more}


def step(node: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{node}-{more.get('iteration_path', '')}",
        "node_id": node,
        "node_type": "formula",
        "iteration_path": "",
        "attempt": 1,
        "status": status,
        "duration_ms": None,
        "error_message": None,
        "error_code": None,
        **more,
    }


def events(*changes: dict[str, Any]) -> bytes:
    """Return a stream that tells of steps and executions as they change."""
    names = ["step" if "node_id" in change else "execution" for change in changes]
    lines = [f"event: {name}\ndata: {json.dumps(change)}\n\n" for name, change in zip(names, changes, strict=True)]
    return "".join(lines).encode()


def test_lists_with_filters(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    row = {**execution("failed"), "trigger_type": "api", "workflow_id": "w", "created_at": "t", "completed_at": None}
    stub.on("GET", "/executions", Reply(body={"data": [row], "next_cursor": None}))
    assert main(["execution", "list", "--status", "failed", "--limit", "3"]) == 0
    assert stub.asked[0].query == {"status": "failed", "limit": "3"}
    assert capsys.readouterr().out.splitlines()[1].split() == [RUN, "failed", "-", "api", "w", "t", "-"]


def test_show_steps_explain_cancel(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("GET", f"/executions/{RUN}", Reply(body={"data": execution()}))
    stub.on("GET", f"/executions/{RUN}/steps", Reply(body={"data": [step("a", "completed")], "next_cursor": None}))
    explanation: dict[str, Any] = {
        "state": "running",
        "blocker": "timer",
        "sentence": "Waits till 5.",
        "since": None,
        "details": {},
    }
    stub.on("GET", f"/executions/{RUN}/explain", Reply(body={"data": explanation}))
    stub.on("POST", f"/executions/{RUN}/cancel", Reply(body={"data": {"execution_id": RUN, "status": "cancelled"}}))
    assert main(["execution", "show", RUN]) == 0
    assert main(["execution", "steps", RUN, "--attempts"]) == 0
    assert stub.asked[-1].query["attempts"] == "all"
    assert main(["execution", "explain", RUN]) == 0
    assert main(["execution", "cancel", RUN, "--force"]) == 0
    assert stub.asked[-1].query == {"force": "true"}
    out = capsys.readouterr().out
    assert "Waits till 5." in out
    assert "blocker  timer" in out
    assert f"Execution {RUN}: cancelled" in out


def test_an_id_cannot_leave_its_place_in_the_path(stub: StubServer) -> None:
    assert main(["execution", "show", "../workflows?x#y"]) == 1
    assert stub.calls() == ["GET /executions/..%2Fworkflows%3Fx%23y"]


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 3)])
def test_watch_prints_each_change_once_and_exits_by_the_end(
    stub: StubServer, status: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = step("a", "completed", duration_ms=3), step("b", "running")
    changes = [a, b, execution(), execution(waiting_for="timer"), step("b", "completed", attempt=2), execution(status)]
    stub.on("GET", f"/executions/{RUN}/stream", Reply(raw=events(*changes) + b"event: end\ndata: {}\n\n"))
    assert main(["execution", "watch", RUN]) == code
    assert capsys.readouterr().out.splitlines() == [
        "  a (formula): completed, 3 ms",
        "  b (formula): running",
        f"{RUN}: running",
        f"{RUN}: running, waiting for timer",
        "  b (formula): completed, attempt 2",
        f"{RUN}: {status}",
    ]


def test_watch_as_json_prints_how_it_ended(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [step("a", "running"), execution(), step("a", "completed"), execution("completed")]
    stub.on("GET", f"/executions/{RUN}/stream", Reply(raw=events(*changes)))
    assert main(["execution", "watch", RUN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"execution": changes[3], "steps": [changes[2]]}


def test_watch_connects_again_when_the_daemon_restarts(stub: StubServer) -> None:
    stub.on(
        "GET",
        f"/executions/{RUN}/stream",
        Reply(raw=events(step("a", "running"), execution())),
        Reply(raw=b""),
        Reply(raw=events(step("a", "completed"), execution("completed"))),
    )
    pauses: list[float] = []
    seen = [(view.steps["a-"]["status"], view.ended) for view in follow(Client(stub.url, "k"), RUN, pauses.append)]
    assert seen == [("running", False), ("completed", False), ("completed", True)]
    assert pauses == [RECONNECT[0], RECONNECT[1]]


def test_watch_gives_up_when_the_stream_never_says_anything(stub: StubServer) -> None:
    stub.on("GET", f"/executions/{RUN}/stream", Reply(raw=b": nothing\n\n"))
    pauses: list[float] = []
    with pytest.raises(CannotConnect):
        list(follow(Client(stub.url, "k"), RUN, pauses.append))
    assert tuple(pauses) == RECONNECT


def test_watch_of_an_unknown_execution(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["execution", "watch", RUN]) == 1
    assert "[not_found]" in capsys.readouterr().err


def test_the_tree_has_a_branch_for_each_iteration() -> None:
    steps = [
        step("each", "running"),
        step("charge", "completed", iteration_path="items[0]", duration_ms=12),
        step("deep", "failed", iteration_path="items[0].fan.left", error_message="no [bold]", error_code="timeout"),
        step("charge", "running", iteration_path="items[1]"),
    ]
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(tree(View(execution(), {each["id"]: each for each in steps})))
    assert capture.get().splitlines() == [
        f"▶ {RUN}: running",
        "├── ▶ each (formula): running",
        "├── items[0]",
        "│   ├── ✔ charge (formula): completed, 12 ms",
        "│   └── fan",
        "│       └── left",
        "│           └── ✘ deep (formula): failed, no [bold] [timeout]",
        "└── items[1]",
        "    └── ▶ charge (formula): running",
    ]


def drawn(steps: list[dict[str, Any]]) -> list[str]:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(tree(View(execution(), {f"{number}": each for number, each in enumerate(steps)})))
    return capture.get().splitlines()


def test_of_a_long_loop_some_iterations_are_drawn_and_the_others_counted() -> None:
    status = {5: "failed", 700: "running"}
    steps = [step("each", "running")]
    steps += [step("a", status.get(i, "completed"), iteration_path=f"each[{i}]") for i in range(1000)]
    steps += [step("b", "completed", iteration_path=f"each[999].inner[{i}]") for i in range(50)]
    lines = drawn(steps)
    assert lines[2] == "├── each: 990 more iterations (990 completed)"
    shown = [line.split("each")[1] for line in lines if line[:7] in ("├── eac", "└── eac")][1:]
    assert len(shown) == MAX_ITERATIONS
    assert shown[:3] == ["[5]", "[700]", "[992]"]
    assert shown[-1] == "[999]"
    assert "    ├── inner: 40 more iterations (40 completed)" in lines
    assert len(lines) < 60


def test_the_picture_is_drawn_again_only_after_a_change() -> None:
    picture = Picture()
    assert picture.__rich__() == ""
    picture.show(View(execution()))
    first = picture.__rich__()
    assert picture.__rich__() is first
    picture.show(View(execution("completed")))
    assert picture.__rich__() is not first


def test_pause_resume_and_signal(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("POST", f"/executions/{RUN}/pause", Reply(body={"data": {"execution_id": RUN, "paused": True}}))
    stub.on("POST", f"/executions/{RUN}/resume", Reply(body={"data": {"execution_id": RUN, "paused": False}}))
    stub.on("POST", f"/executions/{RUN}/signal", Reply(body={"data": {"execution_id": RUN, "delivered": 1}}))
    assert main(["execution", "pause", RUN]) == 0
    assert main(["execution", "resume", RUN]) == 0
    assert main(["execution", "signal", RUN, "paid", "--payload", '{"by": "card"}']) == 0
    assert main(["execution", "signal", RUN, "paid", "--json"]) == 0
    assert [asked.body for asked in stub.asked] == [
        None, None, {"name": "paid", "payload": {"by": "card"}}, {"name": "paid"},
    ]  # fmt: skip
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        f"Execution {RUN}: paused", f"Execution {RUN}: goes on", f"Execution {RUN}: got the event paid",
    ]  # fmt: skip


def test_a_cancel_that_unwinds_says_so(stub: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    stub.on("POST", f"/executions/{RUN}/cancel", Reply(body={"data": {"execution_id": RUN, "status": "running"}}))
    assert main(["execution", "cancel", RUN]) == 0
    assert capsys.readouterr().out == f"Execution {RUN}: running, about to be cancelled\n"


@pytest.mark.parametrize("verb", ["retry", "replay"])
def test_retry_and_replay(stub: StubServer, verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    new = "018f0000-0000-7000-8000-0000000000bb"
    started = {"execution_id": new, "status": "pending", "retry_of": RUN}
    stub.on("POST", f"/executions/{RUN}/{verb}", Reply(202, {"data": started}))
    stub.on("GET", f"/executions/{new}", Reply(body={"data": {**execution("failed"), "id": new, "output_data": None}}))
    assert main(["execution", verb, RUN]) == 0
    assert capsys.readouterr().out == f"{new}\n"
    (tmp_path / "input.json").write_text("[1]")
    line = ["execution", verb, RUN, "--version", "current", "--input", "@input.json", "--from-step", "charge"]
    assert main([*line, "--idempotency-key", "k", "--wait"]) == 1
    assert capsys.readouterr().out == f"Execution {new}: failed\n"
    first, second = [asked for asked in stub.asked if asked.method == "POST"]
    assert first.body == {"version": "same"}
    assert second.body == {"version": "current", "input": [1], "from_step": "charge"}
    assert second.headers["Idempotency-Key"] == "k"
    assert main(["execution", verb, RUN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == started
    assert main(["execution", verb, RUN, "--version", "3"]) == 2
