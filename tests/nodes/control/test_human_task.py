"""human_task: what the content of a task is made of."""

from collections.abc import Callable
from typing import Any

import pytest

from gorax_engine.core.instants import format_instant
from gorax_engine.core.validation import ConfigValidator
from gorax_engine.nodes.api import SECOND, Failed, Outcome, Suspended, TaskWait
from gorax_engine.nodes.control.human_task import HumanTask

Run = Callable[..., Outcome]

NOW = 1_800_000_000_000_000
HOUR = 3_600 * SECOND
USER = "7b1c9a52-2f6a-4f0e-9a44-3f0b8c1d2e3f"
BASE: dict[str, Any] = {"title": "Release?", "assignees": ["approvers"]}


def at(micros: int) -> str:
    return format_instant(NOW + micros)


@pytest.fixture
def content(run: Run) -> Callable[..., Any]:
    def made(trigger: Any = None, **config: Any) -> Any:
        outcome = run("human_task", {**BASE, **config}, trigger)
        assert isinstance(outcome, Suspended), outcome
        assert outcome.due_at is None
        assert isinstance(outcome.wait, TaskWait)
        return outcome.wait.content

    return made


def test_the_least_that_can_be_said(content: Callable[..., Any]) -> None:
    assert content() == {
        "task_type": "approval",
        "title": "Release?",
        "description": None,
        "assignees": [{"type": "role", "name": "approvers"}],
        "due_date": None,
        "limit_at": None,
        "reminders": [],
        "levels": [],
        "notify_on_escalate": True,
        "final_action": "expire",
        "form_fields": [],
        "mail": None,
    }


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("approvers", [{"type": "role", "name": "approvers"}]),
        ([USER.upper(), "a", "a"], [{"type": "user", "id": USER}, {"type": "role", "name": "a"}]),
        ([{"type": "user", "id": USER}], [{"type": "user", "id": USER}]),
        ([{"type": "role", "name": USER}], [{"type": "role", "name": USER}]),
        ([{"type": "role", "id": "ops"}], [{"type": "role", "name": "ops"}]),
        ("{{ trigger.who }}", [{"type": "role", "name": "x"}, {"type": "user", "id": USER}]),
    ],
)
def test_assignees_come_in_every_shape(content: Callable[..., Any], given: Any, found: Any) -> None:
    assert content({"who": ["x", {"type": "user", "id": USER}]}, assignees=given)["assignees"] == found


@pytest.mark.parametrize(("given", "due"), [("24h", at(24 * HOUR)), (60, at(60 * SECOND)), (at(HOUR), at(HOUR))])
def test_a_due_date_is_a_moment_or_a_time_from_the_opening(content: Callable[..., Any], given: Any, due: str) -> None:
    found = content(due_date=given)
    assert (found["due_date"], found["limit_at"]) == (due, None)


def test_the_time_is_over_at_the_timeout_or_at_the_due_date_if_something_is_to_happen(
    content: Callable[..., Any],
) -> None:
    assert content(due_date="1h", timeout="2h", on_timeout="expire")["limit_at"] == at(2 * HOUR)
    assert content(due_date="1h", on_timeout="auto_approve")["limit_at"] == at(HOUR)
    assert content(timeout="2h")["limit_at"] == at(2 * HOUR)
    level = {"timeout_minutes": 30, "backup_approvers": ["ops"]}
    assert content(due_date="1h", escalation={"levels": [level]})["limit_at"] == at(HOUR)
    assert content(escalation={"levels": [level]})["limit_at"] == at(HOUR // 2)
    assert content(escalation={"enabled": False, "levels": [level]})["limit_at"] is None


@pytest.mark.parametrize(
    ("on_timeout", "final"), [("auto_approve", "approve"), ("auto_reject", "reject"), ("expire", "expire")]
)
def test_what_happens_when_time_is_over(content: Callable[..., Any], on_timeout: str, final: str) -> None:
    found = content(timeout="1h", on_timeout=on_timeout)
    assert (found["final_action"], found["levels"]) == (final, [])


def test_escalate_to_is_one_level_without_an_end(content: Callable[..., Any]) -> None:
    found = content(timeout="1h", on_timeout="escalate", escalate_to="boss")
    assert found["levels"] == [
        {"level": 1, "to": [{"type": "role", "name": "boss"}], "seconds": None, "notify_original": False}
    ]
    # Without `escalate` nobody is asked.
    assert content(timeout="1h", escalate_to="boss")["levels"] == []


def test_levels_come_in_their_order_and_the_last_one_ends_by_the_final_action(content: Callable[..., Any]) -> None:
    found = content(
        timeout="1h",
        on_timeout="escalate",
        escalate_to=["lead"],
        escalation={
            "enabled": True,
            "levels": [
                {"level": 2, "timeout_minutes": 5, "backup_approvers": [USER], "notify_original": True},
                {"level": 1, "timeout_minutes": 1.5, "backup_approvers": ["ops"]},
            ],
            "final_action": "auto_reject",
            "notify_on_escalate": False,
        },
    )
    assert [(level["level"], level["seconds"], level["notify_original"]) for level in found["levels"]] == [
        (1, 90.0, False),
        (2, 300.0, True),
    ]
    assert found["levels"][0]["to"] == [{"type": "role", "name": "lead"}, {"type": "role", "name": "ops"}]
    assert (found["final_action"], found["notify_on_escalate"]) == ("reject", False)


def test_reminders_before_the_due_date_that_have_not_passed(content: Callable[..., Any]) -> None:
    assert content(due_date="10h", reminders=["1h", "2h", "1h", "11h"])["reminders"] == [at(8 * HOUR), at(9 * HOUR)]
    assert content(timeout="10h", reminders=3600)["reminders"] == [at(9 * HOUR)]
    assert content(reminders="1h")["reminders"] == []


def test_a_form_and_mail(content: Callable[..., Any]) -> None:
    found = content(
        {"colours": ["red", "blue"]},
        form_fields=[
            {"name": "n", "type": "number", "label": "How many?", "required": True, "default": 3},
            {"name": "c", "type": "select", "options": "{{ trigger.colours }}"},
            {"name": "t"},
        ],
        notify={"credential": "mail", "from": "gorax@example.com"},
    )
    assert found["form_fields"] == [
        {"name": "n", "type": "number", "label": "How many?", "required": True, "options": [], "default": 3},
        {"name": "c", "type": "select", "label": "c", "required": False, "options": ["red", "blue"]},
        {"name": "t", "type": "text", "label": "t", "required": False, "options": []},
    ]
    assert found["mail"] == {"credential": "mail", "from": "gorax@example.com"}


def test_a_long_title_is_cut_and_kept_on_one_line(content: Callable[..., Any]) -> None:
    title = content({"t": "a\nb" + "x" * 300}, title="{{ trigger.t }}")["title"]
    assert (len(title), title[:4], title[-1]) == (255, "a bx", "…")


@pytest.mark.parametrize(
    "config",
    [
        {"title": "{{ trigger.list }}"},
        {"title": "{{ trigger.blank }}"},
        {"assignees": "{{ trigger.list }}"},
        {"assignees": "{{ trigger.many }}"},
        {"assignees": [{"type": "user", "id": "{{ trigger.bad }}"}]},
        {"due_date": "{{ trigger.bad }}"},
        {"due_date": "{{ trigger.far }}"},
        {"timeout": "{{ trigger.list }}"},
        {"reminders": "{{ trigger.bad }}", "due_date": "1h"},
        {"form_fields": "{{ trigger.bad }}"},
        {"form_fields": "{{ trigger.fields }}"},
        {"form_fields": [{"name": "{{ trigger.bad }}"}, {"name": "soon"}]},
        {"form_fields": [{"name": "a", "type": "select", "options": "{{ trigger.list }}"}]},
        {"form_fields": [{"name": "a", "options": ["x"]}]},
        {"escalation": "{{ trigger.bad }}"},
        {"escalation": {"levels": "{{ trigger.bad }}"}},
        {"escalation": {"levels": [{"backup_approvers": ["a"], "timeout_minutes": "{{ trigger.huge }}"}]}},
        {"notify": "{{ trigger.list }}"},
    ],
)
def test_what_a_template_gives_is_checked(run: Run, config: Any) -> None:
    trigger = {
        "bad": "soon", "list": [], "blank": " ", "many": [f"r{i}" for i in range(101)], "fields": [3], "huge": 1e300,
        "far": "9999-12-31T23:59:59-12:00",
    }  # fmt: skip
    outcome = run("human_task", {**BASE, **config}, trigger)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "type_error"


@pytest.mark.parametrize(
    "config",
    [
        {"title": "t"},
        {"assignees": ["a"]},
        {**BASE, "assignees": []},
        {**BASE, "assignees": [3]},
        {**BASE, "assignees": [{"type": "group", "id": "x"}]},
        {**BASE, "assignees": [{"type": "role"}]},
        {**BASE, "task_type": "vote"},
        {**BASE, "due_date": "soon"},
        {**BASE, "timeout": -1},
        {**BASE, "on_timeout": "explode"},
        {**BASE, "on_timeout": "escalate"},
        {**BASE, "form_fields": [{"type": "text"}]},
        {**BASE, "form_fields": [{"name": "a", "type": "colour"}]},
        {**BASE, "form_fields": [{"name": "a", "type": "select"}]},
        {**BASE, "escalation": {"final_action": "explode"}},
        {**BASE, "escalation": {"levels": [{"timeout_minutes": 3}]}},
        {**BASE, "notify": {"from": "a@b.c"}},
        {**BASE, "who": "me"},
    ],
)
def test_a_wrong_config_is_refused_when_it_is_saved(config: Any) -> None:
    assert list(ConfigValidator(HumanTask.spec.schema).faults(config, ()))
