"""The JSON Schema of the config of `human_task`."""

from typing import Final

from gorax_engine.nodes.api import Json

_DURATION: Final[Json] = {"type": ["string", "number"], "format": "gorax-duration", "minimum": 0}
_ASSIGNEE: Final[Json] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 255},
        {
            "type": "object",
            "properties": {
                "type": {"enum": ["user", "role"], "x-gorax": "literal"},
                "id": {"type": "string", "minLength": 1, "maxLength": 255},
                "name": {"type": "string", "minLength": 1, "maxLength": 255},
            },
            "required": ["type"],
            "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
            "additionalProperties": False,
        },
    ],
}
_ASSIGNEES: Final[Json] = {
    "anyOf": [_ASSIGNEE, {"type": "array", "items": _ASSIGNEE, "minItems": 1, "maxItems": 100}],
}
_FIELD: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 255, "description": "The key in the response."},
        "type": {
            "enum": ["text", "number", "select", "checkbox", "date"],
            "x-gorax": "literal",
            "default": "text",
            "description": "What is asked for; a date is YYYY-MM-DD or RFC 3339.",
        },
        "label": {"type": "string", "description": "What people read; the name if it is left out."},
        "required": {"type": "boolean", "default": False},
        "options": {
            "anyOf": [{"type": "array", "maxItems": 1000}, {"type": "null"}],
            "description": "What can be selected, for a select.",
        },
        "default": {"description": "The value of a field that is left out."},
    },
    "required": ["name"],
    "if": {"properties": {"type": {"const": "select"}}, "required": ["type"]},
    "then": {"required": ["options"]},
}
_LEVEL: Final[Json] = {
    "type": "object",
    "properties": {
        "level": {
            "type": "integer",
            "minimum": 1,
            "description": "Its place in the order.",
        },
        "timeout_minutes": {"type": "number", "minimum": 0, "description": "How long this level has."},
        "backup_approvers": {**_ASSIGNEES, "description": "Who may decide from this level on, beside those before."},
        "notify_original": {"type": "boolean", "default": False, "description": "Tell those before, too."},
    },
    "required": ["backup_approvers"],
    "additionalProperties": False,
}

SCHEMA: Final[Json] = {
    "type": "object",
    "properties": {
        "task_type": {
            "enum": ["approval", "input", "review"],
            "x-gorax": "literal",
            "default": "approval",
            "description": "What people are asked for.",
        },
        "title": {"type": "string", "minLength": 1, "description": "What people read first, up to 255 characters."},
        "description": {"type": ["string", "null"], "description": "What they must know to decide."},
        "assignees": {
            **_ASSIGNEES,
            "description": "Who may decide: a user's id or a role's name, `{type: user, id}` or `{type: role, name}`.",
        },
        "due_date": {
            "anyOf": [{"type": "string", "format": "gorax-instant"}, _DURATION, {"type": "null"}],
            "description": "When it should be decided: a moment (RFC 3339), or a length of time from the opening.",
            "x-gorax-message": "This must be a moment such as 2030-01-31T09:00:00Z, or a duration such as 24h.",
        },
        "timeout": {
            **_DURATION,
            "description": "How long there is to decide; without it, and with `on_timeout`, until the due date.",
        },
        "on_timeout": {
            "enum": ["auto_approve", "auto_reject", "escalate", "expire"],
            "x-gorax": "literal",
            "default": "expire",
            "description": "What happens when that time is over.",
        },
        "escalate_to": {**_ASSIGNEES, "description": "Who may decide, too, from then on, with `on_timeout: escalate`."},
        "form_fields": {
            "type": "array",
            "maxItems": 200,
            "items": _FIELD,
            "description": "The form: `[{name, type, label, required, options, default}]`.",
        },
        "escalation": {
            "type": "object",
            "properties": {
                "enabled": {"type": "boolean", "default": True},
                "levels": {"type": "array", "maxItems": 20, "items": _LEVEL},
                "final_action": {
                    "enum": ["auto_approve", "auto_reject", "fail"],
                    "x-gorax": "literal",
                    "description": "What happens when the time of the last level is over; `fail` is expiry.",
                },
                "notify_on_escalate": {"type": "boolean", "default": True, "description": "Tell the new ones."},
            },
            "additionalProperties": False,
            "description": "Levels that follow each other when time is over: "
            "`{enabled, levels, final_action, notify_on_escalate}`.",
        },
        "reminders": {
            "anyOf": [_DURATION, {"type": "array", "maxItems": 20, "items": _DURATION}],
            "description": "How long before the due date (or the end of the time) the assignees are reminded.",
        },
        "notify": {
            "type": "object",
            "properties": {
                "credential": {
                    "type": "string",
                    "x-gorax": "name",
                    "minLength": 1,
                    "maxLength": 255,
                    "description": "The name of an SMTP credential.",
                },
                "from": {"type": "string", "description": "The sender; by default that of the credential."},
            },
            "required": ["credential"],
            "additionalProperties": False,
            "description": "Mail to the assignees, besides their notifications: `{credential, from}`.",
        },
    },
    "required": ["title", "assignees"],
    "if": {"properties": {"on_timeout": {"const": "escalate"}}, "required": ["on_timeout"]},
    "then": {"anyOf": [{"required": ["escalate_to"]}, {"required": ["escalation"]}]},
    "additionalProperties": False,
}
