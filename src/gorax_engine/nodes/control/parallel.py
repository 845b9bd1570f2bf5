"""The node type `parallel`: runs named branches at the same time, and waits for all or for the first."""

from typing import Final

from gorax_engine.nodes.api import NodeKind, NodeSpec
from gorax_engine.nodes.control.scope_schemas import LISTED_NODES, count, word

_BRANCH_NAME: Final = "^[^.\\[\\]:\\x00-\\x1f\\x7f]+$"


class Parallel:
    """A scope; `core.walk` carries it out."""

    spec: Final = NodeSpec(
        name="parallel",
        kind=NodeKind.WALK,
        aliases=("control:parallel",),
        title="Parallel",
        description="Each labelled edge is a branch (`done` leads out). The output is {branches: [{branch_name, "
        "output, error, duration_ms}], total_branches, completed_branches}, or with `first` {first_completed, result}.",
        schema={
            "type": "object",
            "properties": {
                "branches": {
                    "type": "array",
                    "maxItems": 1000,
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {
                                "type": "string",
                                "x-gorax": "name",
                                "minLength": 1,
                                "maxLength": 255,
                                "pattern": _BRANCH_NAME,
                                "not": {"enum": ["done", "error"]},
                                "x-gorax-message": "A branch needs a name without `.`, `[`, `]` and `:` that is "
                                "neither `done` nor `error`.",
                            },
                            "nodes": LISTED_NODES,
                        },
                        "required": ["name"],
                        "additionalProperties": False,
                    },
                    "description": "The branches, where edges alone don't say them.",
                },
                "wait_mode": word(
                    "all", "first",
                    description="`first`: the first success is enough, and the other branches are cancelled.",
                ),
                "max_concurrency": count("How many branches run at a time; 0: all.", least=0, most=1000),
                "failure_mode": word(
                    "stop_all", "continue",
                    description="Whether a failed branch fails it all, or becomes an `error` in the output.",
                ),
                "error_strategy": word("fail_fast", "wait_all", description="Gorax's older name; `failure_mode` wins."),
                "branch_count": {"type": "integer", "description": "Read and not used."},
            },
            "additionalProperties": False,
        },
    )  # fmt: skip
