"""http_request against a real server on loopback: what it sends, what it makes of answers, and how it fails."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import jsonschema_rs
import pytest
from aiohttp import web

from gorax_engine.core.config_template import compile_config
from gorax_engine.core.expressions import Scope
from gorax_engine.core.instants import parse_instant
from gorax_engine.core.json_edge import encode
from gorax_engine.core.validation import ConfigValidator
from gorax_engine.nodes.api import (
    OUTSIDE_RETRY,
    SECOND,
    Classification,
    Completed,
    Failed,
    NodeContext,
    Outcome,
    StepError,
    TaskNode,
)
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound import OutboundClient, OutboundLimits
from gorax_engine.nodes.tasks.http_request import HttpRequest

pytestmark = pytest.mark.anyio

NORMAL = OutboundLimits()
NOW = parse_instant("2026-11-24T12:00:00Z")
CONTEXT = NodeContext("e1", "t1", "w1", "charge", "", 1, NOW, "e1:charge:", b"seed", {})
ROOTS = {"trigger": {"body": {"id": "a/b c", "n": 5}}, "steps": {}, "vars": {"token": "s3cret"}}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def run(config: Mapping[str, Any], limits: OutboundLimits = NORMAL) -> Outcome:
    """Check the config by its schema, render it as the engine does, and run the node."""
    jsonschema_rs.validate(dict(HttpRequest.spec.schema), as_saved(config))
    rendered = compile_config(config, HttpRequest.spec.schema).render(Scope(ROOTS, NOW))
    async with OutboundClient(OutboundPolicy.read(["127.0.0.0/8"]), limits=limits) as client:
        outcome = await HttpRequest(client).run(rendered, CONTEXT)
    encode(dict(outcome.error.details) if isinstance(outcome, Failed) else outcome.output)  # it can be stored
    return outcome


def as_saved(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config with the name of its credential in place of what the engine gives to the node."""
    auth = config.get("auth")
    if not isinstance(auth, dict) or not isinstance(auth.get("credential"), dict):
        return config
    return {**config, "auth": {**auth, "credential": auth["credential"]["name"]}}


async def sent(config: Mapping[str, Any], path: str = "/") -> dict[str, Any]:
    """Run a config and return the request that the server saw."""
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(
            method=request.method, path=request.raw_path, headers=request.headers.copy(), body=await request.read()
        )
        return web.Response()

    async with serving(handler) as base:
        outcome = await run({"url": base + path, **config})
    assert isinstance(outcome, Completed), outcome
    return seen


async def answered(answer: web.Response, **config: Any) -> Outcome:
    """Run a config against a server that gives one answer."""

    async def handler(request: web.Request) -> web.Response:
        return answer

    async with serving(handler) as base:
        return await run({"url": base + "/secret-path?token=x", **config})


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, Completed), outcome
    return outcome.output


def failure(outcome: Outcome) -> StepError:
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def test_spec() -> None:
    assert HttpRequest.spec.retry == OUTSIDE_RETRY
    assert isinstance(HttpRequest(OutboundClient(OutboundPolicy())), TaskNode)
    jsonschema_rs.Draft202012Validator(dict(HttpRequest.spec.schema))


# --- what is sent


async def test_defaults() -> None:
    seen = await sent({})
    assert seen["method"] == "GET"
    assert seen["headers"]["Idempotency-Key"] == "e1:charge:"
    assert "Content-Type" not in seen["headers"]
    assert seen["body"] == b""


async def test_the_users_own_idempotency_key_wins() -> None:
    seen = await sent({"headers": {"idempotency-key": "mine"}})
    assert seen["headers"].getall("Idempotency-Key") == ["mine"]


async def test_url_query_and_headers() -> None:
    seen = await sent(
        {
            "method": "post",
            "query": {"q": "a&b", "list": [1, "x", None], "none": None, "flag": True, "n": "{{ trigger.body.n }}"},
            "headers": {"X-N": 5, "X-None": None},
        },
        "/items/{{ trigger.body.id }}?fixed=%2F#part",
    )
    assert seen["method"] == "POST"
    assert seen["path"] == "/items/a%2Fb%20c?fixed=%2F&q=a%26b&list=1&list=x&flag=true&n=5"
    assert seen["headers"]["X-N"] == "5"
    assert "X-None" not in seen["headers"]


@pytest.mark.parametrize(
    ("config", "body", "content_type"),
    [
        ({"body": {"a": [1, None, "ü"]}}, b'{"a":[1,null,"\xc3\xbc"]}', "application/json"),
        ({"body": 0}, b"0", "application/json"),
        ({"body": False}, b"false", "application/json"),
        ({"body": "{{ trigger.body }}"}, b'{"id":"a/b c","n":5}', "application/json"),
        ({"body": '{"n": {{ trigger.body.n }} }'}, b'{"n": 5 }', "application/json"),
        ({"body": "plain ü"}, b"plain \xc3\xbc", "text/plain; charset=utf-8"),
        ({"body": "{not json"}, b"{not json", "text/plain; charset=utf-8"),
        ({"body": "<a/>", "headers": {"content-type": "text/xml"}}, b"<a/>", "text/xml"),
        (
            {"body": {"a": "x y", "b": [1, 2]}, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            b"a=x+y&b=1&b=2",
            "application/x-www-form-urlencoded",
        ),
        ({"body": {"a": 1}, "headers": {"Content-Type": "text/x+json"}}, b'{"a":1}', "text/x+json"),
    ],
)  # fmt: skip
async def test_bodies(config: dict[str, Any], body: bytes, content_type: str) -> None:
    seen = await sent({"method": "POST", **config})
    assert seen["body"] == body
    assert seen["headers"].getall("Content-Type") == [content_type]


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"type": "basic", "username": "u", "password": "pä"}, "Authorization", "Basic dTpww6Q="),
        ({"basic": {"username": "u", "password": "pä"}}, "Authorization", "Basic dTpww6Q="),
        ({"type": "bearer", "token": "{{ vars.token }}"}, "Authorization", "Bearer s3cret"),
        ({"bearer": {"token": "t"}}, "Authorization", "Bearer t"),
        ({"bearer": "t"}, "Authorization", "Bearer t"),
        ({"type": "api_key", "api_key": "k"}, "X-API-Key", "k"),
        ({"type": "api_key", "api_key": "k", "header": "X-Other"}, "X-Other", "k"),
        ({"api_key": {"key": "k", "header": "X-Other"}}, "X-Other", "k"),
        ({"api_key": "k"}, "X-API-Key", "k"),
    ],
)
async def test_auth(auth: dict[str, Any], header: str, value: str) -> None:
    seen = await sent({"auth": auth, "headers": {"authorization": "old"}})
    assert seen["headers"].getall(header) == [value]


BASIC = {"name": "c", "type": "basic_auth", "username": "u", "password": "p"}
BEARER = {"name": "c", "type": "bearer_token", "token": "t"}
API_KEY = {"name": "c", "type": "api_key", "key": "k"}
OAUTH = {"name": "c", "type": "oauth2", "client_id": "i", "client_secret": "s", "access_token": "a"}


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"credential": BASIC}, "Authorization", "Basic dTpw"),
        ({"credential": BEARER}, "Authorization", "Bearer t"),
        ({"credential": OAUTH}, "Authorization", "Bearer a"),
        ({"credential": API_KEY}, "X-API-Key", "k"),
        ({"credential": {**API_KEY, "header": "X-Own"}}, "X-Own", "k"),
        ({"credential": {**API_KEY, "header": "X-Own"}, "header": "X-Asked"}, "X-Asked", "k"),
    ],
)
async def test_auth_by_a_credential(auth: dict[str, Any], header: str, value: str) -> None:
    seen = await sent({"auth": auth, "headers": {"authorization": "old", "x-api-key": "old"}})
    assert seen["headers"].getall(header) == [value]


async def test_an_api_key_of_a_credential_in_the_query() -> None:
    assert (await sent({"auth": {"credential": {**API_KEY, "query": "key"}}}))["path"] == "/?key=k"
    assert (await sent({"auth": {"credential": {**API_KEY, "header": "X-Own"}, "query": "q"}}))["path"] == "/?q=k"


@pytest.mark.parametrize(
    "credential",
    [
        {"name": "mine", "type": "database_postgres", "token": "s3cret"},
        {"name": "mine", "type": "bearer_token", "key": "s3cret"},
        {"name": "mine", "type": "oauth2", "client_secret": "s3cret"},
        {"name": "mine", "type": "api_key", "key": 5},
        "mine",
    ],
)
async def test_a_credential_that_proves_nothing(credential: Any) -> None:
    async with OutboundClient(OutboundPolicy()) as client:
        config = {"url": "http://127.0.0.1:9/", "auth": {"credential": credential}}
        error = failure(await HttpRequest(client).run(config, CONTEXT))
    assert (error.code, error.classification) == ("unusable_credential", Classification.PERMANENT)
    assert "s3cret" not in error.message


def test_a_credential_is_a_name_on_save() -> None:
    validator = ConfigValidator(HttpRequest.spec.schema)
    assert list(validator.faults({"url": "https://x.example", "auth": {"credential": "stripe"}}, ())) == []
    assert list(validator.faults({"url": "https://x.example", "auth": {"credential": ""}}, ()))


async def test_auth_by_query_and_none() -> None:
    assert (await sent({"auth": {"api_key": {"key": "k&", "query": "key"}}}))["path"] == "/?key=k%26"
    assert "Authorization" not in (await sent({"auth": {"type": "none"}}))["headers"]


@pytest.mark.parametrize(
    "config",
    [
        {"url": 5},
        {"method": ["GET"]},
        {"headers": ["a"]},
        {"headers": {"X": {"a": 1}}},
        {"query": "a=b"},
        {"auth": "secret"},
        {"auth": {"type": "digest"}},
        {"auth": {"type": "bearer"}},
        {"auth": {"type": "api_key", "api_key": 5}},
        {"timeout": "soon"},
        {"success": ["ok", 200]},
        {"success": True},
    ],
)
async def test_rendered_values_of_a_wrong_type(config: dict[str, Any]) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    async with serving(handler) as base, OutboundClient(OutboundPolicy.read(["127.0.0.0/8"])) as client:
        assert failure(await HttpRequest(client).run({"url": base, **config}, CONTEXT)).code == "type_error"


# --- what answers become


@pytest.mark.parametrize(
    ("body", "content_type", "mode", "expected"),
    [
        (b'{"n": 12345678901234567890123}', "application/json", "auto", {"n": 12345678901234567890123}),
        (b"[1]", "application/problem+json; charset=utf-8", "auto", [1]),
        (b"\xef\xbb\xbf[1]", "application/json", "auto", [1]),
        ('["ü"]'.encode("latin-1"), "application/json; charset=latin-1", "auto", ["ü"]),
        (b"{broken", "application/json", "auto", "{broken"),
        (b'{"a": "\\u0000"}', "application/json", "auto", '{"a": "\\u0000"}'),
        (b"", "application/json", "auto", None),
        (b"", "text/plain", "auto", ""),
        (b"[1]", "text/plain", "auto", "[1]"),
        (b"[1]", "text/plain", "json", [1]),
        (b"[1]", "application/json", "text", "[1]"),
        (b"a\0b\xff", "text/plain", "auto", "a\ufffdb\ufffd"),
        ("ü€".encode("cp1252"), "text/html; charset=windows-1252", "auto", "ü€"),
        (b"+2AA-", "text/plain; charset=utf-7", "auto", "+2AA-"),
        (b"x", "text/plain; charset=nonsense", "auto", "x"),
        (b"a,b", "application/octet-stream", "auto", "a,b"),
        (
            b"\x89PNG\0",
            "image/png",
            "auto",
            {"encoding": "base64", "content_type": "image/png", "data": base64.b64encode(b"\x89PNG\0").decode()},
        ),
        (b"\x89PNG\0", "image/png", "text", "\ufffdPNG\ufffd"),
    ],
)
async def test_bodies_of_answers(body: bytes, content_type: str, mode: str, expected: Any) -> None:
    outcome = await answered(web.Response(body=body, headers={"Content-Type": content_type}), response=mode)
    assert output(outcome)["body"] == expected


async def test_output() -> None:
    response = web.json_response({"ok": True}, status=201)
    response.headers.add("X-A", "1")
    response.headers.add("X-A", "2")
    result = output(await answered(response))
    assert (result["status_code"], result["body"], result["headers"]["x-a"]) == (201, {"ok": True}, "1")
    assert set(result) == {"status_code", "headers", "body"}


async def test_json_that_was_due_and_is_not() -> None:
    error = failure(await answered(web.Response(text="<html>"), response="json"))
    assert (error.code, error.classification) == ("invalid_response", Classification.PERMANENT)
    assert "not JSON" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("status", "success", "good"),
    [
        (200, None, True), (399, None, True), (400, None, False), (199 + 1, [201], False), (404, [200, 404], True),
        (204, ["200-299"], True), (302, ["200-299"], False), (404, "400 - 499", True), (200, 200, True),
    ],
)  # fmt: skip
async def test_success(status: int, success: Any, good: bool) -> None:
    config = {} if success is None else {"success": success}
    outcome = await answered(web.Response(status=status), follow_redirects=False, **config)
    assert isinstance(outcome, Completed) is good


@pytest.mark.parametrize(
    ("status", "classification"), [(404, Classification.PERMANENT), (503, Classification.TRANSIENT)]
)
async def test_a_failure_keeps_the_response(status: int, classification: Classification) -> None:
    response = web.json_response({"why": "x"}, status=status, headers={"Retry-After": "7"})
    error = failure(await answered(response, method="PUT"))
    assert error.code == "http_status"
    assert error.classification is classification
    assert error.retry_after == 7 * SECOND
    assert error.details["http_status_code"] == status
    kept = error.details["response"]
    assert (kept["status_code"], kept["body"], kept["headers"]["retry-after"]) == (status, {"why": "x"}, "7")
    assert error.message.startswith("PUT http://127.0.0.1:")
    assert "secret" not in error.message


async def test_an_error_page_in_place_of_json_is_kept_as_text() -> None:
    error = failure(await answered(web.Response(status=502, text="<html>"), response="json"))
    assert (error.code, error.details["response"]["body"]) == ("http_status", "<html>")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:00 GMT", "Date": "Tue, 24 Nov 2026 12:00:30 GMT"}, 30),
        ({"Retry-After": "Tue, 24 Nov 2026 12:01:00 GMT", "Date": "nonsense"}, 60),
        ({"Retry-After": "Tue, 24 Nov 2020 12:00:00 GMT", "Date": "nonsense"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 30}, None),
        ({}, None),
    ],
)
async def test_retry_after(headers: dict[str, str], seconds: int | None) -> None:
    error = failure(await answered(web.Response(status=429, headers=headers)))
    assert error.retry_after == (None if seconds is None else seconds * SECOND)


async def test_redirects_are_followed_unless_told_otherwise() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/to":
            return web.Response(text="there")
        return web.Response(status=302, headers={"Location": "/to"})

    async with serving(handler) as base:
        assert output(await run({"url": base}))["body"] == "there"
        assert output(await run({"url": base, "follow_redirects": False}))["status_code"] == 302


async def test_outbound_errors_become_the_steps() -> None:
    assert failure(await run({"url": "http://10.0.0.1/"})).code == "outbound_denied"
    assert failure(await run({"url": "nonsense"})).code == "invalid_url"
    assert failure(await run({"url": "http://127.0.0.1/", "headers": {"X": "a\r\nb"}})).code == "invalid_request"
    large = await answered_large()
    assert failure(large).code == "response_too_large"


async def answered_large() -> Outcome:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 2_000)

    async with serving(handler) as base:
        return await run({"url": base}, OutboundLimits(max_body=1_000))


async def test_timeout_of_the_request() -> None:
    asked = anyio.Event()

    async def handler(request: web.Request) -> web.Response:
        await asked.wait()
        return web.Response()

    async with serving(handler) as base:
        error = failure(await run({"url": base, "timeout": "50ms"}))
        asked.set()
    assert (error.code, error.classification) == ("timeout", Classification.TRANSIENT)


# --- pages


def pages(total: int, key: str = "next") -> Handler:
    async def handler(request: web.Request) -> web.Response:
        number = int(request.query.get("page", "1"))
        body: dict[str, Any] = {"items": [number * 10, number * 10 + 1]}
        if number < total:
            body[key] = f"/list?page={number + 1}" if key == "next" else number + 1
        return web.json_response(body)

    return handler


async def test_pages_by_link_end_where_the_link_is_missing() -> None:
    async with serving(pages(3)) as base:
        paging = {"items": "response.body.items", "next": "response.body.next"}
        result = output(await run({"url": base + "/list", "pagination": paging}))
    assert (result["body"], result["pages"], result["status_code"]) == ([10, 11, 20, 21, 30, 31], 3, 200)


async def test_pages_by_cursor() -> None:
    seen: list[tuple[str, str]] = []
    inner = pages(3, key="cursor")

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.raw_path, request.headers["Idempotency-Key"]))
        return await inner(request)

    async with serving(handler) as base:
        paging = {"items": "response.body.items", "cursor": {"param": "page", "from": "response.body.cursor ?? null"}}
        result = output(await run({"url": base + "/list?page=1&x=%2F", "pagination": paging}))
    assert result["pages"] == 3
    assert seen == [
        ("/list?page=1&x=%2F", "e1:charge:"),
        ("/list?x=%2F&page=2", "e1:charge::page-2"),
        ("/list?x=%2F&page=3", "e1:charge::page-3"),
    ]


async def test_a_key_in_the_query_is_sent_to_the_next_pages_of_its_origin_only() -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.json_response({"items": []})

    async with serving(elsewhere) as other:

        async def handler(request: web.Request) -> web.StreamResponse:
            seen.append(request.raw_path)
            return web.json_response({"items": [], "next": "/two?x=1" if request.path == "/" else other + "/three"})

        async with serving(handler) as base:
            paging = {"items": "response.body.items", "next": "response.body.next"}
            auth = {"api_key": {"key": "k", "query": "key"}}
            assert output(await run({"url": base, "auth": auth, "pagination": paging}))["pages"] == 3
    assert seen == ["/?key=k", "/two?x=1&key=k", "/three"]


async def test_max_pages_stops() -> None:
    async with serving(pages(100)) as base:
        paging = {"items": "response.body.items", "next": "response.body.next", "max_pages": 2}
        assert output(await run({"url": base, "pagination": paging}))["pages"] == 2


async def test_endless_pages_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gorax_engine.nodes.tasks.http_request.MAX_PAGES", 5)
    async with serving(pages(100)) as base:
        paging = {"items": "response.body.items", "next": "response.body.next"}
        assert failure(await run({"url": base, "pagination": paging})).code == "too_many_pages"


async def test_pages_are_bounded_together() -> None:
    async with serving(pages(100)) as base:
        paging = {"items": "response.body.items", "next": "response.body.next"}
        outcome = await run({"url": base, "pagination": paging}, OutboundLimits(max_body=200))
    assert failure(outcome).code == "response_too_large"


async def test_a_page_that_fails_fails_the_step() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.query:
            return web.Response(status=500)
        return web.json_response({"items": [1], "next": "?page=2"})

    async with serving(handler) as base:
        paging = {"items": "response.body.items", "next": "response.body.next"}
        assert failure(await run({"url": base, "pagination": paging})).code == "http_status"


async def test_items_that_are_no_list_and_a_path_that_is_missing() -> None:
    async with serving(pages(1)) as base:
        paging = {"items": "response.body", "next": "response.body.next"}
        assert failure(await run({"url": base, "pagination": paging})).code == "type_error"
        paging = {"items": "response.body.rows", "next": "response.body.next"}
        assert failure(await run({"url": base, "pagination": paging})).code == "missing_path"


async def test_a_next_page_elsewhere_gets_no_secrets() -> None:
    seen: list[Mapping[str, str]] = []

    async def other(request: web.Request) -> web.Response:
        seen.append(request.headers)
        return web.json_response({"items": []})

    async with serving(other) as elsewhere:

        async def handler(request: web.Request) -> web.Response:
            return web.json_response({"items": [], "next": elsewhere})

        async with serving(handler) as base:
            paging = {"items": "response.body.items", "next": "response.body.next"}
            await run({"url": base, "auth": {"bearer": "t"}, "headers": {"X-Key": "k"}, "pagination": paging})
    assert not {"Authorization", "X-Key", "Idempotency-Key"} & set(seen[0])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": ""},
        {"url": "x", "method": "GET POST"},
        {"url": "x", "verify": False},
        {"url": "x", "auth": {"type": "digest"}},
        {"url": "x", "success": []},
        {"url": "x", "success": ["2xx"]},
        {"url": "x", "response": "xml"},
        {"url": "x", "pagination": {"items": "a"}},
        {"url": "x", "pagination": {"items": "a", "next": "b", "cursor": {"param": "c", "from": "d"}}},
        {"url": "x", "pagination": {"items": "a", "next": "b", "max_pages": 0}},
    ],
)
def test_configs_that_are_refused_on_save(config: dict[str, Any]) -> None:
    assert not jsonschema_rs.is_valid(json.loads(json.dumps(HttpRequest.spec.schema)), config)
