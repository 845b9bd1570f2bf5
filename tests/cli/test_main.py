"""The frame of the command line: help, exit codes, one sentence on stderr, and where the key comes from."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gorax_engine.cli import main as cli
from gorax_engine.cli.client import CannotConnect
from gorax_engine.cli.main import COMMANDS, exit_code, gorax, main
from gorax_engine.errors import ConfigurationError, DatabaseUnreachable, GoraxError, InvalidInput, Problem

from .conftest import Reply, StubServer


def test_help_lists_every_command_and_imports_little() -> None:
    script = (
        "import sys; from gorax_engine.cli.main import main; code = main(['--help']); "
        "heavy = {'rich', 'pydantic', 'asyncpg', 'fastapi', 'anyio', 'yaml', 'http.client'} & set(sys.modules); "
        "print('HEAVY', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert "HEAVY []" in done.stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_can_be_imported_and_takes_json(name: str) -> None:
    command = gorax.get_command(click.Context(gorax), name)
    assert command is not None
    assert command.name == name
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        assert any("--json" in parameter.opts for parameter in leaf.params), leaf.name


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Usage: gorax"),
        (["excution"], r"No such command 'excution'\. Did you mean execution\? \[usage\]"),
        (["execution", "lsit"], r"Did you mean list\? \[usage\]"),
        (["run"], r"Missing argument 'WORKFLOW\|FILE'\. \[usage\]"),
        (["run", "x", "--input", "{"], r"--input: this is not JSON .* \[usage\]"),
        (["run", "x", "--input", "@absent.json"], r"absent\.json can't be read.* \[usage\]"),
        (["workflow", "apply", "absent.json"], r"File 'absent\.json' does not exist\. \[usage\]"),
        (["bench", "--mode", "warp"], r"'warp' is not one of .* \[usage\]"),
        (["serve", "--roles", "api,cook"], r"cook is no role; the roles are api, worker, .* \[usage\]"),
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str], says: str, stub: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert re.search(says, captured.err), captured.err
    assert captured.out == ""
    assert stub.asked == []


def test_errors_have_their_exit_codes() -> None:
    assert exit_code(DatabaseUnreachable("x")) == 69
    assert exit_code(ConfigurationError("x")) == 78
    assert exit_code(CannotConnect("x")) == 4
    assert exit_code(GoraxError("x")) == 1


class Boom:
    """Makes `main` raise inside a command."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def main(self, *_args: object, **_kwargs: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (InvalidInput("Two faults.", problems=[Problem("c1", "/a", "m1")]), 1, "Two faults. [invalid_input]\n  /a: m1"),
        (ConfigurationError("No dsn."), 78, "error: No dsn. [configuration_error]"),
        (
            ExceptionGroup("g", [ValueError(), ExceptionGroup("h", [DatabaseUnreachable("Gone.")])]),
            69,
            "error: Gone. [",
        ),
        (KeyboardInterrupt(), 130, "error: Interrupted. [interrupted]"),
        (GoraxError("a\x1b[2Jb"), 1, "error: a [2Jb [internal_error]"),
    ],
)
def test_an_error_is_one_sentence_and_a_code(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "gorax", Boom(error))
    assert main([]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a bug"), ExceptionGroup("g", [ValueError("a bug")])])
def test_a_bug_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "gorax", Boom(error))
    with pytest.raises(type(error)):
        main([])


def test_the_key_of_dev_is_found_and_goes_to_this_machine_only(
    stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("GET", "/workflows", Reply(body={"data": [], "next_cursor": None}))
    monkeypatch.delenv("GORAX_API_KEY")
    assert main(["workflow", "list"]) == 1
    assert "[no_api_key]" in capsys.readouterr().err
    (tmp_path / ".gorax").mkdir()
    (tmp_path / ".gorax" / "api-key").write_text("local-key\n")
    assert main(["workflow", "list"]) == 0
    assert stub.asked[-1].headers["Authorization"] == "Bearer local-key"
    assert main(["--server", "http://gorax.invalid", "workflow", "list"]) == 1
    assert "[no_api_key]" in capsys.readouterr().err
    assert main(["--api-key", "given", "workflow", "list"]) == 0
    assert stub.asked[-1].headers["Authorization"] == "Bearer given"


def test_a_reader_that_has_gone_is_no_traceback(stub: StubServer) -> None:
    rows = [{"id": str(number), "name": "n" * 100} for number in range(5000)]
    stub.on("GET", "/workflows", Reply(body={"data": rows, "next_cursor": None}))
    command = [sys.executable, "-m", "gorax_engine.cli", "--server", stub.url, "--api-key", "k", "workflow", "list"]
    with subprocess.Popen(
        [*command, "--limit", "200"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
