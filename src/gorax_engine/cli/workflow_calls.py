"""Finding, applying and publishing workflows over HTTP: what several commands do alike."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from gorax_engine.cli.client import Refused, segment
from gorax_engine.errors import InvalidDefinition, NotFound

if TYPE_CHECKING:
    from gorax_engine.cli.client import Client
    from gorax_engine.cli.workflow_files import WorkflowFile
    from gorax_engine.core.model import Json

ALL = 1_000_000


def is_id(text: str) -> bool:
    """Return whether `text` is the id of an object rather than its name."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def find_workflow(client: Client, name_or_id: str) -> Json:
    """Return the workflow of this name or id, with its definition. Raises NotFound."""
    workflow_id = name_or_id if is_id(name_or_id) else find_id(client, name_or_id)
    if workflow_id is None:
        raise NotFound(f"There is no workflow named {name_or_id!r}.", code="workflow_not_found")
    return client.get(f"/workflows/{segment(workflow_id)}").data


def find_id(client: Client, name: str) -> str | None:
    """Return the id of the workflow of this name, or None."""
    for item in client.pages("/workflows", {"name": name}, ALL):
        if item["name"] == name and item.get("status") != "archived":
            return str(item["id"])
    return None


def publish_workflow(client: Client, workflow_id: str) -> Json:
    """Publish the draft; return the answer's data."""
    return client.call("POST", f"/workflows/{segment(workflow_id)}/publish", {}).data


def validate_workflow(client: Client, workflow: WorkflowFile) -> Json:
    """Return what the server says of the definition: `{valid, errors, warnings}`."""
    return client.call("POST", "/workflows/validate", {"definition": workflow.whole_definition()}).data


def export_workflow(client: Client, name_or_id: str, version: int | None) -> WorkflowFile:
    """Return a workflow's draft, or a published version of it, as `apply_workflow` takes it. Raises NotFound."""
    from gorax_engine.cli.workflow_files import STDIN, WorkflowFile

    item = find_workflow(client, name_or_id)
    definition = item["definition"]
    if version is not None:
        definition = client.get(f"/workflows/{segment(item['id'])}/versions/{version}").data["definition"]
    return WorkflowFile(STDIN, "", item["name"], definition, item.get("description"))


def apply_workflow(client: Client, workflow: WorkflowFile) -> dict[str, Json]:
    """Save the workflow under its name and publish what changed; return `id, name, action, version`.

    Raises Refused, with the file's name before the sentence and before every pointer.
    """
    try:
        return _apply(client, workflow)
    except Refused as refused:
        # Pointers of a bad definition lead into the definition, all others into the body (docs of the API).
        in_definition = refused.code == InvalidDefinition.code
        raise Refused(
            f"{workflow.path}: {workflow.name}: {refused.message}",
            code=refused.code,
            status=refused.status,
            problems=workflow.locate(refused.problems, in_definition=in_definition),
            request_id=refused.request_id,
        ) from refused


def _apply(client: Client, workflow: WorkflowFile) -> dict[str, Json]:
    workflow_id = find_id(client, workflow.name)
    if workflow_id is None:
        before: Json = {}
        saved = client.call("POST", "/workflows", workflow.body()).data
    else:
        path = f"/workflows/{segment(workflow_id)}"
        answer = client.get(path)
        before = answer.data
        # The ETag keeps somebody else's edit of the same moment from being overwritten unseen.
        headers = {"If-Match": answer.etag} if answer.etag else {}
        saved = client.call("PUT", path, workflow.body(), headers=headers).data
    # The server keeps the revision of what it already has, and the version of what it has published already.
    published = publish_workflow(client, saved["id"])
    stands = (saved.get("revision"), published["published_version"])
    if not before:
        action = "created"
    elif stands == (before.get("revision"), before["published_version"]):
        action = "unchanged"
    else:
        action = "updated"
    return {"id": saved["id"], "name": saved["name"], "action": action, "version": published["published_version"]}
