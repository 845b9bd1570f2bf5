"""The example workflows that `gorax dev` brings along: where they are, and fitting them to the server's address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from gorax_engine.cli.session import DEFAULT_SERVER
from gorax_engine.cli.workflow_calls import apply_workflow
from gorax_engine.cli.workflow_files import WorkflowFile, check_workflows, parse

if TYPE_CHECKING:
    from gorax_engine.cli.client import Client

TESTS: Final = ".test"
"""Before the ending of files that hold cases of a workflow, not workflows."""
_PACKAGE: Final = Path(__file__).resolve().parent.parent


def examples_directory() -> Path:
    """Return where the examples are: inside an installed package, or at the root of a checkout."""
    installed = _PACKAGE / "config" / "examples"
    return installed if installed.is_dir() else _PACKAGE.parent.parent / "config" / "examples"


def read_examples(server: str) -> list[WorkflowFile]:
    """Read the examples; they call the server itself, so its address replaces the default one in them."""
    workflows: list[WorkflowFile] = []
    for path in sorted(examples_directory().iterdir()):
        if path.stem.endswith(TESTS):
            continue
        text = path.read_text(encoding="utf-8").replace(DEFAULT_SERVER, server)
        workflows += check_workflows(path, parse(path, text))
    return workflows


def apply_examples(client: Client, server: str) -> None:
    """Save and publish the examples. Raises CannotConnect, Refused."""
    for workflow in read_examples(server):
        apply_workflow(client, workflow)
