"""Which webhooks a definition asks for, and the steps to get there."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.workflows.webhook_nodes import (
    ChangeWebhook,
    CreateWebhook,
    DropWebhook,
    ExistingWebhook,
    WebhookNode,
    normal_path,
    path_problems,
    plan_webhooks,
    webhook_nodes,
)

IDS = {name: uuid.uuid5(uuid.NAMESPACE_URL, name) for name in "abcdef"}


def node(name: str, path: str | None) -> WebhookNode:
    return WebhookNode(name, name, path, ("POST",), "none")


def graph(*paths: str | None) -> dict[str, Any]:
    configs = [{} if path is None else {"path": path} for path in paths]
    return {"nodes": [{"id": f"n{i}", "type": "webhook_trigger", "config": c} for i, c in enumerate(configs)]}


@pytest.mark.parametrize(
    ("given", "stored"),
    [("/webhooks/orders", "orders"), ("/orders", "orders"), ("orders/", "orders"), ("a/b", "a/b")],
)
def test_paths_are_stored_without_their_prefix(given: str, stored: str) -> None:
    assert normal_path(given) == stored


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "a//b",
        "a b",
        "a?b",
        "a#b",
        "a%41",
        "a/../b",
        ".",
        "\n",
        "x" * 256,
        f"{uuid.UUID(int=1)}/{uuid.UUID(int=2)}",
    ],
)
def test_unusable_paths_are_faults(path: str) -> None:
    assert [(p.code, p.pointer) for p in path_problems(graph(path))] == [("invalid_config", "/nodes/0/config/path")]


def test_two_nodes_can_not_share_a_path() -> None:
    assert [p.pointer for p in path_problems(graph("a", None, "/webhooks/a", None))] == ["/nodes/2/config/path"]


def test_methods_and_defaults() -> None:
    configs: tuple[dict[str, Any], ...] = ({}, {"method": "GET"}, {"methods": ["PUT", "GET", "PUT"]})
    nodes = [{"id": str(i), "type": "webhook_trigger", "config": c} for i, c in enumerate(configs)]
    found = [hook.methods for _, hook in webhook_nodes({"nodes": [{"id": "x", "type": "formula"}, *nodes]})]
    assert found == [("POST",), ("GET",), ("PUT", "GET")]


def test_a_node_keeps_its_made_up_path() -> None:
    [action] = plan_webhooks([node("a", None)], [ExistingWebhook(IDS["a"], "a", "random")])
    assert action == ChangeWebhook(IDS["a"], "random", node("a", None))


def test_two_nodes_may_swap_their_paths() -> None:
    existing = [ExistingWebhook(IDS["a"], "a", "p"), ExistingWebhook(IDS["b"], "b", "q")]
    assert plan_webhooks([node("a", "q"), node("b", "p")], existing) == [
        DropWebhook(IDS["a"]),
        DropWebhook(IDS["b"]),
        CreateWebhook(node("a", "q")),
        CreateWebhook(node("b", "p")),
    ]


PATHS = st.sampled_from([None, "p", "q", "r"])


@given(
    before=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("pqrstu"), max_size=6),
    after=st.dictionaries(st.sampled_from("abcdef"), PATHS, max_size=6),
)
def test_the_plan_never_collides_with_itself_and_ends_where_it_should(
    before: dict[str, str], after: dict[str, str | None]
) -> None:
    before = {name: path for name, path in before.items() if list(before.values()).count(path) == 1}
    explicit = [path for path in after.values() if path is not None]
    after = {name: path for name, path in after.items() if path is None or explicit.count(path) == 1}
    existing = [ExistingWebhook(IDS[name], name, path) for name, path in before.items()]
    nodes = [node(name, path) for name, path in after.items()]
    # A made-up path that another node now asks for is given up only where it was explicit before; skip that corner.
    if any(path is None and before.get(name) in explicit for name, path in after.items()):
        return
    table = {webhook.id: (webhook.node_id, webhook.path) for webhook in existing}
    for action in plan_webhooks(nodes, existing):
        match action:
            case DropWebhook(webhook_id):
                del table[webhook_id]
            case ChangeWebhook(webhook_id, path, wanted):
                assert path not in {p for key, (_, p) in table.items() if key != webhook_id}
                table[webhook_id] = (wanted.node_id, path)
            case CreateWebhook(wanted):
                path = wanted.path or f"random-{wanted.node_id}"
                assert path not in {p for _, p in table.values()}
                table[uuid.uuid4()] = (wanted.node_id, path)
    assert {name for name, _ in table.values()} == set(after)
    assert all(after[name] in {None, path} for name, path in table.values())
