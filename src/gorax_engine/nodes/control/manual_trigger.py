"""The node type `manual_trigger`: a run starts by the API or the command line; the output is the trigger data."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome


class ManualTrigger:
    """Starts a run when somebody asks for one."""

    spec: Final = NodeSpec(
        name="manual_trigger",
        kind=NodeKind.TRIGGER,
        aliases=("trigger:manual", "manual"),
        title="Manual start",
        description="Starts a run when a person or a program asks for one; the output is {body}.",
        schema={"type": "object", "properties": {}, "additionalProperties": False},
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.trigger)
