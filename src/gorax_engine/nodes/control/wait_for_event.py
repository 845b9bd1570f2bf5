"""The node type `wait_for_event`: waits until an event of a name, and perhaps a key, is published."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.event_names import MAX_KEY, MAX_NAME, NAME, NAME_RULE, correlation_key, event_name
from gorax_engine.nodes.api import (
    EventWait,
    Failed,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
    Suspended,
)


class WaitForEvent:
    """Suspends the step until its event comes; nothing is held while it waits."""

    spec: Final = NodeSpec(
        name="wait_for_event",
        kind=NodeKind.CONTROL,
        aliases=("control:wait_for_event",),
        title="Wait for an event",
        description="Waits for an event; the output is {id, name, correlation_key, body, published_at}.",
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
                    "type": ["string", "integer"],
                    "minLength": 1,
                    "maxLength": MAX_KEY,
                    "description": "Wait for an event with this key; without it, for any event of the name.",
                },
                "timeout": {
                    "type": ["string", "number"],
                    "format": "gorax-duration",
                    "minimum": 0,
                    "description": "How long to wait; then the step fails with `timeout`. Without it, forever.",
                },
            },
            "required": ["event"],
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        try:
            name = event_name(config["event"])
            # A key that is null is no wait for whatever comes: most likely the value that it should have is missing.
            key = correlation_key(config["correlation_key"]) if "correlation_key" in config else None
            due_at = context.now + parse_duration(config["timeout"]) if "timeout" in config else None
        except ValueError as error:
            return Failed(StepError("invalid_event", str(error)))
        return Suspended(due_at, wait=EventWait(name, key))
