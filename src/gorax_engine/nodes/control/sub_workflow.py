"""The node type `sub_workflow`: runs another workflow as a child, and waits for it unless it is told not to."""

from collections.abc import Mapping
from typing import Final

from gorax_engine.core.durations import parse_duration
from gorax_engine.nodes.api import (
    ChildWait,
    Failed,
    Json,
    NodeContext,
    NodeKind,
    NodeSpec,
    Outcome,
    StepError,
    Suspended,
)
from gorax_engine.nodes.control.scope_schemas import word

SYNC: Final = "sync"
MAX_NAME: Final = 255


class SubWorkflow:
    """Suspends the step; the engine starts the child together with the wait for it."""

    spec: Final = NodeSpec(
        name="sub_workflow",
        kind=NodeKind.CONTROL,
        aliases=("action:subworkflow", "action:sub_workflow", "control:sub_workflow", "control:subworkflow"),
        title="Sub-workflow",
        description="Starts the published version of another workflow. The output is what `output_mapping` finds in "
        "the child's, else the child's output; with `mode: async` it is {execution_id, workflow_id, status}.",
        schema={
            "type": "object",
            "properties": {
                "workflow_id": {"type": "string", "minLength": 1, "description": "Its id, or its name."},
                "workflow_name": {"type": "string", "minLength": 1, "description": "Its name."},
                "input_mapping": {
                    "type": "object",
                    "description": "The child's `trigger.body`: values are templates, other text stands for itself.",
                },
                "input": {"description": "The same as one value of any kind, where there is no `input_mapping`."},
                "output_mapping": {
                    "type": "object",
                    "additionalProperties": {"type": "string", "x-gorax": "literal"},
                    "description": "Target: a path into `output`, or into the child's steps by node id.",
                },
                "mode": word(SYNC, "async", description="Whether the child is waited for: `sync`."),
                "wait_for_result": {
                    "type": "boolean",
                    "x-gorax": "literal",
                    "description": "Gorax's older form of `mode`, which wins.",
                },
                "timeout": {
                    "type": ["string", "number"],
                    "format": "gorax-duration",
                    "minimum": 0,
                    "description": "How long the child may take; then it is cancelled and the step fails.",
                },
                "timeout_ms": {"type": "integer", "minimum": 0, "description": "The same in milliseconds."},
                "cancel_policy": word(
                    "cancel", "abandon", description="What becomes of the child when the step is cut off: `cancel`."
                ),
                "inherit_context": {"description": "Read and not used."},
            },
            "anyOf": [{"required": ["workflow_id"]}, {"required": ["workflow_name"]}],
            "additionalProperties": False,
        },
    )  # fmt: skip

    def evaluate(self, config: Mapping[str, Json], context: NodeContext) -> Outcome:
        workflow = config.get("workflow_id") or config.get("workflow_name")
        if not isinstance(workflow, str) or not 0 < len(workflow) <= MAX_NAME:
            return Failed(StepError("type_error", "`workflow_id` must be the id or the name of a workflow."))
        wait = ChildWait(
            workflow,
            config["input_mapping"] if "input_mapping" in config else config.get("input", {}),
            is_sync(config),
            config.get("output_mapping") or None,
            config.get("cancel_policy") == "abandon",
        )
        try:
            length = parse_duration(config["timeout"]) if config.get("timeout") else config.get("timeout_ms", 0) * 1_000
        except (TypeError, ValueError) as error:
            return Failed(StepError("type_error", f"`timeout` can't be read: {error}"))
        return Suspended(due_at=context.now + length if length else None, wait=wait)


def is_sync(config: Mapping[str, Json]) -> bool:
    """Say whether the child is waited for: by `mode`, else by Gorax's older key, else yes."""
    if config.get("mode") is not None:
        return bool(config["mode"] == SYNC)
    return config.get("wait_for_result") is not False
