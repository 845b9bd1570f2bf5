"""The node type `fail`: fails, like any failing step, with a code and a message."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Failed, Json, NodeContext, NodeKind, NodeSpec, Outcome, StepError
from gorax_engine.nodes.control.values import type_error


class Fail:
    """Fails the step; error edges, on_error and scopes treat it as any other failure."""

    spec: Final = NodeSpec(
        name="fail",
        kind=NodeKind.CONTROL,
        aliases=("control:fail",),
        title="Fail",
        description="Fails with a code and a message, as any failing step does.",
        schema={
            "type": "object",
            "properties": {
                "code": {
                    "type": "string",
                    "x-gorax": "name",
                    "pattern": "^[A-Za-z0-9_.:-]{1,100}$",
                    "default": "failed",
                    "description": "The code of the error: letters, digits and _ . : - only.",
                    "x-gorax-message": "A code is text of up to 100 letters, digits, `_`, `.`, `:` or `-`.",
                },
                "message": {"type": "string", "description": "What went wrong, for people."},
            },
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        message = config.get("message", "The workflow ended here with a failure.")
        if not isinstance(message, str):
            return type_error("message", "text", message)
        return Failed(StepError(config.get("code", "failed"), message))
