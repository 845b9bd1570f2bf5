"""The node type `delay`: waits for a length of time, or until a moment, on a durable timer."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.core.instants import parse_instant
from gorax_engine.nodes.api import (
    Completed,
    Failed,
    Instant,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
    Suspended,
)
from gorax_engine.nodes.control.values import type_error


class Delay:
    """Suspends the step; nothing is held while it waits."""

    spec: Final = NodeSpec(
        name="delay",
        kind=NodeKind.CONTROL,
        aliases=("control:delay", "control:wait", "wait"),
        title="Delay",
        description="Waits for `duration` or until a moment; the output is {duration or until, delayed_ms, completed}.",
        schema={
            "type": "object",
            "properties": {
                "duration": {
                    "type": ["string", "number"],
                    "format": "gorax-duration",
                    "minimum": 0,
                    "description": "How long to wait: seconds, `1h30m` or `PT1H30M`.",
                },
                "until": {
                    "type": "string",
                    "format": "gorax-instant",
                    "description": "The moment to wait for, RFC 3339; one that has passed doesn't wait.",
                },
            },
            "oneOf": [{"required": ["duration"]}, {"required": ["until"]}],
            "x-gorax-message": "A delay needs either `duration` or `until`: give one of them, not both.",
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        field = "duration" if "duration" in config else "until"
        value = config[field]
        try:
            due_at = context.now + parse_duration(value) if field == "duration" else _moment(value)
        except TypeError:
            return type_error(field, "a date as text", value)
        except ValueError as error:
            return Failed(StepError("type_error", f"`{field}` can't be read: {error}"))
        waits = max(due_at - context.now, 0)
        output = {field: value, "delayed_ms": waits // 1_000, "completed": True}
        return Suspended(due_at, output) if waits else Completed(output)


def _moment(value: Json) -> Instant:
    if not isinstance(value, str):
        raise TypeError
    return parse_instant(value)
