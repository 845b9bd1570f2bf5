"""The node type `webhook_trigger`: a run starts when its webhook is called; the output is the trigger data."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.nodes.control.webhook_trigger_schema import SCHEMA


class WebhookTrigger:
    """Starts a run for each accepted request."""

    spec: Final = NodeSpec(
        name="webhook_trigger",
        kind=NodeKind.TRIGGER,
        aliases=("trigger:webhook", "webhook"),
        title="Webhook",
        description="Starts a run for each accepted request; the output is {method, path, headers, query, body}, "
        "and raw of a form.",
        schema=SCHEMA,
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.trigger)
