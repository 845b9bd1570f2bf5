"""Metrics: the registry of one process, fed by telemetry, with gauges about the queue asked for when scraped.

Every label has few values: unknown node types and trigger types can't come in, since both are checked on save.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Final, assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from gorax_engine.telemetry import (
    ClaimDone,
    DatabaseError,
    ExecutionFinished,
    ExecutionQuarantined,
    ExecutionRescued,
    ExecutionStarted,
    FlushDone,
    LeaseLostEvent,
    NotifyReceived,
    OccurrencesDecided,
    OutboundRequest,
    QuotaRejected,
    ScheduleFired,
    StepFinished,
    StepRetried,
    TaskMailHandled,
    TelemetryEvent,
    VaultOperation,
    WebhookHandled,
)

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_MICROS: Final = 1e-6
_RUNS: Final = (0.005, 0.02, 0.1, 0.5, 1, 5, 30, 120, 600, 3600, 86_400)
_STEPS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 30, 120)
_COMMITS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)
_LAGS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 86_400)
_SIZES: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class Metrics:
    """The metrics of a process. `observe` is a telemetry handler; `render` is the answer to a scrape."""

    def __init__(self, version: str, worker: str) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        keep = self.registry
        self._started = Counter("gorax_executions_started", "Runs accepted", ["trigger_type"], registry=keep)
        self._finished = Counter("gorax_executions_finished", "Runs ended", ["status"], registry=keep)
        self._duration = Histogram(
            "gorax_execution_duration_seconds", "First claim to end", buckets=_RUNS, registry=keep
        )
        self._queued = Histogram("gorax_execution_queue_seconds", "Accept to first claim", buckets=_RUNS, registry=keep)
        self._steps = _StepMetrics()
        keep.register(self._steps)
        self._retries = Counter("gorax_step_retries", "Attempts to be repeated", ["node_type"], registry=keep)
        self._claim_size = Histogram("gorax_claim_batch_size", "Runs per claim", buckets=_SIZES, registry=keep)
        self._claim = Histogram("gorax_claim_seconds", "Length of a claim", buckets=_COMMITS, registry=keep)
        self._flush = Histogram("gorax_journal_flush_seconds", "Length of a flush", buckets=_COMMITS, registry=keep)
        self._flush_rows = Histogram("gorax_journal_flush_rows", "Rows per flush", buckets=_SIZES, registry=keep)
        self._leases_lost = Counter("gorax_leases_lost", "Leases that this worker lost", registry=keep)
        self._rescued = Counter("gorax_executions_rescued", "Runs taken from lost workers", registry=keep)
        self._quarantined = Counter("gorax_executions_quarantined", "Runs ended as worker_lost", registry=keep)
        self._webhooks = Counter("gorax_webhook_requests", "Webhook requests", ["result"], registry=keep)
        self._accept = Histogram(
            "gorax_webhook_accept_seconds", "Request to committed start", buckets=_COMMITS, registry=keep
        )
        self._quotas = Counter(
            "gorax_quota_rejections", "Starts that a tenant's limit has refused", ["quota"], registry=keep
        )
        self._lag = Histogram("gorax_schedule_lag_seconds", "Due to started run", buckets=_LAGS, registry=keep)
        self._occurrences = Counter(
            "gorax_schedule_occurrences", "What became of schedules' occurrences", ["status"], registry=keep
        )
        self._notified = Counter("gorax_notify_received", "Notifications from Postgres", registry=keep)
        self._outbound = Counter("gorax_outbound_requests", "Calls of nodes to the outside", ["class"], registry=keep)
        self._vault = Counter("gorax_vault_operations", "Acts on credentials", ["operation", "result"], registry=keep)
        self._task_mails = Counter("gorax_task_mails", "Mails about human tasks", ["result"], registry=keep)
        self._db_errors = Counter("gorax_db_errors", "Statements that failed", ["sqlstate_class"], registry=keep)
        info = Info("gorax_worker", "This process", registry=keep)
        info.info({"version": version, "worker": worker})
        self._gauges = _Gauges()
        keep.register(self._gauges)

    def in_flight(self, count: Callable[[], int]) -> None:
        """Show `count()` as the runs that this process holds."""
        gauge = Gauge("gorax_executions_in_flight", "Runs held by this process", registry=self.registry)
        gauge.set_function(lambda: float(count()))

    def pools(self, sizes: Callable[[], dict[str, tuple[int, int]]]) -> None:
        """Show the database's pools: `sizes()` gives (connections, idle connections) per pool."""
        gauge = Gauge("gorax_db_pool_connections", "Connections to Postgres", ["state"], registry=self.registry)
        gauge.labels("idle").set_function(lambda: float(sum(idle for _, idle in sizes().values())))
        gauge.labels("used").set_function(lambda: float(sum(all_ - idle for all_, idle in sizes().values())))

    def queue(self, depth: dict[str, int], oldest_age: float | None, timers_due: int, human_tasks_open: int) -> None:
        """Note what the queue looked like just now, and how many tasks people still have."""
        self._gauges.set(depth, oldest_age, timers_due, human_tasks_open)

    def forget_queue(self) -> None:
        """Show nothing about the queue: the database doesn't answer, and an old number would be believed."""
        self._gauges.clear()

    def render(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self.registry)

    def observe(self, event: TelemetryEvent) -> None:  # noqa: C901  (one arm for each event)
        """Count an event."""
        match event:
            case StepFinished(node_type, status, duration):
                self._steps.add(node_type, status, duration * _MICROS)
            case FlushDone(rows, seconds):
                self._flush.observe(seconds)
                self._flush_rows.observe(rows)
            case ClaimDone(size, seconds):
                self._claim.observe(seconds)
                self._claim_size.observe(size)
            case ExecutionStarted(trigger_type, count):
                self._started.labels(trigger_type).inc(count)
            case ExecutionFinished(status, duration, queued):
                self._finished.labels(status).inc()
                self._duration.observe(duration * _MICROS)
                self._queued.observe(queued * _MICROS)
            case WebhookHandled(result, seconds):
                self._webhooks.labels(result).inc()
                if result == "accepted":
                    self._accept.observe(seconds)
            case QuotaRejected(quota):
                self._quotas.labels(quota).inc()
            case ScheduleFired(lag):
                self._lag.observe(lag * _MICROS)
            case OccurrencesDecided(status, count):
                self._occurrences.labels(status).inc(count)
            case StepRetried(node_type):
                self._retries.labels(node_type).inc()
            case LeaseLostEvent(count):
                self._leases_lost.inc(count)
            case ExecutionRescued(count):
                self._rescued.inc(count)
            case ExecutionQuarantined(count):
                self._quarantined.inc(count)
            case NotifyReceived(count):
                self._notified.inc(count)
            case OutboundRequest(status_class):
                self._outbound.labels(status_class).inc()
            case VaultOperation(operation, result):
                self._vault.labels(operation, result).inc()
            case TaskMailHandled(result):
                self._task_mails.labels(result).inc()
            case DatabaseError(sqlstate_class):
                self._db_errors.labels(sqlstate_class).inc()
            case _:
                assert_never(event)


class _StepMetrics:
    """Counts and lengths of attempts, which come by the ten thousand a second: plain numbers until they are read."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._durations: dict[str, tuple[list[int], list[float]]] = {}

    def add(self, node_type: str, status: str, seconds: float) -> None:
        key = (node_type, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        durations = self._durations.get(node_type)
        if durations is None:
            durations = self._durations[node_type] = ([0] * (len(_STEPS) + 1), [0.0])
        durations[0][bisect_left(_STEPS, seconds)] += 1
        durations[1][0] += seconds

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        counts = CounterMetricFamily("gorax_steps_finished", "Attempts ended", labels=["node_type", "status"])
        for (node_type, status), count in self._counts.items():
            counts.add_metric([node_type, status], count)
        yield counts
        lengths = HistogramMetricFamily("gorax_step_duration_seconds", "Length of an attempt", labels=["node_type"])
        bounds = [*(repr(float(bound)) for bound in _STEPS), "+Inf"]
        for node_type, (buckets, (total,)) in self._durations.items():
            lengths.add_metric([node_type], list(zip(bounds, accumulate(buckets), strict=True)), total)
        yield lengths


class _Gauges:
    """What was last seen of the queue; nothing where nothing is known."""

    def __init__(self) -> None:
        self._depth: dict[str, int] | None = None
        self._oldest: float | None = None
        self._timers = 0
        self._tasks = 0
        self._seen_at = 0.0

    def set(self, depth: dict[str, int], oldest_age: float | None, timers_due: int, human_tasks_open: int) -> None:
        self._depth, self._oldest, self._timers, self._tasks = depth, oldest_age, timers_due, human_tasks_open
        self._seen_at = time.monotonic()

    def clear(self) -> None:
        self._depth = None

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        if self._depth is None:
            return
        depth = GaugeMetricFamily("gorax_queue_depth", "Live runs by state", labels=["state"])
        for state, count in self._depth.items():
            depth.add_metric([state], count)
        yield depth
        waited = (self._oldest or 0.0) + (time.monotonic() - self._seen_at if self._oldest else 0.0)
        yield GaugeMetricFamily("gorax_queue_oldest_age_seconds", "Age of the oldest ready run", value=waited)
        yield GaugeMetricFamily("gorax_timers_due", "Parked runs whose time has come", value=self._timers)
        yield GaugeMetricFamily("gorax_human_tasks_open", "Tasks that wait for people", value=self._tasks)
