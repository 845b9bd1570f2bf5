"""Running cases: what is evaluated, what mocks answer, how time passes, and when a case can't go on."""

from typing import Any

import pytest

from gorax_engine.nodes.sandbox.faults import ScriptFailed, unavailable
from gorax_engine.nodes.sandbox.pool import Sandbox
from gorax_engine.vault.masking import MASK
from gorax_engine.workflows.testing import simulator
from tests.workflows.simulation import definition, passes, run

CALL = ("http_request", {"url": "https://shop.example.com/charge"})
CHAIN = definition({"call": CALL, "sum": ("formula", {"expression": "steps.call.total + 1"})}, "t>call call>sum")
TRANSIENT = {"code": "http_status", "http_status_code": 503}


async def test_pure_nodes_are_evaluated_and_mocks_answer_for_the_outside() -> None:
    done = await passes(
        CHAIN,
        mocks={"call": {"output": {"total": 41}}},
        expect={
            "status": "completed",
            "output": {"sum": 42},
            "path": ["t", "call", "sum"],
            "duration": "0s",
            "steps": {"call": {"status": "completed", "attempts": 1, "input": {"url": CALL[1]["url"]}}},
        },
    )
    assert [attempt.mocked for attempt in done.trace.attempts.values()] == [False, True, False]


async def test_an_outside_step_without_a_mock_ends_the_case() -> None:
    _, mismatches = await run(CHAIN)
    assert mismatches == {
        "": "The step `call` (http_request) acts on the outside, and the case doesn't say what comes of it: "
        "add `mocks: {call: {output: ...}}`."
    }


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (("human_task", {"title": "Ok?", "assignees": ["admin"]}), "waits for people"),
        (("wait_for_event", {"event": "paid"}), "waits for an event"),
        (("sub_workflow", {"workflow_name": "other"}), "runs another workflow"),
        (("publish_event", {"event": "paid"}), "acts on the outside"),
    ],
)
async def test_waits_without_a_mock_end_the_case(node: Any, sentence: str) -> None:
    _, mismatches = await run(definition({"w": node}, "t>w"))
    assert sentence in mismatches[""]


async def test_a_step_that_is_not_reached_needs_no_mock() -> None:
    raw = definition({"c": ("condition", {"condition": "trigger.body.big"}), "call": CALL}, "t>c c:true>call")
    await passes(raw, trigger={"body": {"big": False}}, expect={"not_run": ["call"], "path": ["t", "c"]})


async def test_attempts_and_pauses_pass_in_virtual_time() -> None:
    retry = {"max_attempts": 4, "strategy": "fixed", "initial_delay": "1h", "max_delay": "1h"}
    raw = definition({"call": (*CALL, {"retry": retry})}, "t>call")
    answers = [{"error": TRANSIENT}, {"error": TRANSIENT, "after": "10m"}, {"output": "done"}]
    await passes(
        raw,
        mocks={"call": answers},
        expect={"output": {"call": "done"}, "duration": "2h10m", "steps": {"call": {"attempts": 3}}},
    )
    await passes(
        raw,
        mocks={"call": {"error": TRANSIENT}},
        expect={"error_code": "http_status", "duration": "3h", "steps": {"call": {"attempts": 4, "status": "failed"}}},
    )
    await passes(
        raw,
        mocks={"call": {"error": {**TRANSIENT, "classification": "permanent"}}},
        expect={"status": "failed", "error_message": "mock of call", "duration": 0},
    )


async def test_a_list_of_answers_is_used_up() -> None:
    raw = definition({"call": (*CALL, {"retry": {"max_attempts": 3}})}, "t>call")
    _, mismatches = await run(raw, mocks={"call": [{"error": TRANSIENT}]})
    assert mismatches[""].startswith("`call` is called 2 times, but its mock lists 1 answer: add one")


async def test_retry_after_is_obeyed() -> None:
    raw = definition({"call": (*CALL, {"retry": {"strategy": "fixed", "initial_delay": 1}})}, "t>call")
    answers = [{"error": {"code": "http_status", "http_status_code": 429, "retry_after": "5m"}}, {"output": 1}]
    await passes(raw, mocks={"call": answers}, expect={"duration": "5m"})


async def test_an_attempt_that_takes_longer_than_its_timeout_fails() -> None:
    raw = definition({"call": (*CALL, {"timeout": "10s", "retry": {"max_attempts": 1}})}, "t>call")
    await passes(raw, mocks={"call": {"output": 1, "after": "10s"}}, expect={"duration": "10s"})
    for answer in ({"output": 1, "after": "11s"}, {"never": True}):
        await passes(raw, mocks={"call": answer}, expect={"error_code": "timeout", "duration": "10s"})


async def test_the_details_of_an_error_reach_its_edge() -> None:
    seen = {"expression": "string(error.http_status_code) + error.response.body"}
    raw = definition(
        {"try": ("try",), "call": CALL, "seen": ("formula", seen)}, "t>try try:try>call try:catch>seen"
    )  # fmt: skip
    error = {"code": "http_status", "http_status_code": 402, "details": {"response": {"body": " no money"}}}
    await passes(
        raw, mocks={"call": {"error": error}}, expect={"steps": {"seen": {"output": "402 no money"}}, "output": {}}
    )


async def test_delays_and_now() -> None:
    raw = definition(
        {
            "before": ("formula", {"expression": "string(now())"}),
            "wait": ("delay", {"duration": "P3D"}),
            "after": ("formula", {"expression": "string(now())"}),
        },
        "t>before before>wait wait>after",
        output={"before": "{{ steps.before }}", "after": "{{ steps.after }}"},
    )
    done = await passes(raw, now="2026-03-01T08:00:00Z", expect={"duration": "3d"})
    assert done.end is not None
    assert done.end.output["before"].startswith("2026-03-01T08:00:00")
    assert done.end.output["after"].startswith("2026-03-04T08:00:00")
    assert (await passes(raw, expect={})).end == (await passes(raw, expect={})).end


async def test_a_delay_under_a_timeout() -> None:
    raw = definition({"wait": ("delay", {"duration": "1h"}, {"timeout": "1m"})}, "t>wait")
    await passes(raw, expect={"error_code": "timeout", "duration": "1m"})


# --- loops and other scopes -------------------------------------------------------------------------------------------

LOOP = definition({"items": ("loop", {"source": "trigger.body.n"}), "call": CALL}, "t>items items:body>call")


async def test_answers_by_path_in_a_loop() -> None:
    mock = {"by_path": {"items[1]": {"error": {"code": "lost"}}, "*": {"output": "ok"}}}
    await passes(
        LOOP,
        trigger={"body": {"n": [7, 8, 9]}},
        mocks={"call": mock},
        expect={
            "error_code": "lost",
            "path": ["t", "items", "items[0].call", "items[1].call"],
            "not_run": ["items[2].call"],
            "steps": {"items[1].call": {"error_code": "lost"}, "items": {"status": "failed"}},
        },
    )
    _, mismatches = await run(
        LOOP, trigger={"body": {"n": 2}}, mocks={"call": {"by_path": {"items[0]": {"output": 1}}}}
    )
    assert mismatches[""].startswith("The mock of `call` says nothing for the path `items[1]`: it has `items[0]`.")


async def test_a_loop_that_goes_on_after_failures() -> None:
    raw = definition(
        {"items": ("loop", {"source": "trigger.body", "on_error": "continue", "max_concurrency": 2}), "call": CALL},
        "t>items items:body>call",
    )
    mock = {"by_path": {"items[0]": {"error": {"code": "lost"}, "after": "1m"}, "*": {"output": 1, "after": "1m"}}}
    done = await passes(raw, trigger={"body": [1, 2, 3]}, mocks={"call": mock}, expect={"duration": "2m"})
    assert done.end is not None
    assert [each["output"] for each in done.end.output["items"]["iterations"]] == [None, 1, 1]


async def test_rounds_of_a_retry_scope_go_on_through_the_list() -> None:
    raw = definition(
        {
            "again": ("retry", {"max_attempts": 3, "strategy": "fixed", "initial_delay_ms": 60000}),
            "call": (*CALL, {"retry": {"max_attempts": 1}}),
        },
        "t>again again:body>call",
    )
    answers = [{"error": {"code": "timeout"}}, {"error": {"code": "timeout"}}, {"output": 5}]
    await passes(
        raw,
        mocks={"call": answers},
        expect={"duration": "2m", "steps": {"call": {"attempts": 3, "output": 5}, "again": {"output": {"retries": 2}}}},
    )


async def test_the_first_branch_to_answer_wins() -> None:
    raw = definition(
        {"both": ("parallel", {"wait_mode": "first"}), "a": CALL, "b": CALL}, "t>both both:left>a both:right>b"
    )  # fmt: skip
    await passes(
        raw,
        mocks={"a": {"output": "a", "after": "2h"}, "b": {"output": "b", "after": "1h"}},
        expect={
            "duration": "1h",
            "steps": {
                "both": {"output": {"first_completed": "right", "result": "b"}},
                "both.left.a": {"status": "failed", "error_code": "cancelled"},
            },
        },
    )


async def test_a_breaker_opens_within_a_case() -> None:
    raw = definition(
        {
            "items": ("loop", {"source": 4, "on_error": "continue"}),
            "guard": ("circuit_breaker", {"max_failures": 2}),
            "call": (*CALL, {"retry": {"max_attempts": 1}}),
        },
        "t>items items:body>guard guard:body>call",
    )
    await passes(
        raw,
        mocks={"call": {"error": {"code": "lost"}}},
        expect={
            "not_run": ["items[2].call", "items[3].call"],
            "steps": {"items[1].guard": {"error_code": "lost"}, "items[2].guard": {"error_code": "circuit_open"}},
        },
    )


async def test_a_breaker_around_the_attempts_of_a_step() -> None:
    policies = {"retry": {"max_attempts": 5, "strategy": "fixed"}, "circuit_breaker": {"max_failures": 2}}
    raw = definition({"call": (*CALL, policies)}, "t>call")
    await passes(
        raw,
        mocks={"call": {"error": TRANSIENT}},
        expect={"error_code": "circuit_open", "steps": {"call": {"attempts": 3}}},
    )


async def test_a_join_that_waits_for_one() -> None:
    raw = definition(
        {
            "f": ("fork",),
            "a": CALL,
            "b": CALL,
            "j": ("join", {"join_strategy": "wait_n", "required_count": 1}),
        },
        "t>f f>a f>b a>j b>j",
    )
    await passes(
        raw,
        mocks={"a": {"output": 1, "after": 5}, "b": {"never": True}},
        expect={"duration": "5s", "steps": {"j": {"output": {"completed_branches": 1}}}},
    )


async def test_what_happens_at_once_is_told_at_once() -> None:
    one, bad = ("formula", {"expression": "1"}), ("fail", {"code": "x", "message": "x"})
    # Both are evaluated before either can cut the other off; what follows from one does not begin.
    raw = definition({"a": one, "c": one, "b": bad, "d": one}, "t>a a>c t>b t>d")
    steps = {"a": {"status": "completed"}, "d": {"status": "completed"}, "c": {"status": "skipped"}}
    await passes(raw, expect={"error_code": "x", "steps": steps})
    # Nothing is evaluated after a stop.
    raw = definition({"s": ("stop", {}), "a": one}, "t>s t>a")
    await passes(raw, expect={"steps": {"s": {"status": "completed"}, "a": {"status": "skipped"}}})


async def test_what_was_to_begin_when_the_run_failed_does_not() -> None:
    raw = definition(
        {
            "y": ("try",),
            "call": CALL,
            "clean": CALL,
            "d": ("delay", {"duration": "1s"}),
            "a": ("formula", {"expression": "1"}),
            "c": CALL,
            "b": ("fail", {"code": "x", "message": "x"}),
        },
        "t>y y:try>call y:finally>clean t>d d>a a>c d>b",
    )
    # The finally still takes its time; `c` was ready in the moment in which the run failed.
    mocks = {"call": {"never": True}, "clean": {"output": 1, "after": "1m"}, "c": {"output": 1}}
    steps = {"a": {"status": "completed"}, "c": {"status": "skipped"}, "clean": {"status": "completed"}}
    await passes(raw, mocks=mocks, expect={"error_code": "x", "duration": "1m1s", "steps": steps})


async def test_a_scope_goes_on_while_something_else_takes_long() -> None:
    raw = definition(
        {
            "both": ("parallel",),
            "again": ("retry", {"max_attempts": 2, "strategy": "fixed", "initial_delay_ms": 60000}),
            "call": (*CALL, {"retry": {"max_attempts": 1}}),
            "slow": CALL,
        },
        "t>both both:left>again again:body>call both:right>slow",
    )
    mocks = {"call": [{"error": {"code": "timeout"}}, {"output": 1}], "slow": {"output": 1, "after": "1h"}}
    done = await passes(raw, mocks=mocks, expect={"duration": "1h"})
    (second,) = [attempt for attempt in done.trace.at("both.left.call") if attempt.step.round == 1]
    assert second.started == done.started + 60_000_000


async def test_what_was_cut_off_does_not_come_back() -> None:
    raw = definition(
        {"both": ("parallel", {"wait_mode": "first"}), "a": CALL, "b": CALL, "d": ("delay", {"duration": "3h"})},
        "t>both both:left>a both:right>b both:done>d",
    )
    mocks = {"a": {"output": "a", "after": "2h"}, "b": {"output": "b", "after": "1h"}}
    await passes(raw, mocks=mocks, expect={"duration": "4h", "steps": {"both.left.a": {"error_code": "cancelled"}}})


async def test_a_pause_between_attempts_is_cut_off_without_a_trace() -> None:
    raw = definition({"call": (*CALL, {"retry": {"strategy": "fixed", "initial_delay": "50s"}})}, "t>call")
    done = await passes(
        raw, cancel_after="10s", mocks={"call": {"error": TRANSIENT}}, expect={"status": "cancelled", "duration": "10s"}
    )
    assert [(attempt.place, attempt.number) for attempt in done.trace.attempts.values()] == [("t", 1), ("call", 1)]


# --- people, events, sub-workflows ------------------------------------------------------------------------------------


def ask(**config: Any) -> dict[str, Any]:
    task = {"title": "Pay?", "assignees": ["admin"], **config}
    return definition(
        {"ask": ("human_task", task), "yes": ("formula", {"expression": "1"}), "no": ("formula", {"expression": "2"})},
        "t>ask ask:approved>yes ask:rejected>no",
    )


async def test_a_decision_of_people() -> None:
    fields = [{"name": "amount", "type": "number"}, {"name": "method", "type": "text", "default": "card"}]
    raw = ask(form_fields=fields)
    await passes(
        raw,
        mocks={"ask": {"outcome": "approved", "after": "2d", "response": {"amount": 5, "comment": "fine"}}},
        expect={
            "duration": "2d",
            "path": ["t", "ask", "yes"],
            "steps": {
                "ask": {
                    "exact_output": {
                        "outcome": "approved",
                        "by": "00000000-0000-7000-8000-00000000000a",
                        "at": "2026-01-03T00:00:00Z",
                        "response": {"comment": "fine", "amount": 5, "method": "card"},
                    }
                }
            },
        },
    )
    await passes(raw, mocks={"ask": {"outcome": "rejected"}}, expect={"path": ["t", "ask", "no"]})
    await passes(raw, mocks={"ask": {}}, expect={"path": ["t", "ask", "yes"]})
    _, mismatches = await run(raw, mocks={"ask": {"response": {"amount": "much"}}})
    assert mismatches[""] == "The response that is mocked for `ask` doesn't fit its form: `amount` must be a number."


async def test_an_outcome_that_no_edge_takes() -> None:
    raw = definition({"ask": ("human_task", {"title": "Pay?", "assignees": ["admin"]})}, "t>ask")
    await passes(
        raw,
        mocks={"ask": {"outcome": "rejected", "response": {"reason": "too much"}}},
        expect={"error_code": "task_rejected", "error_message": ": too much"},
    )


@pytest.mark.parametrize(
    ("config", "expect"),
    [
        ({"timeout": "4h"}, {"error_code": "task_expired", "duration": "4h"}),
        ({"timeout": "4h", "on_timeout": "auto_approve"}, {"path": ["t", "ask", "yes"], "duration": "4h"}),
        ({"timeout": "4h", "on_timeout": "auto_reject"}, {"path": ["t", "ask", "no"], "duration": "4h"}),
        (
            {
                "timeout": "4h",
                "escalation": {
                    "levels": [{"level": 1, "timeout_minutes": 60, "backup_approvers": ["leads"]}],
                    "final_action": "auto_reject",
                },
            },
            {"path": ["t", "ask", "no"], "duration": "5h", "steps": {"ask": {"output": {"by": None}}}},
        ),
    ],
)
async def test_the_clock_decides_what_people_do_not(config: Any, expect: Any) -> None:
    for answer in ({"never": True}, {"after": "6h"}):
        await passes(ask(**config), mocks={"ask": answer}, expect=expect)
    await passes(ask(**config), mocks={"ask": {"after": "3h"}}, expect={"path": ["t", "ask", "yes"], "duration": "3h"})


async def test_a_wait_without_end() -> None:
    levels = [
        {"level": 1, "timeout_minutes": 60, "backup_approvers": ["a"]},
        {"level": 2, "backup_approvers": ["leads"]},
    ]
    for config in ({}, {"timeout": "4h", "escalation": {"levels": levels}}):
        _, mismatches = await run(ask(**config), mocks={"ask": {"never": True}})
        assert mismatches[""].startswith("The run waits for ever, for `ask`: let a mock answer")


async def test_the_timeout_of_a_waiting_step() -> None:
    raw = definition({"ask": ("human_task", {"title": "Pay?", "assignees": ["admin"]}, {"timeout": "1h"})}, "t>ask")
    for answer in ({"never": True}, {"after": "2h"}):
        await passes(raw, mocks={"ask": answer}, expect={"error_code": "timeout", "duration": "1h"})


async def test_events() -> None:
    wait = {"event": "paid", "correlation_key": "{{ trigger.body.id }}", "timeout": "3d"}
    raw = definition({"paid": ("wait_for_event", wait)}, "t>paid")
    case: dict[str, Any] = {"trigger": {"body": {"id": "A-1"}}}
    await passes(
        raw,
        **case,
        mocks={"paid": {"body": {"amount": 4}, "after": "1d"}},
        expect={
            "duration": "1d",
            "output": {"paid": {"name": "paid", "correlation_key": "A-1", "body": {"amount": 4}}},
        },
    )
    await passes(raw, **case, mocks={"paid": {"never": True}}, expect={"error_code": "timeout", "duration": "3d"})
    await passes(raw, **case, mocks={"paid": {"error": {"code": "lost"}}}, expect={"error_code": "lost"})
    # The config is looked at before the mock: a wrong key fails as it would in earnest.
    await passes(raw, trigger={"body": {"id": None}}, mocks={"paid": {}}, expect={"error_code": "invalid_event"})


async def test_sub_workflows() -> None:
    config = {
        "workflow_name": "ship",
        "input_mapping": {"order": "{{ trigger.body }}"},
        "output_mapping": {"number": "output.tracking.number", "weight": "steps.weigh"},
        "timeout": "1h",
    }
    raw = definition({"ship": ("sub_workflow", config)}, "t>ship")
    await passes(
        raw,
        trigger={"body": 7},
        mocks={"ship": {"output": {"tracking": {"number": "X"}}, "steps": {"weigh": 3}, "after": "30m"}},
        expect={
            "exact_output": {"ship": {"number": "X", "weight": 3}},
            "duration": "30m",
            "steps": {"ship": {"input": {"input_mapping": {"order": 7}}}},
        },
    )
    await passes(raw, mocks={"ship": {"output": {}}}, expect={"error_code": "missing_path"})
    await passes(raw, mocks={"ship": {"output": {}, "after": "2h"}}, expect={"error_code": "timeout"})
    started = definition({"ship": ("sub_workflow", {"workflow_name": "ship", "mode": "async"})}, "t>ship")
    await passes(started, mocks={"ship": {}}, expect={"output": {"ship": {"status": "started"}}})


# --- the rest of the surroundings -------------------------------------------------------------------------------------


async def test_credentials_are_masked_and_never_needed() -> None:
    config = {**CALL[1], "headers": {"Authorization": "Bearer {{ credentials.stripe.key }}"}}
    raw = definition({"call": ("http_request", config)}, "t>call")
    await passes(
        raw,
        mocks={"call": {}},
        expect={"steps": {"call": {"input": {"headers": {"Authorization": f"Bearer {MASK}"}}}}},
    )


async def test_scripts_run_unless_they_are_mocked() -> None:
    raw = definition(
        {"js": ("code", {"script": "return context.input * 2 + context.vars.n", "input": "{{ trigger.body }}"})}, "t>js"
    )
    case: dict[str, Any] = {"trigger": {"body": 4}, "vars": {"n": 1}}
    await passes(raw, **case, expect={"output": {"js": 9}})
    await passes(raw, **case, mocks={"js": {"output": 1}}, expect={"output": {"js": 1}})


async def test_a_script_without_a_sandbox_needs_a_mock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise ScriptFailed(unavailable("no process"))

    monkeypatch.setattr(Sandbox, "run", refuse)
    _, mismatches = await run(definition({"js": ("code", {"script": "return 1"})}, "t>js"))
    assert "runs a script, for which there is no sandbox here" in mismatches[""]


async def test_a_pure_step_may_be_mocked_too() -> None:
    raw = definition({"c": ("condition", {"condition": "random() > 2"}), "x": CALL}, "t>c c:true>x")
    await passes(
        raw, mocks={"c": {"outcome": "true"}, "x": {"output": 1}}, expect={"steps": {"c": {"outcome": "true"}}}
    )


async def test_vars_and_env() -> None:
    raw = definition({"f": ("formula", {"expression": "vars.a + env.workflow_id"})}, "t>f")
    await passes(raw, vars={"a": "x"}, env={"workflow_id": "y"}, expect={"output": {"f": "xy"}})


async def test_the_trigger_of_a_type_or_by_name() -> None:
    raw = {
        "nodes": [
            {"id": "hook", "type": "webhook_trigger", "config": {"path": "a"}},
            {"id": "hand", "type": "manual_trigger"},
            {"id": "f", "type": "formula", "config": {"expression": "trigger.body"}},
        ],
        "edges": [{"source": "hook", "target": "f"}, {"source": "hand", "target": "f"}],
    }
    await passes(raw, expect={"path": ["hand", "f"]})
    await passes(raw, trigger_type="webhook", expect={"path": ["hook", "f"]})
    await passes(raw, trigger_node="hook", trigger={"body": 3}, expect={"path": ["hook", "f"], "output": {"f": 3}})


async def test_a_when_that_is_false() -> None:
    raw = definition({"call": (*CALL, {"when": "trigger.body.wanted"}), "f": CALL}, "t>call call>f")
    await passes(
        raw, trigger={"body": {"wanted": False}}, expect={"path": ["t"], "steps": {"call": {"status": "skipped"}}}
    )
    await passes(
        raw,
        trigger={"body": {"wanted": 1}},
        expect={"error_code": "type_error", "error_message": "`when` must give true or false"},
    )


async def test_a_when_is_judged_once() -> None:
    policies = {"when": "string(now()) < '2026-01-01T00:00:10'", "retry": {"strategy": "fixed", "initial_delay": "50s"}}
    raw = definition({"call": (*CALL, policies)}, "t>call")
    await passes(raw, mocks={"call": [{"error": TRANSIENT}, {"output": 1}]}, expect={"output": {"call": 1}})


async def test_cancelling_lets_a_finally_run() -> None:
    raw = definition({"y": ("try",), "call": CALL, "clean": CALL}, "t>y y:try>call y:finally>clean")
    await passes(
        raw,
        cancel_after="1h",
        mocks={"call": {"never": True}, "clean": {"output": 1, "after": 5}},
        expect={
            "status": "cancelled",
            "duration": "1h5s",
            "steps": {"call": {"error_code": "cancelled"}, "clean": {"status": "completed"}},
        },
    )


async def test_the_timeout_of_the_run() -> None:
    raw = definition({"call": CALL}, "t>call", settings={"timeout": "2d"})
    await passes(raw, mocks={"call": {"never": True}}, expect={"error_code": "timeout", "duration": "2d"})


async def test_what_can_not_be_stored() -> None:
    raw = definition({"call": CALL}, "t>call")
    await passes(raw, mocks={"call": {"output": "\0"}}, expect={"error_code": "record_rejected"})


async def test_a_run_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "MAX_STEPS", 50)
    raw = definition(
        {"w": ("loop", {"while": "true", "max_iterations": 10000}), "f": ("formula", {"expression": "1"})},
        "t>w w:body>f",
    )
    done, mismatches = await run(raw)
    assert mismatches[""].startswith("The run makes more than 50 steps: it may never end")
    assert len(done.trace.attempts) == 50


async def test_a_run_of_more_than_a_life() -> None:
    raw = definition({"w": ("loop", {"source": 3}), "d": ("delay", {"duration": "18000d"})}, "t>w w:body>d")
    _, mismatches = await run(raw)
    assert mismatches[""].startswith("The run goes on for more than 100 years")
