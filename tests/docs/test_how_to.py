"""The how-tos and the README, executed: every command as it stands, on a real engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import asyncpg
import pytest

from tests.acceptance.conftest import empty_folder
from tests.acceptance.harness import Dev, Process, environment, free_port, run_dev
from tests.acceptance.postgres import dsn_of_dev, run_postgres

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED_TO_FAIL = "$ "
"""Before a command whose output is shown, because it fails."""


def read_page(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (language, text) of the fenced blocks of a page."""
    return FENCE.findall(read_page(page))


class Terminal:
    """A shell in a folder, in which `gorax` is the program under test."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        (programs / "gorax").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gorax_engine.cli "$@"\n')
        (programs / "gorax").chmod(0o755)
        self.env = {**environment(env), "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", command], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def succeed(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    with empty_folder() as folder, run_dev(folder) as running:
        yield running


@pytest.fixture(scope="module")
def terminal(dev: Dev) -> Terminal:
    return Terminal(dev.folder, {"GORAX_SERVER": dev.url})


def here(text: str, dev: Dev) -> str:
    """The pages speak of the default port."""
    return text.replace("127.0.0.1:8080", f"127.0.0.1:{dev.port}")


def execute(
    page: str,
    files: list[str],
    dev: Dev,
    terminal: Terminal,
    names_of_ours: Mapping[str, str] = MappingProxyType({}),
    sql: Callable[[str], None] | None = None,
) -> int:
    """Write the page's workflow files and run its commands in order; return how many there were.

    `names_of_ours` are words of the page that are called otherwise here; `sql` runs its SQL.
    """
    count, names = 0, iter(files)
    execution_id = ""
    for language, text in blocks(page):
        if language == "sql" and sql is not None:
            sql(text)
        elif language == "yaml" and text.startswith("name:"):
            (terminal.folder / next(names)).write_text(here(text, dev), encoding="utf-8")
        elif language == "" and text.startswith(EXPECTED_TO_FAIL):
            command, *shown = text.removeprefix(EXPECTED_TO_FAIL).splitlines()
            done = terminal.run(here(command, dev))
            assert done.returncode != 0
            printed = (done.stdout + done.stderr).splitlines()
            assert [_without_ids(line) for line in shown] == [_without_ids(line) for line in printed]
            count += 1
        elif language == "":
            for line in text.splitlines():
                if not line.startswith(("gorax ", "curl ", "openssl ")):
                    continue
                command = here(line, dev).replace("EXECUTION_ID", execution_id).replace("TASK_ID", execution_id)
                for word, ours in names_of_ours.items():
                    command = re.sub(rf"\b{word}\b", ours, command)
                out = terminal.succeed(command)
                found = re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}", out)
                if found and not line.startswith("gorax event "):
                    execution_id = found[0]
                count += 1
    assert next(names, None) is None
    return count


def _without_ids(line: str) -> str:
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", line)


def test_the_readme(dev: Dev, terminal: Terminal) -> None:
    assert execute("README.md", ["greet.yaml"], dev, terminal) == 2


def test_the_first_workflow(dev: Dev, terminal: Terminal) -> None:
    assert execute("docs/how-to/first-workflow.md", ["signup.yaml"], dev, terminal) >= 8


def test_credentials(dev: Dev, terminal: Terminal) -> None:
    page = "docs/how-to/credentials.md"
    (terminal.folder / "stripe-key").write_text("sk_live_of_the_page\n", encoding="utf-8")
    mail = next(text for language, text in blocks(page) if language == "json")
    (terminal.folder / "mail.json").write_text(mail, encoding="utf-8")
    assert execute(page, [], dev, terminal) == 8
    assert (dev.folder / ".gorax" / "vault-key").stat().st_mode & 0o777 == 0o600
    log = terminal.succeed("gorax credential access-log stripe")
    assert [line.split()[1] for line in log.splitlines()[1:]] == ["update", "update", "create"]
    assert "sk_live" not in log


def test_human_tasks(dev: Dev, terminal: Terminal) -> None:
    # The id that was printed last is that of the execution first, of the task later.
    assert execute("docs/how-to/human-tasks.md", ["refund.yaml"], dev, terminal) == 7


def test_testing(dev: Dev, terminal: Terminal) -> None:
    page = "docs/how-to/test-workflows.md"
    cases = next(text for language, text in blocks(page) if text.startswith("workflow:"))
    (terminal.folder / "refund.test.yaml").write_text(cases, encoding="utf-8")
    assert execute(page, ["refund.yaml"], dev, terminal) == 2


def test_retry_and_replay(dev: Dev, terminal: Terminal) -> None:
    assert execute("docs/how-to/retry-and-replay.md", ["bill.yaml", "slow.yaml"], dev, terminal) == 14


def test_events(dev: Dev, terminal: Terminal) -> None:
    assert execute("docs/how-to/events.md", ["order.yaml", "ledger.yaml"], dev, terminal) == 10


def test_a_github_webhook(dev: Dev, terminal: Terminal) -> None:
    page = "docs/how-to/github-webhook.md"
    (push,) = (text for language, text in blocks(page) if language == "json")
    (terminal.folder / "push.json").write_text(push, encoding="utf-8")
    assert execute(page, ["deploy.yaml"], dev, terminal) == 12
    events = json.loads(terminal.succeed("gorax --json webhook events github"))
    assert sorted((each["status"], each["filtered_reason"]) for each in events) == [
        ("filtered", "duplicate"), ("processed", None), ("processed", None),
    ]  # fmt: skip
    first, again = (each for each in reversed(events) if each["status"] == "processed")
    assert again["source_event_id"] == first["id"]


def test_a_nightly_job(dev: Dev, terminal: Terminal) -> None:
    page = "docs/how-to/nightly-job.md"
    shown = [text for language, text in blocks(page) if language == "" and text.startswith("20")]
    for command, moments in zip(
        re.findall(r"^gorax schedule preview .*$", read_page(page), re.MULTILINE), shown, strict=True
    ):
        assert re.findall(r"\d{4}-\S+Z", terminal.succeed(command)) == moments.split()
    assert execute(page, ["report.yaml"], dev, terminal) == 8
    (schedule,) = json.loads(terminal.succeed("gorax --json schedule list"))
    occurrences = json.loads(terminal.succeed(f"gorax --json schedule occurrences {schedule['id']}"))
    assert [each["status"] for each in occurrences if each["backfill"]] == ["started"] * 3


def test_starting_from_sql(dev: Dev, terminal: Terminal) -> None:
    owner, admin = dsn_of_dev(dev.folder), dsn_of_dev(dev.folder, "postgres")
    # The first block is the administrator's, the second that of the role which it makes.
    users = iter([admin, f"postgresql://shop:secret@{owner.rpartition('@')[2]}"])
    terminal.env["GORAX_DATABASE__DSN"] = owner
    try:
        subdomain = json.loads(terminal.succeed("gorax --json tenant list"))[0]["subdomain"]
        count = execute(
            "docs/how-to/start-from-sql.md", ["ship.yaml"], dev, terminal, {"acme": subdomain},
            lambda script: query(next(users), script.replace("'...'", "'secret'")),
        )  # fmt: skip
    finally:
        del terminal.env["GORAX_DATABASE__DSN"]
    assert count == 4
    assert "sql" in terminal.succeed("gorax execution list --trigger-type sql")


def query(dsn: str, script: str) -> None:
    """Run a script as psql would, each statement by itself."""

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    asyncio.run(run())


def test_operating_on_a_database_of_your_own() -> None:
    page = blocks("docs/how-to/operate.md")
    sql = next(text for language, text in page if language == "sql")
    commands = next(text for language, text in page if language == "" and "GORAX_DATABASE__DSN=" in text)
    with empty_folder() as folder, run_postgres(folder, fsync=True) as postgres:
        admin = postgres.admin_dsn
        statements = [statement for statement in sql.replace("'...'", "'secret'").split(";") if statement.strip()]
        postgres.execute(admin, *statements)
        at = admin.rpartition("@")[2].partition("/")[0]
        ports = {"GORAX_SERVER__PORT": str(free_port()), "GORAX_MANAGEMENT__PORT": str(free_port())}
        terminal = Terminal(folder, ports)
        served = False
        for line in commands.splitlines():
            command = line.partition("#")[0].strip()
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                terminal.env[name] = value.replace("...", "secret").replace("@db/", f"@{at}/")
            elif command == "gorax serve":
                env = {name: value for name, value in terminal.env.items() if name.startswith("GORAX_")}
                process = Process(["serve"], env, folder, folder / "serve.log")
                try:
                    process.wait_for_text('"event":"ready"')
                    served = True
                finally:
                    assert process.stop() == 0
            elif command:
                terminal.succeed(command)
        assert served
        terminal.succeed("gorax migrate --check")
