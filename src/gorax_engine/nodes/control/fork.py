"""The node type `fork`: the place where branches part that a `join` brings together again."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class Fork:
    """Goes on along all its edges, as every node does."""

    spec: Final = NodeSpec(
        name="fork",
        kind=NodeKind.CONTROL,
        aliases=("control:fork",),
        title="Fork",
        description="All edges that leave it are branches. The output is {branch_count, branch_ids}.",
        schema={
            "type": "object",
            "properties": {
                "branch_count": {
                    "type": "integer",
                    "x-gorax": "literal",
                    "minimum": 0,
                    "maximum": 1000,
                    "description": "How many branches the output names; the edges say how many there are.",
                }
            },
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        branches = config.get("branch_count", 0)
        return Completed({"branch_count": branches, "branch_ids": [f"branch_{number}" for number in range(branches)]})
