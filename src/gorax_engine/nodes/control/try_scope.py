"""The node type `try`: runs its body, hands a failure to the handler that takes it, and always runs its `finally`."""

from typing import Final

from gorax_engine.nodes.api import NodeKind, NodeSpec
from gorax_engine.nodes.control.scope_schemas import LISTED_NODES, VARIABLE

HANDLER_KEYS: Final = {
    "error_types": {
        "type": "array",
        "items": {"type": "string", "x-gorax": "literal"},
        "description": "Error codes, `transient` or `permanent`. Without types and patterns every error is taken.",
    },
    "error_patterns": {
        "type": "array",
        "items": {"type": "string", "x-gorax": "literal", "format": "gorax-regex"},
        "description": "RE2 patterns, looked for in the message and the code.",
    },
    "error_binding": {**VARIABLE, "description": "What expressions of the handler call the error: `error`."},
    "propagate_as": {
        "type": "string",
        "x-gorax": "literal",
        "pattern": "^[A-Za-z0-9_.-]{1,100}$",
        "description": "After the handler has run, the error goes outward with this code.",
    },
}


class Try:
    """A scope; `core.walk` carries it out."""

    spec: Final = NodeSpec(
        name="try",
        kind=NodeKind.WALK,
        aliases=("control:try",),
        title="Try",
        description="Edges labelled `try`, `catch` and `finally` lead to its bodies, `done` leads out. The output is "
        "{try_output or try_error and catch_output, finally_output, success, error_handled}.",
        schema={
            "type": "object",
            "properties": {
                "catches": {
                    "type": "array",
                    "maxItems": 100,
                    "items": {
                        "type": "object",
                        "properties": {**HANDLER_KEYS, "nodes": LISTED_NODES},
                        "additionalProperties": False,
                    },
                    "description": "The handlers, tried in order. Those without `nodes` take `catch` edges in order.",
                },
                "error_binding": {**VARIABLE, "description": "For handlers that don't say it themselves: `error`."},
                "try_nodes": LISTED_NODES,
                "catch_nodes": LISTED_NODES,
                "finally_nodes": LISTED_NODES,
            },
            "additionalProperties": False,
        },
    )
