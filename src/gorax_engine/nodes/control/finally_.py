"""The node type `finally`: may head the body of a `try` that always runs."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class Finally:
    """Does nothing itself."""

    spec: Final = NodeSpec(
        name="finally",
        kind=NodeKind.CONTROL,
        aliases=("control:finally",),
        title="Finally",
        description="The first node of what a `try` always runs; the output is an empty object.",
        schema={
            "type": "object",
            "properties": {"always_run": {"description": "Read and not used: it always runs."}},
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed({})
