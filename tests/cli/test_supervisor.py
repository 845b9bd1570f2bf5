"""The supervisor: its decisions as a table, and its signals, restarts and readiness on real processes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gorax_engine.cli.supervisor import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    GiveUp,
    Gone,
    Restart,
    child_environments,
    decide,
    die_with_supervisor,
)

# A child that says what happens to it, and ends as its command line wants.
CHILD = """
import os, signal, sys, time
from gorax_engine.ops.sd_notify import notify
name, behaviour, log = os.environ["NAME"], sys.argv[1], sys.argv[2]
def say(what):
    with open(log, "a") as file:
        file.write(f"{name} {what}\\n")
signal.signal(signal.SIGHUP, lambda *_: say("hup"))
def drain(*_):
    say("term")
    sys.exit(int(behaviour[5:] or 0) if behaviour.startswith("drain") else 0)
signal.signal(signal.SIGTERM, drain)
say(f"pid {os.getpid()}")
if behaviour.startswith("exit"):
    sys.exit(int(behaviour[4:]))
say("ready")
notify("READY=1")
if behaviour == "crash-once" and open(log).read().count("ready") == 1:
    sys.exit(1)
while True:
    time.sleep(60)
"""

SUPERVISE = """
import anyio, os, sys
from gorax_engine.cli.supervisor import Supervisor, child_environments
plain = child_environments(dict(os.environ), [1] * int(sys.argv[1]))
environments = [{**each, "NAME": str(i)} for i, each in enumerate(plain)]
sys.exit(anyio.run(Supervisor([sys.executable, "-c", *sys.argv[2:]], environments).run))
"""


class Supervised:
    """A supervisor that runs in a process of its own, and what systemd would hear from it."""

    def __init__(self, tmp_path: Path, behaviour: str, processes: int = 2) -> None:
        self.log = tmp_path / "log"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(tmp_path / "systemd"))
        self.systemd.settimeout(20)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, str(processes), CHILD, behaviour, str(self.log)],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "systemd")},
            start_new_session=True,
        )

    def hears(self) -> str:
        return self.systemd.recv(100).decode()

    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def ends(self) -> int:
        return self.process.wait(timeout=20)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[list[Supervised]]:
    """Collects supervisors and kills what a failed test left."""
    started: list[Supervised] = []
    yield started
    for each in started:
        each.process.kill()
        each.process.wait()
        each.systemd.close()


def start(supervise: list[Supervised], tmp_path: Path, behaviour: str, processes: int = 2) -> Supervised:
    supervise.append(Supervised(tmp_path, behaviour, processes))
    return supervise[-1]


def test_decisions() -> None:
    for code in (0, 1, 69, 78, -9):
        assert decide(code, stopping=True, was_ready=True, crashes=0) == Gone()
    for ready in (True, False):
        assert decide(78, stopping=False, was_ready=ready, crashes=0) == GiveUp(78)
    assert decide(69, stopping=False, was_ready=False, crashes=3) == GiveUp(69)
    assert decide(69, stopping=False, was_ready=True, crashes=0) == Restart(FIRST_PAUSE)
    assert decide(-9, stopping=False, was_ready=True, crashes=2) == Restart(4 * FIRST_PAUSE)
    assert decide(1, stopping=False, was_ready=False, crashes=99) == Restart(LONGEST_PAUSE)


def test_children_differ_in_their_management_port_and_leave_the_watchdog_to_the_supervisor() -> None:
    first, second = child_environments({"A": "1", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"}, [9464, 9465])
    assert first == {"A": "1", "GORAX_SUPERVISOR": str(os.getpid()), "GORAX_MANAGEMENT__PORT": "9464"}
    assert second["GORAX_MANAGEMENT__PORT"] == "9465"


def test_is_ready_when_all_are_and_passes_signals_on(supervise: list[Supervised], tmp_path: Path) -> None:
    run = start(supervise, tmp_path, "drain0", processes=3)
    assert run.hears() == "READY=1"
    assert sorted(line for line in run.said() if line.endswith("ready")) == ["0 ready", "1 ready", "2 ready"]
    # Ctrl-C at a terminal goes to the whole process group.
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.hears() == "STOPPING=1"
    assert run.ends() == 0
    # SIGINT arrives as SIGTERM, and once, at each of them.
    assert sorted(line for line in run.said() if line.endswith("term")) == ["0 term", "1 term", "2 term"]


def test_a_child_that_fails_to_drain_shows_in_the_exit_code(supervise: list[Supervised], tmp_path: Path) -> None:
    run = start(supervise, tmp_path, "drain3")
    assert run.hears() == "READY=1"
    run.process.terminate()
    assert run.ends() == 1


@pytest.mark.parametrize("code", [69, 78])
def test_a_refusal_to_start_is_passed_on(supervise: list[Supervised], tmp_path: Path, code: int) -> None:
    assert start(supervise, tmp_path, f"exit{code}").ends() == code


def test_what_crashes_is_started_again(supervise: list[Supervised], tmp_path: Path) -> None:
    run = start(supervise, tmp_path, "crash-once", processes=1)
    assert run.hears() == "READY=1"
    while sum(line.endswith("ready") for line in run.said()) < 2:
        assert run.process.poll() is None
    run.process.terminate()
    assert run.ends() == 0
    assert len({line for line in run.said() if " pid " in line}) == 2


def test_a_child_ends_with_its_supervisor() -> None:
    """The kernel tells the child: a supervisor that is killed can't."""
    child = (
        "import signal, sys; from gorax_engine.cli.supervisor import die_with_supervisor; "
        "print(die_with_supervisor(), flush=True); signal.pause()"
    )
    parent = (
        "import os, subprocess, sys, signal; "
        "os.environ['GORAX_SUPERVISOR'] = str(os.getpid()); "
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); signal.pause()"
    )
    read, write = os.pipe()
    supervisor = subprocess.Popen([sys.executable, "-c", parent], stdout=write)
    os.close(write)
    with os.fdopen(read) as said:
        assert said.readline() == "False\n"
        supervisor.kill()
        supervisor.wait()
        # The pipe closes when the child, which holds its other end, has gone.
        assert said.read() == ""


def test_a_child_whose_supervisor_has_gone_already_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "from gorax_engine.cli.supervisor import die_with_supervisor; print(die_with_supervisor())"
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "GORAX_SUPERVISOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "True\n"
    monkeypatch.delenv("GORAX_SUPERVISOR", raising=False)
    assert not die_with_supervisor()
