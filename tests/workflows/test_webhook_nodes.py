"""Which webhooks a definition asks for, and the steps to get there."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gorax_engine.core.webhook_paths import normal_path
from gorax_engine.nodes.registry import NodeRegistry, builtin_nodes
from gorax_engine.workflows.documents import check_definition
from gorax_engine.workflows.webhook_nodes import (
    ChangeWebhook,
    CreateWebhook,
    DropWebhook,
    ExistingWebhook,
    VacatePath,
    WebhookNode,
    config_problems,
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
    assert [(p.code, p.pointer) for p in config_problems(graph(path))] == [("invalid_config", "/nodes/0/config/path")]


def test_two_nodes_can_not_share_a_path() -> None:
    assert [p.pointer for p in config_problems(graph("a", None, "/webhooks/a", None))] == ["/nodes/2/config/path"]


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
        VacatePath(IDS["a"]),
        VacatePath(IDS["b"]),
        ChangeWebhook(IDS["a"], "q", node("a", "q")),
        ChangeWebhook(IDS["b"], "p", node("b", "p")),
    ]


def test_a_made_up_path_goes_to_who_asks_for_it() -> None:
    existing = [ExistingWebhook(IDS["a"], "a", "random")]
    assert plan_webhooks([node("a", None), node("b", "random")], existing) == [
        VacatePath(IDS["a"]),
        ChangeWebhook(IDS["a"], None, node("a", None)),
        CreateWebhook(node("b", "random")),
    ]


PATHS = st.sampled_from([None, "p", "q", "r"])


@given(
    before=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("pqrstu"), max_size=6),
    after=st.dictionaries(st.sampled_from("abcdef"), PATHS, max_size=6),
)
def test_the_plan_never_collides_with_itself_and_keeps_every_webhook(
    before: dict[str, str], after: dict[str, str | None]
) -> None:
    before = {name: path for name, path in before.items() if list(before.values()).count(path) == 1}
    explicit = [path for path in after.values() if path is not None]
    after = {name: path for name, path in after.items() if path is None or explicit.count(path) == 1}
    existing = [ExistingWebhook(IDS[name], name, path) for name, path in before.items()]
    nodes = [node(name, path) for name, path in after.items()]
    table = {webhook.id: (webhook.node_id, webhook.path) for webhook in existing}
    for action in plan_webhooks(nodes, existing):
        match action:
            case DropWebhook(webhook_id):
                del table[webhook_id]
            case VacatePath(webhook_id):
                table[webhook_id] = (table[webhook_id][0], f"moving-{webhook_id}")
            case ChangeWebhook(webhook_id, path, wanted):
                chosen = path or f"random-{wanted.node_id}"
                assert chosen not in {p for key, (_, p) in table.items() if key != webhook_id}
                table[webhook_id] = (wanted.node_id, chosen)
            case CreateWebhook(wanted):
                chosen = wanted.path or f"random-{wanted.node_id}"
                assert chosen not in {p for _, p in table.values()}
                table[uuid.uuid4()] = (wanted.node_id, chosen)
    assert {name for name, _ in table.values()} == set(after)
    assert all(after[name] in {None, path} for name, path in table.values())
    assert all(table[IDS[name]][0] == name for name in before if name in after)


def test_a_node_names_what_it_sets() -> None:
    config = {
        "auth_type": "secret", "signature_scheme": "github", "secret": "sealed:v1:x", "priority": 3, "allowed_ips": [],
        "filters": [{"field_path": "$.a", "operator": "exists"}],
    }  # fmt: skip
    ((_, hook),) = webhook_nodes({"nodes": [{"id": "h", "type": "webhook_trigger", "config": config}]})
    assert (hook.auth_type, hook.signature_scheme, hook.secret) == ("secret", "github", "sealed:v1:x")
    assert hook.settings == {"priority": 3, "allowed_ips": []}
    assert hook.filters == ({"field_path": "$.a", "operator": "exists"},)
    assert "sealed" not in repr(hook)
    ((_, plain),) = webhook_nodes({"nodes": [{"id": "h", "type": "webhook_trigger", "config": {}}]})
    assert (plain.auth_type, plain.secret, plain.settings, plain.filters) == ("none", None, {}, None)


REGISTRY = NodeRegistry(builtin_nodes())


def checked(config: dict[str, Any]) -> Any:
    return check_definition({"nodes": [{"id": "h", "type": "webhook", "config": config}], "edges": []}, REGISTRY)


@pytest.mark.parametrize(
    ("config", "pointer", "words"),
    [
        ({"allowed_ips": ["10.0.0.0/8", "10.0.0.1/8"]}, "/allowed_ips/1", "10.0.0.0/8"),
        ({"allowed_ips": ["localhost"]}, "/allowed_ips/0", "192.0.2.7"),
        ({"dedupe_path": "$["}, "/dedupe_path", "can't be read"),
        ({"dedupe_header": "a b"}, "/dedupe_header", "name of an HTTP header"),
        ({"filters": [{"field_path": "$.a", "operator": "like"}]}, "/filters/0/operator", "none of"),
        ({"filters": [{"field_path": "$.a", "operator": "exists"}] * 51}, "/filters", "50"),
        ({"filters": [{"operator": "exists"}]}, "/filters/0", "field_path"),
        ({"auth_type": "jwt"}, "/auth_type", "bearer"),
        ({"signature_scheme": "md5"}, "/signature_scheme", "stripe"),
        ({"timestamp_tolerance": 0}, "/timestamp_tolerance", "1"),
        ({"rate_limit": 0}, "/rate_limit", "1"),
        ({"priority": 101}, "/priority", "100"),
        ({"auth": {"type": "basic"}}, "/auth", "auth_type"),
    ],
)
def test_bad_configs_say_the_mend(config: dict[str, Any], pointer: str, words: str) -> None:
    (problem,) = checked(config).errors
    assert (problem.code, problem.pointer) == ("invalid_config", f"/nodes/0/config{pointer}")
    assert words in problem.message


@pytest.mark.parametrize("secret", ["", 12345678, ["s3cret"], {"a": "s3cret"}])
def test_what_can_t_be_a_secret_is_not_shown(secret: Any) -> None:
    (problem,) = checked({"auth_type": "secret", "secret": secret}).errors
    assert problem.message == "`secret` must be text, and not empty."


def test_other_words_and_camel_case_are_stored_canonically() -> None:
    config = {"authType": "signature", "signatureScheme": "github", "allowedIps": ["10.0.0.1"], "filters": [
        {"fieldPath": "$.a", "operator": "equals", "value": {"camelCase": "{{ not a template }}"}, "logicGroup": 1}
    ]}  # fmt: skip
    found = checked(config)
    assert found.errors == found.warnings == ()
    assert found.canonical["nodes"][0]["config"] == {
        "auth_type": "secret", "signature_scheme": "github", "allowed_ips": ["10.0.0.1"], "filters": [
            {
                "field_path": "$.a", "operator": "equals", "value": {"camelCase": "{{ not a template }}"},
                "logic_group": 1,
            },
        ],
    }  # fmt: skip
    assert checked({"auth_type": "api_key"}).canonical["nodes"][0]["config"] == {"auth_type": "bearer"}
    assert checked(found.canonical["nodes"][0]["config"]).canonical == found.canonical | {
        "nodes": [{**found.canonical["nodes"][0]}]
    }
