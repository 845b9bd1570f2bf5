"""Logs and the event bus."""

import io
import json
import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from gorax_engine.telemetry import (
    ExecutionStarted,
    NotifyReceived,
    Telemetry,
    TelemetryEvent,
    configure_logging,
    get_logger,
)


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_a_json_object_that_says_who_speaks() -> None:
    out = io.StringIO()
    configure_logging("info", "json", worker="w1", stream=out)
    log = get_logger("gorax_engine.engine.runner")
    log.info("claimed", size=3, odd={1, 2}.__class__)
    log.debug("unheard")
    (line,) = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "claimed",
        "logger": "gorax_engine.engine.runner",
        "service": "gorax-engine",
        "version": "0.1.0",
        "worker": "w1",
        "size": 3,
        "odd": "<class 'set'>",
    }


def test_libraries_speak_the_same_way() -> None:
    out = io.StringIO()
    configure_logging("warning", "json", stream=out)
    logging.getLogger("asyncpg").warning("resetting %s", "connection")
    logging.getLogger("asyncpg").info("unheard")
    (line,) = lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("resetting connection", "asyncpg", "warning")
    assert line["service"] == "gorax-engine"


def test_the_mask_sees_every_line_and_its_traceback() -> None:
    def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {
            key: value.replace("hunter2", "***") if isinstance(value, str) else value for key, value in event.items()
        }

    out = io.StringIO()
    configure_logging("info", "json", mask=mask, stream=out)
    for log in (get_logger("ours"), logging.getLogger("theirs")):
        try:
            raise ValueError("hunter2")
        except ValueError:
            log.exception("login hunter2")
    assert len(lines(out)) == 2
    assert all("ValueError: ***" in line["exception"] for line in lines(out))
    assert "hunter2" not in out.getvalue()


def test_loggers_made_before_follow_a_new_configuration() -> None:
    log = get_logger("early")
    first, second = io.StringIO(), io.StringIO()
    configure_logging("error", "json", stream=first)
    log.info("unheard")
    configure_logging("debug", "console", stream=second)
    log.debug("heard")
    assert first.getvalue() == ""
    assert "heard" in second.getvalue()
    assert not second.getvalue().startswith("{")


def test_handlers_get_each_event_until_they_leave() -> None:
    telemetry = Telemetry()
    telemetry.emit(NotifyReceived())
    seen: list[TelemetryEvent] = []
    leave = telemetry.subscribe(seen.append)
    telemetry.emit(ExecutionStarted("api", count=3))
    leave()
    telemetry.emit(NotifyReceived())
    assert seen == [ExecutionStarted("api", count=3)]


def test_a_handler_that_fails_disturbs_nobody() -> None:
    out = io.StringIO()
    configure_logging("info", "json", stream=out)
    telemetry = Telemetry()
    seen: list[TelemetryEvent] = []

    def fail(_event: TelemetryEvent) -> None:
        raise RuntimeError("broken")

    telemetry.subscribe(fail)
    telemetry.subscribe(seen.append)
    telemetry.emit(NotifyReceived())
    assert seen == [NotifyReceived()]
    assert lines(out)[0]["event"] == "telemetry_handler_failed"
