"""What the webhook nodes of a definition ask for, and what to do so that the webhooks of a workflow match them.

Pure functions: `webhook_sync` does what they decide.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from gorax_engine.core.filters import BadFilter, check_filter
from gorax_engine.core.ip_ranges import normal_range
from gorax_engine.core.json_paths import BadPath, compile_path
from gorax_engine.core.model import Json
from gorax_engine.core.webhook_paths import PATH_RULE, is_usable, normal_path
from gorax_engine.errors import Problem

NODE_TYPE: Final = "webhook_trigger"
DEFAULT_METHOD: Final = "POST"

SETTINGS: Final = (
    "description", "timestamp_tolerance", "allowed_ips", "max_body_bytes", "rate_limit", "dedupe_header", "dedupe_path",
    "response_mode", "priority",
)  # fmt: skip
"""What a node sets of its webhook where it names it, and else leaves as it is."""


@dataclass(frozen=True, slots=True)
class WebhookNode:
    """A webhook node of a definition.

    `path` is None where one is to be made up, `filters` and `secret` where the node doesn't say; `settings` are those
    of `SETTINGS` that it names.
    """

    node_id: str
    name: str
    path: str | None
    methods: tuple[str, ...]
    auth_type: str
    signature_scheme: str = "gorax"
    secret: str | None = field(default=None, repr=False)
    settings: Mapping[str, Json] = field(default_factory=dict)
    filters: tuple[Mapping[str, Json], ...] | None = None


@dataclass(frozen=True, slots=True)
class ExistingWebhook:
    """A webhook that the workflow has already for one of its nodes."""

    id: UUID
    node_id: str
    path: str


@dataclass(frozen=True, slots=True)
class CreateWebhook:
    node: WebhookNode


@dataclass(frozen=True, slots=True)
class ChangeWebhook:
    """A `path` of None is to be made up."""

    id: UUID
    path: str | None
    node: WebhookNode


@dataclass(frozen=True, slots=True)
class VacatePath:
    """Another webhook of the workflow takes the path; a ChangeWebhook of this one follows."""

    id: UUID


@dataclass(frozen=True, slots=True)
class DropWebhook:
    id: UUID


WebhookAction: TypeAlias = CreateWebhook | ChangeWebhook | VacatePath | DropWebhook


def webhook_nodes(definition: Json) -> Iterator[tuple[int, WebhookNode]]:
    """Yield the webhook nodes of a canonical definition with their places in `nodes`."""
    for place, node in enumerate(definition["nodes"]):
        if node["type"] != NODE_TYPE:
            continue
        config: Mapping[str, Json] = node.get("config") or {}
        path = config.get("path")
        methods = config.get("methods") or [config.get("method") or DEFAULT_METHOD]
        filters = config.get("filters")
        yield (
            place,
            WebhookNode(
                node_id=node["id"],
                name=node.get("name") or node["id"],
                path=None if path is None else normal_path(path),
                methods=tuple(dict.fromkeys(method.upper() for method in methods)),
                auth_type=config.get("auth_type") or "none",
                signature_scheme=config.get("signature_scheme") or "gorax",
                secret=config.get("secret"),
                settings={name: config[name] for name in SETTINGS if name in config},
                filters=None if filters is None else tuple(filters),
            ),
        )


def config_problems(definition: Json) -> list[Problem]:
    """Return the faults of the webhook nodes of a canonical definition that was found free of other errors."""
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for place, node in webhook_nodes(definition):
        pointer = f"/nodes/{place}/config"
        problems += (
            Problem("invalid_config", pointer + at, message)
            for at, message in (
                *_path_faults(node, seen),
                *_setting_faults(node.settings),
                *_filter_faults(node.filters or ()),
            )
        )
    return problems


def _path_faults(node: WebhookNode, seen: dict[str, str]) -> Iterator[tuple[str, str]]:
    path = node.path
    if path is None:
        return
    if not is_usable(path):
        yield "/path", f"`{path[:100]}` can't be a webhook path; {PATH_RULE}."
    elif path in seen:
        yield "/path", f"The node `{seen[path]}` has the webhook path `{path}` too; give each its own."
    else:
        seen[path] = node.node_id


def _setting_faults(settings: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(settings.get("allowed_ips", ())):
        try:
            normal_range(text)
        except ValueError as error:
            yield f"/allowed_ips/{number}", str(error)
    if "dedupe_path" in settings:
        try:
            compile_path(settings["dedupe_path"])
        except BadPath as error:
            yield "/dedupe_path", str(error)


def _filter_faults(filters: Sequence[Mapping[str, Json]]) -> Iterator[tuple[str, str]]:
    for number, each in enumerate(filters):
        try:
            check_filter(each["field_path"], each["operator"], each.get("value"))
        except BadFilter as error:
            yield f"/filters/{number}/{error.field}", error.message


def plan_webhooks(nodes: Sequence[WebhookNode], existing: Sequence[ExistingWebhook]) -> list[WebhookAction]:
    """Return what to do, in order, so that each node has its webhook.

    A node keeps its webhook, and the path that was made up for it, from version to version; unless another node asks
    for that path. Drops come first, and paths that go from one webhook to another are vacated before they are taken.
    """
    by_node = {webhook.node_id: webhook for webhook in existing}
    asked = {node.path: node.node_id for node in nodes if node.path is not None}
    wanted = {node.node_id for node in nodes}
    drops: list[WebhookAction] = [DropWebhook(webhook.id) for webhook in existing if webhook.node_id not in wanted]
    vacated: list[WebhookAction] = []
    changes: list[WebhookAction] = []
    creations: list[WebhookAction] = []
    for node in nodes:
        known = by_node.get(node.node_id)
        if known is None:
            creations.append(CreateWebhook(node))
            continue
        taken = asked.get(known.path, node.node_id) != node.node_id
        if taken:
            vacated.append(VacatePath(known.id))
        changes.append(ChangeWebhook(known.id, node.path or (None if taken else known.path), node))
    return drops + vacated + changes + creations
