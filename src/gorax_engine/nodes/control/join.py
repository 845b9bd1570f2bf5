"""The node type `join`: waits for all branches that lead to it, or for some of them."""

from typing import Final

from gorax_engine.nodes.api import NodeKind, NodeSpec
from gorax_engine.nodes.control.scope_schemas import count, word


class Join:
    """`core.walk` carries it out."""

    spec: Final = NodeSpec(
        name="join",
        kind=NodeKind.WALK,
        aliases=("control:join",),
        title="Join",
        description="Fires once, when all live edges that lead to it have arrived, or `required_count` of them. The "
        "output is {completed_branches, branch_outputs: {source id: output}, timed_out}.",
        schema={
            "type": "object",
            "properties": {
                "join_strategy": word("wait_all", "wait_n", description="`wait_n` waits for `required_count`."),
                "required_count": count("How many arrivals `wait_n` waits for.", most=1000),
                "timeout_ms": count("How long it waits from the first arrival, in milliseconds; 0: no end.", least=0,
                                    most=3_153_600_000_000),
                "timeout": {
                    "type": ["string", "number"],
                    "x-gorax": "literal",
                    "format": "gorax-duration",
                    "description": "The same as a duration.",
                },
                "on_timeout": word(
                    "fail", "continue",
                    description="`fail` with `join_timeout`, or go on with what has arrived.",
                ),
                "cancel_remaining": {
                    "type": "boolean",
                    "x-gorax": "literal",
                    "description": "Whether what still leads to it, and nowhere else, is cut off when it fires: true.",
                },
            },
            "if": {"properties": {"join_strategy": {"const": "wait_n"}}, "required": ["join_strategy"]},
            "then": {"required": ["required_count"]},
            "additionalProperties": False,
        },
    )  # fmt: skip
