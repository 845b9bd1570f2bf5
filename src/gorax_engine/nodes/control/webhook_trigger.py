"""The node type `webhook_trigger`: a run starts when its webhook is called; the output is the trigger data."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.nodes.api import Completed, Json, NodeContext, NodeKind, NodeSpec, Outcome

_METHOD: Final[Json] = {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]}
_LATER: Final[Json] = {
    "not": {},
    "description": "Comes in a later release.",
    "x-gorax-message": "Webhooks that ask for a proof come in a later release; remove this key for an open one.",
}


class WebhookTrigger:
    """Starts a run for each accepted request."""

    spec: Final = NodeSpec(
        name="webhook_trigger",
        kind=NodeKind.TRIGGER,
        aliases=("trigger:webhook", "webhook"),
        title="Webhook",
        description="Starts a run for each accepted request; the output is {method, path, headers, query, body}.",
        schema={
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "x-gorax": "literal",
                    "minLength": 1,
                    "maxLength": 255,
                    "description": "The path below /webhooks/; random if it is left out.",
                },
                "method": {**_METHOD, "x-gorax": "literal", "description": "The one HTTP method that is accepted."},
                "methods": {
                    "type": "array",
                    "items": {**_METHOD, "x-gorax": "literal"},
                    "minItems": 1,
                    "description": "The HTTP methods that are accepted.",
                },
                "auth_type": {
                    "enum": ["none"],
                    "x-gorax": "literal",
                    "default": "none",
                    "description": "How a caller proves who it is.",
                    "x-gorax-message": "Only the auth_type `none` is supported in this release; "
                    "`secret`, `basic` and `bearer` come in a later one.",
                },
                # Whoever writes one of these wants callers to prove themselves: an open webhook would betray them.
                **dict.fromkeys(("secret", "auth", "allowed_ips", "signature_scheme"), _LATER),
                "response_mode": {
                    "enum": ["accepted"],
                    "x-gorax": "literal",
                    "default": "accepted",
                    "description": "`accepted`: the caller is answered as soon as the run is stored.",
                    "x-gorax-message": "Only the response_mode `accepted` is supported in this release; "
                    "`result` comes in a later one.",
                },
            },
            "additionalProperties": False,
        },
    )

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        return Completed(context.trigger)
