"""What is shipped for operators is well-formed, and agrees with the daemon."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gorax_engine.settings import ManagementSettings, ServerSettings, WorkerSettings, known_keys

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "systemd" / "gorax.service").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "gorax.service"
    unit.write_text(UNIT.replace("/opt/gorax/bin/gorax", shutil.which("true") or "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    # It exits 0 on keys that it doesn't know, and only says so.
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_waits_for_the_drain_and_stops_trying_when_trying_cannot_help() -> None:
    settings = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))
    assert float(settings["TimeoutStopSec"]) > WorkerSettings().drain_timeout
    assert settings["RestartPreventExitStatus"] == "78"
    assert settings["Type"] == "notify"


def manifests() -> list[dict[str, Any]]:
    base = DEPLOY / "kubernetes"
    files = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    return [part for file in files for part in yaml.safe_load_all((base / file).read_text())]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=True, timeout=60
    )
    kinds = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert sorted(set(kinds)) == ["Deployment", "Job", "PodDisruptionBudget", "Service", "ServiceAccount"]


@pytest.mark.parametrize("name", ["gorax-api", "gorax-worker"])
def test_a_deployment_agrees_with_the_daemon(name: str) -> None:
    (pod,) = [
        each["spec"]["template"]["spec"]
        for each in manifests()
        if each["kind"] == "Deployment" and each["metadata"]["name"] == name
    ]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] > WorkerSettings().drain_timeout
    assert {variable["name"].removesuffix("_FILE") for variable in container["env"]} <= set(known_keys().values())
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["management"] == ManagementSettings().port
    assert ports.get("http", ServerSettings().port) == ServerSettings().port
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["startupProbe"]["httpGet"]["path"] == "/startupz"
    assert container["securityContext"]["readOnlyRootFilesystem"]
