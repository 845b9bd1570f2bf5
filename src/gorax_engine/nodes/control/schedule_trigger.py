"""The node type `schedule_trigger`: a run starts when its schedule is due; the output is the trigger data."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class ScheduleTrigger:
    """Starts a run for each occurrence of a schedule."""

    spec: Final = NodeSpec(
        name="schedule_trigger",
        kind=NodeKind.TRIGGER,
        aliases=("trigger:schedule", "schedule"),
        title="Schedule",
        description="Starts a run at the times of a cron expression; the output is {schedule_id, scheduled_for, body}.",
        schema={
            "type": "object",
            "properties": {
                "cron": {
                    "type": "string",
                    "x-gorax": "literal",
                    "minLength": 1,
                    "maxLength": 255,
                    "description": "When runs start: five fields, or six with leading seconds.",
                },
                "timezone": {
                    "type": "string",
                    "x-gorax": "literal",
                    "default": "UTC",
                    "description": "The IANA name of the time zone that the cron expression is read in.",
                },
            },
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.trigger)
