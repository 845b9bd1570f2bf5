"""Reading test files: every fault with its place, and what is expected against what happened."""

from typing import Any

import pytest

from gorax_engine.core.model import SECOND
from gorax_engine.workflows.testing import shown_duration
from tests.workflows.simulation import definition, faults_of, passes, run

RAW = definition(
    {
        "call": ("http_request", {"url": "https://shop.example.com"}),
        "ask": ("human_task", {"title": "Pay?", "assignees": ["admin"]}),
        "c": ("condition", {"condition": "true"}),
        "items": ("loop", {"source": 1}),
        "f": ("formula", {"expression": "1"}),
    },
    "t>call call>ask ask>c c:true>items items:body>f",
)


def case(**more: Any) -> dict[str, Any]:
    return {"cases": [{"name": "one", **more}]}


@pytest.mark.parametrize(
    ("document", "pointer", "sentence"),
    [
        ({}, "", "`cases` is missing: add it."),
        ({"cases": [{}]}, "/cases/0", "`name` is missing: add it."),
        ({"cases": [], "casses": 1}, "/casses", "`casses` is not a key here: did you mean `cases`?"),
        (case(exepct={}), "/cases/0/exepct", "`exepct` is not a key here: did you mean `expect`?"),
        (case(expect={"state": "failed"}), "/cases/0/expect/state", "did you mean `status`?"),
        (case(expect={"status": "broken"}), "/cases/0/expect/status", "one of"),
        (case(expect={"duration": "long"}), "/cases/0/expect/duration", "A duration is a number of seconds"),
        (case(expect={"duration": 1e15}), "/cases/0/expect/duration", ""),
        (case(expect={"duration": {"least": 1}}), "/cases/0/expect/duration/least", "did you mean `at_least`?"),
        (case(expect={"steps": {"call": {"tries": 1}}}), "/cases/0/expect/steps/call/tries", "is not a key here"),
        (case(now="yesterday"), "/cases/0/now", "A moment is written with its date"),
        (case(mocks={"call": {"outptu": 1}}), "/cases/0/mocks/call/outptu", "did you mean `output`?"),
        (case(mocks={"call": [{"outptu": 1}]}), "/cases/0/mocks/call/0/outptu", "did you mean `output`?"),
        (case(mocks={"call": []}), "/cases/0/mocks/call", ""),
        (case(mocks={"call": {"error": {}}}), "/cases/0/mocks/call/error", "`code` is missing: add it."),
        (case(mocks={"call": {"never": False}}), "/cases/0/mocks/call/never", "`never` is `true` or left out."),
        (case(mocks={"call": {"by_path": {"x": {"a": 1}}}}), "/cases/0/mocks/call/by_path/x/a", "is not a key here"),
        ({**case(), "workflow": {"name": "x"}}, "/workflow", "`file` is missing: add it."),
        ({**case(), "workflow": 1}, "/workflow", "`workflow` is the name of a file"),
        # What needs the workflow:
        (case(mocks={"cal": {}}), "/cases/0/mocks/cal", "The workflow has no node `cal`: did you mean `call`?"),
        ({**case(), "defaults": {"mocks": {"cal": {}}}}, "/defaults/mocks/cal", "did you mean `call`?"),
        (case(mocks={"items": {}}), "/cases/0/mocks/items", "mock the steps in it instead"),
        (case(mocks={"t": {}}), "/cases/0/mocks/t", "which the test itself carries out"),
        (case(mocks={"c": {"output": 1}}), "/cases/0/mocks/c", "add `outcome`"),
        (case(mocks={"c": {"outcome": "maybe"}}), "/cases/0/mocks/c/outcome", "its outcomes are `true`, `false`."),
        (case(mocks={"call": {"outcome": "true"}}), "/cases/0/mocks/call/outcome", "a http_request has none."),
        (case(mocks={"call": {"response": {}}}), "/cases/0/mocks/call/response", "is for steps of type human_task"),
        (case(mocks={"call": {"never": True, "after": 1}}), "/cases/0/mocks/call/after", "can't stand beside `never`"),
        (
            case(mocks={"call": {"error": {"code": "x"}, "output": 1}}),
            "/cases/0/mocks/call/output",
            "can't stand beside `error`",
        ),
        (case(expect={"not_run": ["items[0].g"]}), "/cases/0/expect/not_run/0", "The workflow has no node `g`"),
        (case(expect={"path": ["t", "cll"]}), "/cases/0/expect/path/1", "did you mean `call`?"),
        (case(expect={"steps": {"items[0].g": {}}}), "/cases/0/expect/steps/items[0].g", "no node `g`"),
        (case(trigger_node="call"), "/cases/0/trigger_node", "`call` is no trigger of the workflow: it has `t`."),
        ({"cases": [{"name": "one"}, {"name": "one"}]}, "/cases/1/name", "Two cases are called 'one'"),
    ],
)
def test_a_fault_is_told_with_its_place(document: dict[str, Any], pointer: str, sentence: str) -> None:
    faults = faults_of(RAW, document)
    assert pointer in faults
    assert sentence in faults[pointer]


def test_all_faults_are_told_at_once() -> None:
    document = case(mocks={"cal": {}, "c": {"outcome": "x"}}, trigger_node="x", expect={"path": ["y"]})
    assert len(faults_of(RAW, document)) == 4


def test_a_file_without_faults() -> None:
    mocks = {"call": [{"output": 1}, {"error": {"code": "x"}, "after": "1m"}], "ask": {"outcome": "rejected"}}
    assert faults_of(RAW, case(mocks=mocks, expect={"duration": {"at_most": "1d"}})) == {}


# --- differences ------------------------------------------------------------------------------------------------------

VALUES = definition(
    {
        "a": ("formula", {"expression": "trigger.body"}),
        "items": ("loop", {"source": 2}),
        "f": ("formula", {"expression": "item"}),
    },
    "t>a a>items items:body>f",
    output="{{ steps.a }}",
)
BODY = {"n": 1, "flag": True, "list": [{"x": 1, "y": 2}], "text": "a"}


@pytest.mark.parametrize(
    ("expect", "pointer", "sentence"),
    [
        ({"output": {"n": 2}}, "/expect/output/n", "expected 2, but it is 1."),
        ({"output": {"n": True}}, "/expect/output/n", "expected true, but it is 1."),
        ({"output": {"flag": 1}}, "/expect/output/flag", "expected 1, but it is true."),
        ({"output": {"text": {"a": 1}}}, "/expect/output/text", 'expected {"a":1}, but it is "a".'),
        ({"output": {"m": 2}}, "/expect/output/m", "expected 2, but there is no `m`: there is `n`, `flag`"),
        ({"output": {"list": [{"x": 2}]}}, "/expect/output/list/0/x", "expected 2, but it is 1."),
        ({"output": {"list": []}}, "/expect/output/list", "expected 0 items, but there are 1"),
        ({"exact_output": {**BODY, "list": [{"x": 1}]}}, "/expect/exact_output/list/0/y", "`y` is not expected"),
        ({"status": "failed"}, "/expect/status", "The run should end as failed, but it completed."),
        ({"error_code": "x"}, "/expect/error_code", "should be `x`, but there is no error."),
        ({"not_run": ["a"]}, "/expect/not_run/0", "`a` should not run, but it did."),
        ({"not_run": ["f"]}, "/expect/not_run/0", "but it did at `items[0].f`, `items[1].f`."),
        ({"not_run": ["items[1].f"]}, "/expect/not_run/0", "`items[1].f` should not run, but it did."),
        ({"duration": "1h"}, "/expect/duration", "The run should take 1h, but it takes 0s."),
        ({"duration": {"at_least": 1}}, "/expect/duration", "should take at least 1s"),
        ({"steps": {"f": {}}}, "/expect/steps/f", "`f` never came to run: it ran at `items[0].f`, `items[1].f`."),
        ({"steps": {"items[2].f": {}}}, "/expect/steps/items[2].f", "never came to run"),
        ({"steps": {"a": {"status": "skipped"}}}, "/expect/steps/a/status", "should be skipped, but it is completed."),
        ({"steps": {"a": {"attempts": 2}}}, "/expect/steps/a/attempts", "should be tried 2 times, but it was 1."),
        ({"steps": {"a": {"outcome": "true"}}}, "/expect/steps/a/outcome", "should be `true`, but it is none."),
        ({"steps": {"a": {"input": {"expression": "x"}}}}, "/expect/steps/a/input/expression", 'expected "x"'),
        ({"steps": {"items[1].f": {"output": 0}}}, "/expect/steps/items[1].f/output", "expected 0, but it is 1."),
    ],
)
async def test_a_difference_is_told_with_its_place(expect: Any, pointer: str, sentence: str) -> None:
    _, mismatches = await run(VALUES, trigger={"body": BODY}, expect=expect)
    assert pointer in mismatches
    assert sentence in mismatches[pointer]


async def test_what_is_not_named_may_be_anything() -> None:
    expect = {"output": {"list": [{"x": 1.0}], "flag": True}}
    await passes(VALUES, trigger={"body": BODY}, expect=expect)
    await passes(VALUES, trigger={"body": BODY}, expect={"exact_output": BODY})


async def test_a_path_is_shown_as_a_difference() -> None:
    _, mismatches = await run(VALUES, trigger={"body": 1}, expect={"path": ["t", "items", "a", "items[0].f"]})
    assert mismatches["/expect/path"].splitlines() == [
        "The steps ran in another order (- expected, + ran):",
        "  t",
        "+ a",
        "  items",
        "- a",
        "  items[0].f",
        "+ items[1].f",
    ]


async def test_a_failure_says_why() -> None:
    raw = definition({"f": ("fail", {"code": "broke", "message": "No money left."})}, "t>f")
    _, mismatches = await run(raw, expect={"steps": {"f": {"status": "completed"}}})
    assert mismatches == {
        "/expect/status": "The run should end as completed, but it failed with broke: No money left.",
        "/expect/steps/f/status": "`f` should be completed, but it failed with broke: No money left.",
    }
    _, mismatches = await run(raw, expect={"error_message": "time"})
    assert 'should hold "time", but it is "No money left."' in mismatches["/expect/error_message"]


def test_lengths_of_time() -> None:
    for text, length in {
        "0s": 0,
        "1.5s": 1_500_000,
        "2d": 172_800 * SECOND,
        "1h1m0.000001s": 3_660 * SECOND + 1,
    }.items():
        assert shown_duration(length) == text
