"""The node type `switch`: one of several ways on, by a value or by conditions."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import BoundExpression, Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.nodes.control.values import identity, type_error

DEFAULT: Final = "default"


def _outcomes(config: Mapping[str, Json]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(case["name"] for case in config["cases"]), DEFAULT]))


_CASE: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {
            "type": "string",
            "x-gorax": "name",
            "minLength": 1,
            "maxLength": 255,
            "not": {"const": "error"},
            "x-gorax-message": "A case needs a name: text of 1 to 255 characters that is not `error`.",
            "description": "The label of the edges that this case takes; not `error`, which is for failures.",
        },
        "value": {"description": "The case holds if this equals the switch's `value`."},
        "condition": {
            "type": "string",
            "x-gorax": "expression",
            "minLength": 1,
            "description": "The case holds if this expression gives true.",
        },
    },
    "required": ["name"],
    "anyOf": [{"required": ["value"]}, {"required": ["condition"]}],
    "additionalProperties": False,
}


class Switch:
    """Takes the edges of the first case that holds, else those labelled `default`."""

    spec: Final = NodeSpec(
        name="switch",
        kind=NodeKind.CONTROL,
        aliases=("control:switch",),
        title="Switch",
        description="Goes on along the edges labelled with the first case that holds, else `default`; "
        "the output is {case}.",
        outcomes=_outcomes,
        schema={
            "type": "object",
            "properties": {
                "value": {"x-gorax": "path", "description": "The value that the cases' values are compared with."},
                "cases": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1000,
                    "items": _CASE,
                    "description": "Looked at in order: each has a `name` and a `value` or a `condition`.",
                },
            },
            "required": ["cases"],
            "if": {
                "required": ["cases"],
                "properties": {"cases": {"contains": {"type": "object", "required": ["value"]}}},
            },
            "then": {"required": ["value"]},
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        value = identity(config.get("value"))
        for case in config["cases"]:
            if "condition" in case:
                condition: BoundExpression = case["condition"]
                holds = condition.evaluate({})
                if not isinstance(holds, bool):
                    return type_error(f"condition of case {case['name']}", "true or false", holds)
            else:
                holds = identity(case["value"]) == value
            if holds:
                return Completed({"case": case["name"]}, outcome=case["name"])
        return Completed({"case": DEFAULT}, outcome=DEFAULT)
