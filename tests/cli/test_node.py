"""`gorax node`: what is listed and described, with plug-ins; and what the doctor says of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gorax_engine.cli.doctor import Verdict, _plugins
from gorax_engine.cli.main import main
from gorax_engine.settings import load_settings
from tests.nodes.plugin_packages import importable, install_example, write_package


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example of the documentation, installed and allowed."""
    with importable(tmp_path):
        package = install_example(tmp_path)
        monkeypatch.setenv("GORAX_NODES__PLUGINS", package)
        yield package


def test_lists_the_types_of_the_engine_and_of_plugins(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_package(tmp_path, "acme-nodes", {"it": "acme_nodes:absent"}, "")
    assert main(["node", "list"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert ["http_request", "task", "gorax-engine"] in rows
    assert ["example:iban", "control", example] in rows
    assert main(["--json", "node", "list"]) == 0
    types = {row["type"]: row for row in json.loads(capsys.readouterr().out)}
    assert types["example:exchange_rate"]["aliases"] == ["example:rate"]


def test_describes_a_type_or_a_package_or_all(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "show", "example:rate"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("## Tasks\n\n### example:exchange_rate\n")
    assert "| **`server`** | URL |  | Where the rates are: https://… |" in out
    assert main(["node", "show", example]) == 0
    assert capsys.readouterr().out.count("### ") == 2
    assert main(["node", "show"]) == 0
    assert "### http_request" in capsys.readouterr().out
    assert main(["node", "show", "example:iban", "--json"]) == 0
    (described,) = json.loads(capsys.readouterr().out)
    assert described["schema"]["required"] == ["iban"]


def test_an_unknown_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "show", "nope"]) == 1
    assert "There is no node type or package 'nope' here" in capsys.readouterr().err


def test_a_faulty_plugin_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with importable(tmp_path):
        write_package(tmp_path, "acme-nodes", {"it": "acme_nodes:absent"}, "")
        monkeypatch.setenv("GORAX_NODES__PLUGINS", "acme-nodes")
        assert main(["node", "list"]) == 78
        assert "acme-nodes can't be used: its entry point `it` failed: AttributeError" in capsys.readouterr().err
        (check,) = _plugins(load_settings())
        assert (check.name, check.verdict) == ("plugins", Verdict.FAILED)


def test_the_doctor_tells_what_is_loaded_and_what_is_not(example: str, tmp_path: Path) -> None:
    write_package(tmp_path, "acme-nodes", {"it": "acme_nodes:absent"}, "")
    checks = list(_plugins(load_settings()))
    assert [(check.name, check.verdict) for check in checks] == [
        ("plugin.gorax-node-example", Verdict.OK),
        ("plugin.acme-nodes", Verdict.OK),
    ]
    assert "1.0.0 adds example:iban, example:exchange_rate" in checks[0].sentence
    assert "not in nodes.plugins" in checks[1].sentence
