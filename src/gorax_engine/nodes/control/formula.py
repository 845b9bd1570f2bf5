"""The node type `formula`: the value of one expression."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import BoundExpression, Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class Formula:
    """Evaluates an expression; the output is its bare value."""

    spec: Final = NodeSpec(
        name="formula",
        kind=NodeKind.PURE,
        aliases=("action:formula",),
        title="Formula",
        description="Evaluates an expression; the output is its bare value.",
        schema={
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "x-gorax": "expression",
                    "minLength": 1,
                    "description": "The expression, such as `round(trigger.body.total * 1.19)`.",
                },
                "output_variable": {
                    "type": "string",
                    "x-gorax": "name",
                    "description": "Read and not used, as in Gorax.",
                },
            },
            "required": ["expression"],
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        expression: BoundExpression = config["expression"]
        return Completed(expression.evaluate({}))
