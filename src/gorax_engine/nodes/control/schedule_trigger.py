"""The node type `schedule_trigger`: a run starts when its schedule is due; the output is the trigger data."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome

_DURATION: Final[Json] = {
    "type": ["string", "number"],
    "x-gorax": "literal",
    "format": "gorax-duration",
    "minimum": 0,
    "x-gorax-message": 'A duration is a number of seconds, or text such as "1h30m" or "PT1H30M".',
}
_MOMENT: Final[Json] = {
    "type": ["string", "null"],
    "x-gorax": "literal",
    "format": "gorax-instant",
    "x-gorax-message": "A moment is written with its date, time and offset, such as 2030-01-31T09:00:00Z.",
}


class ScheduleTrigger:
    """Starts a run for each occurrence of a schedule."""

    spec: Final = NodeSpec(
        name="schedule_trigger",
        kind=NodeKind.TRIGGER,
        aliases=("trigger:schedule", "schedule"),
        title="Schedule",
        description="Starts a run at the times of a cron expression; the output is "
        "{schedule_id, scheduled_for, fired_at, body}.",
        schema={
            "type": "object",
            "properties": {
                "cron": {
                    "type": "string",
                    "x-gorax": "literal",
                    "minLength": 1,
                    "maxLength": 255,
                    "description": "When runs start: five fields, or six with leading seconds. "
                    "Also read as `cron_expression`.",
                },
                "timezone": {
                    "type": "string",
                    "x-gorax": "literal",
                    "default": "UTC",
                    "description": "The IANA name of the time zone that the cron expression is read in.",
                },
                "input": {
                    "$ref": "#/$defs/literal",
                    "default": {},
                    "description": "What each run is given as `trigger.body`: any JSON, as it is.",
                },
                "overlap_policy": {
                    "enum": ["skip", "queue", "cancel_running", "allow"],
                    "x-gorax": "literal",
                    "default": "skip",
                    "description": "What becomes of an occurrence while a run of the schedule has not ended.",
                },
                "misfire_policy": {
                    "enum": ["none", "last", "all"],
                    "x-gorax": "literal",
                    "default": "last",
                    "description": "Which occurrences start that nobody started in time, since nothing ran.",
                },
                "misfire_limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 1_000,
                    "default": 100,
                    "description": "How many of them, with `misfire_policy: all`.",
                },
                "catchup_window": {**_DURATION, "default": "24h", "description": "How late such a one may start."},
                "jitter": {
                    **_DURATION,
                    "default": "0s",
                    "description": "Up to how much later than its time an occurrence comes, so that not all come at "
                    "once; at most 24h.",
                },
                "dst": {
                    "type": "object",
                    "properties": {
                        "gap": {
                            "enum": ["skip", "shift"],
                            "x-gorax": "literal",
                            "default": "shift",
                            "description": "What becomes of wall times that don't exist.",
                        },
                        "fold": {
                            "enum": ["first", "both"],
                            "x-gorax": "literal",
                            "default": "first",
                            "description": "Which of wall times that come twice count.",
                        },
                    },
                    "additionalProperties": False,
                    "description": "When clocks change: `{gap, fold}`.",
                },
                "starts_at": {**_MOMENT, "description": "Nothing occurs before this moment."},
                "ends_at": {**_MOMENT, "description": "Nothing occurs after this moment."},
            },
            "required": ["cron"],
            "additionalProperties": False,
            "$defs": {
                "literal": {
                    "x-gorax": "literal",
                    "additionalProperties": {"$ref": "#/$defs/literal"},
                    "items": {"$ref": "#/$defs/literal"},
                },
            },
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.trigger)
