"""Schedules on a real daemon: what the preview says is what happens, each occurrence once, and why one didn't start."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from .harness import Api, fresh, node, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


def ticking(name: str, **config: Any) -> dict[str, Any]:
    return {
        "nodes": [
            node("tick", "schedule_trigger", {"cron": "* * * * * *", "input": {"name": name}, **config}),
            node("said", "formula", {"expression": "trigger.scheduled_for + trigger.body.name"}),
        ],
        "edges": [{"source": "tick", "target": "said"}],
    }


def schedule_of(api: Api, workflow: Any) -> Any:
    (schedule,) = api.data("GET", "/schedules", params={"workflow_id": workflow["id"]})
    return schedule


def occurrences(api: Api, schedule: Any) -> list[Any]:
    listed: list[Any] = api.data("GET", f"/schedules/{schedule['id']}/occurrences", params={"limit": 200})
    return list(reversed(listed))


def test_a_published_schedule_starts_each_occurrence_that_the_preview_names(api: Api) -> None:
    workflow = api.publish(ticking("n", overlap_policy="allow"))
    schedule = schedule_of(api, workflow)
    until(lambda: len(occurrences(api, schedule)) >= 4)
    api.data("PATCH", f"/schedules/{schedule['id']}", {"enabled": False})
    found = occurrences(api, schedule)
    assert {each["status"] for each in found} == {"started"}
    asked = {"cron_expression": "* * * * * *", "from": schedule["created_at"], "count": len(found)}
    assert [each["scheduled_for"] for each in found] == api.data("POST", "/schedules/preview", asked)["occurrences"]
    run = api.ended(found[0]["execution_id"])
    data = run["trigger_data"]
    assert (run["trigger_type"], run["output_data"]) == ("schedule", {"said": found[0]["scheduled_for"] + "n"})
    assert (data["schedule_id"], data["scheduled_for"], data["body"]) == (
        schedule["id"], found[0]["scheduled_for"], {"name": "n"},
    )  # fmt: skip
    assert datetime.fromisoformat(data["fired_at"]) >= datetime.fromisoformat(data["scheduled_for"])
    started = api.data("GET", "/executions", params={"workflow_id": workflow["id"], "limit": 200})
    assert sorted(each["id"] for each in started) == sorted(each["execution_id"] for each in found)


def test_what_an_overlap_skips_says_so(api: Api) -> None:
    definition = ticking("n")
    definition["nodes"].append(node("wait", "delay", {"duration": "1h"}))
    definition["edges"].append({"source": "said", "target": "wait"})
    workflow = api.publish(definition, fresh("slow"))
    schedule = schedule_of(api, workflow)
    until(lambda: len(occurrences(api, schedule)) >= 3)
    api.data("PATCH", f"/schedules/{schedule['id']}", {"enabled": False})
    first, *others = occurrences(api, schedule)
    assert first["status"] == "started"
    assert {each["status"] for each in others} == {"skipped"}
    assert all(first["execution_id"] in each["reason"] for each in others)
    api.data("POST", f"/executions/{first['execution_id']}/cancel")
