"""`gorax workflow test`: what it prints, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from gorax_engine.cli.examples import examples_directory
from gorax_engine.cli.main import main
from tests.nodes.plugin_packages import importable, install_example

WORKFLOW = """
name: greet
definition:
  nodes:
    - {id: start, type: manual_trigger}
    - {id: look, type: http_request, config: {url: "https://people.example.com/{{ trigger.body.id }}"}}
    - {id: greeting, type: formula, config: {expression: '"Hello " + steps.look.body.name'}}
  edges:
    - {source: start, target: look}
    - {source: look, target: greeting}
"""
CASES = """
workflow: greet.yaml
defaults:
  trigger: {body: {id: 7}}
  mocks: {look: {output: {body: {name: Ada}}}}
cases:
  - name: greets by name
    expect: {output: {greeting: Hello Ada}}
  - name: says so when nobody is found
    mocks: {look: {error: {code: http_status, http_status_code: 404}}}
    expect: {error_code: http_status}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greet.yaml").write_text(WORKFLOW, encoding="utf-8")
    (tmp_path / "greet.test.yaml").write_text(CASES, encoding="utf-8")
    return tmp_path


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["workflow", "test", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_all_cases_pass(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = outcome(capsys, "greet.test.yaml")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "greet.test.yaml",
        "  ok    greets by name (3 steps, 0s)",
        "  ok    says so when nobody is found (2 steps, 0s)",
        "2 passed, 0 failed",
    ]


def test_the_examples_pass(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in examples_directory().glob("*.test.yaml")]
    code, out, _ = outcome(capsys, *files)
    assert code == 0
    assert out.endswith("4 passed, 0 failed\n")


def test_a_case_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "greet.test.yaml").write_text(CASES.replace("Hello Ada", '"Hello \\e[1mBob"'), encoding="utf-8")
    code, out, _ = outcome(capsys, "greet.test.yaml")
    assert code == 1
    assert "  FAIL  greets by name (3 steps, 0s)\n" in out
    assert "/cases/0/expect/output/greeting: expected " in out
    assert 'but it is "Hello Ada".' in out
    assert "\x1b" not in out
    assert out.endswith("1 passed, 1 failed\n")


def test_one_case_with_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "greet.test.yaml", "--case", "NOBODY", "--verbose")
    assert code == 0
    assert out.splitlines()[2:] == [
        '        +0s  completed  start: {"body": {"id": 7}}',
        "        +0s  failed     look (mocked): http_status: The mock of look fails with http_status.",
        "        +0s  skipped    greeting",
        "1 passed, 0 failed",
    ]
    code, _, err = outcome(capsys, "greet.test.yaml", "--case", "nothing")
    assert code == 2
    assert "No case's name contains 'nothing'." in err


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "greet.test.yaml", "--case", "greets", "--json", "-v")
    assert code == 0
    (file,) = json.loads(out)
    assert file["file"] == "greet.test.yaml"
    (case,) = file["cases"]
    assert case["passed"] is True
    assert case["output"] == {"greeting": "Hello Ada"}
    assert [(step["step"], step["status"], step["mocked"]) for step in case["steps"]] == [
        ("start", "completed", False),
        ("look", "completed", True),
        ("greeting", "completed", False),
    ]


@pytest.mark.parametrize(
    ("old", "new", "printed"),
    [
        ("cases:", "cases: [", "greet.test.yaml is not YAML"),
        ("expect:", "expects:", "greet.test.yaml#/cases/0/expects: `expects` is not a key here: did you mean"),
        ("mocks: {look", "mocks: {lok", "#/defaults/mocks/lok: The workflow has no node `lok`: did you mean `look`?"),
        ("workflow: greet.yaml", "workflow: gret.yaml", "gret.yaml can't be read: No such file or directory."),
        ("workflow: greet.yaml", "workflow: {file: greet.yaml, name: x}", "has no workflow 'x', but 'greet'"),
        ("workflow: greet.yaml", "workflow: {definition: {nodes: []}}", "greet.test.yaml#/workflow/definition"),
    ],
)  # fmt: skip
def test_a_wrong_file(folder: Path, old: str, new: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.test.yaml").write_text(CASES, encoding="utf-8")
    (folder / "greet.test.yaml").write_text(CASES.replace(old, new), encoding="utf-8")
    code, out, err = outcome(capsys, "greet.test.yaml", "bad.test.yaml")
    assert (code, out) == (2, "")
    assert printed in err


def test_every_fault_of_every_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "greet.yaml").write_text(WORKFLOW.replace("steps.look", "steps.lok"), encoding="utf-8")
    (folder / "more.test.yaml").write_text("cases: []\n", encoding="utf-8")
    code, _, err = outcome(capsys, "greet.test.yaml", "more.test.yaml")
    assert code == 2
    assert "greet.yaml#/definition/nodes/2/config/expression: " in err
    assert "more.test.yaml#/: `workflow` is missing" in err.replace("yaml#:", "yaml#/:")


def test_a_workflow_in_the_test_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition: dict[str, Any] = {
        "nodes": [
            {"id": "t", "type": "manual_trigger"},
            {"id": "d", "type": "delay", "config": {"duration": "1h"}},
        ],
        "edges": [{"source": "t", "target": "d"}],
    }
    case = {"name": "waits", "expect": {"error_code": "timeout", "duration": "1m"}}
    document = {"workflow": {"definition": definition, "settings": {"timeout": "1m"}}, "cases": [case]}
    (folder / "inline.test.json").write_text(json.dumps(document), encoding="utf-8")
    assert outcome(capsys, "inline.test.json")[0] == 0


def test_several_workflows_in_one_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = f"{WORKFLOW}\n---\n{WORKFLOW.replace('name: greet', 'name: other')}"
    (folder / "greet.yaml").write_text(two, encoding="utf-8")
    code, _, err = outcome(capsys, "greet.test.yaml")
    assert code == 2
    assert "greet.yaml has several workflows, so name one: 'greet', 'other'" in err
    named = CASES.replace("workflow: greet.yaml", "workflow: {file: greet.yaml, name: other}")
    (folder / "greet.test.yaml").write_text(named, encoding="utf-8")
    assert outcome(capsys, "greet.test.yaml")[0] == 0


def test_node_types_of_plugins(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = {
        "nodes": [
            {"id": "t", "type": "manual_trigger"},
            {"id": "iban", "type": "example:iban", "config": {"iban": "DE89 3704 0044 0532 0130 00"}},
            {"id": "rate", "type": "example:rate",
             "config": {"server": "https://rates.example.com", "from_currency": "EUR", "to_currency": "USD"}},
        ],
        "edges": [{"source": "t", "target": "iban"}, {"source": "iban", "target": "rate", "label": "valid"}],
    }  # fmt: skip
    case = {"name": "both", "mocks": {"rate": {"output": 1.1}}, "expect": {"output": {"rate": 1.1}}}
    file = folder / "plugin.test.json"
    file.write_text(json.dumps({"workflow": {"definition": definition}, "cases": [case]}), encoding="utf-8")
    with importable(folder):
        monkeypatch.setenv("GORAX_NODES__PLUGINS", install_example(folder))
        code, out, err = outcome(capsys, "plugin.test.json", "-v")
    assert code == 0, out + err
