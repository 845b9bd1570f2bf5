"""The node type `condition`: two ways on, by a condition."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import BoundExpression, Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.nodes.control.values import boolean, type_error


class Condition:
    """Takes the edges `true` or `false`; may end the run instead."""

    spec: Final = NodeSpec(
        name="condition",
        kind=NodeKind.CONTROL,
        aliases=("control:if", "control:conditional", "conditional", "if"),
        title="Condition",
        description="Goes on along the edges labelled `true` or `false`; the output is {result}.",
        outcomes=lambda config: ("true", "false"),
        schema={
            "type": "object",
            "properties": {
                "condition": {
                    "type": "string",
                    "x-gorax": "expression",
                    "minLength": 1,
                    "description": "An expression that gives true or false.",
                },
                "stop_on_true": {"type": "boolean", "default": False, "description": "Ends the run if it is true."},
                "stop_on_false": {"type": "boolean", "default": False, "description": "Ends the run if it is false."},
                "description": {"type": "string", "x-gorax": "literal", "description": "A note for people."},
            },
            "required": ["condition"],
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        condition: BoundExpression = config["condition"]
        result = condition.evaluate({})
        if not isinstance(result, bool):
            return type_error("condition", "true or false", result)
        stop = config.get("stop_on_true" if result else "stop_on_false", False)
        if (fault := boolean("stop_on_true" if result else "stop_on_false", stop)) is not None:
            return fault
        return Completed({"result": result}, outcome="true" if result else "false", stop=stop)
