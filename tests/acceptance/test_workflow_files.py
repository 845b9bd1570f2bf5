"""Files of workflows on a real daemon: many at once, there and back, and versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .harness import Api, Dev, flow, fresh, node

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(90)]


def test_many_files_and_documents_there_and_back(dev: Dev, folder: Path) -> None:
    first, second, third = (fresh(name) for name in ("one", "two", "three"))
    definition = flow(node("f", "formula", {"expression": "1"}), settings={"timeout": "1h"})
    (folder / "a.json").write_text(json.dumps({"name": first, "description": "The first", "definition": definition}))
    documents = [{"name": second, "definition": definition}, [{"name": third, "definition": definition}]]
    (folder / "b.yaml").write_text(yaml.safe_dump_all(documents))
    applied = dev.gorax("--json", "workflow", "apply", str(folder / "a.json"), str(folder / "b.yaml"))
    assert applied.code == 0, applied.err
    assert [(each["name"], each["action"]) for each in applied.json()] == [
        (name, "created") for name in (first, second, third)
    ]
    for name in ("all.yaml", "all.json"):
        exported = dev.gorax("workflow", "export", first, second, third, "--output", str(folder / name))
        assert exported.code == 0, exported.err
        again = dev.gorax("--json", "workflow", "apply", str(folder / name))
        assert {each["action"] for each in again.json()} == {"unchanged"}
    piped = dev.gorax("workflow", "apply", "-", stdin=dev.gorax("workflow", "export", first).out)
    assert "unchanged, version 1" in piped.out


def test_a_fault_of_one_leaves_all_as_they_were(dev: Dev, api: Api, folder: Path) -> None:
    good, bad = fresh("good"), fresh("bad")
    definition = flow(node("f", "formula", {"expression": "1"}))
    items = [{"name": good, "definition": definition}, {"name": bad, "definition": {"nodes": []}}]
    (folder / "w.json").write_text(json.dumps(items))
    applied = dev.gorax("workflow", "apply", str(folder / "w.json"))
    assert applied.code == 1
    assert "w.json#/1/definition" in applied.err
    assert api.data("GET", f"/workflows?name={good}") == []


def test_versions_restore_and_archive(dev: Dev, api: Api) -> None:
    name = fresh()
    api.publish(flow(node("f", "formula", {"expression": "1"})), name)
    workflow = api.data("GET", f"/workflows?name={name}")[0]
    changed = flow(node("f", "formula", {"expression": "2"}))
    api.data("PUT", f"/workflows/{workflow['id']}", {"name": name, "definition": changed})
    assert dev.gorax("workflow", "publish", name).code == 0
    assert [row["version"] for row in dev.gorax("--json", "workflow", "versions", name).json()] == [2, 1]
    assert "version 1 is published as version 3" in dev.gorax("workflow", "restore", name, "1", "--publish").out
    assert dev.gorax("run", name, "--wait", "--json").json()["output_data"] == {"f": 1}
    exported = dev.gorax("workflow", "export", name, "--version", "2", "--format", "json").json()
    assert exported["definition"]["nodes"][-1]["config"] == {"expression": "2"}
    assert dev.gorax("workflow", "archive", name).code == 0
    assert dev.gorax("workflow", "show", name).code == 1
