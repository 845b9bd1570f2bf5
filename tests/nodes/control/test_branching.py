"""condition and switch: outcomes, outputs, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest

from gorax_engine.nodes.api import Completed, ExpressionError, Failed, Outcome

Run = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("config", "n", "expected"),
    [
        ({"condition": "trigger.n > 1"}, 2, Completed({"result": True}, "true")),
        ({"condition": "{{ trigger.n > 1 }}"}, 1, Completed({"result": False}, "false")),
        ({"condition": "trigger.n > 1", "stop_on_true": True}, 2, Completed({"result": True}, "true", stop=True)),
        ({"condition": "trigger.n > 1", "stop_on_true": True}, 1, Completed({"result": False}, "false")),
        ({"condition": "trigger.n > 1", "stop_on_false": True}, 1, Completed({"result": False}, "false", stop=True)),
        ({"condition": "true", "stop_on_true": "{{ trigger.n == 2 }}"}, 2,
         Completed({"result": True}, "true", stop=True)),
    ],
)  # fmt: skip
def test_condition(run: Run, config: Any, n: int, expected: Completed) -> None:
    assert run("condition", config, {"n": n}) == expected


@pytest.mark.parametrize(
    "config", [{"condition": "trigger.n"}, {"condition": "true", "stop_on_true": "{{ trigger.n }}"}]
)
def test_condition_takes_booleans_only(run: Run, config: Any) -> None:
    outcome = run("condition", config, {"n": 1})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "type_error"
    assert "it is a number" in outcome.error.message


def test_a_condition_on_what_is_missing_fails(run: Run) -> None:
    with pytest.raises(ExpressionError):
        run("condition", {"condition": "trigger.gone"}, {})


@pytest.mark.parametrize(
    ("value", "case"),
    [("paid", "settled"), (2, "two"), (2.0, "two"), ("2", "default"), (True, "default"), (1, "default"), (None, "none"),
     ({"a": [1]}, "shape"), ({"a": [True]}, "default")],
)  # fmt: skip
def test_switch_by_value(run: Run, value: Any, case: str) -> None:
    cases = [{"name": "settled", "value": "paid"}, {"name": "two", "value": 2}, {"name": "none", "value": None},
             {"name": "shape", "value": {"a": ["{{ 1 }}"]}}, {"name": "late", "value": 2}]  # fmt: skip
    for source in ("trigger.v", "{{ trigger.v }}"):
        outcome = run("switch", {"value": source, "cases": cases}, {"v": value})
        assert outcome == Completed({"case": case}, case)


def test_switch_by_condition_takes_the_first_and_looks_no_further(run: Run) -> None:
    cases = [{"name": "big", "condition": "trigger.n > 10"}, {"name": "any", "condition": "trigger.n > 0"},
             {"name": "broken", "condition": "trigger.gone"}]  # fmt: skip
    assert run("switch", {"cases": cases}, {"n": 11}) == Completed({"case": "big"}, "big")
    assert run("switch", {"cases": cases}, {"n": 1}) == Completed({"case": "any"}, "any")
    assert run("switch", {"cases": cases[:2]}, {"n": 0}) == Completed({"case": "default"}, "default")


def test_switch_takes_booleans_only(run: Run) -> None:
    outcome = run("switch", {"cases": [{"name": "a", "condition": "1"}]})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "type_error"
