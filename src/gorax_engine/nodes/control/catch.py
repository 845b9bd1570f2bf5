"""The node type `catch`: may head a handler's body, and says which errors the handler takes."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome
from gorax_engine.nodes.control.try_scope import HANDLER_KEYS


class Catch:
    """Gives the error that is handled."""

    spec: Final = NodeSpec(
        name="catch",
        kind=NodeKind.CONTROL,
        aliases=("control:catch",),
        title="Catch",
        description="The first node of a handler of a `try`; the output is the error.",
        sees_roots=True,
        schema={"type": "object", "properties": HANDLER_KEYS, "additionalProperties": False},
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.roots.get(config.get("error_binding") or "error"))
