"""What the engine says about itself: the configuration of logs, and typed events on an in-process bus.

The work emits events and doesn't know who listens; `ops` subscribes and turns them into metrics, traces and frames.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias, cast

import msgspec
import structlog
from msgspec import Struct

from gorax_engine import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from structlog.typing import FilteringBoundLogger, Processor

SERVICE: Final = "gorax-engine"

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["json", "console", "auto"]


class ExecutionStarted(Struct, frozen=True, gc=False):
    """Executions were accepted."""

    trigger_type: str
    count: int = 1


class ExecutionFinished(Struct, frozen=True, gc=False):
    """An execution ended as `status`. Times in microseconds: from its first claim, and from accept to first claim."""

    status: str
    duration_us: int
    queue_us: int


class StepFinished(Struct, frozen=True, gc=False):
    """An attempt of a step ended as `status` after `duration_us` microseconds."""

    node_type: str
    status: str
    duration_us: int


class StepRetried(Struct, frozen=True, gc=False):
    """A step failed and will be tried again."""

    node_type: str


class FlushDone(Struct, frozen=True, gc=False):
    """The journal committed `rows` rows in `seconds`."""

    rows: int
    seconds: float


class ClaimDone(Struct, frozen=True, gc=False):
    """A claim gave `size` executions in `seconds`."""

    size: int
    seconds: float


class LeaseLostEvent(Struct, frozen=True, gc=False):
    """This worker found its lease gone. (`LeaseLost` alone is the exception.)"""

    count: int = 1


class ExecutionRescued(Struct, frozen=True, gc=False):
    """Executions were taken from workers that are not heard of."""

    count: int = 1


class ExecutionQuarantined(Struct, frozen=True, gc=False):
    """Executions were ended because they took their workers down too often."""

    count: int = 1


class WebhookHandled(Struct, frozen=True, gc=False):
    """A webhook was answered with `result` (accepted, filtered, duplicate, refused, ...) after `seconds`."""

    result: str
    seconds: float


class QuotaRejected(Struct, frozen=True, gc=False):
    """A start was refused because its tenant has reached `quota`."""

    quota: str


class ScheduleFired(Struct, frozen=True, gc=False):
    """A schedule started a run `lag_us` microseconds after it was due."""

    lag_us: int


class OccurrencesDecided(Struct, frozen=True, gc=False):
    """Occurrences of schedules became `status` (started, queued, skipped, missed, failed)."""

    status: str
    count: int = 1


class NotifyReceived(Struct, frozen=True, gc=False):
    """Postgres notified this process."""

    count: int = 1


class OutboundRequest(Struct, frozen=True, gc=False):
    """A node called an outside host; `status_class` is 2xx, 3xx, 4xx, 5xx, denied or error."""

    status_class: str


class VaultOperation(Struct, frozen=True, gc=False):
    """The vault did something (create, read, update, delete) to one credential; `result` is ok, or the error's code."""

    operation: str
    result: str


class TaskMailHandled(Struct, frozen=True, gc=False):
    """A mail about a human task was `sent`, `failed` (and will be tried again) or `given_up`."""

    result: str


class DatabaseError(Struct, frozen=True, gc=False):
    """A statement failed; `sqlstate_class` is the first two characters of its SQLSTATE."""

    sqlstate_class: str


TelemetryEvent: TypeAlias = (
    ExecutionStarted
    | ExecutionFinished
    | StepFinished
    | StepRetried
    | FlushDone
    | ClaimDone
    | LeaseLostEvent
    | ExecutionRescued
    | ExecutionQuarantined
    | WebhookHandled
    | QuotaRejected
    | ScheduleFired
    | OccurrencesDecided
    | NotifyReceived
    | OutboundRequest
    | VaultOperation
    | TaskMailHandled
    | DatabaseError
)


class Telemetry:
    """The bus of one process. Handlers are called at once, in the caller's task: they must be quick and never wait."""

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: tuple[Callable[[TelemetryEvent], None], ...] = ()

    def subscribe(self, handler: Callable[[TelemetryEvent], None]) -> Callable[[], None]:
        """Call `handler` with every event from now on; the function returned ends that."""
        self._handlers = (*self._handlers, handler)

        def unsubscribe() -> None:
            self._handlers = tuple(other for other in self._handlers if other is not handler)

        return unsubscribe

    def emit(self, event: TelemetryEvent) -> None:
        """Hand `event` to every handler. A handler that raises is logged and never disturbs the work."""
        for handler in self._handlers:
            try:
                handler(event)
            except Exception:  # noqa: BLE001 - whatever a listener does wrong, the work goes on
                get_logger(__name__).exception("telemetry_handler_failed", telemetry_event=type(event).__name__)


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger called `name` (the module's). Safe at import: it follows whatever is configured later."""
    return cast("FilteringBoundLogger", structlog.get_logger(logger_name=name))


def configure_logging(
    level: LogLevel,
    format: LogFormat,
    *,
    worker: str | None = None,
    mask: Processor | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send every log line, ours and the libraries', to `stream` (default: standard error) at `level` and above.

    Lines are JSON objects, or for people in `console`; `auto` is `console` on a terminal. Each has timestamp, level,
    event, logger, service, version and, if given, worker. `mask` sees every line last before it is rendered, tracebacks
    already text, and removes secrets. May be called again: the new level and format hold at once.
    """
    out = stream if stream is not None else sys.stderr
    console = format == "console" or (format == "auto" and out.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identity(worker),
        structlog.processors.format_exc_info,
    ]
    if mask is not None:
        common.append(mask)
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if console
        else _render_json
    )
    structlog.configure(
        processors=[*common, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        # Uncached, so that module-level loggers follow a later call.
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging(level, common, render, out)


def _adopt_standard_logging(level: LogLevel, common: Sequence[Processor], render: Processor, out: TextIO) -> None:
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # asyncio and others say at INFO and DEBUG what only their developers need.
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _identity(worker: str | None) -> Processor:
    fields = {"service": SERVICE, "version": __version__}
    if worker is not None:
        fields["worker"] = worker

    def add_identity(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if "logger_name" in event:
            event["logger"] = event.pop("logger_name")
        for key, value in fields.items():
            event.setdefault(key, value)
        return event

    return add_identity


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()
