"""The shape of a test file as a JSON Schema: keys, types, and sentences for what is easily got wrong."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.core.durations import LONGEST
from gorax_engine.core.model import SECOND, Json

_DURATION: Final = {
    "type": ["string", "number"],
    "format": "gorax-duration",
    "minimum": 0,
    "maximum": LONGEST // SECOND,
}
_TEXT: Final = {"type": "string", "minLength": 1}
_OBJECT: Final = {"type": "object"}
_STATUSES: Final = ("completed", "failed", "cancelled")
_STEP_STATUSES: Final = ("completed", "failed", "skipped", "running")


def _closed(properties: Mapping[str, Json], **more: Json) -> dict[str, Json]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False, **more}


_ERROR: Final = _closed(
    {
        "code": _TEXT,
        "message": {"type": "string"},
        "http_status_code": {"type": "integer", "minimum": 100, "maximum": 599},
        "classification": {"enum": ["transient", "permanent"]},
        "retry_after": _DURATION,
        "details": _OBJECT,
    },
    required=["code"],
)
_ANSWER: Final = _closed(
    {
        "output": {},
        "error": _ERROR,
        "outcome": _TEXT,
        "after": _DURATION,
        "never": {"const": True, "x-gorax-message": "`never` is `true` or left out."},
        "response": _OBJECT,
        "by": _TEXT,
        "body": {},
        "steps": _OBJECT,
    }
)
_ANSWERS: Final = {
    "if": {"type": "array"},
    "then": {"type": "array", "items": {"$ref": "#/$defs/answer"}, "minItems": 1},
    "else": {"$ref": "#/$defs/answer"},
}
_MOCK: Final = {
    "if": {"type": "object", "required": ["by_path"]},
    "then": _closed({"by_path": {"type": "object", "minProperties": 1, "additionalProperties": _ANSWERS}}),
    "else": _ANSWERS,
}
_MOCKS: Final = {"type": "object", "additionalProperties": _MOCK}
_RESULT: Final = {
    "output": {"description": "What is named in its objects; lists and all else exactly."},
    "exact_output": {"description": "All of it."},
    "error_code": _TEXT,
    "error_message": {"type": "string", "description": "A part of it."},
}
_STEP: Final = _closed(
    {
        "status": {"enum": list(_STEP_STATUSES)},
        "outcome": _TEXT,
        "attempts": {"type": "integer", "minimum": 0},
        "input": {"description": "What is named of its config as rendered."},
        **_RESULT,
    }
)
_EXPECT: Final = _closed(
    {
        "status": {"enum": list(_STATUSES)},
        **_RESULT,
        "steps": {"type": "object", "additionalProperties": _STEP},
        "path": {"type": "array", "items": _TEXT},
        "not_run": {"type": "array", "items": _TEXT},
        "duration": {
            "if": {"type": "object"},
            "then": _closed({"at_least": _DURATION, "at_most": _DURATION}, minProperties=1),
            "else": _DURATION,
        },
    }
)
_WORKFLOW: Final = {
    "type": ["string", "object"],
    "minLength": 1,
    "x-gorax-message": "`workflow` is the name of a file, {file, name}, or the workflow itself: {definition: ...}.",
    "if": {"type": "object", "required": ["definition"]},
    "then": _closed({"definition": _OBJECT, "settings": _OBJECT, "name": _TEXT, "description": _TEXT}),
    "else": {"if": {"type": "object"}, "then": _closed({"file": _TEXT, "name": _TEXT}, required=["file"])},
}
_GIVEN: Final = {
    "trigger": _OBJECT,
    "trigger_type": _TEXT,
    "trigger_node": _TEXT,
    "vars": _OBJECT,
    "env": _OBJECT,
    "now": {"type": "string", "format": "gorax-instant"},
    "mocks": _MOCKS,
}

SCHEMA: Final[Mapping[str, Json]] = {
    **_closed(
        {
            "workflow": _WORKFLOW,
            "description": {"type": "string"},
            "defaults": _closed(_GIVEN),
            "cases": {
                "type": "array",
                "minItems": 1,
                "items": _closed(
                    {
                        "name": _TEXT,
                        "description": {"type": "string"},
                        **_GIVEN,
                        "cancel_after": _DURATION,
                        "expect": _EXPECT,
                    },
                    required=["name"],
                ),
            },
        },
        required=["workflow", "cases"],
    ),
    "$defs": {"answer": _ANSWER},
}
