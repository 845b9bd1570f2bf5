"""Real processes of the product, as its users start them, and a thin client of what they offer."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

GORAX = [sys.executable, "-m", "gorax_engine.cli"]
START_WITHIN = 45.0
TERMINAL = ("completed", "failed", "cancelled")

_names = itertools.count()
_T = TypeVar("_T")


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fresh(prefix: str = "wf") -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{os.getpid()}-{next(_names)}"


def until(look: Callable[[], _T | None], timeout: float = 20, every: float = 0.05) -> _T:
    """Look again and again until there is something, and return it."""
    deadline = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without settings of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GORAX_")}
    return {**kept, "COLUMNS": "200", **(more or {})}


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The standard output as JSON."""
        return json.loads(self.out)


def gorax(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = 50,
) -> Finished:
    """Run one command to its end."""
    done = subprocess.run(
        [*GORAX, *arguments], env=environment(env), cwd=cwd, input=stdin or "", capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


class Process:
    """A daemon's process. `log` holds both of its streams."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*GORAX, *arguments], env=environment(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it lives."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 30) -> int:
        """Wait for the end and return the exit code."""
        return self._process.wait(timeout)

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_text(self, text: str, timeout: float = START_WITHIN) -> None:
        """Wait until it has printed something."""

        def look() -> bool:
            assert self.code is None or text in self.text(), f"ended with {self.code}:\n{self.text()}"
            return text in self.text()

        until(look, timeout)

    def stop(self) -> int:
        """Let it drain; kill it if it doesn't."""
        if self.code is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill it at once."""
        if self.code is None:
            self._process.kill()
        self._process.wait()


class Api:
    """A client of one server with one key."""

    def __init__(self, url: str, key: str | None) -> None:
        self.url = url
        self.key = key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=40)

    def close(self) -> None:
        """Give the connections back."""
        self.http.close()

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        """Ask for a path below /api/v1; a body is sent as JSON."""
        if body is not None:
            more["json"] = body
        return self.http.request(method, f"/api/v1{path}", **more)

    def data(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Ask, and return what the envelope holds."""
        answer = self(method, path, body, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()["data"]

    def create(self, definition: Any, name: str | None = None, **more: Any) -> Any:
        """Store a draft."""
        return self.data("POST", "/workflows", {"name": name or fresh(), "definition": definition, **more})

    def publish(self, definition: Any, name: str | None = None, **more: Any) -> Any:
        """Store and publish a workflow."""
        return self.data("POST", f"/workflows/{self.create(definition, name, **more)['id']}/publish")

    def start(self, workflow: Any, input: Any = None, **more: Any) -> str:
        """Start a run and return its id."""
        started = self.data("POST", f"/workflows/{workflow['id']}/execute", {"input": input}, **more)
        return str(started["execution_id"])

    def execution(self, execution_id: str) -> Any:
        """Show a run."""
        return self.data("GET", f"/executions/{execution_id}")

    def steps(self, execution_id: str, attempts: str = "latest") -> list[Any]:
        """List the steps of a run."""
        listed = self.data("GET", f"/executions/{execution_id}/steps", params={"attempts": attempts, "limit": 200})
        assert isinstance(listed, list)
        return listed

    def ended(self, execution_id: str, timeout: float = 30) -> Any:
        """Wait for the end of a run and return it."""

        def look() -> Any:
            execution = self.execution(execution_id)
            return execution if execution["status"] in TERMINAL else None

        return until(look, timeout)

    def run(self, definition: Any, input: Any = None, **more: Any) -> Run:
        """Publish a definition, run it to its end, and return all that is told of it."""
        workflow = self.publish(definition, **more)
        answer = self("POST", f"/workflows/{workflow['id']}/execute", {"input": input}, params={"wait": 30})
        assert answer.status_code == 200, answer.text
        execution = answer.json()["data"]
        return Run(execution, self.steps(execution["id"]))


@dataclass(frozen=True)
class Run:
    """A run that has ended, and its steps."""

    execution: Any
    all_steps: list[Any]

    @property
    def status(self) -> str:
        """How it ended."""
        return str(self.execution["status"])

    @property
    def output(self) -> Any:
        """Its output; fails the test if it did not complete."""
        assert self.status == "completed", self.execution
        return self.execution["output_data"]

    @property
    def error(self) -> tuple[str, str]:
        """The code and the message with which it failed."""
        assert self.status == "failed", self.execution
        return self.execution["error_code"], self.execution["error_message"]

    def step(self, node_id: str) -> Any:
        """The latest attempt of a step."""
        return next(step for step in self.all_steps if step["node_id"] == node_id)

    def statuses(self) -> dict[str, str]:
        """The status of every step, by node."""
        return {step["node_id"]: step["status"] for step in self.all_steps}


@dataclass
class Dev:
    """A running `gorax dev`."""

    process: Process
    folder: Path
    port: int
    management_port: int
    api: Api
    settings: dict[str, str]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def management(self) -> str:
        """Where its metrics and probes are."""
        return f"http://127.0.0.1:{self.management_port}"

    def gorax(self, *arguments: str, stdin: str | None = None, cwd: Path | None = None) -> Finished:
        """Run a command against it, in its folder."""
        return gorax("--server", self.url, *arguments, cwd=cwd or self.folder, stdin=stdin)


@contextlib.contextmanager
def run_dev(folder: Path, settings: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[Dev]:
    """Run `gorax dev` in a folder until the block ends."""
    port, management = port or free_port(), free_port()
    env = {"GORAX_MANAGEMENT__PORT": str(management), **(settings or {})}
    process = Process(["dev", "--port", str(port)], env, folder, folder / "dev.log")
    try:
        process.wait_for_text("gorax is ready at")
        key = (folder / ".gorax" / "api-key").read_text(encoding="ascii").strip()
        api = Api(f"http://127.0.0.1:{port}", key)
        try:
            yield Dev(process, folder, port, management, api, env)
        finally:
            api.close()
    finally:
        process.stop()


@dataclass
class Server:
    """A running `gorax serve`."""

    process: Process
    port: int
    management_port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether its first process says that it is ready."""
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"http://127.0.0.1:{self.management_port}/readyz", timeout=5).status_code == 200
        return False


@contextlib.contextmanager
def run_serve(folder: Path, dsn: str, *arguments: str, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run `gorax serve` on a database until the block ends; wait until it is ready."""
    port, management = free_port(), free_port()
    env = {
        "GORAX_DATABASE__DSN": dsn,
        "GORAX_SERVER__PORT": str(port),
        "GORAX_MANAGEMENT__PORT": str(management),
        **(settings or {}),
    }
    process = Process(["serve", *arguments], env, folder, folder / f"serve-{port}.log")
    server = Server(process, port, management)
    try:

        def look() -> bool:
            assert process.code is None, process.text()
            return server.ready()

        until(look, START_WITHIN)
        yield server
    finally:
        process.stop()


def node(id: str, type: str, config: Any = None, **more: Any) -> dict[str, Any]:
    """Return a node of a definition."""
    return {"id": id, "type": type, "config": config or {}, **more}


def flow(*nodes: dict[str, Any], edges: str = "", **more: Any) -> dict[str, Any]:
    """Return a definition with a manual trigger `start` before `nodes`.

    `edges` reads "a > b > c, a >true> d"; without it the nodes stand in a row.
    """
    if not edges:
        edges = " > ".join(["start", *(item["id"] for item in nodes)])
    listed = []
    for part in edges.split(","):
        words = part.split()
        source = words[0]
        for arrow, target in zip(words[1::2], words[2::2], strict=True):
            edge = {"source": source, "target": target}
            if arrow != ">":
                edge["label"] = arrow.strip(">")
            listed.append(edge)
            source = target
    return {"nodes": [node("start", "manual_trigger"), *nodes], "edges": listed, **more}
