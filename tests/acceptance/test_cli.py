"""The command line against a running engine: what it prints, and with which code it exits."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from .harness import GORAX, Api, Dev, environment, flow, free_port, fresh, gorax, node, run_dev, until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

ONE = flow(node("f", "formula", {"expression": "trigger.body.n ?? 0"}))
LONG = flow(node("d", "delay", {"duration": "1h"}))
BROKEN = flow(node("b", "fail", {"code": "broken", "message": "It broke."}))


def one_sentence(err: str, code: str | None = None) -> None:
    """Check that stderr is one sentence and a code, and no traceback."""
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    found = re.search(r"\[([a-z_]+)\]$", line)
    assert found, err
    assert code is None or found[1] == code


def printed_commands(text: str) -> list[str]:
    """Return the commands among what `gorax dev` printed."""
    return [line.strip() for line in text.splitlines() if line.startswith("  ") and not line.strip().startswith("#")]


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestFirstRun:
    def test_what_it_prints_works_as_it_stands_and_a_second_start_finds_it_again(self, folder: Path) -> None:
        with run_dev(folder) as dev:
            commands = printed_commands(dev.process.text())
            assert len(commands) >= 5
            curl = next(command for command in commands if command.startswith("curl"))
            answer = shell(curl + " -s", folder)
            assert answer.returncode == 0, answer.stderr
            started = json.loads(answer.stdout)
            assert dev.api.ended(started["execution_id"])["status"] == "completed"
            hello = next(command for command in commands if " run hello " in command)
            done = shell(hello, folder)
            assert done.returncode == 0, done.stderr
            assert "Hello, Ada!" in done.stdout
            for command in commands:
                if command in {curl, hello}:
                    continue
                if "my-workflow" in command:
                    (folder / "my-workflow.yaml").write_text(yaml.safe_dump({"name": "mine", "definition": ONE}))
                done = shell(command, folder)
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            key = dev.api.key
            before = {item["id"] for item in dev.api.data("GET", "/executions", params={"limit": 200})}
            assert len(before) > 5
            assert (folder / ".gorax" / "api-key").stat().st_mode & 0o077 == 0
        assert dev.process.code == 0
        with run_dev(folder) as dev:
            assert dev.api.key == key
            after = {item["id"] for item in dev.api.data("GET", "/executions", params={"limit": 200})}
            assert before <= after
            assert len(dev.api.data("GET", "/workflows", params={"name": "hello"})) == 1

    def test_one_folder_one_engine(self, dev: Dev) -> None:
        second = gorax("dev", "--port", str(free_port()), cwd=dev.folder)
        assert second.code == 78
        one_sentence(second.err, "state_dir_in_use")

    def test_a_port_in_use(self, dev: Dev, folder: Path) -> None:
        second = gorax("dev", "--port", str(dev.port), cwd=folder)
        assert second.code == 78
        one_sentence(second.err, "port_in_use")


class TestRun:
    def test_exit_codes(self, dev: Dev, api: Api) -> None:
        names = {kind: api.publish(definition)["name"] for kind, definition in
                 {"one": ONE, "long": LONG, "broken": BROKEN}.items()}  # fmt: skip
        done = dev.gorax("run", names["one"], "--input", '{"n": 5}', "--wait")
        assert (done.code, '"f": 5' in done.out) == (0, True)
        failed = dev.gorax("run", names["broken"], "--wait")
        assert failed.code == 1
        one_sentence(failed.err, "broken")
        running = dev.gorax("run", names["long"], "--wait", "--timeout", "1")
        assert running.code == 5
        assert dev.gorax("run", names["one"], "--input", "{nonsense").code == 2
        assert dev.gorax("run").code == 2
        assert dev.gorax("nonsense").code == 2
        gone = gorax("--server", f"http://127.0.0.1:{free_port()}", "--api-key", "x", "run", names["one"])
        assert gone.code == 4
        one_sentence(gone.err, "cannot_connect")

    def test_cancelled_is_3(self, dev: Dev, api: Api) -> None:
        workflow = api.publish(LONG)
        process = subprocess.Popen(
            [*GORAX, "--server", dev.url, "run", workflow["name"], "--wait", "--timeout", "40"],
            cwd=dev.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started = until(lambda: api.data("GET", "/executions", params={"workflow_id": workflow["id"]}))
        cancelled = dev.gorax("execution", "cancel", started[0]["id"])
        assert cancelled.code == 0
        process.communicate(timeout=45)
        assert process.returncode == 3

    def test_a_file_is_applied_and_run(self, dev: Dev, folder: Path) -> None:
        name = fresh("file")
        (folder / "one.yaml").write_text(yaml.safe_dump({"name": name, "definition": ONE}))
        (folder / "input.json").write_text('{"n": 7}')
        done = dev.gorax("--json", "run", str(folder / "one.yaml"), "--input", f"@{folder / 'input.json'}", "--wait")
        assert done.code == 0, done.err
        assert done.json()["output_data"] == {"f": 7}

    def test_idempotency_key(self, dev: Dev, api: Api) -> None:
        name = api.publish(ONE)["name"]
        runs = [dev.gorax("run", name, "--idempotency-key", name) for _ in range(2)]
        assert [run.code for run in runs] == [0, 0]
        assert runs[0].out == runs[1].out
        other = dev.gorax("run", name, "--idempotency-key", name, "--input", "1")
        assert other.code == 1
        one_sentence(other.err)

    def test_what_is_not_there(self, dev: Dev) -> None:
        unknown = dev.gorax("run", fresh("unknown"))
        assert unknown.code == 1
        one_sentence(unknown.err)
        missing = dev.gorax("run", "missing.yaml")
        assert missing.code in {1, 2}
        one_sentence(missing.err)


class TestWorkflow:
    def test_apply_publishes_what_changed(self, dev: Dev, folder: Path) -> None:
        first, second = fresh("a"), fresh("b")
        file = folder / "two.json"
        file.write_text(json.dumps([{"name": first, "definition": ONE}, {"name": second, "definition": ONE}]))
        applied = dev.gorax("--json", "workflow", "apply", str(file))
        assert applied.code == 0, applied.err
        assert [(item["name"], item["version"]) for item in applied.json()] == [(first, 1), (second, 1)]
        file.write_text(json.dumps([{"name": first, "definition": LONG}, {"name": second, "definition": ONE}]))
        applied = dev.gorax("--json", "workflow", "apply", str(file))
        assert [item["version"] for item in applied.json()] == [2, 1]
        shown = dev.gorax("workflow", "show", first)
        assert shown.code == 0
        assert first in shown.out
        assert {first, second} <= {item["name"] for item in dev.gorax("--json", "workflow", "list").json()}

    def test_settings_of_a_file(self, dev: Dev, folder: Path) -> None:
        name = fresh("settings")
        (folder / "f.yaml").write_text(
            yaml.safe_dump({"name": name, "definition": LONG, "settings": {"timeout": "300ms"}})
        )
        done = dev.gorax("run", str(folder / "f.yaml"), "--wait")
        assert done.code == 1
        one_sentence(done.err, "timeout")

    def test_all_faults_are_told(self, dev: Dev, folder: Path) -> None:
        file = folder / "bad.yaml"
        definition = {"nodes": [node("a", "htp_request"), node("b", "formula", {"expression": "1 +"})], "edges": []}
        file.write_text(yaml.safe_dump({"name": fresh(), "definition": definition}))
        for command in ("validate", "apply"):
            refused = dev.gorax("workflow", command, str(file))
            assert refused.code == 1
            for part in ("unknown_type", "invalid_expression", "no_trigger", "http_request"):
                assert part in refused.err + refused.out
            assert "Traceback" not in refused.err
        verdict = dev.gorax("--json", "workflow", "validate", str(file))
        assert verdict.code == 1
        assert {error["code"] for error in verdict.json()[0]["errors"]} >= {"unknown_type", "no_trigger"}
        file.write_text(yaml.safe_dump({"name": fresh(), "definition": ONE}))
        assert dev.gorax("workflow", "validate", str(file)).code == 0
        file.write_text("{nonsense: [")
        broken = dev.gorax("workflow", "apply", str(file))
        assert broken.code in {1, 2}
        one_sentence(broken.err)

    def test_publish(self, dev: Dev, api: Api) -> None:
        name = api.create(ONE)["name"]
        assert dev.gorax("--json", "workflow", "publish", name).json()["version"] == 1


class TestExecution:
    def test_list_show_steps_watch_explain(self, dev: Dev, api: Api) -> None:
        workflow = api.publish(
            flow(node("d", "delay", {"duration": "500ms"}), node("f", "formula", {"expression": "1"}))
        )
        execution_id = dev.gorax("run", workflow["name"]).out.strip()
        watched = dev.gorax("execution", "watch", execution_id)
        assert watched.code == 0, watched.err
        for part in ("start", "d", "f", "completed"):
            assert part in watched.out
        listed = dev.gorax("--json", "execution", "list", "--workflow", workflow["name"]).json()
        assert [item["id"] for item in listed] == [execution_id]
        assert dev.gorax("--json", "execution", "show", execution_id).json()["status"] == "completed"
        assert len(dev.gorax("--json", "execution", "steps", execution_id).json()) == 3
        assert dev.gorax("execution", "steps", execution_id, "--json").json()[0]["node_id"] == "start"
        explained = dev.gorax("--json", "execution", "explain", execution_id).json()
        assert (explained["state"], explained["blocker"]) == ("completed", "none")
        assert execution_id in dev.gorax("execution", "list").out

    def test_unknown_and_no_key(self, dev: Dev, folder: Path) -> None:
        unknown = dev.gorax("execution", "show", "00000000-0000-7000-8000-000000000000")
        assert unknown.code == 1
        one_sentence(unknown.err, "execution_not_found")
        nokey = gorax("--server", dev.url, "execution", "list", cwd=folder)
        assert nokey.code == 1
        one_sentence(nokey.err, "no_api_key")
        bad = gorax("--server", dev.url, "--api-key", "nonsense", "execution", "list", cwd=folder)
        assert bad.code == 1
        one_sentence(bad.err)

    def test_options_from_the_environment(self, dev: Dev, api: Api, folder: Path) -> None:
        assert api.key is not None
        listed = gorax("execution", "list", env={"GORAX_SERVER": dev.url, "GORAX_API_KEY": api.key}, cwd=folder)
        assert listed.code == 0, listed.err


def test_help_and_version() -> None:
    assert gorax("--help").code == 0
    for command in ("dev", "serve", "migrate", "doctor", "tenant", "run", "workflow", "execution", "bench"):
        assert command in gorax("--help").out
    assert re.search(r"\d+\.\d+", gorax("--version").out)


def test_settings_are_environment_variables(folder: Path) -> None:
    refused = gorax("serve", env={"GORAX_SERVER__PROT": "1"}, cwd=folder)
    assert refused.code == 78
    one_sentence(refused.err, "unknown_setting")
    refused = gorax("serve", env={"GORAX_WORKER__LEASE": "soon"}, cwd=folder)
    assert refused.code == 78
    one_sentence(refused.err)
    assert gorax("--config", "missing.toml", "serve", cwd=folder).code == 78
    assert os.environ.get("GORAX_SERVER__PROT") is None
