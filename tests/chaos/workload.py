"""What the storm runs: workflows whose ends are known beforehand, and clients that insist on their starts."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PARKS: Final = 6
"""Seconds: longer than what the engine keeps in memory."""
REPEATED: Final = 0.05
"""The share of starts that are sent again after they were acknowledged."""

KID: Final = "kid"
IDLE_KID: Final = "idle-kid"
"""Workflows that others start; no client does."""

TICK: Final = "tick"
"""The workflow that schedules start: no client does."""
SCHEDULES: Final = 4
SECRET: Final = "of the storm"
"""What signs the deliveries to its webhook."""

_FIXED: Final = {"strategy": "fixed", "max_attempts": 6, "initial_delay": "0.2s"}


@dataclass(frozen=True, slots=True)
class Expected:
    """How a run must end."""

    status: str
    output: Any = None
    error_code: str | None = None

    @property
    def output_json(self) -> str | None:
        """The output as Postgres is to compare it; None for none."""
        return None if self.status != "completed" else json.dumps(self.output)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A published workflow."""

    id: uuid.UUID
    kind: str
    definition: dict[str, Any]


@dataclass(slots=True)
class Start:
    """One start that a client asked for, and what was acknowledged."""

    key: str
    kind: str
    n: int
    expected: Expected
    by_webhook: bool
    acknowledged: uuid.UUID | None = None


def _http(node: str, sink: str, path: str, value: str, **more: Any) -> dict[str, Any]:
    config = {"method": "POST", "url": f"{sink}/{path}", "body": {"v": value}}
    return {"id": node, "type": "http_request", "config": config, "retry": _FIXED, **more}


def _formula(node: str, expression: str) -> dict[str, Any]:
    return {"id": node, "type": "formula", "config": {"expression": expression}}


def _chain(*nodes: str) -> list[dict[str, str]]:
    return [{"source": a, "target": b} for a, b in pairwise(nodes)]


def _edges(*edges: str) -> list[dict[str, str]]:
    """Read "a>b" or "a-label>b"."""
    read = []
    for edge in edges:
        source, target = edge.split(">")
        source, _, label = source.partition("-")
        read.append({"source": source, "target": target, **({"label": label} if label else {})})
    return read


_TRIGGER: Final = {"id": "begin", "type": "manual_trigger"}
_N: Final = "{{ trigger.body.n }}"


def definitions(sink: str) -> dict[str, dict[str, Any]]:
    """Return every kind of workflow over a sink at `sink`."""
    last = "{{ steps.last }}"
    return {
        "chain": {
            "nodes": [
                _TRIGGER,
                _formula("double", "trigger.body.n * 2"),
                _http("first", sink, "flaky/2", "{{ steps.double }}"),
                {"id": "shape", "type": "transform", "config": {"mapping": {"got": "{{ steps.first.body.answer }}"}}},
                _http("second", sink, "slow/900", "{{ steps.shape.got }}"),
                _formula("last", "steps.second.body.answer + steps.double"),
            ],
            "edges": _chain("begin", "double", "first", "shape", "second", "last"),
            "output": last,
        },
        "fan": {
            "nodes": [
                _TRIGGER,
                _http("a", sink, "slow/1500", _N),
                _http("b", sink, "ok", _N),
                _http("c", sink, "reset/1", _N),
                _formula("d", "trigger.body.n"),
                _http("e", sink, "slow/200", "{{ steps.d }}"),
                _formula("last", "sum([steps.a, steps.b, steps.c, steps.e], .body.answer)"),
            ],
            "edges": _edges("begin>a", "begin>b", "begin>c", "begin>d", "d>e", "a>last", "b>last", "c>last", "e>last"),
            "output": last,
        },
        "branch": {
            "nodes": [
                _TRIGGER,
                {"id": "even", "type": "condition", "config": {"condition": "trigger.body.n % 2 == 0"}},
                _http("yes", sink, "slow/1200", _N),
                _formula("no", "trigger.body.n * 10"),
                _http("never", sink, "ok", "{{ steps.no }}"),
                _formula("last", "steps.yes.body.answer ?? steps.never.body.answer"),
            ],
            "edges": _edges("begin>even", "even-true>yes", "even-false>no", "no>never", "yes>last", "never>last"),
            "output": last,
        },
        "pause": {
            "nodes": [
                _TRIGGER,
                {"id": "wait", "type": "delay", "config": {"duration": "0.7s"}},
                _http("after", sink, "ok", _N),
                _formula("last", "steps.after.body.answer"),
            ],
            "edges": _chain("begin", "wait", "after", "last"),
            "output": last,
        },
        "park": {
            "nodes": [
                _TRIGGER,
                _http("before", sink, "slow/500", _N),
                {"id": "wait", "type": "delay", "config": {"duration": PARKS}},
                _http("after", sink, "slow/500", "{{ steps.before.body.answer }}"),
                _formula("last", "steps.after.body.answer"),
            ],
            "edges": _chain("begin", "before", "wait", "after", "last"),
            "output": last,
        },
        "backoff": {
            "nodes": [
                _TRIGGER,
                {**_http("late", sink, "flaky/1", _N), "retry": {**_FIXED, "initial_delay": PARKS}},
                _formula("last", "steps.late.body.answer"),
            ],
            "edges": _chain("begin", "late", "last"),
            "output": last,
        },
        "caught": {
            "nodes": [
                _TRIGGER,
                {**_http("bad", sink, "fail", _N), "retry": {**_FIXED, "max_attempts": 2}},
                _http("good", sink, "ok", _N),
                _formula("last", "steps.bad.error.http_status_code + trigger.body.n"),
            ],
            "edges": _edges("begin>bad", "bad>good", "bad-error>last"),
            "output": last,
        },
        "continued": {
            "nodes": [
                _TRIGGER,
                {**_http("bad", sink, "fail", _N), "retry": {"max_attempts": 1}, "on_error": "continue"},
                _http("good", sink, "ok", _N),
                _formula("last", "steps.bad.error.http_status_code + steps.good.body.answer"),
            ],
            "edges": _chain("begin", "bad", "good", "last"),
            "output": last,
        },
        "failing": {
            "nodes": [
                _TRIGGER,
                _http("fine", sink, "slow/800", _N),
                {"id": "break", "type": "fail", "config": {"code": "scripted", "message": "As it was written."}},
                {"id": "aside", "type": "delay", "config": {"duration": "1h"}},
                _formula("last", "1"),
            ],
            "edges": _edges("begin>fine", "fine>break", "begin>aside", "break>last", "aside>last"),
        },
        "cancelled": {
            "nodes": [
                _TRIGGER,
                _http("slow", sink, "slow/900", _N),
                {"id": "wait", "type": "delay", "config": {"duration": "1h"}},
                _http("never", sink, "ok", _N),
            ],
            "edges": _chain("begin", "slow", "wait", "never"),
        },
        "hook": {
            "nodes": [
                {
                    "id": "begin",
                    "type": "webhook_trigger",
                    "config": {
                        "path": "chaos",
                        "methods": ["POST"],
                        "auth_type": "secret",
                        "secret": SECRET,
                        "filters": [{"field_path": "$.n", "operator": "gte", "value": 0}],
                    },
                },
                _formula("double", "trigger.body.n * 2"),
                _http("call", sink, "slow/1000", "{{ steps.double }}"),
                _formula("last", "steps.call.body.answer"),
            ],
            "edges": _chain("begin", "double", "call", "last"),
            "output": last,
        },
        **_scoped(sink),
    }


def _scoped(sink: str) -> dict[str, dict[str, Any]]:
    """Return the kinds with scopes, joins, other runs, people and events. Nodes in bodies have ids that begin `in_`."""
    last = "{{ steps.last }}"
    once = {"max_attempts": 1}

    def http(node: str, path: str, value: str = _N, **more: Any) -> dict[str, Any]:
        return _http(node, sink, path, value, **more)

    return {
        "loop": {
            "nodes": [
                _TRIGGER,
                {"id": "all", "type": "loop", "config": {
                    "source": "{{ map(0..5, trigger.body.n + #) }}", "max_concurrency": 3}},
                http("in_call", "flaky/1", "{{ item }}"),
                {"id": "in_pause", "type": "delay", "config": {"duration": "0.2s"}},
                _formula("in_sum", "steps.in_call.body.answer + loop.index"),
                _formula("last", "sum(steps.all.iterations, .output)"),
            ],
            "edges": _edges("begin>all", "all-body>in_call", "in_call>in_pause", "in_pause>in_sum", "all-done>last"),
            "output": last,
        },
        "rounds": {
            "nodes": [
                _TRIGGER,
                {"id": "again", "type": "retry", "config": {**_FIXED, "max_attempts": 6}},
                http("in_first", "slow/300"),
                {**http("in_flaky", "flaky/2", "{{ steps.in_first.body.answer }}"), "retry": once},
                _formula("last", "steps.again.output.body.answer"),
            ],
            "edges": _edges("begin>again", "again-body>in_first", "in_first>in_flaky", "again-done>last"),
            "output": last,
        },
        "nested": {
            "nodes": [
                _TRIGGER,
                {"id": "try", "type": "try"},
                {"id": "in_all", "type": "loop", "config": {"source": 2}},
                {"id": "in_both", "type": "parallel"},
                http("in_left", "slow/300", "{{ trigger.body.n + item }}"),
                {"id": "in_wait", "type": "delay", "config": {"duration": "0.3s"}},
                _formula("in_right", "item"),
                {"id": "in_fail", "type": "fail", "config": {"code": "scripted", "message": "As it was written."}},
                http("in_mend", "slow/200", "{{ trigger.body.n * 2 }}"),
                http("in_tidy", "slow/200", "{{ trigger.body.n * 3 }}"),
                _formula("last", "[steps.try.catch_output.body.answer, steps.try.finally_output.body.answer]"),
            ],
            "edges": _edges(
                "begin>try", "try-try>in_all", "in_all-body>in_both", "in_both-left>in_left", "in_both-right>in_wait",
                "in_wait>in_right", "in_all-done>in_fail", "try-catch>in_mend", "try-finally>in_tidy", "try-done>last",
            ),
            "output": last,
        },
        "asked": {
            "nodes": [
                _TRIGGER,
                {"id": "all", "type": "loop", "config": {"source": 3, "max_concurrency": 2}},
                {"id": "in_ask", "type": "human_task", "config": {"title": "Well?", "assignees": ["admin"]}},
                http("in_call", "ok", "{{ trigger.body.n + loop.index }}"),
                _formula("in_sum", "steps.in_call.body.answer"),
                _formula("last", "sum(steps.all.iterations, .output)"),
            ],
            "edges": _edges("begin>all", "all-body>in_ask", "in_ask>in_call", "in_call>in_sum", "all-done>last"),
            "output": last,
        },
        "mail": {
            "nodes": [
                _TRIGGER,
                {"id": "both", "type": "parallel"},
                http("in_call", "slow/700"),
                {"id": "in_publish", "type": "publish_event", "config": {
                    "event": "chaos.mail", "correlation_key": "{{ env.execution_id }}", "payload": _N}},
                {"id": "in_wait", "type": "wait_for_event", "config": {
                    "event": "chaos.mail", "correlation_key": "{{ env.execution_id }}"}},
                _formula("in_body", "steps.in_wait.body"),
            ],
            "edges": _edges("begin>both", "both-send>in_call", "in_call>in_publish", "both-get>in_wait",
                            "in_wait>in_body"),
            "output": "{{ steps.in_body }}",
        },
        "parent": {
            "nodes": [
                _TRIGGER,
                {"id": "all", "type": "loop", "config": {"source": 2, "max_concurrency": 2}},
                {"id": "in_kid", "type": "sub_workflow", "config": {
                    "workflow_id": KID, "input_mapping": {"n": "{{ trigger.body.n + item }}"}}},
                _formula("last", "sum(steps.all.iterations, .output)"),
            ],
            "edges": _edges("begin>all", "all-body>in_kid", "all-done>last"),
            "output": last,
        },
        "async": {
            "nodes": [
                _TRIGGER,
                {"id": "kid", "type": "sub_workflow", "config": {
                    "workflow_id": KID, "mode": "async", "input": {"n": _N}}},
                http("call", "slow/300"),
                _formula("last", "[steps.kid.status, steps.call.body.answer]"),
            ],
            "edges": _chain("begin", "kid", "call", "last"),
            "output": last,
        },
        "joined": {
            "nodes": [
                _TRIGGER,
                {"id": "fork", "type": "fork"},
                http("a", "slow/200"),
                http("b", "slow/400"),
                {"id": "c", "type": "delay", "config": {"duration": "1h"}},
                {"id": "join", "type": "join", "config": {"join_strategy": "wait_n", "required_count": 2}},
                _formula("last", "steps.join.completed_branches + trigger.body.n"),
            ],
            "edges": _edges("begin>fork", "fork>a", "fork>b", "fork>c", "a>join", "b>join", "c>join", "join>last"),
            "output": last,
        },
        "late": {
            "nodes": [
                _TRIGGER,
                {"id": "wait", "type": "wait_for_event", "config": {
                    "event": "chaos.never", "correlation_key": "{{ env.execution_id }}", "timeout": "1.5s"}},
                _formula("last", "steps.wait.error.code"),
            ],
            "edges": _edges("begin>wait", "wait-error>last"),
            "output": last,
        },
        "closing": {
            "nodes": [
                _TRIGGER,
                {"id": "try", "type": "try"},
                http("in_slow", "slow/900"),
                {"id": "in_wait", "type": "delay", "config": {"duration": "1h"}},
                {"id": "in_break", "type": "circuit_breaker"},
                http("in_tidy", "slow/300", "{{ trigger.body.n * 3 }}"),
            ],
            "edges": _edges("begin>try", "try-try>in_slow", "in_slow>in_wait", "try-finally>in_break",
                            "in_break-body>in_tidy"),
        },
        "dropped": {
            "nodes": [
                _TRIGGER,
                {"id": "both", "type": "parallel"},
                {"id": "in_idle", "type": "sub_workflow", "config": {"workflow_id": IDLE_KID, "input": {"n": _N}}},
                {"id": "in_kid", "type": "sub_workflow", "config": {"workflow_id": KID, "input": {"n": _N}}},
            ],
            "edges": _edges("begin>both", "both-a>in_idle", "both-b>in_kid"),
        },
        TICK: {
            "nodes": [_TRIGGER, _formula("last", "trigger.scheduled_for")],
            "edges": _chain("begin", "last"),
            "output": last,
        },
        IDLE_KID: {
            "nodes": [
                _TRIGGER,
                http("call", "slow/200"),
                {"id": "wait", "type": "delay", "config": {"duration": "1h"}},
            ],
            "edges": _chain("begin", "call", "wait"),
        },
        KID: {
            "nodes": [
                _TRIGGER,
                http("call", "slow/600"),
                {"id": "pause", "type": "delay", "config": {"duration": "0.3s"}},
                _formula("last", "steps.call.body.answer"),
            ],
            "edges": _chain("begin", "call", "pause", "last"),
            "output": last,
        },
    }  # fmt: skip


def gated(sink: str) -> dict[str, Any]:
    """Return a workflow whose one call waits at a gate of the sink."""
    return {
        "nodes": [_TRIGGER, _http("call", sink, "gate/first", _N), _formula("last", "steps.call.body.answer")],
        "edges": _chain("begin", "call", "last"),
        "output": "{{ steps.last }}",
    }


_EXPECTED: Final[dict[str, Callable[[int], Expected]]] = {
    "chain": lambda n: Expected("completed", 2 * n + 2 + 2 * n),
    "fan": lambda n: Expected("completed", 4 * (n + 1)),
    "branch": lambda n: Expected("completed", n + 1 if n % 2 == 0 else 10 * n + 1),
    "pause": lambda n: Expected("completed", n + 1),
    "park": lambda n: Expected("completed", n + 2),
    "backoff": lambda n: Expected("completed", n + 1),
    "caught": lambda n: Expected("completed", 500 + n),
    "continued": lambda n: Expected("completed", 500 + n + 1),
    "failing": lambda _: Expected("failed", None, "scripted"),
    "cancelled": lambda _: Expected("cancelled", None, "cancelled"),
    "hook": lambda n: Expected("completed", 2 * n + 1),
    "loop": lambda n: Expected("completed", sum(n + index + 1 + index for index in range(6))),
    "rounds": lambda n: Expected("completed", n + 2),
    "nested": lambda n: Expected("completed", [2 * n + 1, 3 * n + 1]),
    "asked": lambda n: Expected("completed", 3 * n + 6),
    "mail": lambda n: Expected("completed", n),
    "parent": lambda n: Expected("completed", 2 * n + 3),
    "async": lambda n: Expected("completed", ["started", n + 1]),
    "joined": lambda n: Expected("completed", n + 2),
    "late": lambda _: Expected("completed", "timeout"),
    "closing": lambda _: Expected("cancelled", None, "cancelled"),
    "dropped": lambda _: Expected("cancelled", None, "cancelled"),
}
CANCELLED: Final = ("cancelled", "closing", "dropped")
_WEIGHTS: Final = {
    "chain": 5,
    "fan": 4,
    "branch": 3,
    "pause": 2,
    "park": 3,
    "backoff": 1,
    "caught": 2,
    "continued": 1,
    "failing": 2,
    "cancelled": 2,
    "hook": 5,
    "loop": 4,
    "rounds": 3,
    "nested": 4,
    "asked": 3,
    "mail": 3,
    "parent": 4,
    "async": 1,
    "joined": 2,
    "late": 1,
    "closing": 2,
    "dropped": 2,
}


def plan(seed: int) -> Iterator[Start]:
    """Give one start after another, without end: the same for the same seed."""
    rng = random.Random(f"workload {seed}")
    kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    for number in count():
        kind, n = rng.choices(kinds, weights)[0], rng.randrange(1000)
        yield Start(f"chaos-{seed}-{number}", kind, n, _EXPECTED[kind](n), by_webhook=kind == "hook")


@dataclass(slots=True)
class Clients:
    """The users: each start is repeated under its key until somebody acknowledges it."""

    urls: Sequence[str]
    api_key: str
    rng: random.Random
    workflows: dict[str, Workflow] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=12)
        headers = {"Authorization": f"Bearer {self.api_key}"}
        connector = aiohttp.TCPConnector(limit=200, force_close=True)
        self._session = aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def publish(self, sink: str) -> None:
        """Create and publish every kind of workflow."""
        for kind, definition in definitions(sink).items():
            await self.add(kind, definition)

    async def add(self, kind: str, definition: dict[str, Any]) -> Workflow:
        """Create and publish one workflow, while nothing is wrong yet."""
        status, created = await self._ask("POST", "/api/v1/workflows", {"name": kind, "definition": definition}, {})
        if status != 201:
            raise RuntimeError(f"the workflow {kind} was answered {status}: {created}")
        workflow_id = created["data"]["id"]
        status, published = await self._ask("POST", f"/api/v1/workflows/{workflow_id}/publish", None, {})
        if status != 200:
            raise RuntimeError(f"publishing {kind} was answered {status}: {published}")
        workflow = self.workflows[kind] = Workflow(uuid.UUID(workflow_id), kind, definition)
        return workflow

    async def schedule(self) -> list[str]:
        """Begin to start a run each second by several schedules, while nothing is wrong yet; return their ids."""
        ids = []
        for number in range(SCHEDULES):
            wanted = {
                "workflow_id": str(self.workflows[TICK].id), "name": f"tick {number}", "cron_expression": "* * * * * *",
                "overlap_policy": "allow", "misfire_policy": "all", "misfire_limit": 1000,
            }  # fmt: skip
            status, answer = await self._ask("POST", "/api/v1/schedules", wanted, {})
            if status != 201:
                raise RuntimeError(f"a schedule was answered {status}: {answer}")
            ids.append(answer["data"]["id"])
        return ids

    async def unschedule(self, ids: Sequence[str]) -> None:
        """Let the schedules start nothing more."""
        for schedule_id in ids:
            path = f"/api/v1/schedules/{schedule_id}"
            while (await self._ask("PATCH", path, {"enabled": False}, {}))[0] != 200:
                await anyio.sleep(0.2)

    async def run(self, start: Start) -> None:
        """Start until acknowledged; now and then once more; cancel what is to be cancelled."""
        start.acknowledged = await self._start(start)
        if self.rng.random() < REPEATED:
            again = await self._start(start)
            if again != start.acknowledged:
                self.unexpected.append(f"{start.key} was acknowledged as {start.acknowledged} and as {again}")
        if start.kind in CANCELLED:
            await anyio.sleep(self.rng.random() * 1.5)
            await self._cancel(start.acknowledged)

    async def decide(self) -> None:
        """Approve every task that is open, again and again, until cancelled."""
        while True:
            status, answer = await self._ask("GET", "/api/v1/tasks?status=pending&limit=200", None, {})
            tasks = answer["data"] if status == 200 else []
            self.rng.shuffle(tasks)
            for task in tasks:
                # Not insisted on: it is among the next ones if it is still open. 409: it was decided, or its run ended.
                path = f"/api/v1/tasks/{task['id']}/approve"
                status, answer = await self._ask("POST", path, {}, {})
                self.answers[f"decided {status}"] += 1
                if status not in (0, 200, 409, 502, 503, 504):
                    self.unexpected.append(f"POST {path} was answered {status}: {answer}")
            await anyio.sleep(0.1 + 0.2 * self.rng.random())

    async def _start(self, start: Start) -> uuid.UUID:
        if start.by_webhook:
            body = {"n": start.n}
            signature = hmac.new(SECRET.encode(), json.dumps(body).encode(), hashlib.sha256).hexdigest()
            headers = {"webhook-id": start.key, "X-Webhook-Signature": signature}
            answer = await self._insist("/webhooks/chaos", body, headers, (200, 202))
            return uuid.UUID(answer["execution_id"])
        path = f"/api/v1/workflows/{self.workflows[start.kind].id}/execute"
        answer = await self._insist(path, {"input": {"n": start.n}}, {"Idempotency-Key": start.key}, (202,))
        return uuid.UUID(answer["data"]["execution_id"])

    async def _cancel(self, execution_id: uuid.UUID) -> None:
        # 409: an earlier try has done it, and its answer was lost.
        await self._insist(f"/api/v1/executions/{execution_id}/cancel", None, {}, (200, 409))

    async def _insist(self, path: str, body: Any, headers: dict[str, str], good: tuple[int, ...]) -> Any:
        while True:
            status, answer = await self._ask("POST", path, body, headers)
            self.answers[str(status)] += 1
            if status in good:
                return answer
            if status not in (0, 502, 503, 504):
                self.unexpected.append(f"POST {path} was answered {status}: {answer}")
            await anyio.sleep(0.1 + 0.4 * self.rng.random())

    async def _ask(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        """Ask any daemon; status 0 stands for a broken exchange."""
        assert self._session is not None
        url = self.rng.choice(self.urls) + path
        try:
            async with self._session.request(method, url, json=body, headers=headers) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError):
            return 0, None
