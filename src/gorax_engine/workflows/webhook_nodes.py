"""What the webhook nodes of a definition ask for, and what to do so that the webhooks of a workflow match them.

Pure functions: `publishing` does what they decide.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from gorax_engine.core.model import Json
from gorax_engine.errors import Problem

NODE_TYPE: Final = "webhook_trigger"
DEFAULT_METHOD: Final = "POST"
MAX_PATH: Final = 255

_PREFIX: Final = "/webhooks/"
_SEGMENTS: Final = re.compile(r"[^\s/?#%\x00-\x1f\x7f]+(?:/[^\s/?#%\x00-\x1f\x7f]+)*")
# The form of the second address of every webhook, /webhooks/{workflow_id}/{webhook_id}: no path may look like it.
_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PAIR_OF_IDS: Final = re.compile(f"{_ID}/{_ID}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WebhookNode:
    """A webhook node of a definition. `path` is None where one is to be made up."""

    node_id: str
    name: str
    path: str | None
    methods: tuple[str, ...]
    auth_type: str


@dataclass(frozen=True, slots=True)
class ExistingWebhook:
    """A webhook that the workflow has already."""

    id: UUID
    node_id: str
    path: str


@dataclass(frozen=True, slots=True)
class CreateWebhook:
    node: WebhookNode


@dataclass(frozen=True, slots=True)
class ChangeWebhook:
    id: UUID
    path: str
    node: WebhookNode


@dataclass(frozen=True, slots=True)
class DropWebhook:
    id: UUID


WebhookAction: TypeAlias = CreateWebhook | ChangeWebhook | DropWebhook


def normal_path(path: str) -> str:
    """Return a path as it is stored: without `/webhooks/` and without slashes at its ends."""
    return path.removeprefix(_PREFIX).strip("/")


def webhook_nodes(definition: Json) -> Iterator[tuple[int, WebhookNode]]:
    """Yield the webhook nodes of a canonical definition with their places in `nodes`."""
    for place, node in enumerate(definition["nodes"]):
        if node["type"] != NODE_TYPE:
            continue
        config: Mapping[str, Json] = node.get("config") or {}
        path = config.get("path")
        methods = config.get("methods") or [config.get("method") or DEFAULT_METHOD]
        yield (
            place,
            WebhookNode(
                node_id=node["id"],
                name=node.get("name") or node["id"],
                path=None if path is None else normal_path(path),
                methods=tuple(dict.fromkeys(method.upper() for method in methods)),
                auth_type=config.get("auth_type") or "none",
            ),
        )


def path_problems(definition: Json) -> list[Problem]:
    """Return the faults of the webhook paths of a canonical definition that was found free of other errors."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for place, node in webhook_nodes(definition):
        pointer = f"/nodes/{place}/config/path"
        path = node.path
        if path is None:
            continue
        if not _is_usable(path):
            message = (
                f"`{path[:100]}` can't be a webhook path; use 1 to {MAX_PATH} characters in non-empty segments, "
                "without blanks, `?`, `#`, `%` and dots alone, and not two UUIDs."
            )
            problems.append(Problem("invalid_config", pointer, message))
        elif path in seen:
            message = f"The node `{seen[path]}` has the webhook path `{path}` too; give each its own."
            problems.append(Problem("invalid_config", pointer, message))
        else:
            seen[path] = node.node_id
    return problems


def plan_webhooks(nodes: Sequence[WebhookNode], existing: Sequence[ExistingWebhook]) -> list[WebhookAction]:
    """Return what to do, in order, so that each node has its webhook.

    A node keeps its webhook, and the path that was made up for it, from version to version. Drops come first, so that
    a path may move from one node to another.
    """
    by_node = {webhook.node_id: webhook for webhook in existing}
    holders = {webhook.path: webhook.id for webhook in existing}
    wanted = {node.node_id for node in nodes}
    drops: list[WebhookAction] = [DropWebhook(webhook.id) for webhook in existing if webhook.node_id not in wanted]
    changes: list[WebhookAction] = []
    creations: list[WebhookAction] = []
    for node in nodes:
        known = by_node.get(node.node_id)
        path = node.path or (known.path if known else None)
        if known is None or path is None:
            creations.append(CreateWebhook(node))
        elif holders.get(path, known.id) == known.id:
            changes.append(ChangeWebhook(known.id, path, node))
        else:
            # Another node of this workflow has held the path: a new webhook takes it once that one has let go.
            drops.append(DropWebhook(known.id))
            creations.append(CreateWebhook(node))
    return drops + changes + creations


def _is_usable(path: str) -> bool:
    return (
        len(path) <= MAX_PATH
        and _SEGMENTS.fullmatch(path) is not None
        and not any(segment in {".", ".."} for segment in path.split("/"))
        and _PAIR_OF_IDS.fullmatch(path) is None
    )
