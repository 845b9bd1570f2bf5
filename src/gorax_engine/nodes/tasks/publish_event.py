"""The node type `publish_event`: publishes an event to the waits and workflows of the tenant, once per step."""

from collections.abc import Mapping
from typing import Final, Protocol

from gorax_engine.core.event_names import (
    DEFAULT_TTL,
    MAX_KEY,
    MAX_NAME,
    NAME,
    NAME_RULE,
    correlation_key,
    event_name,
    event_ttl,
)
from gorax_engine.errors import InvalidInput, PayloadTooLarge, Unavailable
from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    Classification,
    Completed,
    Failed,
    Json,
    Micros,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
)


class EventPublisher(Protocol):
    """Who keeps events and brings them to those that wait."""

    async def publish(
        self,
        tenant_id: str,
        name: str,
        correlation_key: str | None,
        payload: Json,
        ttl: Micros,
        idempotency_key: str,
    ) -> str:
        """Publish an event durably and return its id; a repeat with the same idempotency key returns the first one's.

        Raises InvalidInput and PayloadTooLarge for what can't be an event, Unavailable if it may or may not be kept.
        """


class PublishEvent:
    """Publishes through the port that it was given."""

    spec: Final = NodeSpec(
        name="publish_event",
        kind=NodeKind.TASK,
        aliases=("action:publish_event",),
        title="Publish an event",
        description="Publishes an event to waits and workflows; the output is {event_id, name, correlation_key}.",
        schema={
            "type": "object",
            "properties": {
                "event": {
                    "type": "string",
                    "maxLength": MAX_NAME,
                    "pattern": NAME,
                    "x-gorax-message": f"`event` must be a name: {NAME_RULE}.",
                    "description": "The name of the event.",
                },
                "correlation_key": {
                    "type": ["string", "integer", "null"],
                    "minLength": 1,
                    "maxLength": MAX_KEY,
                    "description": "Which of several waits for this name are meant.",
                },
                "payload": {"description": "What arrives as `body`: any JSON; null without it."},
                "ttl": {
                    "type": ["string", "number"],
                    "format": "gorax-duration",
                    "minimum": 0,
                    "default": "24h",
                    "description": "For how long the event is kept for waits that come later, 1 s to 30 days.",
                },
            },
            "required": ["event"],
            "additionalProperties": False,
        },
        retry=OUTSIDE_RETRY,
    )

    def __init__(self, publisher: EventPublisher) -> None:
        self._publisher = publisher

    async def run(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            name = event_name(config["event"])
            key = None if config.get("correlation_key") is None else correlation_key(config["correlation_key"])
            ttl = event_ttl(config["ttl"]) if "ttl" in config else DEFAULT_TTL
            event_id = await self._publisher.publish(
                context.tenant_id, name, key, config.get("payload"), ttl, context.idempotency_key
            )
        except ValueError as error:
            return Failed(StepError("invalid_event", str(error)))
        except (InvalidInput, PayloadTooLarge) as error:
            return Failed(StepError("invalid_event", error.message))
        except Unavailable as error:
            return Failed(StepError("unavailable", error.message, Classification.TRANSIENT))
        return Completed({"event_id": event_id, "name": name, "correlation_key": key})
