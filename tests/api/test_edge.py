"""What every route shares: who may pass, what bodies may be, and what errors look like."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from gorax_engine.api import schemas
from gorax_engine.api.app import DOCS_PATH, OPENAPI_PATH, Front
from gorax_engine.api.routing import Endpoint, GuardedRoute
from gorax_engine.core.json_edge import JsonLimits
from gorax_engine.errors import Unavailable
from gorax_engine.tenancy.principals import PERMISSIONS
from tests.api.conftest import MAX_BODY, Api, TenantHandle, definition, make

pytestmark = pytest.mark.anyio

PUBLIC = {OPENAPI_PATH, DOCS_PATH}


def routes(api: Api) -> list[Route]:
    assert isinstance(api.app, Front)
    return [route for route in api.app.api.router.routes if isinstance(route, Route)]


async def test_every_route_names_a_known_permission_or_is_listed_as_public(api: Api) -> None:
    found = routes(api)
    assert len(found) > 20
    for route in found:
        if route.path in PUBLIC:
            continue
        assert isinstance(route, GuardedRoute), route.path
        assert route.permission in PERMISSIONS
    assert {route.path for route in found if not isinstance(route, APIRoute)} == PUBLIC


async def test_permissions_of_routes_exist_in_the_database(api: Api) -> None:
    known = {row["p"] for row in await api.owner.fetch("SELECT resource || ':' || action AS p FROM permissions")}
    assert set(PERMISSIONS) <= known


def test_a_route_without_permission_can_not_be_built() -> None:
    async def handler() -> Any:
        raise NotImplementedError

    endpoint = Endpoint("GET", "/x", "", handler, "x", "x", None)
    with pytest.raises(ValueError, match="names no known permission"):
        GuardedRoute("", endpoint, None, JsonLimits())  # type: ignore[arg-type]


async def test_no_route_answers_without_a_key(api: Api) -> None:
    async with api.client() as client:
        for route in routes(api):
            if route.path in PUBLIC:
                continue
            path = re.sub(r"\{\w+\}", str(uuid.uuid4()), route.path)
            for method in route.methods or ():
                answer = await client.request(method, f"http://gorax{path}", content=b"not even JSON")
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                schemas.ProblemDocument.model_validate(answer.json())


async def test_viewers_may_read_and_nothing_else(api: Api, acme: TenantHandle) -> None:
    made = (await acme.client.post("/api-keys", json={"name": "v", "role": "viewer"})).json()["data"]
    viewer = api.client(made["key"])
    for route in routes(api):
        if not isinstance(route, GuardedRoute):
            continue
        path = re.sub(r"\{\w+\}", str(uuid.uuid4()), route.path)
        method = next(iter(route.methods or ()))
        answer = await viewer.request(method, f"http://gorax{path}", json={})
        allowed = route.permission.endswith(":read") and not route.permission.startswith("api_key")
        assert (answer.status_code != 403) is allowed, (method, path, answer.text)
        if not allowed:
            assert route.permission in answer.json()["detail"]


@pytest.mark.parametrize("header", ["", "Basic x", "Bearer", "Bearer x", "Bearer gorax_" + "a" * 43, "bearer é"])
async def test_bad_credentials(api: Api, header: str) -> None:
    async with api.client() as client:
        answer = await client.get("/tenant", headers={b"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401


async def test_a_suspended_tenant_is_told_so(api: Api, acme: TenantHandle) -> None:
    await api.owner.execute("UPDATE tenants SET status = 'suspended' WHERE id = $1", acme.id)
    answer = await acme.client.get("/workflows")
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"name": "a\\u0000b"}', 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"name": NaN}', 400),
        (b'{"name": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 50_000, 400),
        (b'{"name": "' + b"x" * MAX_BODY + b'"}', 413),
        (b"[1]", 422),
        (b'{"name": 1}', 422),
    ],
)
async def test_bad_bodies(acme: TenantHandle, content: bytes, status: int) -> None:
    answer = await acme.client.post("/workflows", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    schemas.ProblemDocument.model_validate(answer.json())
    assert (await acme.client.get("/tenant")).status_code == 200


async def test_a_chunked_body_is_cut_at_its_limit(acme: TenantHandle) -> None:
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 10_000
            yield b"x" * 10_000

    answer = await acme.client.post("/workflows", content=chunks())
    assert answer.status_code == 413
    assert sent <= MAX_BODY + 20_000


async def test_bodies_must_be_json(acme: TenantHandle) -> None:
    answer = await acme.client.post("/workflows", content=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_errors_carry_the_request_id(acme: TenantHandle) -> None:
    mine = await acme.client.get("/nowhere", headers={"X-Request-Id": "abc-1"})
    assert (mine.status_code, mine.json()["code"]) == (404, "route_not_found")
    assert mine.headers["x-request-id"] == mine.json()["request_id"] == "abc-1"
    for bad in (b"a b", b"x" * 129, b"\xe9"):
        other = await acme.client.get("/nowhere", headers={b"X-Request-Id": bad})
        assert re.fullmatch(r"[0-9a-f]{32}", other.headers["x-request-id"])
    assert (await acme.client.get("/tenant")).headers["x-request-id"]


async def test_wrong_methods_name_the_right_ones(acme: TenantHandle) -> None:
    answer = await acme.client.request("PUT", "/workflows")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


async def test_a_path_without_an_id_is_not_found(acme: TenantHandle) -> None:
    assert (await acme.client.get("/workflows/orders")).status_code == 404
    assert (await acme.client.get("/executions/1")).status_code == 404


async def test_a_database_that_is_gone_is_503(api: Api, acme: TenantHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    await acme.client.get("/tenant")
    monkeypatch.setattr(api.database, "tenant", lambda *_: (_ for _ in ()).throw(Unavailable("gone", retry_after=3)))
    answer = await acme.client.get("/tenant")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


async def test_a_bug_is_500_without_details(api: Api, acme: TenantHandle) -> None:
    api.verbs.fails = RuntimeError("secret internals")  # type: ignore[assignment]
    answer = await acme.client.post(f"/workflows/{uuid.uuid4()}/execute", json={})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_document_and_its_page_are_public(api: Api) -> None:
    async with api.client() as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("http://gorax/api/docs")
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {route.path for route in routes(api)} - PUBLIC
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["x-gorax-permission"] in PERMISSIONS, path
            assert operation["responses"]["401"]["content"]
    refs = set(re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert refs <= set(document["components"]["schemas"])
    assert page.status_code == 200
    assert "<script" not in page.text
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)


async def test_api_keys_are_shown_once_and_can_be_revoked(api: Api, acme: TenantHandle, rival: TenantHandle) -> None:
    headers = {"Idempotency-Key": "k"}
    answer = await acme.client.post("/api-keys", json={"name": "ci", "expires_in_days": 1}, headers=headers)
    assert answer.status_code == 201
    schemas.One[schemas.NewApiKey].model_validate(answer.json())
    made = answer.json()["data"]
    assert re.fullmatch(r"gorax_[A-Za-z0-9_-]{43}", made["key"])
    replay = await acme.client.post("/api-keys", json={"name": "ci", "expires_in_days": 1}, headers=headers)
    assert replay.json()["data"] == {**made, "key": None}
    for table in ("api_keys", "request_idempotency"):
        assert made["key"] not in str(await api.owner.fetch(f"SELECT t::text FROM {table} t"))
    listed = (await acme.client.get("/api-keys")).json()
    schemas.Many[schemas.ApiKey].model_validate(listed)
    assert made["id"] in {row["id"] for row in listed["data"]}
    client = api.client(made["key"])
    assert (await client.get("/tenant")).status_code == 200
    assert (await rival.client.delete(f"/api-keys/{made['id']}")).status_code == 404
    assert (await acme.client.delete(f"/api-keys/{made['id']}")).json()["data"]["revoked_at"]
    assert (await client.get("/tenant")).status_code == 401


async def test_a_key_can_not_be_given_more_than_its_maker_has(api: Api, acme: TenantHandle) -> None:
    viewer = (await acme.client.post("/api-keys", json={"name": "v", "role": "viewer"})).json()["data"]
    await api.owner.execute(
        "INSERT INTO role_permissions (tenant_id, role_id, permission_id) SELECT $1, r.id, p.id "
        "FROM roles r, permissions p "
        "WHERE r.tenant_id = $1 AND r.name = 'viewer' AND p.resource = 'api_key' AND p.action = 'create'",
        acme.id,
    )
    client = api.client(viewer["key"])
    answer = await client.post("/api-keys", json={"name": "x", "role": "admin"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await client.post("/api-keys", json={"name": "x", "role": "nope"})).status_code == 422
    assert (await client.post("/api-keys", json={"name": "x"})).status_code == 201


async def test_tenant_and_permissions(acme: TenantHandle) -> None:
    tenant = (await acme.client.get("/tenant")).json()
    schemas.One[schemas.Tenant].model_validate(tenant)
    assert tenant["data"]["id"] == str(acme.id)
    permissions = (await acme.client.get("/permissions")).json()
    schemas.Many[schemas.Permission].model_validate(permissions)
    assert all(row["granted"] for row in permissions["data"])


async def test_keep_alive_of_definitions(acme: TenantHandle) -> None:
    """A definition comes back as it was canonical, numbers exact."""
    big = 2**63 + 1
    workflow = await make(acme, definition=definition(output={"n": big}))
    assert workflow["definition"]["output"] == {"n": big}
    assert isinstance(acme.client, httpx2.AsyncClient)
