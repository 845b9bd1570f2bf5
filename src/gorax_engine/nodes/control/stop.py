"""The node type `stop`: ends the run as completed."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class Stop:
    """Ends the run, wherever it stands, with an output."""

    spec: Final = NodeSpec(
        name="stop",
        kind=NodeKind.CONTROL,
        aliases=("control:stop",),
        title="Stop",
        description="Ends the run as completed, wherever it stands, and cancels what still runs.",
        schema={
            "type": "object",
            "properties": {"output": {"description": "The output of the run; null if it is left out."}},
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(config.get("output"), stop=True)
