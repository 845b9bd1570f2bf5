"""The node type `retry`: runs its body again, as a new round, when it fails."""

from typing import Final

from gorax_engine.nodes.api import NodeKind, NodeSpec


class Retry:
    """A scope; `core.walk` carries it out. The reading of definitions checks its config, which is a retry policy."""

    spec: Final = NodeSpec(
        name="retry",
        kind=NodeKind.WALK,
        aliases=("control:retry",),
        title="Retry",
        description="Runs its body (the edge labelled `body`) up to `max_attempts` times (3), on any error unless it "
        "says which; goes on along `done`. The output is {output, attempts, success, retries}.",
        schema={
            "type": "object",
            "properties": {
                "max_attempts": {"x-gorax": "literal", "description": "1 to 100; counts the first: 3."},
                "strategy": {"x-gorax": "literal", "description": "`fixed`, `exponential` or `exponential_jitter`."},
                "initial_delay": {"x-gorax": "literal", "description": "Before the second attempt: 1 s."},
                "max_delay": {"x-gorax": "literal", "description": "The longest pause: 60 s."},
                "multiplier": {"x-gorax": "literal", "description": "1 to 100: 2."},
                "retry_on": {"items": {"x-gorax": "literal"}, "description": "Codes, classes or patterns."},
                "give_up_on": {"items": {"x-gorax": "literal"}, "description": "The same: never again."},
                "status_codes": {"description": "HTTP statuses."},
            },
            "additionalProperties": False,
        },
    )
