"""The outbound client against real servers on loopback: the guard, the bounds, the redirects and the errors."""

import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from anyio.abc import SocketAttribute, SocketStream

from gorax_engine.core.model import SECOND, Classification
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound import Answer, OutboundClient, OutboundLimits
from gorax_engine.nodes.outbound_errors import (
    ConnectionFailed,
    InvalidRequest,
    InvalidResponse,
    InvalidUrl,
    OutboundDenied,
    OutboundError,
    OutboundTimeout,
    ResponseTooLarge,
    TooManyRedirects,
)
from gorax_engine.nodes.outbound_request import Call
from gorax_engine.telemetry import OutboundRequest

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).with_name("shop_example.pem")
"""Self-signed, for shop.example, with its key; used by these tests alone."""

NORMAL = OutboundLimits()
LOOPBACK = OutboundPolicy.read(allow=["127.0.0.0/8", "::1"])
Script = Callable[[SocketStream, bytes], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def app(*routes: web.RouteDef, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve aiohttp routes; gives the base URL."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def wire(script: Script) -> AsyncIterator[str]:
    """Serve raw bytes: `script` gets the stream and the request's head (or what begins a TLS handshake)."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            head = b""
            try:
                while b"\r\n\r\n" not in head and not head.startswith(b"\x16"):
                    head += await stream.receive()
                await script(stream, head)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    failure: OutboundError | AssertionError | None = None
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        try:
            yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        except (OutboundError, AssertionError) as error:  # raised below, so that the task group doesn't wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def says(data: bytes) -> Script:
    async def script(stream: SocketStream, head: bytes) -> None:
        await stream.send(data)

    return script


async def fetch(call: Call, policy: OutboundPolicy = LOOPBACK, limits: OutboundLimits = NORMAL) -> Answer:
    async with OutboundClient(policy, limits=limits) as client:
        return await client.send(call)


async def fetch_raw(data: bytes, limits: OutboundLimits = NORMAL, method: str = "GET") -> Answer:
    async with wire(says(data)) as base:
        return await fetch(Call(method, base), limits=limits)


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "method": request.method,
            "path": request.raw_path,
            "headers": dict(request.headers),
            "body": (await request.read()).decode(),
        }
    )


# --- what goes out and comes back


async def test_a_call_and_its_answer() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["User-Agent"] == "gorax-engine"
        assert request.headers["Accept-Encoding"] == "gzip, deflate"
        assert request.headers["X-One"] == "ü"
        assert request.raw_path == "/p%20q?a=%2F&b=1%3D"
        assert await request.read() == b"\0body"
        return web.Response(status=201, body=b"made", headers=[("X-A", "1"), ("x-a", "2")])

    async with app(web.route("*", "/{tail:.*}", handler)) as base:
        answer = await fetch(Call("post", f"{base}/p%20q?a=%2F&b=1%3D", {"X-One": "ü"}, b"\0body"))
    assert (answer.status, answer.reason, answer.body) == (201, "Created", b"made")
    assert [value for name, value in answer.headers if name == "x-a"] == ["1", "2"]


async def test_host_header_is_the_name_while_the_vetted_address_is_dialled() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with app(web.get("/", echo)) as base:
        url = base.replace("127.0.0.1", "shop.example")
        async with OutboundClient(LOOPBACK, resolve=resolve) as client:
            answer = await client.send(Call("GET", url))
    assert f'"Host": "{url[7:]}"'.encode() in answer.body


async def test_no_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with app(web.get("/", echo)) as base:
        assert (await fetch(Call("GET", base))).status == 200


async def test_cookies_are_not_kept() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert "Cookie" not in request.headers
        return web.Response(headers={"Set-Cookie": "a=b"})

    async with app(web.get("/", handler)) as base, OutboundClient(LOOPBACK) as client:
        for _ in range(2):
            assert (await client.send(Call("GET", base))).status == 200


async def test_telemetry_names_the_class_of_the_end() -> None:
    seen: list[OutboundRequest] = []

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=503)

    async with app(web.get("/", handler)) as base, OutboundClient(LOOPBACK, emit=seen.append) as client:
        await client.send(Call("GET", base))
        with pytest.raises(OutboundDenied):
            await client.send(Call("GET", "http://10.0.0.1/"))
        with pytest.raises(InvalidUrl):
            await client.send(Call("GET", "nonsense"))
    assert [event.status_class for event in seen] == ["5xx", "denied", "error"]


async def test_a_thousand_at_once() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=request.query["n"])

    answers: dict[int, bytes] = {}
    async with app(web.get("/", handler)) as base, OutboundClient(LOOPBACK) as client:

        async def one(n: int) -> None:
            answers[n] = (await client.send(Call("GET", f"{base}/?n={n}"))).body

        async with anyio.create_task_group() as group:
            for n in range(1_000):
                group.start_soon(one, n)
    assert answers == {n: str(n).encode() for n in range(1_000)}


# --- the guard


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0", "127.0.0.1.", "localhost",
     "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "10.0.0.1",
     "169.254.169.254", "168.63.129.16", "[fe80::1]", "１２７.0.0.1", "127。0。0。1"],
)  # fmt: skip
async def test_private_addresses_are_denied_in_any_spelling(host: str) -> None:
    async def trap(request: web.Request) -> web.Response:
        raise AssertionError("the guard let a request through")

    async with app(web.get("/", trap)) as base:
        with pytest.raises(OutboundDenied, match="can't be reached"):
            await fetch(Call("GET", f"http://{host}:{base.rpartition(':')[2]}/"), OutboundPolicy())


@pytest.mark.parametrize("addresses", [["10.0.0.7"], ["8.8.8.8", "169.254.169.254"], ["::1", "8.8.8.8"]])
async def test_a_name_with_any_private_address_is_denied(addresses: list[str]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return addresses

    async with OutboundClient(OutboundPolicy(), resolve=resolve) as client:
        with pytest.raises(OutboundDenied, match=r"rebind\.example can't be reached"):
            await client.send(Call("GET", "http://rebind.example/"))


async def test_the_socket_is_gated_even_if_name_and_literal_checks_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OutboundClient, "_refuse_literal", lambda self, host: None)
    async with app(web.get("/", echo)) as base:
        with pytest.raises(OutboundDenied, match=r"127\.0\.0\.1 is not a public address"):
            await fetch(Call("GET", base), OutboundPolicy())


async def test_an_allowed_name_reaches_private_addresses_and_its_neighbour_does_not() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    policy = OutboundPolicy.read(allow=["crm.internal"])
    async with app(web.get("/", echo)) as base, OutboundClient(policy, resolve=resolve) as client:
        port = base.rpartition(":")[2]
        assert (await client.send(Call("GET", f"http://crm.internal:{port}/"))).status == 200
        for host in ("other.internal", "127.0.0.1"):
            with pytest.raises(OutboundDenied):
                await client.send(Call("GET", f"http://{host}:{port}/"))


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "/path", "ftp://example.com/", "file:///etc/passwd", "http://", "http:///x", "http://h:0/",
     "http://h:99999/", "http://h:x/", "http://user:pw@example.com/", "http://user@example.com/",
     "http://exam ple.com/", "http://exam%70le.com/", "http://a\\@127.0.0.1/", "http://example.com/\r\nX: y",
     "http://[::1/", "http://1.2.3.4.5.6/", "gopher://example.com", "http://example.com\0/"],
)  # fmt: skip
async def test_invalid_urls(url: str) -> None:
    with pytest.raises(InvalidUrl):
        await fetch(Call("GET", url))


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET /x HTTP/1.1\r\nX:", {}),
        ("", {}),
        ("GET", {"X-A": "b\r\nX-C: d"}),
        ("GET", {"X-A": "b\nc"}),
        ("GET", {"X-A\r\nX-B": "c"}),
        ("GET", {"X A": "c"}),
        ("GET", {"X-A": "\0"}),
        ("GET", {"Transfer-Encoding": "chunked"}),
        ("GET", {"connection": "close"}),
    ],
)
async def test_requests_that_can_not_be_sent(method: str, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        await fetch(Call(method, "http://127.0.0.1:1/", headers))


async def test_a_copied_content_length_does_no_harm() -> None:
    async with app(web.post("/", echo)) as base:
        answer = await fetch(Call("POST", base, {"Content-Length": "999"}, b"abc"))
    assert b'"Content-Length": "3"' in answer.body


# --- redirects


def redirect(to: str, status: int = 302) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": to})

    return handler


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "//10.0.0.1/", "http://0x0a.1/", "http://[fe80::1]/"],
)
async def test_a_redirect_to_a_private_address_is_denied(target: str) -> None:
    async with app(web.get("/", redirect(target))) as base:
        with pytest.raises(OutboundDenied):
            await fetch(Call("GET", base))


@pytest.mark.parametrize("target", ["ftp://example.com/", "http://user:pw@127.0.0.1/", "http://h:bad/"])
async def test_a_redirect_to_what_is_no_url_of_ours(target: str) -> None:
    async with app(web.get("/", redirect(target))) as base:
        with pytest.raises(InvalidUrl):
            await fetch(Call("GET", base))


SECRETS = {"Authorization": "Bearer s", "Cookie": "c", "Idempotency-Key": "k", "X-Api-Key": "s", "Accept": "text/x"}


async def test_secrets_stay_with_their_origin() -> None:
    async with (
        app(web.route("*", "/there", echo)) as other,
        app(
            web.post("/out", redirect(f"{other}/there", 307)),
            web.post("/in", redirect("there?q=1", 308)),
            web.route("*", "/there", echo),
        ) as base,
    ):
        across = (await fetch(Call("POST", f"{base}/out", SECRETS, b"x"))).body.decode()
        within = await fetch(Call("POST", f"{base}/in", SECRETS, b"x"))
    assert not [name for name in SECRETS if f'"{name}"' in across and name != "Accept"]
    assert all(part in across for part in ('"method": "POST"', '"body": "x"', "text/x"))
    assert not [name for name in SECRETS if f'"{name}"' not in within.body.decode()]
    assert within.url == f"{base}/there?q=1"


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [(301, "POST", "GET"), (302, "POST", "GET"), (303, "PUT", "GET"), (307, "POST", "POST"), (308, "PUT", "PUT"),
     (301, "DELETE", "DELETE"), (303, "HEAD", "HEAD")],
)  # fmt: skip
async def test_methods_after_a_redirect(status: int, before: str, after: str) -> None:
    methods: list[tuple[str, bytes]] = []

    async def target(request: web.Request) -> web.Response:
        methods.append((request.method, await request.read()))
        return web.Response()

    async with app(web.route("*", "/", redirect("/t", status)), web.route("*", "/t", target)) as base:
        await fetch(Call(before, base, body=None if before == "HEAD" else b"x"))
    assert methods == [(after, b"x" if after == before != "HEAD" else b"")]


async def test_three_redirects_and_no_more() -> None:
    async def handler(request: web.Request) -> web.Response:
        left = int(request.match_info["left"])
        return web.Response(status=302, headers={"Location": f"/{left - 1}"}) if left else web.Response(text="end")

    async with app(web.get("/{left}", handler)) as base:
        assert (await fetch(Call("GET", f"{base}/3"))).body == b"end"
        with pytest.raises(TooManyRedirects):
            await fetch(Call("GET", f"{base}/4"))
        assert (await fetch(Call("GET", f"{base}/4", follow_redirects=False))).status == 302


# --- bounds


async def test_a_compressed_body_is_inflated() -> None:
    for encoding, data in (("gzip", gzip.compress(b"hello")), ("deflate", zlib.compress(b"hello"))):
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(data)}\r\n\r\n"
        assert (await fetch_raw(head.encode() + data)).body == b"hello"


async def test_a_bomb_is_too_large() -> None:
    data = gzip.compress(b"\0" * (64 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(data)}\r\n\r\n"
    with pytest.raises(ResponseTooLarge):
        await fetch_raw(head.encode() + data)


async def test_ten_gigabytes_announced_are_refused_unread() -> None:
    with pytest.raises(ResponseTooLarge) as caught:
        await fetch_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
    assert caught.value.details == {"http_status_code": 200}


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Connection: close"])
async def test_an_endless_body_ends_early(framing: str) -> None:
    sent = 0

    async def script(stream: SocketStream, head: bytes) -> None:
        nonlocal sent
        await stream.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        block = b"x" * 65_536
        while True:
            await stream.send(b"10000\r\n" + block + b"\r\n" if "chunked" in framing else block)
            sent += len(block)

    async with wire(script) as base:
        with pytest.raises(ResponseTooLarge):
            await fetch(Call("GET", base), limits=OutboundLimits(max_body=1 << 20))
    assert sent < 32 << 20


@pytest.mark.parametrize(
    "head",
    [b"X-Long: " + b"x" * 20_000 + b"\r\n", b"".join(b"X-%d: y\r\n" % n for n in range(500))],
)
async def test_large_headers(head: bytes) -> None:
    with pytest.raises(ResponseTooLarge):
        await fetch_raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")


async def test_endless_headers_end() -> None:
    async def script(stream: SocketStream, head: bytes) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send(b"X-A: b\r\n" * 100)

    async with wire(script) as base:
        with pytest.raises(ResponseTooLarge):
            await fetch(Call("GET", base))


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
async def test_a_server_that_stalls_meets_the_deadline(part: bytes) -> None:
    async def script(stream: SocketStream, head: bytes) -> None:
        await stream.send(part)
        await anyio.sleep_forever()

    async with wire(script) as base:
        with pytest.raises(OutboundTimeout, match=r"longer than 0\.05 s") as caught:
            await fetch(Call("GET", base, timeout=SECOND // 20))
    assert caught.value.classification is Classification.TRANSIENT


async def test_a_server_that_drips_meets_the_deadline() -> None:
    async def script(stream: SocketStream, head: bytes) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            await stream.send(b"x")
            await anyio.sleep(0.005)

    async with wire(script) as base:
        with pytest.raises(OutboundTimeout):
            await fetch(Call("GET", base, timeout=SECOND // 10))


async def test_a_stalled_name_server_meets_the_deadline() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await anyio.sleep_forever()
        raise AssertionError

    async with OutboundClient(LOOPBACK, resolve=resolve) as client:
        with pytest.raises(OutboundTimeout):
            await client.send(Call("GET", "http://slow.example/", timeout=SECOND // 20))


async def test_cancellation_passes_through() -> None:
    async def script(stream: SocketStream, head: bytes) -> None:
        await anyio.sleep_forever()

    async with wire(script) as base:
        with anyio.move_on_after(0.05) as scope:
            await fetch(Call("GET", base))
    assert scope.cancelled_caught


# --- errors


async def test_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionFailed) as caught:
        await fetch(Call("GET", f"http://127.0.0.1:{port}/secret?token=x"))
    error = caught.value.step_error()
    assert (error.code, error.classification, error.details) == (
        "connection_failed",
        Classification.TRANSIENT,
        {"reason": "refused"},
    )
    assert error.message == f"http://127.0.0.1:{port} refused the connection."


@pytest.mark.parametrize(
    ("number", "classification"),
    [(socket.EAI_AGAIN, Classification.TRANSIENT), (socket.EAI_NONAME, Classification.PERMANENT)],
)
async def test_names_that_can_not_be_resolved(number: int, classification: Classification) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(number, "no")

    async with OutboundClient(LOOPBACK, resolve=resolve) as client:
        with pytest.raises(ConnectionFailed) as caught:
            await client.send(Call("GET", "http://nowhere.example/"))
    assert caught.value.reason == "dns"
    assert caught.value.classification is classification


async def test_a_name_without_addresses() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return []

    async with OutboundClient(LOOPBACK, resolve=resolve) as client:
        with pytest.raises(ConnectionFailed, match="can't be resolved"):
            await client.send(Call("GET", "http://nowhere.example/"))


async def reset(stream: SocketStream) -> None:
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await stream.aclose()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_connection_reset_before_the_answer(method: str) -> None:
    requests = 0

    async def script(stream: SocketStream, head: bytes) -> None:
        nonlocal requests
        requests += 1
        await reset(stream)

    async with wire(script) as base:
        with pytest.raises(ConnectionFailed) as caught:
            await fetch(Call(method, base))
    assert caught.value.reason in ("reset", "closed")
    assert caught.value.classification is Classification.TRANSIENT
    assert requests == (2 if method == "GET" else 1)  # only what changes nothing is asked again unasked


@pytest.mark.parametrize("hard", [True, False])
async def test_a_connection_lost_in_the_body(hard: bool) -> None:
    async def script(stream: SocketStream, head: bytes) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        if hard:
            await reset(stream)

    async with wire(script) as base:
        with pytest.raises(ConnectionFailed) as caught:
            await fetch(Call("GET", base))
    assert caught.value.classification is Classification.TRANSIENT


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\1\2\3\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
        + gzip.compress(b"hello", mtime=0)[:-3],
    ],
)
async def test_what_is_not_http(data: bytes) -> None:
    with pytest.raises((InvalidResponse, ConnectionFailed)) as caught:
        await fetch_raw(data)
    assert isinstance(caught.value, InvalidResponse) or b"zz" in data


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_answers_without_a_body(method: str) -> None:
    status = b"200 OK" if method == "HEAD" else b"304 Not Modified"
    head = b"HTTP/1.1 " + status + b"\r\nContent-Encoding: gzip\r\nContent-Length: 99999999999\r\n\r\n"
    assert (await fetch_raw(head, method=method)).body == b""


async def test_headers_are_text_that_can_be_stored() -> None:
    answer = await fetch_raw(b"HTTP/1.1 200 OK\r\nX-Odd: a\xff\xc3\xbc\r\nContent-Length: 0\r\n\r\n")
    assert dict(answer.headers)["x-odd"] == "a\ufffdü"


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_tls_is_checked_against_the_name_while_the_vetted_address_is_dialled() -> None:
    names: list[str | None] = []
    server = server_tls()
    server.sni_callback = lambda connection, name, context: names.append(name)
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with app(web.get("/", echo), tls=server) as base:
        port = base.rpartition(":")[2]
        async with OutboundClient(LOOPBACK, resolve=loopback, tls=trusting) as client:
            assert (await client.send(Call("GET", f"https://shop.example:{port}/"))).status == 200
            with pytest.raises(ConnectionFailed, match="certificate") as caught:
                await client.send(Call("GET", f"https://other.example:{port}/"))
    assert caught.value.classification is Classification.PERMANENT
    assert names == ["shop.example", "other.example"]


async def test_an_unknown_certificate_is_refused() -> None:
    async with app(web.get("/", echo), tls=server_tls()) as base, OutboundClient(LOOPBACK, resolve=loopback) as client:
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            await client.send(Call("GET", f"https://shop.example:{base.rpartition(':')[2]}/"))
    assert (caught.value.reason, caught.value.classification) == ("tls", Classification.PERMANENT)


async def test_a_plain_server_behind_https() -> None:
    async with wire(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as base:
        with pytest.raises(ConnectionFailed) as caught:
            await fetch(Call("GET", base.replace("http:", "https:"), timeout=2 * SECOND))
    assert caught.value.reason == "tls"


async def test_connections_are_used_again() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="x" * 100_000)

    async with app(web.get("/", handler)) as base, OutboundClient(LOOPBACK) as client:
        for _ in range(5):
            await client.send(Call("GET", base))
    assert len(peers) == 1


async def test_a_client_outside_its_context_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        await OutboundClient(LOOPBACK).send(Call("GET", "http://127.0.0.1/"))


def test_every_error_has_its_own_code() -> None:
    kinds = OutboundError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert replace(OutboundLimits(), max_redirects=1).max_redirects == 1
