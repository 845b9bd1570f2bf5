"""Daemons that are killed with SIGKILL while runs are in the middle of scopes, and what others make of it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .conftest import empty_folder
from .harness import TERMINAL, Api, Server, flow, node, run_serve, until
from .nesting import CHILD, LEAVES, SCOPES, Expected, child_definition, piece
from .postgres import Postgres, run_postgres
from .sink import Reply, Sink
from .test_daemon import LOOPBACK, migrated
from .test_scope_pairs import bring, compare, start

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(170)]

QUICK = {"GORAX_WORKER__LEASE": "3s", "GORAX_WORKER__HEARTBEAT": "500ms", "GORAX_WORKER__POLL": "200ms"}
PATIENCE = 40.0


@dataclass
class Site:
    """A database, and the daemons on it one after another."""

    postgres: Postgres
    dsn: str
    key: str
    folder: Path
    server: Server | None = None
    _stack: contextlib.ExitStack | None = None

    def up(self) -> Api:
        """Start a daemon; return a client of it."""
        self._stack = contextlib.ExitStack()
        self.server = self._stack.enter_context(run_serve(self.folder, self.dsn, settings={**QUICK, **LOOPBACK}))
        api = Api(self.server.url, self.key)
        self._stack.callback(api.close)
        return api

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.server is not None
        assert self._stack is not None
        self.server.process.kill()
        self._stack.close()

    def down(self) -> None:
        """Make an end, whatever is still held."""
        if self._stack is not None:
            self.kill()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with empty_folder() as made:
        yield made


@pytest.fixture(scope="module")
def postgres(home: Path) -> Iterator[Postgres]:
    with run_postgres(home, fsync=True) as running:
        yield running


@pytest.fixture
def site(postgres: Postgres, folder: Path) -> Iterator[Site]:
    made = Site(postgres, *migrated(postgres, folder), folder)
    try:
        yield made
    finally:
        made.down()


def patiently(look: Callable[[], Any]) -> Any:
    """Look until there is something; a daemon that is away for a moment is looked for again."""

    def once() -> Any:
        with contextlib.suppress(httpx2.TransportError):
            return look()
        return None

    return until(once, PATIENCE)


def test_scopes_in_each_other_outlive_three_daemons(site: Site, sink: Sink) -> None:
    rng = random.Random(7)
    pieces = [piece(*kinds) for kinds in rng.sample([*product(SCOPES, LEAVES), *product(SCOPES, SCOPES, LEAVES)], 120)]
    expected = {made.name: Expected(made) for made in pieces}
    api = site.up()
    api.publish(child_definition(), CHILD)
    runs = {made.name: start(api, sink, made) for made in pieces}
    events = Counter({runs[name]: each.waits["wait_for_event"] for name, each in expected.items()}) + Counter()
    kills = 3
    for number in range(kills + 1):
        deadline = time.monotonic() + (PATIENCE if number == kills else 0.2 + 1.5 * rng.random())
        while time.monotonic() < deadline and any(
            api.execution(each)["status"] not in TERMINAL for each in runs.values()
        ):
            bring(api, events)
        if number < kills:
            site.kill()
            api = site.up()
    keys = sink.keys()
    faults = []
    for made in pieces:
        for (node_id, path), times in expected[made.name].calls.items():
            key = f"{runs[made.name]}:{node_id}:{path}"
            assert times <= keys[key] <= times + kills, key
            keys[key] = times  # what is more was in flight when a daemon was killed
        faults += compare(api, made, expected[made.name], runs[made.name], keys)
    assert not faults, "\n".join(faults)


def held(sink: Sink, hold: threading.Event) -> dict[str, Any]:
    """Workflows that come to a step `h` whose answer the sink holds once; what is before it in each asks `/quick`."""

    def ask(id: str, where: str, **more: Any) -> dict[str, Any]:
        return node(id, "http_request", {"url": f"{sink.url}/{where}"}, **more)

    def h(where: str, **more: Any) -> dict[str, Any]:
        sink.on(f"/held/{where}", Reply(hold=hold, drop=True), Reply(200, {"n": 1}))
        return ask("h", f"held/{where}", **more)

    sink.fail_first("/held-f", 1)
    return {
        "loop": flow(
            node("all", "loop", {"source": 3}), ask("a", "quick"), h("loop", when="loop.index == 1"), ask("b", "quick"),
            edges="start > all >body> a > h > b",
        ),
        "catch": flow(node("t", "try"), node("f", "fail"), h("catch"), edges="start > t >try> f, t >catch> h"),
        "finally": flow(
            node("t", "try"), ask("a", "quick"), h("finally"), edges="start > t >try> a, t >finally> h"
        ),
        "retry": flow(
            node("r", "retry", {"initial_delay": "50ms", "strategy": "fixed"}), ask("a", "quick"), h("retry"),
            ask("f", "held-f", retry={"max_attempts": 1}), edges="start > r >body> a > f > h",
        ),
        "join": flow(ask("a", "quick"), h("join"), node("j", "join"), edges="start > a > j, start > h > j"),
        "child": flow(node("s", "sub_workflow", {"workflow_id": CHILD, "input": {"n": 2}}), h("child")),
        "cancel": flow(
            node("t", "try"), node("d", "delay", {"duration": "1h"}), ask("a", "quick"), h("cancel"), ask("b", "quick"),
            edges="start > t >try> d, t >finally> a > h > b",
        ),
    }  # fmt: skip


def test_daemons_die_while_a_step_is_at_work(site: Site, sink: Sink) -> None:
    """The sink holds the answer of one request of each run; the heir asks for that one again, and for no other."""
    hold = threading.Event()
    api = site.up()
    api.publish(child_definition(), CHILD)
    runs = {name: api.start(api.publish(definition)) for name, definition in held(sink, hold).items()}
    until(lambda: api.execution(runs["cancel"])["waiting_for"])
    answer = api.data("POST", f"/executions/{runs['cancel']}/cancel")
    assert answer["status"] == "running"
    before = {}
    for name, execution_id in runs.items():
        sink.wait_for(f"/held/{name}")
        until(partial(_at_work, api, execution_id))
        before[name] = {step["id"]: step for step in api.steps(execution_id, attempts="all") if step["completed_at"]}
    site.kill()
    hold.set()
    api = site.up()
    quick = Counter(asked.headers["idempotency-key"] for asked in sink.asked("/quick"))
    for name, execution_id in runs.items():
        execution = patiently(partial(_ended, api, execution_id))
        assert execution["status"] == ("cancelled" if name == "cancel" else "completed"), (name, execution)
        after = {step["id"]: step for step in api.steps(execution_id, attempts="all")}
        assert {step_id: after[step_id] for step_id in before[name]} == before[name]
        path = "all[1]" if name == "loop" else ""
        keys = [asked.headers["idempotency-key"] for asked in sink.asked(f"/held/{name}")]
        assert keys == [f"{execution_id}:h:{path}"] * 2
    statuses = {step["node_id"]: step["status"] for step in api.steps(runs["cancel"])}
    assert statuses == {"start": "completed", "t": "failed", "d": "failed", **dict.fromkeys("ahb", "completed")}
    # What was asked for before the daemon died is not asked for again; a round of a retry scope asks under the old key.
    later = Counter(asked.headers["idempotency-key"] for asked in sink.asked("/quick"))
    assert all(later[key] == times for key, times in quick.items())
    assert {times for key, times in later.items() if not key.startswith(runs["retry"])} == {1}
    assert later[f"{runs['retry']}:a:"] == 2


def _at_work(api: Api, execution_id: str) -> bool:
    steps = api.steps(execution_id, attempts="all")
    return any(step["node_id"] == "h" and step["status"] == "running" for step in steps)


def _ended(api: Api, execution_id: str) -> Any:
    execution = api.execution(execution_id)
    return execution if execution["status"] in TERMINAL else None
