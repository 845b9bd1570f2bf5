"""Plug-ins on a real daemon: the example of the documentation runs, and a faulty one refuses the start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gorax_engine.nodes.catalogue import builtin_specs
from tests.nodes.plugin_packages import EXAMPLE, install_example, write_package

from .conftest import empty_folder
from .harness import Api, free_port, gorax, run_dev
from .sink import Reply, Sink

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]


def site(folder: Path) -> Path:
    """A folder for packages."""
    made = folder / "site"
    made.mkdir()
    return made


def allowing(package: str, packages: Path) -> dict[str, str]:
    """The environment of a daemon that finds the packages and may load one of them."""
    path = os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "GORAX_NODES__PLUGINS": package}


def test_the_daemon_knows_every_type_of_the_reference(api: Api) -> None:
    names = [name for spec in builtin_specs() for name in (spec.name, *spec.aliases)]
    nodes = [{"id": f"n{number}", "type": name} for number, name in enumerate(names)]
    verdict = api.data("POST", "/workflows/validate", {"definition": {"nodes": nodes, "edges": []}})
    assert [fault["message"] for fault in verdict["errors"] if fault["code"] == "unknown_type"] == []


def test_the_example_runs_as_any_type_does(sink: Sink) -> None:
    with empty_folder() as folder:
        packages = site(folder)
        allowed = install_example(packages)
        text = (EXAMPLE / "workflow.yaml").read_text(encoding="utf-8")
        base = sink.on("/rates/EUR/USD", Reply(503), Reply(200, {"rate": 1.25})).removesuffix("/rates/EUR/USD")
        text = text.replace("https://rates.example.com", base).replace("timeout: 30s", "retry: {initial_delay: 0.1}")
        (folder / "workflow.yaml").write_text(text, encoding="utf-8")
        with run_dev(folder, allowing(allowed, packages)) as dev:
            assert dev.gorax("workflow", "apply", "workflow.yaml", cwd=folder).code == 0
            run = ("run", "change-money", "--wait", "--json", "--input")
            done = dev.gorax(*run, '{"iban": "DE89 3704 0044 0532 0130 00", "currency": "USD"}', cwd=folder)
            assert done.code == 0, done.err
            execution = done.json()
            assert execution["output_data"]["rate"] == {"from": "EUR", "to": "USD", "rate": 1.25}
            steps = {(step["node_id"], step["attempt"]): step for step in dev.api.steps(execution["id"], "all")}
            assert steps["rate", 1]["error_code"] == "http_status"
            assert steps["rate", 2]["input_data"]["to_currency"] == "USD"
            refused = dev.gorax(*run, '{"iban": "DE00", "currency": "USD"}', cwd=folder)
            assert refused.code == 1
            assert refused.json()["error_code"] == "bad_account"


def test_a_faulty_one_refuses_the_start_and_names_its_package(folder: Path) -> None:
    packages = site(folder)
    write_package(packages, "acme-nodes", {"it": "acme_nodes:Thing"}, "import absent_module")
    env = allowing("acme-nodes", packages)
    for command in (("dev", "--port", str(free_port())), ("node", "list")):
        ended = gorax(*command, cwd=folder, env=env)
        assert ended.code == 78
        assert "The plug-in package acme-nodes can't be used: its entry point `it` failed" in ended.err
