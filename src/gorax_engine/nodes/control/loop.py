"""The node type `loop`: runs its body for each item of a list or object, n times, or while something holds."""

from typing import Final

from gorax_engine.nodes.api import NodeKind, NodeSpec
from gorax_engine.nodes.control.scope_schemas import VARIABLE, count, word

MAX_ITERATIONS: Final = 100_000
"""The most that a loop may ask for."""


class Loop:
    """A scope; `core.walk` carries it out."""

    spec: Final = NodeSpec(
        name="loop",
        kind=NodeKind.WALK,
        aliases=("control:loop",),
        title="Loop",
        description="Runs its body (the edge labelled `body`) once per item; goes on along `done`. The output is "
        "{iteration_count, iterations: [{index, item, key?, output, error?}]}.",
        schema={
            "type": "object",
            "properties": {
                "source": {
                    "x-gorax": "path",
                    "description": "A list, an object (its keys sorted) or a number n (0 to n - 1).",
                },
                "while": {
                    "type": "string",
                    "x-gorax": "expression",
                    "x-gorax-locals": ["loop"],
                    "minLength": 1,
                    "description": "Tested before each iteration; sees the steps of the iteration before.",
                },
                "item_variable": {**VARIABLE, "description": "What expressions call the item: `item`."},
                "index_variable": {**VARIABLE, "description": "What they call its index, besides `loop.index`."},
                "key_variable": {**VARIABLE, "description": "What they call its key, besides `loop.key`."},
                "max_iterations": count("More items, or more rounds of `while`, fail: 1,000.", most=MAX_ITERATIONS),
                "max_concurrency": count("How many iterations run at a time: 1.", least=0, most=MAX_ITERATIONS),
                "on_error": word(
                    "stop", "continue",
                    description="Whether a failed iteration fails the loop (`stop`), or is an `error` in the output.",
                ),
                "break_conditions": {
                    "type": "array",
                    "maxItems": 100,
                    "items": {
                        "type": "object",
                        "properties": {
                            "condition": {"type": "string", "x-gorax": "expression", "minLength": 1},
                            "field": {"type": "string", "x-gorax": "expression", "minLength": 1},
                            "operator": word(
                                "equals", "==", "not_equals", "!=", "greater_than", ">", "less_than", "<",
                                "greater_or_equal", ">=", "less_or_equal", "<=", "contains", "starts_with", "ends_with",
                                description="How `field` is compared with `value`.",
                            ),
                            "value": {"x-gorax": "literal"},
                        },
                        "anyOf": [{"required": ["condition"]}, {"required": ["field", "operator"]}],
                        "additionalProperties": False,
                    },
                    "description": "Judged after each iteration, in the order of indexes; a true one ends the loop.",
                },
            },
            "oneOf": [{"required": ["source"]}, {"required": ["while"]}],
            "x-gorax-message": "A loop needs either `source` or `while`: give one of them, not both.",
            "additionalProperties": False,
        },
    )  # fmt: skip
