"""The node type `event_trigger`: a run starts when a named event is published; the output is the event."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.core.event_names import MAX_NAME, NAME_RULE, PATTERN
from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class EventTrigger:
    """Starts a run for each event of its name that passes its filter."""

    spec: Final = NodeSpec(
        name="event_trigger",
        kind=NodeKind.TRIGGER,
        aliases=("trigger:event",),
        title="Event",
        description="Starts a run for each matching event; the output is {name, correlation_key, body}.",
        schema={
            "type": "object",
            "properties": {
                "event": {
                    "type": "string",
                    "x-gorax": "literal",
                    "maxLength": MAX_NAME,
                    "pattern": PATTERN,
                    "x-gorax-message": f"`event` must be a name ({NAME_RULE}), `order.*` or `*`.",
                    "description": "The name of the event; `order.*` means every name that begins with `order.`.",
                },
                "filter": {
                    "type": "string",
                    "x-gorax": "expression",
                    "description": "A condition over `trigger`, the event; only events for which it holds start a run.",
                },
            },
            "required": ["event"],
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.trigger)
