"""The example workflows: free of faults, and fitted to the server that they call."""

import json
from typing import cast

import pytest

from gorax_engine.cli.examples import examples_directory, read_examples
from gorax_engine.cli.workflow_files import WorkflowFile
from gorax_engine.core.reading import read
from gorax_engine.nodes.outbound import OutboundClient
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.nodes.tasks.http_request import HttpRequest

SERVER = "http://127.0.0.1:4711"
EXAMPLES = read_examples(SERVER)


@pytest.mark.parametrize("workflow", EXAMPLES, ids=lambda workflow: workflow.name)
def test_an_example_has_neither_faults_nor_warnings(workflow: WorkflowFile) -> None:
    # The node's client is not asked for anything: only its description is read.
    reading = read(workflow.definition, NodeRegistry(builtin_nodes([HttpRequest(cast("OutboundClient", None))])))
    assert reading.problems == ()
    assert reading.warnings == ()


def test_examples_call_the_server_they_run_on_and_each_other() -> None:
    assert {workflow.name for workflow in EXAMPLES} >= {"hello", "order-intake"}
    text = json.dumps([workflow.definition for workflow in EXAMPLES])
    assert ":8080" not in text
    paths = {
        node["config"]["path"]
        for workflow in EXAMPLES
        for node in workflow.definition["nodes"]
        if node["type"] == "webhook_trigger"
    }
    calls = [
        node["config"]["url"]
        for workflow in EXAMPLES
        for node in workflow.definition["nodes"]
        if node["type"] == "http_request"
    ]
    assert calls
    assert {url.removeprefix(f"{SERVER}/webhooks/") for url in calls} <= paths


def test_every_file_among_the_examples_is_one() -> None:
    names = {path.name for path in examples_directory().iterdir()}
    assert {name for name in names if ".test." not in name} == {workflow.path.name for workflow in EXAMPLES}
