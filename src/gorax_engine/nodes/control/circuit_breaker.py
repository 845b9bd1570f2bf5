"""The node type `circuit_breaker`: lets its body run only while it has not failed too often of late."""

from typing import Final

from gorax_engine.nodes.api import NodeKind, NodeSpec
from gorax_engine.nodes.control.scope_schemas import count

BREAKER_KEYS: Final = {
    "max_failures": count("How many failures in a row open it: 5.", most=10_000),
    "failure_threshold": {
        "type": "number",
        "x-gorax": "literal",
        "exclusiveMinimum": 0,
        "maximum": 1,
        "description": "The share of failures in the window that opens it: 0.5.",
    },
    "sliding_window_size": count("How many calls the window has: 10.", most=10_000),
    "timeout_ms": count("How long it stays open, in milliseconds: 60,000.", most=86_400_000),
    "max_requests": count("How many trial calls close it again: 3.", most=1_000),
    "enabled": {"type": "boolean", "x-gorax": "literal", "description": "false: it never opens."},
}


class CircuitBreaker:
    """A scope; `core.walk` carries it out, the engine keeps the breakers (`engine/breakers.py`)."""

    spec: Final = NodeSpec(
        name="circuit_breaker",
        kind=NodeKind.WALK,
        aliases=("control:circuit_breaker",),
        title="Circuit breaker",
        description="Runs its body (the edge labelled `body`) unless it has failed too often: then it fails at once "
        "with `circuit_open`. Goes on along `done`. The output is {circuit_breaker, state, output}.",
        schema={
            "type": "object",
            "properties": {
                "name": {
                    "type": "string",
                    "x-gorax": "name",
                    "minLength": 1,
                    "maxLength": 255,
                    "description": "Breakers of one name in a tenant share their state: the node's id.",
                },
                **BREAKER_KEYS,
            },
            "additionalProperties": False,
        },
    )
