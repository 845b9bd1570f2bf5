"""Workflows that run each other: what can be known when they are saved or published is refused there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import TenantHandle

pytestmark = pytest.mark.anyio


def calling(*names: str) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = [{"id": "start", "type": "manual_trigger"}]
    nodes += [
        {"id": f"call{at}", "type": "sub_workflow", "config": {"workflow_name": name}} for at, name in enumerate(names)
    ]
    edges = [{"source": "start", "target": f"call{at}"} for at in range(len(names))]
    return {"nodes": nodes, "edges": edges}


async def publish(acme: TenantHandle, name: str, *names: str) -> None:
    made = await acme.client.post("/workflows", json={"name": name, "definition": calling(*names)})
    assert made.status_code == 201, made.text
    done = await acme.client.post(f"/workflows/{made.json()['data']['id']}/publish")
    assert done.status_code == 200, done.text


async def test_a_workflow_that_runs_itself_is_refused(acme: TenantHandle) -> None:
    answer = await acme.client.post("/workflows", json={"name": "a", "definition": calling("a")})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == ("cycle", "/nodes/1/config/workflow_name")
    assert "`a` → `a`" in fault["message"]


async def test_a_circle_over_others_is_refused_by_name_and_by_id(acme: TenantHandle) -> None:
    await publish(acme, "a", "b")
    await publish(acme, "b", "c")
    answer = await acme.client.post("/workflows", json={"name": "c", "definition": calling("z", "a")})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["code"], fault["pointer"]) == ("cycle", "/nodes/2/config/workflow_name")
    assert "`c` → `a` → `b` → `c`" in fault["message"]


async def test_nesting_beyond_the_limit_is_refused(acme: TenantHandle) -> None:
    await publish(acme, "w10")
    for depth in range(9, -1, -1):
        await publish(acme, f"w{depth}", f"w{depth + 1}")  # the one at depth 10 may still run
    answer = await acme.client.post("/workflows", json={"name": "top", "definition": calling("w0")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "depth_exceeded"


async def test_what_a_template_names_is_left_to_the_run(acme: TenantHandle) -> None:
    await publish(acme, "a", "{{ trigger.body.next }}")
