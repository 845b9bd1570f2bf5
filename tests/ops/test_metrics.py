"""Metrics: each event moves what it should; the queue is shown only while it is known."""

from __future__ import annotations

import typing

import pytest

from gorax_engine import telemetry
from gorax_engine.ops.metrics import Metrics
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

CASES: list[tuple[TelemetryEvent, str]] = [
    (ExecutionStarted("api", 3), 'gorax_executions_started_total{trigger_type="api"} 3.0'),
    (ExecutionFinished("failed", 1_500_000, 1), 'gorax_executions_finished_total{status="failed"} 1.0'),
    (ExecutionFinished("failed", 1_500_000, 1), "gorax_execution_duration_seconds_sum 1.5"),
    (ExecutionFinished("failed", 1, 2_000_000), "gorax_execution_queue_seconds_sum 2.0"),
    (
        StepFinished("formula", "completed", 2_000),
        'gorax_steps_finished_total{node_type="formula",status="completed"} 1.0',
    ),
    (StepFinished("formula", "completed", 2_000), 'gorax_step_duration_seconds_sum{node_type="formula"} 0.002'),
    (StepRetried("http_request"), 'gorax_step_retries_total{node_type="http_request"} 1.0'),
    (FlushDone(7, 0.5), "gorax_journal_flush_rows_sum 7.0"),
    (FlushDone(7, 0.5), "gorax_journal_flush_seconds_sum 0.5"),
    (ClaimDone(9, 0.25), "gorax_claim_batch_size_sum 9.0"),
    (ClaimDone(9, 0.25), "gorax_claim_seconds_sum 0.25"),
    (LeaseLostEvent(), "gorax_leases_lost_total 1.0"),
    (ExecutionRescued(4), "gorax_executions_rescued_total 4.0"),
    (ExecutionQuarantined(2), "gorax_executions_quarantined_total 2.0"),
    (WebhookHandled("accepted", 0.5), 'gorax_webhook_requests_total{result="accepted"} 1.0'),
    (WebhookHandled("accepted", 0.5), "gorax_webhook_accept_seconds_sum 0.5"),
    (WebhookHandled("too_large", 0.5), "gorax_webhook_accept_seconds_count 0.0"),
    (ScheduleFired(1_500_000), "gorax_schedule_lag_seconds_sum 1.5"),
    (OccurrencesDecided("skipped", 3), 'gorax_schedule_occurrences_total{status="skipped"} 3.0'),
    (NotifyReceived(), "gorax_notify_received_total 1.0"),
    (OutboundRequest("2xx"), 'gorax_outbound_requests_total{class="2xx"} 1.0'),
    (QuotaRejected("max_queued_executions"), 'gorax_quota_rejections_total{quota="max_queued_executions"} 1.0'),
    (VaultOperation("read", "ok"), 'gorax_vault_operations_total{operation="read",result="ok"} 1.0'),
    (TaskMailHandled("sent"), 'gorax_task_mails_total{result="sent"} 1.0'),
    (DatabaseError("40"), 'gorax_db_errors_total{sqlstate_class="40"} 1.0'),
]


@pytest.mark.parametrize(("event", "line"), CASES)
def test_events_are_counted(event: TelemetryEvent, line: str) -> None:
    metrics = Metrics("1.2.3", "w1")
    metrics.observe(event)
    assert line in metrics.render().decode().splitlines()


def test_every_event_has_a_case() -> None:
    assert {type(event) for event, _ in CASES} == set(typing.get_args(telemetry.TelemetryEvent))


def test_gauges() -> None:
    metrics = Metrics("1.2.3", "w1")
    metrics.in_flight(lambda: 5)
    metrics.pools(lambda: {"app": (3, 1), "worker": (2, 2)})
    assert b"gorax_queue_depth" not in metrics.render()
    metrics.queue({"ready": 4, "parked": 1}, None, 2, 6)
    text = metrics.render().decode()
    for line in (
        "gorax_executions_in_flight 5.0", 'gorax_db_pool_connections{state="used"} 2.0', "gorax_timers_due 2.0",
        "gorax_human_tasks_open 6.0",
        'gorax_db_pool_connections{state="idle"} 3.0', 'gorax_queue_depth{state="ready"} 4.0',
        "gorax_queue_oldest_age_seconds 0.0", 'gorax_worker_info{version="1.2.3",worker="w1"} 1.0',
    ):  # fmt: skip
        assert line in text.splitlines()
    metrics.forget_queue()
    assert b"gorax_queue_depth" not in metrics.render()
