"""delay, stop and fail."""

from collections.abc import Callable
from typing import Any

import pytest

from gorax_engine.core.instants import format_instant
from gorax_engine.nodes.api import SECOND, Classification, Completed, Failed, Outcome, StepError, Suspended

Run = Callable[..., Outcome]

NOW = 1_800_000_000_000_000


@pytest.mark.parametrize(("duration", "seconds"), [("1h30m", 5400), ("PT5S", 5), (2.5, 2.5), ("{{ trigger.d }}", 7)])
def test_delay_for_a_duration(run: Run, duration: Any, seconds: float) -> None:
    outcome = run("delay", {"duration": duration}, {"d": 7})
    assert isinstance(outcome, Suspended)
    assert outcome.due_at == NOW + seconds * SECOND
    shown = 7 if seconds == 7 else duration
    assert outcome.output == {"duration": shown, "delayed_ms": seconds * 1000, "completed": True}


def test_delay_until_a_moment(run: Run) -> None:
    later = format_instant(NOW + 90 * SECOND)
    assert run("delay", {"until": later}) == Suspended(
        NOW + 90 * SECOND, {"until": later, "delayed_ms": 90_000, "completed": True}
    )


@pytest.mark.parametrize("config", [{"until": "2001-01-01T00:00:00Z"}, {"duration": 0}])
def test_a_delay_that_is_over_completes_at_once(run: Run, config: Any) -> None:
    assert run("delay", config) == Completed({**config, "delayed_ms": 0, "completed": True})


@pytest.mark.parametrize(
    "config",
    [{"duration": "{{ trigger.bad }}"}, {"duration": "{{ trigger.list }}"}, {"until": "{{ trigger.bad }}"},
     {"until": "{{ trigger.list }}"}, {"until": "{{ trigger.naive }}"}],
)  # fmt: skip
def test_what_a_template_gives_is_checked(run: Run, config: Any) -> None:
    outcome = run("delay", config, {"bad": "soon", "list": [], "naive": "2030-01-01T00:00:00"})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "type_error"


def test_stop(run: Run) -> None:
    assert run("stop", {"output": {"n": "{{ trigger.n }}"}}, {"n": 3}) == Completed({"n": 3}, stop=True)
    assert run("stop", {}) == Completed(None, stop=True)


def test_fail(run: Run) -> None:
    error = StepError("out_of_stock", "3 left", Classification.PERMANENT)
    assert run("fail", {"code": "out_of_stock", "message": "{{ trigger.n }} left"}, {"n": 3}) == Failed(error)
    outcome = run("fail", {})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "failed"
    outcome = run("fail", {"message": "{{ trigger.n }}"}, {"n": 3})
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "type_error"
